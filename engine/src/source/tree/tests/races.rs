//! Trees that change while they are walked.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{RenameFlags, renameat_with};

use super::*;

fn exchange(a: &Path, b: &Path) {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}

/// A directory of a tree that was listed and is not opened yet.
fn listed(tree: &Tree, name: &str) -> Arc<Directory> {
    tree.source().directory.child(name.as_bytes(), tree.entry(name).stat.identity)
}

#[test]
fn a_directory_that_was_swapped_for_a_symlink_is_refused() {
    let tree = Tree::new().with(&["d/x", "outside/secret"]);
    symlink("outside", tree.at("link")).unwrap();
    let directory = listed(&tree, "d");
    exchange(&tree.at("d"), &tree.at("link"));
    assert_eq!(directory.open().err().unwrap(), Cause::Replaced);
}

#[test]
fn a_directory_that_was_swapped_for_another_is_refused() {
    let tree = Tree::new().with(&["d/x", "other/y"]);
    let (directory, entry) = (listed(&tree, "d"), tree.entry("d"));
    exchange(&tree.at("d"), &tree.at("other"));
    assert_eq!(directory.open().err().unwrap(), Cause::Replaced);
    assert_eq!(entry.hold().err().unwrap().cause, Cause::Replaced);
    exchange(&tree.at("d"), &tree.at("other"));
    assert!(directory.open().is_ok());
}

#[test]
fn a_file_that_was_swapped_for_something_else_is_refused() {
    let tree = Tree::new().with(&["file", "directory/", "other"]);
    symlink("other", tree.at("link")).unwrap();
    let entry = tree.entry("file");
    for other in ["link", "directory"] {
        exchange(&tree.at("file"), &tree.at(other));
        assert_eq!(entry.open().err().unwrap().cause, Cause::Replaced, "{other}");
        assert_eq!(entry.hold().err().unwrap().cause, Cause::Replaced, "{other}");
        exchange(&tree.at("file"), &tree.at(other));
    }
    fs::rename(tree.at("file"), tree.at("elsewhere")).unwrap();
    let error = entry.open().err().unwrap();
    assert_eq!(error.cause, Cause::Vanished);
    assert!(error.to_string().contains(tree.at("file").to_str().unwrap()), "{error}");
}

#[test]
fn a_file_that_a_newer_one_replaced_is_read_with_its_own_stat() {
    let tree = Tree::new().with(&["file", "new"]);
    let entry = tree.entry("file");
    let inode = tree.entry("new").stat.identity;
    fs::rename(tree.at("new"), tree.at("file")).unwrap();
    let file = entry.open().unwrap();
    assert_eq!((file.stat.identity, file.stat.size), (inode, 3));
    assert_eq!(entry.hold().unwrap().stat.identity, inode);
}

#[test]
fn what_is_held_stays_the_same_whatever_happens_to_its_name() {
    let tree = Tree::new();
    symlink("target", tree.at("link")).unwrap();
    let held = tree.entry("link").hold().unwrap();
    fs::remove_file(tree.at("link")).unwrap();
    symlink("other", tree.at("link")).unwrap();
    assert_eq!(held.link_target().unwrap(), b"target");
}

#[test]
fn a_directory_that_vanishes_is_told_and_not_entered() {
    let tree = Tree::new().with(&["a/x", "b/y"]);
    let source = tree.source();
    let selection = Selection::new(&TreeOptions::default(), &source.root.stat).unwrap();
    let piece = Task::root(&source.directory).run(&selection);
    fs::remove_dir_all(tree.at("a")).unwrap();
    fs::rename(tree.at("b"), tree.at("c")).unwrap();
    for found in piece.found {
        let piece::Found::Directory(_, Some(below)) = found else { panic!() };
        assert_eq!(below.run(&selection).problem.unwrap().cause, Cause::Vanished);
    }
}

/// Of what it had nobody knows any more whether it is gone: a restore must not remove that.
#[test]
fn a_directory_that_is_swapped_while_it_is_looked_at_counts_as_one_of_which_something_is_left_out() {
    let names: Vec<String> = (0..1500).map(|number| format!("d/{number}")).collect();
    let others: Vec<String> = (0..200).map(|number| format!("other{number}/")).collect();
    let all: Vec<&str> = names.iter().chain(&others).map(String::as_str).collect();
    let tree = Tree::new().with(&all);
    let source = tree.source();
    let selection = Selection::new(&TreeOptions::default(), &source.root.stat).unwrap();
    let mut found = Task::root(&source.directory).run(&selection).found.into_iter();
    let Some(piece::Found::Directory(_, Some(below))) = found.next() else { panic!() };
    let first = below.run(&selection);
    assert_eq!((first.problem.is_none(), first.left_out), (true, false));
    // So many others are open that this one is not kept so.
    let others: Vec<_> = found.collect();
    for other in &others {
        let piece::Found::Directory(_, Some(below)) = other else { panic!() };
        assert!(below.run(&selection).problem.is_none());
    }
    exchange(&tree.at("d"), &tree.at("other0"));
    let second = first.next.unwrap().run(&selection);
    assert_eq!((second.problem.unwrap().cause, second.left_out), (Cause::Replaced, true));
}

/// Says that it is over, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The steps of a walk make sense: directories are entered and left, names are sorted, and nothing from outside shows.
fn check_sense(source: &TreeSource) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let next = |names: &mut Vec<Vec<u8>>, entry: &Entry| {
        let path = entry.path();
        assert!(!path.ends_with(b"secret"), "{}", readable(&path));
        if let Some(last) = names.last_mut() {
            assert!(entry.name() > &last[..]);
            *last = entry.name().to_vec();
        }
    };
    for step in source.walk().unwrap() {
        match step {
            Step::Enter(entry) => {
                next(&mut names, &entry);
                names.push(Vec::new());
            }
            Step::Entry(entry) => next(&mut names, &entry),
            Step::Leave { .. } => assert!(names.pop().is_some()),
            Step::Failed(error) => assert!(error.cause.is_out_of_reach(), "{error}"),
        }
    }
    assert!(names.is_empty());
}

#[test]
fn a_walk_never_leaves_a_tree_that_changes_under_it() {
    let tree = Tree::new();
    let outside = Tree::new().with(&["sub/secret", "secret"]);
    for index in 0..20 {
        fs::create_dir_all(tree.at(format!("{index:02}/sub/deeper"))).unwrap();
        symlink(outside.path(), tree.at(format!("{index:02}-link"))).unwrap();
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in (0..20).cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                exchange(&tree.at(format!("{index:02}")), &tree.at(format!("{index:02}-link")));
                let made = tree.at(format!("{index:02}-made"));
                fs::create_dir_all(made.join("x/y")).unwrap();
                fs::remove_dir_all(made).unwrap();
            }
        });
        let _over = Over(&over);
        let source = tree.source();
        (0..100).for_each(|_| check_sense(&source));
    });
}
