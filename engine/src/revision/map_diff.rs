//! Where two maps differ, descending only where their nodes do.

use std::ops::Range;

use super::MapReader;
use super::map_reader::span_of;
use crate::error::Result;
use crate::format::{Child, FAN_OUT};

/// The ranges of slots that differ, in order, neighbours joined. Slots beyond the end of one map count as holes; the
/// last chunks of two maps of different sizes differ unless both are holes.
///
/// Both maps must have the same chunk size.
pub(crate) fn diff_maps(a: &MapReader, b: &MapReader) -> Result<Vec<Range<u64>>> {
    debug_assert_eq!(a.root().chunk_size, b.root().chunk_size);
    let mut diff = Diff { a, b, ranges: Vec::new() };
    let level = a.root().level.max(b.root().level);
    diff.compare(level, 0)?;
    Ok(diff.ranges)
}

struct Diff<'a> {
    a: &'a MapReader,
    b: &'a MapReader,
    ranges: Vec<Range<u64>>,
}

impl Diff<'_> {
    fn compare(&mut self, level: u8, index: u64) -> Result<()> {
        let start = index.saturating_mul(span_of(level));
        let end = start.saturating_add(span_of(level)).min(self.a.slot_count().max(self.b.slot_count()));
        if start >= end {
            return Ok(());
        }
        // Above the top of a lower map its node stands at the left edge.
        let known = |map: &MapReader| level <= map.root().level || index > 0;
        if known(self.a) && known(self.b) {
            let (in_a, in_b) = (self.a.subtree(level, index)?, self.b.subtree(level, index)?);
            if same(in_a, in_b) {
                return Ok(());
            }
        }
        if level == 0 {
            return self.compare_slots(start..end);
        }
        (index * FAN_OUT..(index + 1) * FAN_OUT)
            .take_while(|child| child.saturating_mul(span_of(level - 1)) < end)
            .try_for_each(|child| self.compare(level - 1, child))
    }

    fn compare_slots(&mut self, range: Range<u64>) -> Result<()> {
        let (in_a, in_b) = (self.a.slots(range.clone())?, self.b.slots(range.clone())?);
        for ((slot, a), b) in range.zip(in_a).zip(in_b) {
            if a != b {
                match self.ranges.last_mut() {
                    Some(last) if last.end == slot => last.end = slot + 1,
                    _ => self.ranges.push(slot..slot + 1),
                }
            }
        }
        Ok(())
    }
}

fn same(a: Child, b: Child) -> bool {
    a.map(|subtree| subtree.id) == b.map(|subtree| subtree.id)
}
