//! Reads a map: slots, subtrees, and where data begins and ends, opening only the nodes on the way.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Corrupt, Error, Result};
use crate::format::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::store::Store;

/// A map that is open for reading. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MapReader {
    store: Arc<Store>,
    root: Root,
}

/// What is looked for in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A slot that is not a hole.
    Data,
    /// A slot that is one.
    Hole,
}

/// Chunks below a node of this level.
pub(crate) fn span_of(level: u8) -> u64 {
    FAN_OUT.saturating_pow(u32::from(level) + 1)
}

impl MapReader {
    /// Opens the map with this root.
    pub(crate) fn open(store: &Arc<Store>, root: &ObjectId) -> Result<Self> {
        Ok(Self { store: Arc::clone(store), root: store.root(root)? })
    }

    /// What the root says.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Number of slots.
    pub(crate) fn slot_count(&self) -> u64 {
        self.root.chunk_slots()
    }

    /// Length in bytes of a slot's chunk: the last one ends at the size.
    pub(crate) fn chunk_len(&self, slot: u64) -> u32 {
        let chunk_size = u64::from(self.root.chunk_size);
        let left = self.root.size.saturating_sub(slot.saturating_mul(chunk_size));
        // OK to unwrap: not more than the chunk size.
        u32::try_from(left.min(chunk_size)).unwrap_or(self.root.chunk_size)
    }

    /// The slots of a range, which are holes beyond the end.
    pub(crate) fn slots(&self, range: Range<u64>) -> Result<Vec<Slot>> {
        let mut slots = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        let mut at = range.start;
        while at < range.end {
            let leaf_index = at / FAN_OUT;
            let leaf_end = (leaf_index + 1).saturating_mul(FAN_OUT).min(range.end);
            let first = (at % FAN_OUT) as usize;
            if let Some(leaf) = self.leaf(leaf_index)? {
                let inside = leaf.slots.iter().skip(first).take((leaf_end - at) as usize);
                slots.extend(inside.copied());
            }
            slots.resize((leaf_end - range.start) as usize, Slot::Hole);
            at = leaf_end;
        }
        Ok(slots)
    }

    /// One slot.
    pub(crate) fn slot(&self, slot: u64) -> Result<Slot> {
        let leaf = self.leaf(slot / FAN_OUT)?;
        let found = leaf.and_then(|leaf| leaf.slots.get((slot % FAN_OUT) as usize).copied());
        Ok(found.unwrap_or(Slot::Hole))
    }

    /// The leaf over these slots; `None` if all are holes.
    pub(crate) fn leaf(&self, leaf_index: u64) -> Result<Option<Arc<Leaf>>> {
        let Some(subtree) = self.subtree(0, leaf_index)? else { return Ok(None) };
        self.load_leaf(&subtree.id, leaf_index).map(Some)
    }

    /// The node of a level, counted from the left; `None` if there are only holes, or nothing.
    pub(crate) fn subtree(&self, level: u8, index: u64) -> Result<Child> {
        if level > self.root.level {
            // As if a higher map had this one at its left edge.
            return Ok(None);
        }
        let mut child = self.root.top;
        for parent_level in (level + 1..=self.root.level).rev() {
            let Some(subtree) = child else { return Ok(None) };
            let below = u32::from(parent_level - level);
            let parent_index = index / FAN_OUT.saturating_pow(below);
            if parent_level == self.root.level && parent_index > 0 {
                return Ok(None);
            }
            let inner = self.load_inner(&subtree.id, parent_level, parent_index)?;
            let place = index / FAN_OUT.saturating_pow(below - 1) % FAN_OUT;
            child = inner.children.get(place as usize).copied().flatten();
        }
        if level == self.root.level && index > 0 {
            return Ok(None);
        }
        Ok(child)
    }

    /// The first slot from `from` on that is what is sought; `None` if there is none before the end. All below a
    /// damaged node counts as data: who reads it there gets the error, and what lies behind it stays in reach.
    pub(crate) fn next(&self, from: u64, sought: Sought) -> Result<Option<u64>> {
        if from >= self.slot_count() {
            return Ok(None);
        }
        self.next_below(self.root.top, self.root.level, 0, from, sought)
    }

    fn next_below(
        &self,
        child: Child,
        level: u8,
        index: u64,
        from: u64,
        sought: Sought,
    ) -> Result<Option<u64>> {
        let start = index.saturating_mul(span_of(level));
        let end = start.saturating_add(span_of(level)).min(self.slot_count());
        let from = from.max(start);
        let Some(subtree) = child else {
            return Ok((sought == Sought::Hole && from < end).then_some(from));
        };
        let bytes = end.saturating_mul(self.root.chunk_size.into()).min(self.root.size)
            - start.saturating_mul(self.root.chunk_size.into());
        if sought == Sought::Hole && subtree.data_bytes == bytes {
            return Ok(None);
        }
        if level == 0 {
            let leaf = match self.load_leaf(&subtree.id, index) {
                Err(error) if is_lost(&error) => return Ok((sought == Sought::Data).then_some(from)),
                leaf => leaf?,
            };
            let is_sought = |slot: &Slot| (*slot == Slot::Hole) == (sought == Sought::Hole);
            let first = (from - start) as usize;
            let found = leaf.slots.iter().skip(first).position(is_sought);
            return Ok(found.map(|place| from + place as u64));
        }
        let inner = match self.load_inner(&subtree.id, level, index) {
            Err(error) if is_lost(&error) => return Ok((sought == Sought::Data).then_some(from)),
            inner => inner?,
        };
        let first = (from - start) / span_of(level - 1);
        for (place, child) in inner.children.iter().enumerate().skip(first as usize) {
            let child_index = index * FAN_OUT + place as u64;
            if let Some(found) = self.next_below(*child, level - 1, child_index, from, sought)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Loads a leaf and checks that it has as many slots as its place wants.
    fn load_leaf(&self, id: &ObjectId, index: u64) -> Result<Arc<Leaf>> {
        let leaf = self.store.leaf(id)?;
        match leaf.slots.len() as u64 == self.width(0, index) {
            true => Ok(leaf),
            false => Err(misfit(id)),
        }
    }

    /// Loads an inner node and checks that it fits its place, so that a hostile map can't make a reader go in circles.
    pub(crate) fn load_inner(&self, id: &ObjectId, level: u8, index: u64) -> Result<Arc<Inner>> {
        let inner = self.store.inner(id)?;
        match inner.level == level && inner.children.len() as u64 == self.width(level, index) {
            true => Ok(inner),
            false => Err(misfit(id)),
        }
    }

    /// Children or slots that the node at this place must have.
    fn width(&self, level: u8, index: u64) -> u64 {
        let units = self.slot_count().div_ceil(FAN_OUT.saturating_pow(level.into()));
        units.saturating_sub(index.saturating_mul(FAN_OUT)).min(FAN_OUT)
    }

    /// Calls `visit` for the subtrees of each level from the top down, without those for which it says `false`.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(MapPart<'_>) -> Result<bool>) -> Result<()> {
        match self.root.top {
            Some(top) => self.walk_below(top, self.root.level, 0, visit),
            None => Ok(()),
        }
    }

    fn walk_below(
        &self,
        subtree: Subtree,
        level: u8,
        index: u64,
        visit: &mut dyn FnMut(MapPart<'_>) -> Result<bool>,
    ) -> Result<()> {
        let first_slot = index.saturating_mul(span_of(level));
        if !visit(MapPart::Node { id: &subtree.id, level, first_slot })? {
            return Ok(());
        }
        if level == 0 {
            let leaf = match self.load_leaf(&subtree.id, index) {
                Ok(leaf) => leaf,
                Err(error) => {
                    return visit(MapPart::Unreadable { id: &subtree.id, level, first_slot, error })
                        .map(|_| ());
                }
            };
            for (slot, content) in (first_slot..).zip(&leaf.slots) {
                if let Slot::Chunk(id) = content {
                    visit(MapPart::Chunk { id, slot })?;
                }
            }
            return Ok(());
        }
        let inner = match self.load_inner(&subtree.id, level, index) {
            Ok(inner) => inner,
            Err(error) => {
                return visit(MapPart::Unreadable { id: &subtree.id, level, first_slot, error }).map(|_| ());
            }
        };
        for (place, child) in (index * FAN_OUT..).zip(&inner.children) {
            if let Some(child) = child {
                self.walk_below(*child, level - 1, place, visit)?;
            }
        }
        Ok(())
    }
}

/// What [`MapReader::walk`] comes upon.
pub(crate) enum MapPart<'a> {
    /// A node that is about to be read.
    Node { id: &'a ObjectId, level: u8, first_slot: u64 },
    /// A node that could not be read: all below it is unknown.
    Unreadable { id: &'a ObjectId, level: u8, first_slot: u64, error: Error },
    /// A slot that is a chunk.
    Chunk { id: &'a ObjectId, slot: u64 },
}

/// Whether an object has no intact copy, as against a failure that may pass.
fn is_lost(error: &Error) -> bool {
    error.is_damage() || error.is_not_found()
}

fn misfit(id: &ObjectId) -> Error {
    Corrupt::new(format!("node {id}"), "it does not fit its place in the map").into()
}
