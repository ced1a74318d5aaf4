//! Finds and lists the entries of one directory, opening only the nodes on the way.

use std::ops::Deref;
use std::sync::Arc;

use super::TreeReader;
use super::directory_place::DirectoryPlace;
use crate::error::{Corrupt, Result};
use crate::format::{DirectoryInner, DirectoryLeaf, DirectoryTop, Entry, EntryName};
use crate::id::ObjectId;
use crate::store::Store;

/// Where an entry is stored: by this it is found again without its directory, as long as what is stored stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPlace {
    /// The leaf that has it.
    pub leaf: ObjectId,
    /// Its number among the entries of the leaf, from 0.
    pub index: u32,
}

impl EntryPlace {
    fn new(leaf: ObjectId, index: usize) -> Self {
        // OK to unwrap: a leaf has 64 KiB at most.
        Self { leaf, index: u32::try_from(index).unwrap_or(u32::MAX) }
    }
}

/// The entry at a place that a look-up or a listing gave.
pub(super) fn entry_at(store: &Store, place: &EntryPlace) -> Result<Entry> {
    let leaf = store.directory_leaf(&place.leaf)?;
    let entry = leaf.entries.get(place.index as usize).cloned();
    entry.ok_or_else(|| Corrupt::new(format!("directory {}", place.leaf), "it has fewer entries").into())
}

/// The entry of a name, and where it is stored; one node is read for each level.
pub(super) fn lookup(store: &Store, top: &DirectoryTop, name: &[u8]) -> Result<Option<(EntryPlace, Entry)>> {
    let mut place = DirectoryPlace::top(top);
    while place.level > 0 {
        let inner = place.inner(store)?;
        let index = inner.children.partition_point(|child| child.last_name.as_bytes() < name);
        match place.child(&inner, index) {
            Some(child) => place = child,
            None => return Ok(None),
        }
    }
    let leaf = place.leaf(store)?;
    let found = leaf.entries.binary_search_by(|entry| entry.name.as_bytes().cmp(name));
    let place_and_entry = |index| {
        let entry: &Entry = leaf.entries.get(index)?;
        Some((EntryPlace::new(place.id, index), entry.clone()))
    };
    Ok(found.ok().and_then(place_and_entry))
}

/// Entries that follow each other in a directory, at least one: a slice of what the cache holds.
#[derive(Clone, Debug)]
pub struct EntryRun {
    id: ObjectId,
    leaf: Arc<DirectoryLeaf>,
    /// Entries of the leaf that are not in it.
    skipped: usize,
}

impl EntryRun {
    /// Where the entry of this number in the run is stored.
    pub fn place(&self, number: usize) -> EntryPlace {
        EntryPlace::new(self.id, self.skipped + number)
    }
}

impl Deref for EntryRun {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.leaf.entries.get(self.skipped..).unwrap_or_default()
    }
}

/// The entries of a directory in the order of their names, run by run. Holds at most a node for each level.
///
/// A part of the directory that can't be read gives one error, and the entries behind it still come.
pub struct EntryRuns {
    tree: TreeReader,
    after: Option<EntryName>,
    /// Entries that are still to be passed over.
    to_skip: u64,
    /// The node to be read next.
    next: Option<DirectoryPlace>,
    /// The inner nodes above it, from the top down, each with the number of its next child.
    open: Vec<(DirectoryPlace, Arc<DirectoryInner>, usize)>,
}

impl EntryRuns {
    pub(super) fn new(tree: TreeReader, top: Option<&DirectoryTop>, after: Option<&EntryName>) -> Self {
        let next = top.map(DirectoryPlace::top);
        Self { tree, after: after.cloned(), to_skip: 0, next, open: Vec::new() }
    }

    /// The entries from one on, counted from 0. What lies before it is not read, as far as inner nodes tell.
    pub(super) fn from_position(tree: TreeReader, top: Option<&DirectoryTop>, position: u64) -> Self {
        Self { to_skip: position, ..Self::new(tree, top, None) }
    }

    fn next_place(&mut self) -> Option<DirectoryPlace> {
        if let Some(place) = self.next.take() {
            return Some(place);
        }
        while let Some((place, inner, index)) = self.open.last_mut() {
            if let Some(child) = place.child(inner, *index) {
                *index += 1;
                return Some(child);
            }
            self.open.pop();
        }
        None
    }

    /// Reads what is at a place; `None` if that has no entries to give, or they lie in nodes below.
    fn read(&mut self, place: DirectoryPlace) -> Result<Option<EntryRun>> {
        let is_passed = |name: &EntryName| self.after.as_ref().is_some_and(|after| name <= after);
        if place.level == 0 {
            let leaf = place.leaf(self.tree.store())?;
            let passed = leaf.entries.partition_point(|entry| is_passed(&entry.name));
            let skipped =
                passed.max(usize::try_from(self.to_skip).unwrap_or(usize::MAX).min(leaf.entries.len()));
            self.to_skip = self.to_skip.saturating_sub(leaf.entries.len() as u64);
            return Ok((skipped < leaf.entries.len()).then_some(EntryRun { id: place.id, leaf, skipped }));
        }
        let inner = place.inner(self.tree.store())?;
        let mut index = inner.children.partition_point(|child| is_passed(&child.last_name));
        while let Some(rest) =
            inner.children.get(index).and_then(|child| self.to_skip.checked_sub(child.entry_count))
        {
            self.to_skip = rest;
            index += 1;
        }
        self.open.push((place, inner, index));
        Ok(None)
    }
}

impl Iterator for EntryRuns {
    type Item = Result<EntryRun>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let place = self.next_place()?;
            if let Some(run) = self.read(place).transpose() {
                return Some(run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{DirectorySubtree, FileLeaf};
    use crate::id::ObjectId;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, hole, numbered};

    fn names(tree: &TreeReader, top: Option<&DirectoryTop>, after: Option<&str>) -> Vec<Vec<u8>> {
        let after = after.map(|name| EntryName::new(name.as_bytes()).unwrap());
        tree.entries(top, after.as_ref()).map(|entry| entry.unwrap().name.as_bytes().to_vec()).collect()
    }

    fn inner(trees: &Trees, level: u8, children: &[&DirectorySubtree]) -> DirectorySubtree {
        let inner =
            DirectoryInner { level, children: children.iter().map(|child| (*child).clone()).collect() };
        DirectorySubtree {
            id: trees.directory_node(&inner.encode()),
            entry_count: inner.entry_count().unwrap(),
            last_name: inner.children.last().unwrap().last_name.clone(),
        }
    }

    fn top(level: u8, node: &DirectorySubtree) -> DirectoryTop {
        DirectoryTop { level, id: node.id, entry_count: node.entry_count }
    }

    #[test]
    fn a_directory_is_listed_from_any_position_on() {
        let trees = Trees::new();
        let tree = trees.open(None);
        for count in [1, 40, 3000] {
            let top = trees.directory(&numbered(0..count)).unwrap();
            let all = names(&tree, Some(&top), None);
            for position in [0, 1, 39, 40, 1000, 1500, 2999, 3000, u64::MAX] {
                let runs = tree.entry_runs_from(Some(&top), position);
                let listed: Vec<Vec<u8>> = runs
                    .flat_map(|run| {
                        run.unwrap().iter().map(|entry| entry.name.as_bytes().to_vec()).collect::<Vec<_>>()
                    })
                    .collect();
                assert_eq!(listed, all[all.len().min(usize::try_from(position).unwrap_or(usize::MAX))..]);
            }
        }
    }

    #[test]
    fn every_name_of_a_directory_of_any_size_is_found_and_no_other() {
        let trees = Trees::new();
        let tree = trees.open(None);
        for (count, level) in [(1, 0), (40, 0), (3000, 1), (60_000, 2)] {
            let entries = numbered((0..count).map(|number| number * 2));
            let top = trees.directory(&entries).unwrap();
            assert_eq!((top.level, top.entry_count), (level, count));
            for entry in entries.iter().step_by(1 + count as usize / 200).chain(entries.last()) {
                let found = tree.lookup(Some(&top), entry.name.as_bytes()).unwrap();
                assert_eq!(found.as_ref(), Some(entry));
                let behind = [entry.name.as_bytes(), b"!"].concat();
                assert_eq!(tree.lookup(Some(&top), &behind).unwrap(), None);
            }
            for absent in [&b""[..], b"!", b"x", b".", b"..", &[0xff; 300]] {
                assert_eq!(tree.lookup(Some(&top), absent).unwrap(), None);
            }
        }
        assert_eq!(tree.lookup(None, b"x").unwrap(), None);
        assert_eq!(names(&tree, None, None), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn entries_come_in_order_from_behind_any_name() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let entries = numbered((0..3000).map(|number| number * 2));
        let top = trees.directory(&entries).unwrap();
        let all: Vec<Vec<u8>> = entries.iter().map(|entry| entry.name.as_bytes().to_vec()).collect();
        assert_eq!(names(&tree, Some(&top), None), all);
        for number in (0..6002).step_by(97) {
            let expected: Vec<_> = all
                .iter()
                .filter(|name| name.as_slice() > format!("{number:06}").as_bytes())
                .cloned()
                .collect();
            assert_eq!(names(&tree, Some(&top), Some(&format!("{number:06}"))), expected, "{number}");
        }
        assert_eq!(names(&tree, Some(&top), Some("!")), all);
        assert!(names(&tree, Some(&top), Some("x")).is_empty());
    }

    #[test]
    fn a_lookup_reads_no_node_beside_its_way() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let entries = numbered(0..30);
        let leaf = trees.leaf(&entries[10..20]);
        let lost = |number, range: std::ops::Range<usize>| DirectorySubtree {
            id: absent(number),
            entry_count: 10,
            last_name: entries[range].last().unwrap().name.clone(),
        };
        let top = top(1, &inner(&trees, 1, &[&lost(1, 0..10), &leaf, &lost(2, 20..30)]));
        for entry in &entries[10..20] {
            let found = tree.lookup(Some(&top), entry.name.as_bytes()).unwrap();
            assert_eq!(found.as_ref(), Some(entry));
        }
        assert!(tree.lookup(Some(&top), b"000009").unwrap_err().is_damage());
        assert!(tree.lookup(Some(&top), b"000020").unwrap_err().is_damage());
        assert_eq!(tree.lookup(Some(&top), b"000030").unwrap(), None, "behind all that there is");
    }

    #[test]
    fn what_lies_behind_a_lost_node_is_listed() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let entries = numbered(0..40);
        let (first, last) = (trees.leaf(&entries[..10]), trees.leaf(&entries[30..]));
        let lost = DirectorySubtree { id: absent(1), entry_count: 20, last_name: entries[29].name.clone() };
        let top = top(1, &inner(&trees, 1, &[&first, &lost, &last]));
        let listed: Vec<Result<Entry>> = tree.entries(Some(&top), None).collect();
        assert_eq!(listed.len(), 21);
        for (index, entry) in listed.into_iter().enumerate() {
            match index {
                10 => assert!(entry.unwrap_err().is_damage()),
                0..10 => assert_eq!(entry.unwrap(), entries[index]),
                _ => assert_eq!(entry.unwrap(), entries[index + 19]),
            }
        }
    }

    #[test]
    fn nodes_that_do_not_fit_their_place_are_damage() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let entries = numbered(0..30);
        let (left, right) = (trees.leaf(&entries[..10]), trees.leaf(&entries[10..20]));
        let fit = inner(&trees, 1, &[&left, &right]);
        assert_eq!(names(&tree, Some(&top(1, &fit)), None).len(), 20);
        let renamed = |node: &DirectorySubtree, name: usize| DirectorySubtree {
            last_name: entries[name].name.clone(),
            ..node.clone()
        };
        let counted = |node: &DirectorySubtree, entry_count| DirectorySubtree { entry_count, ..node.clone() };
        let of_id = |id: ObjectId| DirectorySubtree { id, ..fit.clone() };
        let overlapping = trees.leaf(&entries[5..20]);
        let far = inner(&trees, 1, &[&trees.leaf(&entries[20..25]), &trees.leaf(&entries[25..])]);
        let hostile = [
            ("a top with too few entries", top(1, &counted(&fit, 21))),
            ("a top with too many entries", top(1, &counted(&fit, 19))),
            ("a top with no end of entries", top(1, &counted(&fit, u64::MAX))),
            ("a leaf with too few entries", top(1, &inner(&trees, 1, &[&counted(&left, 11), &right]))),
            ("a leaf with too many entries", top(1, &inner(&trees, 1, &[&left, &counted(&right, 9)]))),
            ("a leaf that ends early", top(1, &inner(&trees, 1, &[&left, &renamed(&right, 20)]))),
            ("a leaf that ends late", top(1, &inner(&trees, 1, &[&renamed(&left, 8), &right]))),
            ("a leaf that begins early", top(1, &inner(&trees, 1, &[&left, &overlapping]))),
            ("an inner node that ends late", top(2, &inner(&trees, 2, &[&fit, &renamed(&far, 28)]))),
            ("an inner node that is there twice", top(2, &inner(&trees, 2, &[&renamed(&fit, 18), &fit]))),
            ("an inner node with a wrong sum", top(2, &inner(&trees, 2, &[&fit, &counted(&far, 11)]))),
            ("a leaf at the top", top(1, &counted(&left, 10))),
            ("an inner node as a leaf", top(0, &fit)),
            ("a leaf two levels below", top(2, &inner(&trees, 2, &[&left, &right]))),
            ("another level", top(2, &fit)),
            ("a needless top", top(1, &inner(&trees, 1, &[&left]))),
            ("a needless top above others", top(2, &inner(&trees, 2, &[&fit]))),
            ("nonsense", top(0, &of_id(trees.directory_node(b"nonsense")))),
            (
                "a node of a file",
                top(0, &of_id(trees.file_node(&FileLeaf { slots: vec![hole(9)] }.encode()))),
            ),
            ("nothing", top(7, &of_id(absent(1)))),
        ];
        for (what, top) in hostile {
            let failures = tree.entry_runs(Some(&top), None).filter(|run| run.is_err());
            for failure in failures {
                assert!(failure.unwrap_err().is_damage(), "{what}");
            }
            let failed = tree.entry_runs(Some(&top), None).filter(Result::is_err).count();
            assert!((1..=2).contains(&failed), "{what}: {failed}");
            let lookups = entries.iter().map(|entry| tree.lookup(Some(&top), entry.name.as_bytes()));
            let failed = lookups.filter(|found| found.as_ref().is_err_and(crate::Error::is_damage)).count();
            assert!(failed > 0, "{what}");
        }
    }
}
