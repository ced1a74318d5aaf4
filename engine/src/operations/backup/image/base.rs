//! What may be taken over unread from a revision: as far as that can be told without reading it.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::extent::push_joined;
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::recent::Recent;
use crate::revision::{MapPart, MapReader, span_of};
use crate::store::Index;

/// Places that are looked at before all of a map is taken over.
const SAMPLED: usize = 64;

/// Ranges of bad slots that are told apart. Of more, what lies between the later ones counts as bad as well: that is
/// read for nothing, and memory stays bounded however often a map names a bad chunk.
const RANGES_MAX: usize = 100_000;

/// Whether what a map is made of lies in published packs that are there: its root, and a sample of the rest; all of it
/// where packs are missing.
pub(super) fn is_stored(
    index: &Index,
    root: &ObjectId,
    map: &MapReader,
    monitor: &dyn Monitor,
) -> Result<bool> {
    if !index.still_contains(root)? {
        return Ok(false);
    }
    if index.has_missing_packs() {
        return Ok(lost_objects(index, map, monitor, 1)?.is_empty());
    }
    let mut sampled = map.random_objects(SAMPLED)?.into_iter();
    sampled.try_fold(true, |all, id| Ok(all && index.still_contains(&id)?))
}

/// Objects of a map that are in no published pack that is there, so many at most.
pub(super) fn lost_objects(
    index: &Index,
    map: &MapReader,
    monitor: &dyn Monitor,
    count_max: usize,
) -> Result<Vec<ObjectId>> {
    let (mut lost, mut seen) = (Vec::new(), Recent::default());
    map.walk(&mut |part| -> Result<bool> {
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let (MapPart::Node { id, .. } | MapPart::Chunk { id, .. } | MapPart::Unreadable { id, .. }) = part;
        // A map may name one node in very many places.
        if lost.len() >= count_max || !(seen.insert(id, ()) || matches!(part, MapPart::Unreadable { .. })) {
            return Ok(false);
        }
        if matches!(part, MapPart::Unreadable { .. }) || !index.contains(id)? {
            lost.push(*id);
        }
        Ok(true)
    })?;
    Ok(lost)
}

/// Slots that can't be relied upon, in order: known damage, and all below nodes that can't be read.
pub(super) fn bad_slots(map: &MapReader, is_bad: impl Fn(&ObjectId) -> bool) -> Result<Vec<Range<u64>>> {
    let mut slots = BadSlots::default();
    map.walk(&mut |part| -> Result<bool> {
        Ok(match part {
            MapPart::Node { id, level, first_slot } if is_bad(id) => {
                slots.push(first_slot..first_slot.saturating_add(span_of(level)));
                false
            }
            MapPart::Unreadable { level, first_slot, .. } => {
                slots.push(first_slot..first_slot.saturating_add(span_of(level)));
                false
            }
            MapPart::Chunk { id, slot } => {
                if is_bad(id) {
                    slots.push(slot..slot + 1);
                }
                true
            }
            MapPart::Node { .. } => true,
        })
    })?;
    Ok(slots.ranges)
}

#[derive(Default)]
struct BadSlots {
    ranges: Vec<Range<u64>>,
}

impl BadSlots {
    fn push(&mut self, range: Range<u64>) {
        let is_full = self.ranges.len() >= RANGES_MAX;
        match self.ranges.last_mut() {
            Some(last) if is_full => last.end = last.end.max(range.end),
            _ => push_joined(&mut self.ranges, range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Slot;
    use crate::revision::test_maps::{Maps, absent, chunk};

    fn is_bad(id: &ObjectId) -> bool {
        *id == absent(0)
    }

    /// Each slot once took a range, and one bad chunk may stand in every other slot of an image of terabytes.
    #[test]
    fn bad_slots_side_by_side_are_one_range_and_of_very_many_the_gaps_are_bad_too() {
        let maps = Maps::new();
        let mut slots = vec![chunk(1); 1000];
        slots[10..500].fill(chunk(0));
        slots[700] = chunk(0);
        assert_eq!(bad_slots(&maps.map(&slots), is_bad).unwrap(), [10..500, 700..701]);
        let mut many = BadSlots::default();
        for number in 0..RANGES_MAX as u64 + 1000 {
            many.push(2 * number..2 * number + 1);
        }
        assert_eq!(many.ranges.len(), RANGES_MAX);
        assert_eq!(many.ranges[RANGES_MAX - 2], 2 * (RANGES_MAX as u64 - 2)..2 * (RANGES_MAX as u64 - 2) + 1);
        assert_eq!(many.ranges.last().unwrap().end, 2 * (RANGES_MAX as u64 + 999) + 1);
    }

    #[test]
    fn all_below_a_node_that_is_lost_is_bad() {
        let maps = Maps::new();
        let slots: Vec<Slot> = (1..=700).map(chunk).collect();
        let map = maps.map(&slots);
        let lost = map.subtree(0, 1).unwrap().unwrap().id;
        assert_eq!(bad_slots(&map, |id| *id == lost).unwrap(), std::iter::once(256..512).collect::<Vec<_>>());
        assert_eq!(bad_slots(&map, |_| false).unwrap(), []);
    }
}
