//! A leaf of a directory that is being read, of which no more is held than there is room for.

use std::sync::Arc;

use crate::format::{DirectoryLeaf, Entry, EntryName};
use crate::id::ObjectId;

/// Entries of a leaf that are still to come: all of them, or so many of the next ones as there was room for.
pub(super) struct HeldLeaf {
    pub(super) id: ObjectId,
    entries: Entries,
    /// The number of the next entry in the leaf.
    index: usize,
    /// How many entries the leaf has.
    leaf_len: usize,
    memory_bytes: usize,
}

enum Entries {
    /// As the cache has it.
    Whole(Arc<DirectoryLeaf>),
    /// Copies of those from this number on.
    Part(usize, Vec<Entry>),
}

impl HeldLeaf {
    /// Holds a leaf from an entry on, in so much memory, or at least one entry.
    pub(super) fn new(id: ObjectId, leaf: &Arc<DirectoryLeaf>, index: usize, room_bytes: usize) -> Self {
        let mut held = Self {
            id,
            entries: Entries::Part(index, Vec::new()),
            index,
            leaf_len: leaf.entries.len(),
            memory_bytes: 0,
        };
        held.read_on(leaf, room_bytes);
        held
    }

    /// Takes more entries from the leaf.
    pub(super) fn read_on(&mut self, leaf: &Arc<DirectoryLeaf>, room_bytes: usize) {
        let to_come = leaf.entries.get(self.index..).unwrap_or_default();
        let (mut count, mut bytes) = (0, 0);
        for entry in to_come {
            let with_this = bytes + entry.memory_bytes();
            if count > 0 && with_this > room_bytes {
                break;
            }
            (count, bytes) = (count + 1, with_this);
        }
        self.memory_bytes = bytes;
        // Else all of the leaf would be held for the rest of it.
        self.entries = if count == leaf.entries.len() {
            Entries::Whole(Arc::clone(leaf))
        } else {
            Entries::Part(self.index, to_come.iter().take(count).cloned().collect())
        };
    }

    /// The next entry, if it is held: if not, and it is not done, it must [read on](Self::read_on).
    pub(super) fn entry(&self) -> Option<&Entry> {
        match &self.entries {
            Entries::Whole(leaf) => leaf.entries.get(self.index),
            Entries::Part(first, copies) => copies.get(self.index.checked_sub(*first)?),
        }
    }

    pub(super) fn name(&self) -> Option<&EntryName> {
        self.entry().map(|entry| &entry.name)
    }

    /// Leaves the next entry behind.
    pub(super) fn advance(&mut self) {
        self.index += 1;
    }

    /// Whether no entry is to come.
    pub(super) fn is_done(&self) -> bool {
        self.index >= self.leaf_len
    }

    /// About how much memory its entries took when they were read.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::numbered;

    #[test]
    fn all_entries_come_in_order_however_little_room_there_is() {
        let leaf = Arc::new(DirectoryLeaf { entries: numbered(0..50) });
        let one = leaf.entries[0].memory_bytes();
        for begin in [0, 7, 49] {
            for room in [0, one, 3 * one, 10 * one + 1, 49 * one, 50 * one, 1 << 20] {
                let mut held = HeldLeaf::new(absent(1), &leaf, begin, room);
                let (mut names, mut reads) = (Vec::new(), 1);
                while !held.is_done() {
                    if held.entry().is_none() {
                        held.read_on(&leaf, room);
                        reads += 1;
                    }
                    assert!(held.memory_bytes() <= room.max(one));
                    let is_whole = matches!(held.entries, Entries::Whole(_));
                    assert_eq!(is_whole, begin == 0 && room >= 50 * one, "what is held counts");
                    names.push(held.name().unwrap().clone());
                    held.advance();
                }
                let expected: Vec<_> = leaf.entries[begin..].iter().map(|entry| entry.name.clone()).collect();
                assert_eq!(names, expected);
                assert_eq!(reads, (50 - begin).div_ceil((room / one).max(1)), "{begin} {room}");
            }
        }
    }
}
