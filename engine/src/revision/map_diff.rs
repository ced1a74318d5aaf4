//! Where two maps differ, descending only where their nodes do.

use std::ops::Range;

use super::MapReader;
use super::map_reader::span_of;
use crate::error::Result;
use crate::extent::push_joined;
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
                push_joined(&mut self.ranges, slot..slot + 1);
            }
        }
        Ok(())
    }
}

fn same(a: Child, b: Child) -> bool {
    a.map(|subtree| subtree.id) == b.map(|subtree| subtree.id)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::single_range_in_vec_init, reason = "one range is a list of ranges, too")]

    use super::*;
    use crate::format::{Inner, Leaf, Root, Slot, Subtree};
    use crate::revision::test_maps::{CHUNK, Maps, absent, chunk, numbers, random_slots};

    const HOLE: Slot = Slot::Hole;

    fn diff(a: &MapReader, b: &MapReader) -> Vec<Range<u64>> {
        let ranges = diff_maps(a, b).unwrap();
        assert_eq!(diff_maps(b, a).unwrap(), ranges, "the other way round");
        ranges
    }

    /// A node that nobody can read, over so many chunks.
    fn unreadable(number: u64, chunk_count: u64) -> Subtree {
        Subtree { id: absent(number), data_bytes: chunk_count * u64::from(CHUNK), chunk_count }
    }

    #[test]
    fn of_equal_maps_nothing_but_the_roots_is_read() {
        let maps = Maps::new();
        let size = 1 << 40;
        let level = Root::level_for(size / u64::from(CHUNK));
        let top = unreadable(1, size / u64::from(CHUNK));
        let map = maps.open(&Root { level, size, chunk_size: CHUNK, top: Some(top) });
        assert_eq!(diff(&map, &map), []);
        let other = maps.open(&Root { level, size, chunk_size: CHUNK, top: Some(unreadable(2, 9)) });
        assert!(diff_maps(&map, &other).unwrap_err().is_damage(), "it would fail where it reads");
    }

    #[test]
    fn only_nodes_that_differ_are_read() {
        let maps = Maps::new();
        let map = |changed: u64| {
            let mut slots = [chunk(0); 256];
            slots[255] = chunk(changed);
            let id = maps.node(&Leaf { slots: slots.to_vec() }.encode());
            let mut children = vec![Some(unreadable(1, 256)); 256];
            children[7] = Some(Subtree { id, data_bytes: 256 * u64::from(CHUNK), chunk_count: 256 });
            let id = maps.node(&Inner { level: 1, children }.encode());
            let sums = unreadable(0, 65_536);
            let children = vec![Some(unreadable(2, 65_536)), Some(Subtree { id, ..sums })];
            let top =
                Subtree { id: maps.node(&Inner { level: 2, children }.encode()), ..unreadable(0, 131_072) };
            maps.open(&Root { level: 2, size: 131_072 * u64::from(CHUNK), chunk_size: CHUNK, top: Some(top) })
        };
        let place = 65_536 + 7 * 256 + 255;
        assert_eq!(diff(&map(1), &map(2)), [place..place + 1]);
    }

    #[test]
    fn changes_on_both_sides_of_a_node_border_are_one_range() {
        let maps = Maps::new();
        let slots = vec![chunk(0); 70_000];
        let before = maps.map(&slots);
        for border in [256, 512, 65_536] {
            let mut changed = slots.clone();
            changed[border - 1] = HOLE;
            changed[border] = chunk(1);
            let after = maps.map(&changed);
            assert_eq!(diff(&before, &after), [border as u64 - 1..border as u64 + 1]);
        }
    }

    #[test]
    fn data_in_place_of_holes_differs_and_holes_beyond_the_end_do_not() {
        let maps = Maps::new();
        let small = maps.map(&[chunk(0); 200]);
        let mut slots = vec![chunk(0); 200];
        slots.resize(700, HOLE);
        let grown = maps.map(&slots);
        assert_eq!(diff(&small, &grown), []);
        slots[600] = chunk(9);
        assert_eq!(diff(&small, &maps.map(&slots)), [600..601]);
        assert_eq!(diff(&maps.map(&[HOLE; 700]), &maps.map(&slots)), [0..200, 600..601]);
    }

    #[test]
    fn the_last_chunk_differs_if_the_size_cuts_it_elsewhere() {
        let maps = Maps::new();
        // Of another length it has another content, and so another name.
        let short = maps.map_of_size(2 * u64::from(CHUNK) - 5, &[chunk(0), chunk(1)]);
        let whole = maps.map_of_size(2 * u64::from(CHUNK), &[chunk(0), chunk(2)]);
        assert_eq!(diff(&short, &whole), [1..2]);
        let hole = maps.map_of_size(2 * u64::from(CHUNK) - 5, &[chunk(0), HOLE]);
        assert_eq!(diff(&hole, &maps.map(&[chunk(0), HOLE])), []);
    }

    #[test]
    fn an_empty_image_and_the_largest_one_are_compared_at_once() {
        let maps = Maps::new();
        let root = |size: u64, top| {
            let level = Root::level_for(size.div_ceil(CHUNK.into()));
            maps.open(&Root { level, size, chunk_size: CHUNK, top })
        };
        let (empty, largest) = (root(0, None), root(i64::MAX as u64, None));
        assert_eq!(diff(&empty, &largest), []);
        assert_eq!(diff(&empty, &empty), []);
        assert_eq!(diff(&maps.map(&[HOLE, chunk(3)]), &largest), [1..2]);
    }

    #[test]
    fn the_difference_is_that_of_the_slots() {
        let maps = Maps::new();
        for seed in 0..40 {
            let mut random = numbers(seed);
            let high = if seed % 4 == 0 { 66_000 } else { 0 };
            let before = random_slots(random(900) + high, &mut random);
            let mut after = before.clone();
            after.resize((random(900) + random(2) * high) as usize, HOLE);
            for _ in 0..random(6) {
                let place = random(after.len() as u64 + 1) as usize;
                let content = random_slots(1 + random(300), &mut random);
                after.iter_mut().skip(place).zip(content).for_each(|(slot, new)| *slot = new);
            }
            let slot = |slots: &[Slot], index: usize| slots.get(index).copied().unwrap_or(HOLE);
            let mut expected: Vec<Range<u64>> = Vec::new();
            for index in (0..before.len().max(after.len())).filter(|&i| slot(&before, i) != slot(&after, i)) {
                match expected.last_mut() {
                    Some(last) if last.end == index as u64 => last.end += 1,
                    _ => expected.push(index as u64..index as u64 + 1),
                }
            }
            assert_eq!(diff(&maps.map(&before), &maps.map(&after)), expected, "seed {seed}");
        }
    }
}
