//! Repositories whose writer means harm: nothing outside of the target is written, and memory and time stay bounded.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::error::Error;
use crate::format::{
    AttributeList, Attributes, DirectoryInner, DirectoryLeaf, DirectorySubtree, EntryName, FileSubtree,
    Timestamp,
};
use crate::id::ObjectId;
use crate::revision::test_maps::absent;
use crate::revision::test_trees::{data, hole, zeros};

/// A directory whose only leaf has these bytes.
fn top_of(scene: &Scene, leaf: &[u8], entry_count: u64) -> DirectoryTop {
    DirectoryTop { level: 0, id: scene.trees.directory_node(leaf), entry_count }
}

/// The encoding of entries, with one name in the place of another of the same length.
fn with_name(entries: &[Entry], before: &[u8], after: &[u8]) -> Vec<u8> {
    let mut bytes = DirectoryLeaf { entries: entries.to_vec() }.encode();
    let at = bytes.windows(before.len()).position(|window| window == before).unwrap();
    bytes[at..at + after.len()].copy_from_slice(after);
    bytes
}

#[test]
fn names_that_lead_elsewhere_are_damage() {
    for name in [&b"/etc/pwned"[..], b"../outside", b"..", b".", b"a/b", b"a\0b", b"outside/.."] {
        let scene = Scene::new();
        let placeholder = vec![b'q'; name.len()];
        let hostile = Entry { name: EntryName::new(&placeholder).unwrap(), ..empty_file("x") };
        let leaf = with_name(&[hostile], &placeholder, name);
        let tree = scene.open(Some(top_of(&scene, &leaf, 1)));
        let options = TreeRestoreOptions::default();
        let report = scene.restore_with(&tree, &options, &CollectingMonitor::default()).unwrap();
        assert_eq!((report.damaged_count, report.files), (1, 0), "{}", name.escape_ascii());
        assert_eq!(names(&scene.target()), Vec::<String>::new());
        scene.assert_nothing_outside();
    }
}

#[test]
fn names_that_come_twice_are_damage_and_the_rest_is_restored() {
    let scene = Scene::new();
    let link = symlink("aa", &scene.path("outside"));
    let twice = with_name(&[link, directory("bb", None)], b"bb", b"aa");
    let hostile = directory("hostile", Some(top_of(&scene, &twice, 2)));
    let report = scene.restore(&[empty_file("before"), hostile, empty_file("last")]);
    assert_eq!((report.damaged_count, report.files), (1, 2));
    assert!(names(&scene.target().join("hostile")).is_empty());
    // The same over two nodes.
    let leaf = |entries: &[Entry]| scene.trees.leaf(entries);
    let (one, other) = (leaf(&[symlink("a", &scene.path("outside"))]), leaf(&[directory("a", None)]));
    let inner = DirectoryInner { level: 1, children: vec![one, DirectorySubtree { ..other }] };
    let id = scene.trees.directory_node(&inner.encode());
    let overlapping = directory("hostile", Some(DirectoryTop { level: 1, id, entry_count: 2 }));
    let report = scene.restore(&[overlapping]);
    assert!(report.damaged_count > 0);
    scene.assert_nothing_outside();
}

/// Two revisions of one stream: the first leaves a link, the second goes through it.
#[test]
fn a_link_that_an_earlier_restore_made_is_not_followed() {
    let scene = Scene::new();
    let outside = scene.path("outside");
    let report = scene.restore(&[symlink("a", &outside), symlink("precious", &outside.join("precious"))]);
    assert_eq!(report.others, 2);
    let chunk = scene.trees.chunk(b"overwritten");
    let data = FileData::Slice { chunk, offset: 0, length: 11 };
    let file = |name: &str| entry(name, EntryContent::File(data));
    let below = scene.trees.directory(&[file("new"), file("precious")]);
    let report = scene.restore(&[directory("a", below), file("precious")]);
    assert_eq!((report.files, report.problem_count), (3, 0));
    assert_eq!(fs::read(scene.target().join("a/new")).unwrap(), b"overwritten");
    assert_eq!(fs::read(scene.target().join("precious")).unwrap(), b"overwritten");
    scene.assert_nothing_outside();
}

#[test]
fn links_may_lead_anywhere_as_they_are_followed_by_nobody() {
    let scene = Scene::new();
    let mut mode = symlink("link", &scene.path("outside/precious"));
    mode.metadata.mode = 0o777;
    mode.metadata.mtime = Timestamp { seconds: 7, nanoseconds: 0 };
    let before = fs::metadata(scene.path("outside/precious")).unwrap();
    scene.restore(&[mode]);
    let after = fs::metadata(scene.path("outside/precious")).unwrap();
    assert_eq!((before.mode(), before.mtime(), before.uid()), (after.mode(), after.mtime(), after.uid()));
    assert_eq!(fs::symlink_metadata(scene.target().join("link")).unwrap().mtime(), 7);
}

/// A directory that holds another twice, which holds another twice...
fn doubling(scene: &Scene, levels: usize) -> Option<DirectoryTop> {
    let mut top = scene.trees.directory(&[empty_file("file")]);
    for _ in 0..levels {
        top = scene.trees.directory(&[directory("a", top), directory("b", top)]);
    }
    top
}

#[test]
fn a_tree_that_holds_more_than_it_says_comes_to_an_end() {
    let scene = Scene::new();
    let tree = scene.open_with_files(doubling(&scene, 30), 100);
    let options = TreeRestoreOptions::default();
    let error = scene.restore_with(&tree, &options, &CollectingMonitor::default()).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("more entries than its root says"), "{error}");
    let made = |directory: &Path| -> usize {
        let mut todo = vec![directory.to_owned()];
        let mut count = 0;
        while let Some(path) = todo.pop() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                count += 1;
                if entry.file_type().unwrap().is_dir() {
                    todo.push(entry.path());
                }
            }
        }
        count
    };
    assert!(made(&scene.target()) <= 101);
}

/// Gives up after some entries.
#[derive(Default)]
struct Impatient {
    bytes: AtomicU64,
}

impl Monitor for Impatient {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes.max(1), Ordering::Relaxed);
    }
    fn warn(&self, _message: &str) {}
    fn is_cancelled(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 500
    }
}

#[test]
fn a_tree_without_end_can_be_interrupted() {
    let scene = Scene::new();
    let tree = scene.open_with_files(doubling(&scene, 60), u64::MAX / 2);
    let options = TreeRestoreOptions::default();
    let error = scene.restore_with(&tree, &options, &Impatient::default()).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

#[test]
fn absurd_sizes_are_refused_by_the_system_and_nothing_else_suffers() {
    let scene = Scene::new();
    let huge = |name: &str, data: FileData| entry(name, EntryContent::File(data));
    let hole = scene.trees.file(&[hole((1 << 63) - 1)]);
    let chunk = scene.trees.chunk(b"x");
    let mut slots = vec![zeros(1 << 62)];
    slots.push(data(chunk, 1));
    let zeros = scene.trees.file(&slots);
    // A map that stands in all places of its level, and leads to nothing.
    let full = FileSubtree { id: absent(3), bytes: 1 << 60, data_bytes: 1 << 60, chunk_count: 1 << 40 };
    let lost = FileData::Map { level: 5, subtree: full };
    let report =
        scene.restore(&[huge("hole", hole), huge("lost", lost), empty_file("ok"), huge("zeros", zeros)]);
    assert_eq!(report.files, 1);
    assert_eq!(report.problem_count + report.damaged_count, 3, "{:?}", report.problems);
    assert_eq!(names(&scene.target()), ["ok"]);
}

#[test]
fn slices_beyond_their_chunk_are_damage() {
    let scene = Scene::new();
    let chunk = scene.trees.chunk(b"short");
    let slice = |name: &str, offset, length| {
        entry(name, EntryContent::File(FileData::Slice { chunk, offset, length }))
    };
    let report = scene.restore(&[slice("a", 0, 5), slice("b", 3, 3), slice("c", (8 << 20) - 1, 1)]);
    assert_eq!((report.files, report.damaged_count), (1, 2));
    assert_eq!(names(&scene.target()), ["a"]);
}

#[test]
fn one_identity_for_things_of_different_types_makes_no_link_between_them() {
    let scene = Scene::new();
    let linked = |entry: Entry| Entry { has_other_names: true, ..entry };
    let report = scene.restore(&[
        linked(entry("fifo", EntryContent::Fifo)),
        linked(empty_file("file")),
        linked(empty_file("file-too")),
        linked(symlink("link", Path::new("one"))),
        linked(symlink("link-too", Path::new("two"))),
        directory("not-linked", None),
    ]);
    assert_eq!((report.files, report.others, report.problem_count), (2, 3, 0), "{:?}", report.problems);
    let stat = |name: &str| fs::symlink_metadata(scene.target().join(name)).unwrap();
    assert!(stat("fifo").file_type().is_fifo() && stat("file").is_file() && stat("link").is_symlink());
    assert_eq!(stat("file").ino(), stat("file-too").ino());
    assert_ne!(stat("link").ino(), stat("link-too").ino());
}

#[test]
fn attributes_that_no_system_takes_are_named_and_the_file_is_there() {
    let scene = Scene::new();
    let with = |name: &str, attribute: &[u8]| {
        let list = AttributeList::new(vec![(attribute, b"nonsense")]).unwrap();
        Entry { attributes: Attributes::Inline(list), ..empty_file(name) }
    };
    let report = scene.restore(&[
        with("acl", b"system.posix_acl_access"),
        with("capability", b"security.capability"),
        with("nonsense", b"nonsense"),
    ]);
    assert_eq!(report.files, 3);
    // Not all of them need be refused, but an ACL that is none must be.
    assert!(report.problem_count >= 2, "{:?}", report.problems);
    assert_eq!(names(&scene.target()), ["acl", "capability", "nonsense"]);
}

#[test]
fn lost_attributes_are_named_and_the_file_is_there() {
    let scene = Scene::new();
    let lost = Entry { attributes: Attributes::Chunk(absent(1)), ..empty_file("file") };
    let report = scene.restore(&[lost]);
    assert_eq!((report.files, report.damaged_count), (1, 1));
    assert!(report.damaged[0].detail.contains("extended attributes"), "{:?}", report.damaged);
}

#[test]
fn devices_with_numbers_that_there_are_not_are_no_other_devices() {
    let scene = Scene::new();
    let device = EntryContent::CharacterDevice { major: u32::MAX, minor: u32::MAX };
    let report = scene.restore(&[entry("device", device)]);
    assert_eq!(report.others, 0);
    assert_eq!(names(&scene.target()), Vec::<String>::new());
    assert!(report.problem_count + report.devices_skipped == 1);
}

/// With few nodes: each level needs one of its own.
#[test]
fn what_lies_too_deep_is_named() {
    let scene = Scene::in_memory();
    let top = scene.trees.write(|writer| {
        let mut top: Option<DirectoryTop> = None;
        for _ in 0..33_000 {
            let leaf = DirectoryLeaf { entries: vec![directory("d", top)] };
            let id: ObjectId = writer.add_directory(&leaf.encode()).unwrap();
            top = Some(DirectoryTop { level: 0, id, entry_count: 1 });
        }
        top
    });
    let options = TreeRestoreOptions::default();
    let monitor = CollectingMonitor::default();
    let report = scene.restore_with(&scene.open(top), &options, &monitor).unwrap();
    assert_eq!((report.directories, report.problem_count), (32_768, 1));
    let warnings = monitor.warnings();
    assert!(warnings[0].contains("it lies too deep") && warnings[0].len() < 5_000, "{}", warnings[0].len());
    // The standard library would need as many calls in each other.
    let removed = std::process::Command::new("rm").arg("-rf").arg(scene.target()).status().unwrap();
    assert!(removed.success());
}

#[test]
fn nothing_is_removed_from_a_directory_whose_entries_are_not_all_known() {
    let scene = Scene::new();
    let known = scene.trees.leaf(&[empty_file("a")]);
    let last_name = EntryName::new(b"z").unwrap();
    let lost = DirectorySubtree { id: absent(1), entry_count: 9, last_name };
    let inner = DirectoryInner { level: 1, children: vec![known, lost] };
    let top = DirectoryTop { level: 1, id: scene.trees.directory_node(&inner.encode()), entry_count: 10 };
    fs::create_dir(scene.target()).unwrap();
    for name in ["0", "m", "zz"] {
        fs::write(scene.target().join(name), b"").unwrap();
    }
    let options = TreeRestoreOptions { in_place: true, delete: true, ..TreeRestoreOptions::default() };
    let monitor = CollectingMonitor::default();
    let report = scene.restore_with(&scene.open(Some(top)), &options, &monitor).unwrap();
    assert_eq!((report.removed, report.damaged_count), (0, 1));
    assert_eq!(names(&scene.target()), ["0", "a", "m", "zz"]);
    assert!(
        monitor.warnings().iter().any(|line| line.contains("nothing is removed")),
        "{:?}",
        monitor.warnings()
    );
}

#[test]
fn times_beyond_all_clocks_do_no_harm() {
    let scene = Scene::new();
    let at = |name: &str, seconds| {
        let mut entry = empty_file(name);
        entry.metadata.mtime = Timestamp { seconds, nanoseconds: 999_999_999 };
        entry.metadata.mode = 0o7777;
        entry
    };
    let report = scene.restore(&[at("early", i64::MIN), at("late", i64::MAX)]);
    assert_eq!(report.files, 2);
    let mode = fs::metadata(scene.target().join("late")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
}
