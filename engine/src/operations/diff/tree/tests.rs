//! Differences of trees beside what was done to them.

use std::collections::BTreeMap;

use super::*;
use crate::format::{SymlinkTarget, Timestamp};
use crate::monitor::SilentMonitor;
use crate::repository::Stream;
use crate::revision::test_maps::{absent, numbers};
use crate::revision::test_trees::{Trees, canonical_directory, data, entry, numbered};
use crate::store::StoreWriter;

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
        let metadata = if change.has_other_metadata { " m" } else { "" };
        format!("{letter} {from}{}{slash}{metadata}", text(change.path))
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

/// A file that had become setuid once was told as renamed, and as nothing else.
#[test]
fn a_rename_hides_no_other_metadata() {
    let world = World::new();
    let setuid = |entry| with_mode(entry, 0o4755);
    let below = [world.file("in", "2")];
    let before = [world.file("a", "1"), world.directory("old", &below), world.file("z", "3")];
    let after = [
        setuid(world.file("b", "1")),
        with_mode(world.directory("new", &below), 0o777),
        world.file("zz", "3"),
    ];
    assert_eq!(world.diff(&before, &after), ["R a > b m", "R old/ > new/ m", "R z > zz"]);
    let mut moved = world.file("c", "1");
    moved.metadata.ctime = Timestamp { seconds: 99, nanoseconds: 0 };
    let moved = std::slice::from_ref(&moved);
    assert_eq!(world.diff(&before[..1], moved), ["R a > c"], "which moves change");
    let all = TreeDiffOptions { all_metadata: true, ..TreeDiffOptions::default() };
    assert_eq!(lines(&world.diff_of(&before[..1], moved, &all).unwrap()), ["R a > c m"]);
}

#[test]
fn what_is_read_to_find_moved_directories_counts() {
    let world = World::new();
    let many = |name| world.directory(name, &numbered(0..5000));
    let other = |name| world.directory(name, &[world.file(name, "1")]);
    let cost = |before: &[Entry], after: &[Entry]| {
        world.diff_of(before, after, &TreeDiffOptions::default()).unwrap().nodes_read
    };
    assert_eq!(cost(&[many("a")], &[many("b")]), 2 * 2, "of what was moved the id tells");
    let all = cost(&[], &[many("a")]);
    assert!(all > 5, "{all}");
    assert!(cost(&[other("o")], &[many("a"), other("p")]) >= 2 * all - 2, "each is read for what lies in it");
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
    assert_eq!((diff.nodes_read, diff.lost.len()), (2 * (2 + 6), 0), "once to look for moved directories");
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

/// What stands at each path: the inode of a fifo, `None` for a directory.
type Paths = BTreeMap<Vec<u8>, Option<u64>>;

fn build(world: &World, paths: &Paths) -> Vec<Entry> {
    world.trees.write(|writer| build_below(writer, paths, b""))
}

fn build_below(writer: &mut StoreWriter<'_>, paths: &Paths, above: &[u8]) -> Vec<Entry> {
    let below = paths.iter().filter_map(|(path, node)| Some((path.strip_prefix(above)?, path, node)));
    let own = below.filter(|(name, ..)| !name.is_empty() && !name.contains(&b'/'));
    let entry = |(name, path, node): (&[u8], &Vec<u8>, &Option<u64>)| match node {
        Some(inode) => {
            let mut fifo = entry(name, EntryContent::BlockDevice { major: 1, minor: *inode as u32 });
            fifo.metadata.inode = *inode;
            fifo
        }
        None => {
            let below = build_below(writer, paths, &[path.as_slice(), b"/"].concat());
            entry(name, EntryContent::Directory(canonical_directory(&below, writer)))
        }
    };
    let mut entries: Vec<Entry> = own.map(entry).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

/// What is at a path or below it, taken out.
fn take(paths: &mut Paths, path: &[u8]) -> Paths {
    let is_in = |other: &[u8]| other.strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    let (taken, left) = std::mem::take(paths).into_iter().partition(|(other, _)| is_in(other));
    *paths = left;
    taken
}

/// Moves, removals and additions at random.
fn edit(random: &mut impl FnMut(u64) -> u64, paths: &mut Paths) {
    let directories: Vec<Vec<u8>> =
        paths.iter().filter(|(_, node)| node.is_none()).map(|(path, _)| path.clone()).collect();
    let place = |random: &mut dyn FnMut(u64) -> u64| {
        let name = format!("{:02}", random(30)).into_bytes();
        match directories.get(random(directories.len() as u64 + 2) as usize) {
            Some(directory) => [directory.as_slice(), b"/", &name].concat(),
            None => name,
        }
    };
    let some = paths.keys().nth(random(paths.len() as u64 + 1) as usize).cloned();
    let target = place(random);
    match (random(4), some) {
        (0, Some(path)) => drop(take(paths, &path)),
        (1 | 2, Some(path)) if !target.starts_with(&path) && !paths.contains_key(&target) => {
            for (old, node) in take(paths, &path) {
                paths.insert([target.as_slice(), &old[path.len()..]].concat(), node);
            }
        }
        _ if !paths.contains_key(&target) => {
            let is_directory = random(3) == 0;
            paths.insert(target, if is_directory { None } else { Some(random(1000)) });
        }
        _ => {}
    }
}

/// Does to the paths of one tree what a diff tells.
fn apply(diff: &TreeDiff, before: &Paths, after: &Paths) -> Paths {
    let mut paths = before.clone();
    let changes: Vec<Change<'_>> = diff.changes().collect();
    let (renamed, others): (Vec<&Change<'_>>, _) =
        changes.iter().partition(|change| change.kind == ChangeKind::Renamed);
    let mut arrived = Paths::new();
    for change in renamed {
        let from = change.from.unwrap();
        for (old, node) in take(&mut paths, from) {
            arrived.insert([change.path, &old[from.len()..]].concat(), node);
        }
    }
    for change in others {
        match change.kind {
            ChangeKind::Removed => assert!(paths.remove(change.path).is_some(), "twice"),
            ChangeKind::Added => {
                assert!(arrived.insert(change.path.to_vec(), after[change.path]).is_none(), "twice");
            }
            _ => drop(paths.insert(change.path.to_vec(), after[change.path])),
        }
    }
    for (path, node) in arrived {
        assert!(paths.insert(path, node).is_none(), "twice");
    }
    paths
}

#[test]
fn what_is_told_makes_of_one_tree_the_other() {
    let world = World::new();
    for seed in 0..60 {
        let mut random = numbers(seed);
        let mut before = Paths::new();
        (0..80).for_each(|_| edit(&mut random, &mut before));
        let mut after = before.clone();
        (0..1 + random(12)).for_each(|_| edit(&mut random, &mut after));
        let roots = [build(&world, &before), build(&world, &after)];
        let diff = world.diff_of(&roots[0], &roots[1], &TreeDiffOptions::default()).unwrap();
        assert!(apply(&diff, &before, &after) == after, "seed {seed}: {:#?}", lines(&diff));
    }
}
