//! Tests hints as Benji does: chunks that they leave out are read and compared with the base.

use std::collections::BTreeSet;
use std::ops::Range;

use super::pipeline::slot_of;
use crate::error::Result;
use crate::format::{ObjectHasher, Slot};
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
    let outside = slot_count - named.iter().map(|range| range.end - range.start).sum::<u64>().min(slot_count);
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
    // Where there is little to draw from, a sweep finds all of it, and large gaps cost a step each.
    let mut tries = 8 * wanted;
    while (chosen.len() as u64) < wanted && tries > 0 && slot_count > 0 {
        tries -= 1;
        let from = random.below(slot_count);
        if let Some(slot) = next_outside(from, slot_count, named, &next)? {
            chosen.insert(slot);
        }
    }
    let mut from = 0;
    while (chosen.len() as u64) < wanted {
        let Some(slot) = next_outside(from, slot_count, named, &next)? else { break };
        chosen.insert(slot);
        from = slot + 1;
    }
    Ok(())
}

/// The first slot with data from `from` on that is not named.
fn next_outside(
    mut from: u64,
    slot_count: u64,
    named: &[Range<u64>],
    next: &impl Fn(u64) -> Result<Option<u64>>,
) -> Result<Option<u64>> {
    while let Some(slot) = next(from)?.filter(|&slot| slot < slot_count) {
        let place = named.partition_point(|range| range.end <= slot);
        match named.get(place).filter(|range| range.contains(&slot)) {
            Some(range) => from = range.end,
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

/// SplitMix64 from a random seed: the sample must not be the same each night.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}
