//! Walks of several trees beside plain maps of what the trees hold.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::sweep::{Nodes, Step, Sweep};
use super::walk::SWEEP_BYTES;
use super::*;
use crate::error::Result;
use crate::format::{
    DirectoryInner, DirectorySubtree, DirectoryTop, Entry, EntryContent, EntryName, FileData,
};
use crate::monitor::SilentMonitor;
use crate::revision::test_maps::{absent, numbers};
use crate::revision::test_trees::{Trees, canonical_directory, entry, numbered};
use crate::store::StoreWriter;

/// What stands under a name.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// A fifo with this inode.
    Fifo(u64),
    Directory(Names),
}

type Names = BTreeMap<String, Node>;

fn fifo(name: &str, inode: u64) -> Entry {
    let mut fifo = entry(name, EntryContent::Fifo);
    fifo.metadata.inode = inode;
    fifo
}

fn store(writer: &mut StoreWriter<'_>, names: &Names) -> Option<DirectoryTop> {
    let to_entry = |(name, node): (&String, &Node)| match node {
        Node::Fifo(inode) => fifo(name, *inode),
        Node::Directory(below) => entry(name, EntryContent::Directory(store(writer, below))),
    };
    let entries: Vec<Entry> = names.iter().map(to_entry).collect();
    canonical_directory(&entries, writer)
}

/// Every path of a tree with what stands there.
fn paths(writer: &mut StoreWriter<'_>, names: &Names, above: &str, found: &mut BTreeMap<String, Entry>) {
    for (name, node) in names {
        let path = format!("{above}{name}");
        let entry = match node {
            Node::Fifo(inode) => fifo(name, *inode),
            Node::Directory(below) => {
                paths(writer, below, &format!("{path}/"), found);
                entry(name, EntryContent::Directory(store(writer, below)))
            }
        };
        found.insert(path, entry);
    }
}

fn random_names(random: &mut impl FnMut(u64) -> u64, depth: u64) -> Names {
    let is_large = random(12) == 0;
    let count = if is_large { 600 + random(900) } else { random(6) };
    let node = |random: &mut dyn FnMut(u64) -> u64| Node::Fifo(random(3));
    let mut names: Names = (0..count).map(|_| (format!("{:04}", random(3000)), node(random))).collect();
    for _ in 0..if depth == 0 { 0 } else { random(4) } {
        names.insert(format!("{:04}", random(3000)), Node::Directory(random_names(random, depth - 1)));
    }
    names
}

fn edit(random: &mut impl FnMut(u64) -> u64, names: &mut Names) {
    for _ in 0..random(3) {
        let keys: Vec<String> = names.keys().cloned().collect();
        let some = keys.get(random(keys.len() as u64 + 1) as usize).cloned();
        match (random(4), some) {
            (0, Some(name)) => drop(names.remove(&name)),
            (1, Some(name)) => {
                if let Some(Node::Directory(below)) = names.get_mut(&name) {
                    edit(random, below);
                }
            }
            (2, _) => drop(names.insert(format!("{:04}", random(3000)), Node::Directory(Names::new()))),
            _ => drop(names.insert(format!("{:04}", random(3000)), Node::Fifo(random(3)))),
        }
    }
    for node in names.values_mut() {
        match node {
            Node::Directory(below) if random(3) == 0 => edit(random, below),
            _ => {}
        }
    }
}

fn shared(tops: &[Option<DirectoryTop>]) -> Vec<SharedDirectory> {
    let entries: Vec<Entry> = tops.iter().map(|top| entry("x", EntryContent::Directory(*top))).collect();
    let sets: Vec<TreeNumbers> = (0..tops.len() as u32).map(TreeNumbers::one).collect();
    let variants: Vec<Variant<'_>> =
        entries.iter().zip(&sets).map(|(entry, trees)| Variant { entry, trees }).collect();
    directories_of(&variants)
}

/// What a walk met: paths in order, with what each tree has there, and the paths of what was lost.
#[derive(Debug, Default, PartialEq)]
struct Found {
    met: Vec<(String, BTreeMap<u32, Entry>)>,
    unknown: BTreeMap<String, Vec<u32>>,
    lost: Vec<(String, Vec<u32>)>,
}

fn walk(walk: &mut TreesWalk<'_>, tops: &[Option<DirectoryTop>]) -> Found {
    let mut found = Found::default();
    let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    let mut visit = |met: Met<'_>| -> Result<bool> {
        match met {
            Met::Entries { path, variants, unknown } => {
                let mut at = BTreeMap::new();
                for Variant { entry, trees } in variants {
                    for number in trees.iter() {
                        assert!(at.insert(number, (*entry).clone()).is_none(), "twice");
                    }
                }
                if !unknown.is_empty() {
                    found.unknown.insert(text(path), unknown.iter().collect());
                }
                found.met.push((text(path), at));
            }
            Met::Lost { path, trees, error } => {
                assert!(error.is_damage());
                found.lost.push((text(path), trees.iter().collect()));
            }
        }
        Ok(true)
    };
    walk.run(b"", shared(tops), &mut visit).unwrap();
    found
}

#[test]
fn a_walk_of_many_trees_meets_what_each_of_them_has() {
    let trees = Trees::new();
    for seed in 0..25 {
        let mut random = numbers(seed);
        let mut names = random_names(&mut random, 3);
        let mut versions = Vec::new();
        for _ in 0..1 + random(5) {
            versions.push(names.clone());
            edit(&mut random, &mut names);
        }
        let tops: Vec<_> = trees.write(|writer| versions.iter().map(|names| store(writer, names)).collect());
        let mut expected: BTreeMap<Vec<String>, BTreeMap<u32, Entry>> = BTreeMap::new();
        for (number, names) in versions.iter().enumerate() {
            let mut all = BTreeMap::new();
            trees.write(|writer| paths(writer, names, "", &mut all));
            for (path, entry) in all {
                let parts = path.split('/').map(str::to_owned).collect();
                expected.entry(parts).or_default().insert(number as u32, entry);
            }
        }
        let expected: Vec<_> = expected.into_iter().map(|(parts, at)| (parts.join("/"), at)).collect();
        let found = walk(&mut TreesWalk::new(trees.store(), &SilentMonitor), &tops);
        assert!(found.lost.is_empty() && found.unknown.is_empty());
        assert_eq!(found.met.len(), expected.len(), "seed {seed}");
        assert!(found.met == expected, "seed {seed}");
        for room_bytes in [1, 2000, 100_000] {
            let mut walk_in_room = TreesWalk::new(trees.store(), &SilentMonitor).in_room(room_bytes);
            assert!(walk(&mut walk_in_room, &tops) == found, "seed {seed} in {room_bytes}");
        }
        let all = TreeNumbers::first(versions.len() as u32);
        let mut differing = TreesWalk::new(trees.store(), &SilentMonitor).passing_by(all);
        let met: BTreeMap<_, _> = walk(&mut differing, &tops).met.into_iter().collect();
        assert!(met.len() <= expected.len());
        let whole = |at: &BTreeMap<u32, Entry>| at.len() == versions.len();
        for (path, at) in &expected {
            let differs = !whole(at) || at.values().any(|entry| entry != &at[&0]);
            assert!(met.get(path).map_or(!differs, |met| met == at), "seed {seed}: {path}");
        }
    }
}

/// A directory of 60,000 names, one of which has this inode.
fn large(trees: &Trees, changed: usize, inode: u64) -> Option<DirectoryTop> {
    let mut entries = numbered(0..60_000);
    entries[changed].metadata.inode = inode;
    let top = trees.directory(&entries);
    assert_eq!(top.unwrap().level, 2);
    top
}

#[test]
fn what_all_trees_share_is_neither_met_nor_read() {
    let trees = Trees::new();
    let tops = [large(&trees, 30_000, 1), large(&trees, 30_000, 2)];
    let mut differing = TreesWalk::new(trees.store(), &SilentMonitor).passing_by(TreeNumbers::first(2));
    let found = walk(&mut differing, &tops);
    assert!(found.met.len() < 2000, "{}", found.met.len());
    assert!(found.met.iter().any(|(path, at)| path == "030000" && at[&0] != at[&1]));
    assert_eq!(differing.nodes_read(), 6, "of each level one node in each tree");
    let same = [tops[0], tops[0]];
    let mut differing = TreesWalk::new(trees.store(), &SilentMonitor).passing_by(TreeNumbers::first(2));
    assert_eq!(walk(&mut differing, &same), Found::default());
    assert_eq!(differing.nodes_read(), 0);
}

#[test]
fn what_some_trees_share_is_read_once() {
    let trees = Trees::new();
    let one = [large(&trees, 7, 7)];
    let mut alone = TreesWalk::new(trees.store(), &SilentMonitor);
    assert_eq!(walk(&mut alone, &one).met.len(), 60_000);
    let tops: Vec<_> = (0..20).map(|number| large(&trees, number * 2900, 99)).collect();
    let mut all = TreesWalk::new(trees.store(), &SilentMonitor);
    let found = walk(&mut all, &tops);
    assert_eq!(found.met.len(), 60_000);
    assert!(found.met.iter().all(|(_, at)| at.len() == 20));
    let more = all.nodes_read() - alone.nodes_read();
    assert!(more <= 19 * 3 + 20 * 2, "{} and {more} more", alone.nodes_read());
}

/// Names before a directory in a directory, and behind it, deeper than directories are held.
#[test]
fn a_walk_comes_back_from_any_depth() {
    let trees = Trees::new();
    const DEPTH: usize = 700;
    let versions = [0, 1].map(|inode| {
        let nest = |writer: &mut StoreWriter<'_>| {
            (0..DEPTH).fold(None, |below, _| {
                let middle = entry("m", EntryContent::Directory(below));
                canonical_directory(&[fifo("a", inode), middle, fifo("z", inode)], writer)
            })
        };
        trees.write(nest)
    });
    for room_bytes in [1, 10_000] {
        let mut walk_in_room = TreesWalk::new(trees.store(), &SilentMonitor).in_room(room_bytes);
        assert_comes_back(&walk(&mut walk_in_room, &versions), DEPTH);
    }
}

fn assert_comes_back(found: &Found, depth: usize) {
    assert_eq!(found.met.len(), 3 * depth);
    let depths: Vec<usize> = found.met.iter().map(|(path, _)| path.split('/').count()).collect();
    let down: Vec<usize> = (1..=depth).flat_map(|depth| [depth, depth]).collect();
    assert_eq!(depths, down.into_iter().chain((1..=depth).rev()).collect::<Vec<_>>());
    assert!(found.met.iter().all(|(_, at)| at.len() == 2));
}

#[test]
fn of_what_is_lost_nobody_knows_and_the_rest_is_met() {
    let trees = Trees::new();
    let entries = numbered(0..40);
    let leaf = |range: std::ops::Range<usize>| trees.leaf(&entries[range]);
    let lost = DirectorySubtree { id: absent(1), entry_count: 20, last_name: entries[29].name.clone() };
    let inner = |children: Vec<DirectorySubtree>| {
        let inner = DirectoryInner { level: 1, children };
        let id = trees.directory_node(&inner.encode());
        Some(DirectoryTop { level: 1, id, entry_count: inner.entry_count().unwrap() })
    };
    let whole = inner(vec![leaf(0..10), leaf(10..30), leaf(30..40)]);
    let damaged = inner(vec![leaf(0..10), lost.clone(), leaf(30..40)]);
    let found = walk(&mut TreesWalk::new(trees.store(), &SilentMonitor), &[whole, damaged, damaged]);
    assert_eq!(found.met.len(), 40);
    assert_eq!(found.lost, [(String::new(), vec![1, 2])]);
    let unknown: BTreeSet<String> = (10..30).map(|number| format!("{number:06}")).collect();
    assert_eq!(found.unknown.keys().cloned().collect::<BTreeSet<_>>(), unknown);
    assert!(found.unknown.values().all(|trees| trees == &[1, 2]));
    // Of a directory that is lost as a whole nothing is known, in each place where it stands.
    let gone = Some(DirectoryTop { level: 0, id: absent(2), entry_count: 1 });
    let in_both = |below| {
        trees.directory(&[
            entry("a", EntryContent::Directory(below)),
            entry("b", EntryContent::Directory(below)),
        ])
    };
    let tops = [in_both(gone), in_both(trees.directory(&[fifo("x", 1)]))];
    let found = walk(&mut TreesWalk::new(trees.store(), &SilentMonitor), &tops);
    assert_eq!(found.lost, [("a".to_owned(), vec![0]), ("b".to_owned(), vec![0])]);
    assert_eq!(found.unknown.keys().collect::<Vec<_>>(), ["a/x", "b/x"]);
}

/// A walk once held a leaf for each state: a directory that changes each day for ten years would have filled the memory.
#[test]
fn what_is_held_does_not_grow_with_the_states_of_a_directory() {
    const STATES: u32 = 2000;
    const NAMES: usize = 200;
    let trees = Trees::new();
    let entries = |state: u32| -> Vec<Entry> {
        (0..NAMES).map(|number| fifo(&format!("{number:0150}"), state.into())).collect()
    };
    let tops: Vec<_> =
        trees.write(|writer| (0..STATES).map(|state| canonical_directory(&entries(state), writer)).collect());
    let bytes: usize = entries(0).iter().map(Entry::memory_bytes).sum();
    assert!(bytes * STATES as usize > 4 * SWEEP_BYTES, "too few to tell");
    let mut nodes =
        Nodes { store: trees.store(), passed_by: None, read_count: 0, room_bytes: SWEEP_BYTES, noted: None };
    let mut sweep = Sweep::new(&shared(&tops), None, HashSet::new());
    let (mut name_count, mut most) = (0, 0);
    loop {
        match sweep.step(&mut nodes).unwrap() {
            Step::On => {}
            Step::Lost(..) => panic!("nothing is lost"),
            Step::Done => break,
            Step::Entries => {
                let variants = sweep.variants();
                assert_eq!(
                    TreeNumbers::union(variants.iter().map(|it| it.trees)),
                    TreeNumbers::first(STATES)
                );
                name_count += 1;
                most = most.max(sweep.memory_bytes());
                sweep.consume(&mut nodes).unwrap();
            }
        }
    }
    assert_eq!(name_count, NAMES);
    assert!(most <= SWEEP_BYTES, "{most}");
    assert!(
        nodes.read_count <= 12 * u64::from(STATES),
        "each leaf is read a few times: {}",
        nodes.read_count
    );
}

/// A part that is lost beside very many directories, so that the walk comes back to it again and again.
#[test]
fn what_is_lost_is_told_once() {
    let trees = Trees::new();
    let below = trees.directory(&[fifo("x", 1)]);
    let deep = trees.write(|writer| {
        (0..300).fold(below, |below, _| {
            canonical_directory(&[entry("m", EntryContent::Directory(below)), fifo("z", 1)], writer)
        })
    });
    let name = |number| format!("{number:06}");
    let directories: Vec<Entry> =
        (0..30).map(|number| entry(name(number), EntryContent::Directory(deep))).collect();
    let lost = DirectorySubtree {
        id: absent(1),
        entry_count: 30,
        last_name: EntryName::new(name(29).as_bytes()).unwrap(),
    };
    let last = trees.leaf(&[entry(name(30), EntryContent::File(FileData::Empty))]);
    let children = vec![lost, last];
    let inner = DirectoryInner { level: 1, children };
    let id = trees.directory_node(&inner.encode());
    let damaged = Some(DirectoryTop { level: 1, id, entry_count: 31 });
    let above = |top| trees.directory(&[entry("top", EntryContent::Directory(top)), fifo("z", 2)]);
    let tops = [above(damaged), above(trees.directory(&directories))];
    // Nothing is held, so the directory is read again behind each of them.
    let found = walk(&mut TreesWalk::new(trees.store(), &SilentMonitor).in_room(1), &tops);
    assert_eq!(found.lost, [("top".to_owned(), vec![0])]);
    assert!(found.met.iter().any(|(path, at)| path == "top/000030" && at.len() == 1));
    assert_eq!(found.met.iter().filter(|(path, _)| path.ends_with("/x")).count(), 30);
}
