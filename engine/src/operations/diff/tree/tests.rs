//! Differences of trees beside what was done to them.

use super::*;
use crate::format::{SymlinkTarget, Timestamp};
use crate::monitor::SilentMonitor;
use crate::repository::Stream;
use crate::revision::test_maps::absent;
use crate::revision::test_trees::{Trees, data, entry, numbered};

struct World {
    trees: Trees,
    stream: Stream,
}

impl World {
    fn new() -> Self {
        let trees = Trees::new();
        let stream = trees.stream();
        Self { trees, stream }
    }

    fn revision(&self, sequence: u64, entries: &[Entry]) -> Record {
        self.trees.commit(&self.stream, sequence, &self.trees.root(self.trees.directory(entries)))
    }

    fn diff_of(&self, a: &[Entry], b: &[Entry], options: &TreeDiffOptions) -> Result<TreeDiff> {
        let (a, b) = (self.revision(1, a), self.revision(2, b));
        diff_trees(&self.trees.repository, &a, &b, options, &SilentMonitor)
    }

    fn diff(&self, a: &[Entry], b: &[Entry]) -> Vec<String> {
        let diff = self.diff_of(a, b, &TreeDiffOptions::default()).unwrap();
        assert_eq!(diff.lost, []);
        lines(&diff)
    }

    fn directory(&self, name: &str, below: &[Entry]) -> Entry {
        entry(name, EntryContent::Directory(self.trees.directory(below)))
    }

    /// A small file in a chunk of its own.
    fn file(&self, name: &str, content: &str) -> Entry {
        self.file_in(name, content, "")
    }

    /// A small file behind something else in a chunk.
    fn file_in(&self, name: &str, content: &str, before: &str) -> Entry {
        let chunk = self.trees.chunk(format!("{before}{content}").as_bytes());
        let slice = FileData::Slice { chunk, offset: before.len() as u32, length: content.len() as u32 };
        entry(name, EntryContent::File(slice))
    }
}

fn lines(diff: &TreeDiff) -> Vec<String> {
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let line = |change: Change<'_>| {
        let slash = if change.is_directory { "/" } else { "" };
        let letter = match change.kind {
            ChangeKind::Added => "+",
            ChangeKind::Removed => "-",
            ChangeKind::Modified => "M",
            ChangeKind::Metadata => "m",
            ChangeKind::TypeChanged => "T",
            ChangeKind::Renamed => "R",
        };
        let from = change.from.map(|from| format!("{}{slash} > ", text(from))).unwrap_or_default();
        format!("{letter} {from}{}{slash}", text(change.path))
    };
    diff.changes().map(line).collect()
}

fn with_mode(mut entry: Entry, mode: u16) -> Entry {
    entry.metadata.mode = mode;
    entry
}

#[test]
fn each_change_is_told_as_what_it_is() {
    let world = World::new();
    let link = |target: &[u8]| entry("link", EntryContent::Symlink(SymlinkTarget::new(target).unwrap()));
    let node = |minor| entry("node", EntryContent::BlockDevice { major: 7, minor });
    let before = [
        world.directory("dir", &[world.file("in", "1"), world.file("same", "2")]),
        world.file("gone", "3"),
        link(b"a"),
        world.file("mode", "4"),
        node(1),
        world.file("type", "5"),
    ];
    let after = [
        world.directory("dir", &[world.file("in", "6"), world.file("new", "7"), world.file("same", "2")]),
        link(b"b"),
        with_mode(world.file("mode", "4"), 0o600),
        node(2),
        world.directory("type", &[world.file("below", "8")]),
    ];
    let expected =
        ["M dir/in", "+ dir/new", "- gone", "M link", "m mode", "M node", "T type/", "+ type/below"];
    assert_eq!(world.diff(&before, &after), expected);
    let back = ["M dir/in", "- dir/new", "+ gone", "M link", "m mode", "M node", "T type", "- type/below"];
    assert_eq!(world.diff(&after, &before), back);
    assert_eq!(world.diff(&before, &before), [""; 0]);
}

#[test]
fn what_a_copy_changes_counts_only_if_all_does() {
    let world = World::new();
    let before = [world.directory("dir", &[world.file("x", "1")])];
    let mut copy = world.file_in("x", "1", "in another bundle");
    copy.metadata.inode = 99;
    copy.metadata.ctime = Timestamp { seconds: 99, nanoseconds: 0 };
    let mut directory = world.directory("dir", &[copy]);
    directory.metadata.mtime = Timestamp { seconds: 99, nanoseconds: 0 };
    assert_eq!(world.diff(&before, std::slice::from_ref(&directory)), [""; 0]);
    let all = TreeDiffOptions { all_metadata: true, ..TreeDiffOptions::default() };
    assert_eq!(lines(&world.diff_of(&before, &[directory], &all).unwrap()), ["m dir/", "m dir/x"]);
}

#[test]
fn what_was_renamed_is_found_by_what_it_holds() {
    let world = World::new();
    let large = |name, content: &[u8]| {
        let chunk = world.trees.chunk(content);
        entry(name, EntryContent::File(world.trees.file(&[data(chunk, content.len() as u64)])))
    };
    let before = [
        world.file("a", "small"),
        world.file("b", "other"),
        world.directory("dir", &[large("big", b"large"), world.file("c", "third")]),
        world.file("twice", "same"),
        world.file("twice-too", "same"),
    ];
    let after = [
        world.directory("dir", &[world.file_in("x", "small", "pad")]),
        large("moved", b"large"),
        world.file("new", "thirD"),
        world.directory("there", &[world.file("twice-too", "same")]),
    ];
    let expected = [
        "- b",
        "- dir/c",
        "R a > dir/x",
        "R dir/big > moved",
        "+ new",
        "+ there/",
        "R twice-too > there/twice-too",
        "- twice",
    ];
    assert_eq!(world.diff(&before, &after), expected);
}

#[test]
fn a_directory_that_was_moved_is_told_once() {
    let world = World::new();
    let below: Vec<Entry> = (0..50).map(|number| world.file(&format!("{number:02}"), "x")).collect();
    let deep = |name| world.directory(name, &[world.directory("in", &below), world.file("y", "y")]);
    assert_eq!(world.diff(&[deep("old")], &[deep("new")]), ["R old/ > new/"]);
    // Into a directory that is new, and out of one that is gone.
    let wrapped = [world.directory("wrap", &[deep("old"), world.file("z", "z")])];
    assert_eq!(world.diff(&[deep("old")], &wrapped), ["+ wrap/", "R old/ > wrap/old/", "+ wrap/z"]);
    assert_eq!(world.diff(&wrapped, &[deep("old")]), ["R wrap/old/ > old/", "- wrap/", "- wrap/z"]);
    // One inside another that is gone, to somewhere else inside one that is new.
    let other = [world.directory("other", &[world.directory("deeper", &[deep("old")])])];
    let expected = ["+ other/", "+ other/deeper/", "R wrap/old/ > other/deeper/old/", "- wrap/", "- wrap/z"];
    assert_eq!(world.diff(&wrapped, &other), expected);
}

#[test]
fn only_nodes_that_differ_are_read() {
    let world = World::new();
    let many = |changed: usize, mode| {
        let mut entries = numbered(0..60_000);
        entries[changed].metadata.mode = mode;
        entry("many", EntryContent::Directory(world.trees.directory(&entries)))
    };
    let other = world.directory("other", &numbered(0..5000));
    let lost = DirectoryTop { level: 0, id: absent(1), entry_count: 1 };
    let never_read = entry("z", EntryContent::Directory(Some(lost)));
    let tree = |mode| [many(40_000, mode), other.clone(), never_read.clone()];
    let diff = world.diff_of(&tree(1), &tree(2), &TreeDiffOptions::default()).unwrap();
    assert_eq!(lines(&diff), ["m many/040000"]);
    assert_eq!((diff.nodes_read, diff.lost.len()), (2 + 6, 0));
}

#[test]
fn a_part_of_the_trees_can_be_compared() {
    let world = World::new();
    let before = [world.directory("a", &[world.file("x", "1")]), world.file("b", "1")];
    let after = [
        world.directory("a", &[world.file("x", "2")]),
        world.file("b", "2"),
        world.directory("c", &[world.file("y", "2")]),
    ];
    let diff = |path: &str| {
        let options = TreeDiffOptions { path: path.as_bytes().to_vec(), all_metadata: false };
        world.diff_of(&before, &after, &options).map(|diff| lines(&diff))
    };
    assert_eq!(diff("/a/").unwrap(), ["M a/x"]);
    assert_eq!(diff("a/x").unwrap(), ["M a/x"]);
    assert_eq!(diff("c").unwrap(), ["+ c/", "+ c/y"]);
    assert!(matches!(diff("d"), Err(Error::NoSuchPath { .. })));
}

#[test]
fn of_what_is_lost_nothing_is_told_but_that() {
    let world = World::new();
    let gone = |number| {
        let top = DirectoryTop { level: 0, id: absent(number), entry_count: 1 };
        entry("lost", EntryContent::Directory(Some(top)))
    };
    let slice = |number: u64| FileData::Slice { chunk: absent(number), offset: 0, length: 1 };
    let unreadable = |number| entry("unreadable", EntryContent::File(slice(number)));
    let before = [world.file("a", "1"), world.directory("lost", &[world.file("x", "1")]), unreadable(3)];
    let after = [world.file("a", "2"), gone(1), unreadable(4)];
    let diff = world.diff_of(&before, &after, &TreeDiffOptions::default()).unwrap();
    assert_eq!(lines(&diff), ["M a"]);
    let lost: Vec<_> = diff.lost.iter().map(|lost| (lost.path.as_slice(), lost.sides.clone())).collect();
    assert_eq!(lost, [(&b"lost"[..], TreeNumbers::one(1)), (b"unreadable", TreeNumbers::first(2))]);
}

#[test]
fn of_equal_directories_as_many_were_moved_as_are_gone() {
    let world = World::new();
    let copy = |name| world.directory(name, &[world.directory("in", &[world.file("x", "1")])]);
    let before = [copy("a")];
    let after = [copy("b"), copy("c")];
    assert_eq!(world.diff(&before, &after), ["R a/ > b/", "+ c/", "+ c/in/", "+ c/in/x"]);
    assert_eq!(world.diff(&after, &before), ["R b/ > a/", "- c/", "- c/in/", "- c/in/x"]);
}

/// A directory that names one other directory twice, which does so, and so on: 2^40 paths, that nobody lists.
#[test]
fn a_tree_that_folds_its_paths_out_of_few_nodes_is_compared_where_it_differs() {
    let world = World::new();
    let fold = |leaf: &str| {
        let below = world.trees.directory(&[world.file(leaf, "1")]);
        (0..40).fold(below, |below, _| {
            world.trees.directory(&[
                entry("a", EntryContent::Directory(below)),
                entry("b", EntryContent::Directory(below)),
            ])
        })
    };
    let bomb = entry("bomb", EntryContent::Directory(fold("x")));
    let moved = entry("moved", EntryContent::Directory(fold("x")));
    assert_eq!(world.diff(std::slice::from_ref(&bomb), &[bomb.clone(), world.file("y", "1")]), ["+ y"]);
    assert_eq!(world.diff(&[bomb], &[moved]), ["R bomb/ > moved/"]);
}
