//! How much a dry run would change: what comes out of it is counted against the parent's map, as nothing is stored that
//! could be compared.

use std::ops::Range;

use crate::error::Result;
use crate::format::Slot;
use crate::revision::{MapReader, Sought, diff_maps};

/// Counts bytes of chunks that are not as in the parent.
pub(super) struct ChangeCount<'a> {
    parent: &'a MapReader,
    /// Where the base of hints differs from the parent, if that was asked for.
    base_changes: Option<Vec<Range<u64>>>,
    pub(super) bytes: u64,
}

impl<'a> ChangeCount<'a> {
    pub(super) fn new(parent: &'a MapReader) -> Self {
        Self { parent, base_changes: None, bytes: 0 }
    }

    /// Counts chunks that were read, from the slot `start` on, each with its length.
    pub(super) fn read(&mut self, start: u64, slots: &[(Slot, u32)]) -> Result<()> {
        let range = start..start + slots.len() as u64;
        // What can't be read of the parent is no reason to call anything unchanged.
        let before = match self.parent.slots(range) {
            Err(error) if !error.is_loss() => return Err(error),
            before => before.ok(),
        };
        for (index, (slot, length)) in slots.iter().enumerate() {
            let known = before.as_ref().map(|before| before.get(index).copied().unwrap_or(Slot::Hole));
            if known != Some(*slot) {
                self.bytes += u64::from(*length);
            }
        }
        Ok(())
    }

    /// Counts what becomes a hole.
    pub(super) fn holes(&mut self, range: &Range<u64>) -> Result<()> {
        let mut from = range.start;
        while let Some(start) = self.parent.next(from, Sought::Data)?.filter(|&start| start < range.end) {
            let end = self.parent.next(start, Sought::Hole)?.unwrap_or(range.end).min(range.end);
            self.bytes += self.length_of(&(start..end));
            from = end;
        }
        Ok(())
    }

    /// Counts what is taken over from the base of hints, which may be older than the parent.
    pub(super) fn base(&mut self, range: &Range<u64>, base: &MapReader) -> Result<()> {
        let changes = match self.base_changes.take() {
            Some(changes) => changes,
            None => diff_maps(self.parent, base)?,
        };
        let within = |change: &Range<u64>| change.start.max(range.start)..change.end.min(range.end);
        self.bytes += changes.iter().map(within).map(|change| self.length_of(&change)).sum::<u64>();
        self.base_changes = Some(changes);
        Ok(())
    }

    /// Bytes of a range of slots.
    fn length_of(&self, range: &Range<u64>) -> u64 {
        let root = self.parent.root();
        let offset = |slot: u64| slot.saturating_mul(root.chunk_size.into()).min(root.size);
        offset(range.end).saturating_sub(offset(range.start))
    }
}
