//! Builds the map of a new revision from left to right, taking over whole subtrees of the base where it can.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::format::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::revision::{MapReader, span_of};
use crate::store::StoreWriter;

/// A map that grows at its right end. Holds one open node of each level.
pub(super) struct MapBuilder {
    chunk_size: u32,
    /// The next slot.
    position: u64,
    leaf: Vec<Slot>,
    leaf_data_bytes: u64,
    /// `open[l]`: the complete nodes of level l that have no parent yet.
    open: Vec<Vec<Child>>,
}

impl MapBuilder {
    pub(super) fn new(chunk_size: u32) -> Self {
        Self { chunk_size, position: 0, leaf: Vec::new(), leaf_data_bytes: 0, open: Vec::new() }
    }

    /// The slot that comes next.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Appends one slot; `length` is that of its chunk.
    pub(super) fn push_slot(&mut self, slot: Slot, length: u32, writer: &mut StoreWriter<'_>) -> Result<()> {
        self.leaf.push(slot);
        self.position += 1;
        if slot != Slot::Hole {
            self.leaf_data_bytes += u64::from(length);
        }
        if self.leaf.len() as u64 == FAN_OUT {
            let leaf = self.close_leaf(writer)?;
            self.push_child(0, leaf, writer)?;
        }
        Ok(())
    }

    /// Appends holes up to the slot `end`.
    pub(super) fn push_holes(&mut self, end: u64, writer: &mut StoreWriter<'_>) -> Result<()> {
        while self.position < end {
            match self.largest_step(end, u8::MAX) {
                Some(level) => {
                    self.position += span_of(level);
                    self.push_child(level, None, writer)?;
                }
                None => self.push_slot(Slot::Hole, 0, writer)?,
            }
        }
        Ok(())
    }

    /// Appends what the base has up to the slot `end`.
    pub(super) fn push_base(
        &mut self,
        end: u64,
        base: &MapReader,
        writer: &mut StoreWriter<'_>,
    ) -> Result<()> {
        while self.position < end {
            let position = self.position;
            match self.largest_step(end, base.root().level) {
                Some(level) => {
                    let child = base.subtree(level, position / span_of(level))?;
                    self.position += span_of(level);
                    self.push_child(level, child, writer)?;
                }
                None => {
                    let leaf_end = (position / FAN_OUT + 1).saturating_mul(FAN_OUT).min(end);
                    self.push_base_slots(position..leaf_end, base, writer)?;
                }
            }
        }
        Ok(())
    }

    fn push_base_slots(
        &mut self,
        range: Range<u64>,
        base: &MapReader,
        writer: &mut StoreWriter<'_>,
    ) -> Result<()> {
        let slots = base.slots(range.clone())?;
        range.zip(slots).try_for_each(|(index, slot)| self.push_slot(slot, base.chunk_len(index), writer))
    }

    /// The highest level, up to `limit`, of a node that begins here and ends at `end` or before.
    fn largest_step(&self, end: u64, limit: u8) -> Option<u8> {
        let fits = |level: &u8| {
            let span = span_of(*level);
            span < u64::MAX && self.position.is_multiple_of(span) && end - self.position >= span
        };
        (0..=limit.min(6)).take_while(fits).last()
    }

    fn push_child(&mut self, level: u8, child: Child, writer: &mut StoreWriter<'_>) -> Result<()> {
        let place = usize::from(level);
        if self.open.len() <= place {
            self.open.resize_with(place + 1, Vec::new);
        }
        let Some(siblings) = self.open.get_mut(place) else { return Ok(()) };
        siblings.push(child);
        if siblings.len() as u64 == FAN_OUT {
            let children = std::mem::take(siblings);
            let parent = store_inner(level + 1, children, writer)?;
            self.push_child(level + 1, parent, writer)?;
        }
        Ok(())
    }

    fn close_leaf(&mut self, writer: &mut StoreWriter<'_>) -> Result<Child> {
        let leaf = Leaf { slots: std::mem::take(&mut self.leaf) };
        let data_bytes = std::mem::take(&mut self.leaf_data_bytes);
        if leaf.slots.iter().all(|slot| *slot == Slot::Hole) {
            return Ok(None);
        }
        let chunk_count = leaf.slots.iter().filter(|slot| matches!(slot, Slot::Chunk(_))).count() as u64;
        Ok(Some(Subtree { id: writer.add_node(&leaf.encode())?, data_bytes, chunk_count }))
    }

    /// Closes all open nodes and stores the root of a map of this size.
    pub(super) fn finish(mut self, size: u64, writer: &mut StoreWriter<'_>) -> Result<(ObjectId, Root)> {
        let slots = size.div_ceil(self.chunk_size.into());
        if slots != self.position {
            let reason = format!("{} of {slots} chunks were seen", self.position);
            return Err(Error::BadParameter { what: "map", reason });
        }
        if !self.leaf.is_empty() {
            let leaf = self.close_leaf(writer)?;
            self.push_child(0, leaf, writer)?;
        }
        let level = Root::level_for(slots);
        for below in 0..level {
            let children = self.open.get_mut(usize::from(below)).map(std::mem::take).unwrap_or_default();
            if !children.is_empty() {
                let parent = store_inner(below + 1, children, writer)?;
                self.push_child(below + 1, parent, writer)?;
            }
        }
        let top = self.open.get(usize::from(level)).and_then(|nodes| nodes.first().copied()).flatten();
        let root = Root { level, size, chunk_size: self.chunk_size, top };
        Ok((writer.add_node(&root.encode())?, root))
    }
}

fn store_inner(level: u8, children: Vec<Child>, writer: &mut StoreWriter<'_>) -> Result<Child> {
    if children.iter().all(Option::is_none) {
        return Ok(None);
    }
    let data_bytes = children.iter().flatten().map(|child| child.data_bytes).sum();
    let chunk_count = children.iter().flatten().map(|child| child.chunk_count).sum();
    let id = writer.add_node(&Inner { level, children }.encode())?;
    Ok(Some(Subtree { id, data_bytes, chunk_count }))
}
