//! Tests hints as Benji does: chunks that they leave out are read and compared with the base.

use std::collections::BTreeSet;
use std::ops::Range;

use super::pipeline::slot_of;
use crate::error::Result;
use crate::extent::total;
use crate::format::{ObjectHasher, Slot};
use crate::random::Random;
use crate::revision::{MapReader, Sought};
use crate::source::ImageSource;

/// Chunks that are read at least, if there are so many outside the hints.
const MIN_CHUNKS: u64 = 32;
/// Chunks that are read at most.
const MAX_CHUNKS: u64 = 256;
/// One of so many is read between the two.
const ONE_OF: u64 = 1024;

/// What came out of it.
pub(super) struct Sampled {
    pub(super) chunk_count: u64,
    pub(super) bytes_read: u64,
    /// Where the source first differs from the base.
    pub(super) differing_offset: Option<u64>,
}

/// Reads a sample of the slots that are not in `named` (sorted, disjoint), half of it from the base's data and half
/// from the source's: a change may have made data out of a hole, and a hole out of data.
pub(super) fn sample(
    source: &dyn ImageSource,
    base: Option<&MapReader>,
    named: &[Range<u64>],
    chunk_size: u32,
    hasher: &ObjectHasher,
) -> Result<Sampled> {
    let slot_count = source.size().div_ceil(chunk_size.into());
    let outside = slot_count - total(named).min(slot_count);
    let wanted = (outside / ONE_OF).clamp(MIN_CHUNKS, MAX_CHUNKS);
    let mut chosen = BTreeSet::new();
    let mut random = Random::new();
    let in_base = |from: u64| match base {
        Some(base) => base.next(from, Sought::Data),
        None => Ok(None),
    };
    let in_source = |from: u64| {
        let data = source.next_data(from * u64::from(chunk_size))?;
        Ok(data.map(|data| data.start / u64::from(chunk_size)))
    };
    choose(wanted.div_ceil(2), slot_count, named, &mut random, &mut chosen, in_base)?;
    choose(wanted, slot_count, named, &mut random, &mut chosen, in_source)?;
    // Little data in the source: the base's has the rest.
    choose(wanted, slot_count, named, &mut random, &mut chosen, in_base)?;
    compare(source, base, &chosen, chunk_size, hasher)
}

/// Draws slots at random until `chosen` has `wanted` of them. `next` finds the next slot with data.
fn choose(
    wanted: u64,
    slot_count: u64,
    named: &[Range<u64>],
    random: &mut Random,
    chosen: &mut BTreeSet<u64>,
    next: impl Fn(u64) -> Result<Option<u64>>,
) -> Result<()> {
    // Where there is little to draw from, most draws meet one named range after the other: their steps are counted, and
    // what they leave is swept up, from a place at random on and around.
    let mut steps = 8 * wanted + named.len() as u64;
    while (chosen.len() as u64) < wanted && steps > 0 && slot_count > 0 {
        let range = random.below(slot_count)..slot_count;
        chosen.extend(next_outside(range, named, &mut steps, &next)?);
    }
    let mut unlimited = u64::MAX;
    let start = random.below(slot_count);
    for mut range in [start..slot_count, 0..start] {
        while (chosen.len() as u64) < wanted {
            let Some(slot) = next_outside(range.clone(), named, &mut unlimited, &next)? else { break };
            chosen.insert(slot);
            range.start = slot + 1;
        }
    }
    Ok(())
}

/// The first slot with data in `range` that is not named, if it is found in so many steps.
fn next_outside(
    mut range: Range<u64>,
    named: &[Range<u64>],
    steps: &mut u64,
    next: &impl Fn(u64) -> Result<Option<u64>>,
) -> Result<Option<u64>> {
    while *steps > 0 {
        *steps -= 1;
        let Some(slot) = next(range.start)?.filter(|slot| range.contains(slot)) else { break };
        let place = named.partition_point(|range| range.end <= slot);
        match named.get(place).filter(|range| range.contains(&slot)) {
            Some(named) => range.start = named.end,
            None => return Ok(Some(slot)),
        }
    }
    Ok(None)
}

fn compare(
    source: &dyn ImageSource,
    base: Option<&MapReader>,
    chosen: &BTreeSet<u64>,
    chunk_size: u32,
    hasher: &ObjectHasher,
) -> Result<Sampled> {
    let mut buffer = vec![0; chunk_size as usize];
    let mut bytes_read = 0;
    for (count, &slot) in (1..).zip(chosen) {
        let offset = slot * u64::from(chunk_size);
        let length = (source.size() - offset).min(chunk_size.into()) as usize;
        let content = buffer.get_mut(..length).unwrap_or_default();
        source.read_at(offset, content)?;
        bytes_read += length as u64;
        let found = slot_of(content, hasher);
        let expected = match base {
            Some(base) => base.slot(slot)?,
            None => Slot::Hole,
        };
        if found != expected {
            return Ok(Sampled { chunk_count: count, bytes_read, differing_offset: Some(offset) });
        }
    }
    Ok(Sampled { chunk_count: chosen.len() as u64, bytes_read, differing_offset: None })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Chooses among data in the slots that `is_data` tells; returns the slots and how often data was looked for.
    fn chosen(
        wanted: u64,
        slot_count: u64,
        named: &[Range<u64>],
        is_data: impl Fn(u64) -> bool,
    ) -> (BTreeSet<u64>, u64) {
        let (mut chosen, calls) = (BTreeSet::new(), Cell::new(0));
        let next = |from: u64| {
            calls.set(calls.get() + 1);
            Ok((from..slot_count).find(|&slot| is_data(slot)))
        };
        choose(wanted, slot_count, named, &mut Random::new(), &mut chosen, next).unwrap();
        (chosen, calls.get())
    }

    /// Each draw once went through all that was named.
    #[test]
    fn where_hints_name_nearly_all_data_it_is_looked_through_a_few_times() {
        let count = 20_000;
        let named: Vec<Range<u64>> = (0..count).map(|n| 2 * n..2 * n + 1).collect();
        let only = 2 * count - 1;
        let is_data = |slot: u64| slot.is_multiple_of(2) || slot == only;
        let (slots, calls) = chosen(32, 2 * count, &named, is_data);
        assert_eq!(Vec::from_iter(slots), [only]);
        assert!(calls < 3 * count, "{calls} steps");
    }

    #[test]
    fn what_is_chosen_is_data_outside_of_the_hints_and_as_much_as_was_wanted() {
        let named = [0..100, 200..900];
        let is_data = |slot: u64| slot.is_multiple_of(3);
        let (slots, _) = chosen(20, 1000, &named, is_data);
        assert_eq!(slots.len(), 20);
        let allowed = |slot: &u64| is_data(*slot) && !named.iter().any(|range| range.contains(slot));
        assert!(slots.iter().all(allowed), "{slots:?}");
        let (all, _) = chosen(1000, 1000, &named, is_data);
        assert_eq!(all.len(), (0..1000).filter(allowed).count());
        assert!(chosen(32, 0, &[], is_data).0.is_empty());
    }
}
