//! Reads the map of a tree's file: its slots from any place on, and where data and holes begin.
//!
//! Each node is held to what the one above it says of it, so what lies where is known without reading all of it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::map_reader::Sought;
use crate::error::{Corrupt, Error, Result};
use crate::format::{FileInner, FileLeaf, FileSubtree, Slot};
use crate::id::ObjectId;
use crate::store::Store;

/// The map of a file.
#[derive(Clone, Copy)]
pub(super) struct FileMap<'a> {
    pub(super) store: &'a Store,
    /// Level of the top node.
    pub(super) level: u8,
    pub(super) top: FileSubtree,
}

impl<'a> FileMap<'a> {
    /// The slots from the one on that holds this byte.
    pub(super) fn slots_from(self, offset: u64) -> FileSlots<'a> {
        let next = Some((self.top, self.level));
        FileSlots { map: self, from: offset, at: 0, before: None, next, open: Vec::new(), leaf: None }
    }

    /// The first byte from `from` on that is what is sought; `None` if there is none before the end. All below a damaged
    /// node counts as data: who reads it there gets the error, and what lies behind it stays in reach.
    pub(super) fn next(self, from: u64, sought: Sought) -> Result<Option<u64>> {
        if from >= self.top.bytes {
            return Ok(None);
        }
        let mut search = Search { map: self, from, sought, in_vain: HashSet::new() };
        search.below(&self.top, self.level, 0)
    }

    /// Loads a leaf and checks that it is what is said of it.
    pub(super) fn leaf(&self, subtree: &FileSubtree) -> Result<Arc<FileLeaf>> {
        let leaf = self.store.file_leaf(&subtree.id)?;
        let fits = leaf.subtree(subtree.id).as_ref() == Some(subtree);
        fits.then_some(leaf).ok_or_else(|| misfit(&subtree.id))
    }

    /// Loads an inner node and checks that it is what is said of it.
    pub(super) fn inner(&self, subtree: &FileSubtree, level: u8) -> Result<Arc<FileInner>> {
        let inner = self.store.file_inner(&subtree.id)?;
        // With one child the top would be that.
        let is_needed = level < self.level || inner.children.len() > 1;
        let sums_fit = inner.level == level && inner.subtree(subtree.id).as_ref() == Some(subtree);
        (is_needed && sums_fit).then_some(inner).ok_or_else(|| misfit(&subtree.id))
    }
}

/// The slots of a file from left to right, each with its range in bytes. A part of the map that can't be read comes as
/// one range with the error. Holds at most a node for each level.
pub(super) struct FileSlots<'a> {
    map: FileMap<'a>,
    /// What ends before this byte is left out.
    from: u64,
    /// Where the next slot or node begins.
    at: u64,
    /// The slot before, if it is known.
    before: Option<Slot>,
    /// The node that is to be read next.
    next: Option<(FileSubtree, u8)>,
    /// The inner nodes above it, from the top down, each with the number of its next child.
    open: Vec<(Arc<FileInner>, usize)>,
    /// The leaf that is being read, with the number of its next slot.
    leaf: Option<(Arc<FileLeaf>, usize)>,
}

impl FileSlots<'_> {
    fn next_in_leaf(&mut self) -> Option<(Range<u64>, Slot)> {
        let (leaf, index) = self.leaf.as_mut()?;
        while let Some(slot) = leaf.slots.get(*index) {
            *index += 1;
            let range = self.at..self.at + slot.length;
            self.at = range.end;
            self.before = Some(slot.content);
            if range.end > self.from {
                return Some((range, slot.content));
            }
        }
        self.leaf = None;
        None
    }

    fn next_node(&mut self) -> Option<(FileSubtree, u8)> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        while let Some((inner, index)) = self.open.last_mut() {
            if let Some(child) = inner.children.get(*index) {
                *index += 1;
                return Some((*child, inner.level.saturating_sub(1)));
            }
            self.open.pop();
        }
        None
    }

    fn enter(&mut self, subtree: &FileSubtree, level: u8) -> Result<()> {
        if level > 0 {
            self.open.push((self.map.inner(subtree, level)?, 0));
            return Ok(());
        }
        let leaf = self.map.leaf(subtree)?;
        let first = leaf.slots.first().map(|slot| slot.content);
        if first == self.before && matches!(first, Some(Slot::Hole | Slot::Zeros)) {
            let expected = "it begins with what should have been one slot with the one before";
            return Err(Corrupt::new(format!("node {}", subtree.id), expected).into());
        }
        self.leaf = Some((leaf, 0));
        Ok(())
    }

    /// Goes on behind a node without reading it.
    fn pass(&mut self, end: u64) {
        self.at = end;
        self.before = None;
    }
}

impl Iterator for FileSlots<'_> {
    type Item = (Range<u64>, Result<Slot>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((range, slot)) = self.next_in_leaf() {
                return Some((range, Ok(slot)));
            }
            let (subtree, level) = self.next_node()?;
            let range = self.at..self.at + subtree.bytes;
            if range.end <= self.from {
                self.pass(range.end);
            } else if let Err(error) = self.enter(&subtree, level) {
                self.pass(range.end);
                return Some((range, Err(error)));
            }
        }
    }
}

/// A search from a byte on for the first one of a kind.
struct Search<'a> {
    map: FileMap<'a>,
    from: u64,
    sought: Sought,
    /// Nodes in which there is none, with what is said of them: a hostile map may have few nodes, each in more places
    /// than can be visited.
    in_vain: HashSet<(ObjectId, u8, [u64; 2])>,
}

impl Search<'_> {
    /// Searches a node that begins at `start` and ends behind the first byte of the search.
    fn below(&mut self, subtree: &FileSubtree, level: u8, start: u64) -> Result<Option<u64>> {
        let from = self.from.max(start);
        let FileSubtree { id, bytes, data_bytes, .. } = *subtree;
        let uniform = match self.sought {
            Sought::Data => (data_bytes == bytes, data_bytes == 0),
            Sought::Hole => (data_bytes == 0, data_bytes == bytes),
        };
        let key = (id, level, [bytes, data_bytes]);
        match uniform {
            (true, _) => return Ok(Some(from)),
            (_, true) => return Ok(None),
            _ if self.in_vain.contains(&key) => return Ok(None),
            _ => {}
        }
        let found = match self.within(subtree, level, start) {
            Err(error) if error.is_loss() => (self.sought == Sought::Data).then_some(from),
            found => found?,
        };
        if found.is_none() && from == start {
            self.in_vain.insert(key);
        }
        Ok(found)
    }

    fn within(&mut self, subtree: &FileSubtree, level: u8, start: u64) -> Result<Option<u64>> {
        let mut end = start;
        if level == 0 {
            for slot in &self.map.leaf(subtree)?.slots {
                let slot_start = end;
                end += slot.length;
                let is_sought = (slot.content == Slot::Hole) == (self.sought == Sought::Hole);
                if is_sought && end > self.from {
                    return Ok(Some(self.from.max(slot_start)));
                }
            }
            return Ok(None);
        }
        for child in &self.map.inner(subtree, level)?.children {
            let child_start = end;
            end += child.bytes;
            if end > self.from
                && let Some(found) = self.below(child, level - 1, child_start)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn misfit(id: &ObjectId) -> Error {
    Corrupt::new(format!("node {id}"), "it does not fit its place in the file").into()
}
