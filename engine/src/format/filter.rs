//! Tells without a disk read that an object is not in a table (`docs/format.md`, section 9).
//!
//! A split block Bloom filter, as in the Parquet format: one bucket of 32 bytes for each look-up.

use crate::id::ObjectId;

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// Size of a bucket in bytes.
pub(crate) const BUCKET_SIZE: usize = 32;

const ENTRIES_PER_BUCKET: u64 = 32;

/// Buckets of a filter over so many entries.
pub(crate) fn bucket_count(entry_count: u64) -> u64 {
    entry_count.div_ceil(ENTRIES_PER_BUCKET).max(1)
}

type Bucket = [u32; 8];

/// A filter in memory, a byte for each entry of its table.
pub(crate) struct Filter {
    buckets: Vec<Bucket>,
}

impl Filter {
    /// A filter that gets its buckets piece by piece.
    pub(crate) fn with_room_for(entry_count: u64) -> Self {
        // More than memory can hold has no place in a table that was read.
        let count = usize::try_from(bucket_count(entry_count)).unwrap_or(1);
        let mut buckets = Vec::new();
        // Where there is no room for it all at once, it grows as it comes.
        let _ = buckets.try_reserve_exact(count);
        Self { buckets }
    }

    /// Takes buckets as they are stored, padding removed.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let bucket = |bytes: &[u8]| std::array::from_fn(|i| bytes.get(4 * i..4 * i + 4).map_or(0, word));
        self.buckets.extend(bytes.chunks_exact(BUCKET_SIZE).map(bucket));
    }

    /// `false` if the object is certainly not in the table.
    pub(crate) fn may_contain(&self, id: &ObjectId) -> bool {
        let Some(bucket) = self.buckets.get(bucket_index(id, self.buckets.len())) else {
            return true;
        };
        bucket.iter().zip(masks(id)).all(|(word, mask)| word & mask != 0)
    }
}

/// Makes the filter of a table.
pub(crate) struct FilterBuilder {
    buckets: Vec<Bucket>,
}

impl FilterBuilder {
    pub(crate) fn new(entry_count: u64) -> Self {
        let count = usize::try_from(bucket_count(entry_count)).unwrap_or(1);
        Self { buckets: vec![[0; 8]; count] }
    }

    pub(crate) fn insert(&mut self, id: &ObjectId) {
        let index = bucket_index(id, self.buckets.len());
        if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.iter_mut().zip(masks(id)).for_each(|(word, mask)| *word |= mask);
        }
    }

    /// The buckets as they are stored.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = [u8; BUCKET_SIZE]> {
        self.buckets.iter().map(|bucket| {
            let mut bytes = [0; BUCKET_SIZE];
            for (target, word) in bytes.chunks_exact_mut(4).zip(bucket) {
                target.copy_from_slice(&word.to_le_bytes());
            }
            bytes
        })
    }
}

fn bucket_index(id: &ObjectId, bucket_count: usize) -> usize {
    let hash = le_u64(id);
    ((u128::from(hash) * bucket_count as u128) >> 64) as usize
}

fn le_u64(id: &ObjectId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn masks(id: &ObjectId) -> [u32; 8] {
    let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *id.as_bytes();
    let hash = u32::from_le_bytes([a, b, c, d]);
    SALTS.map(|salt| 1 << (hash.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ObjectHasher, ObjectType};

    fn ids(range: std::ops::Range<u32>) -> impl Iterator<Item = ObjectId> {
        let hasher = ObjectHasher::new(b"");
        range.map(move |number| hasher.id(ObjectType::Chunk, &number.to_le_bytes()))
    }

    #[test]
    fn everything_inserted_passes_and_few_others_do() {
        let mut builder = FilterBuilder::new(10_000);
        ids(0..10_000).for_each(|id| builder.insert(&id));
        let bytes: Vec<u8> = builder.bytes().flatten().collect();
        let mut filter = Filter::with_room_for(10_000);
        // Buckets come block by block, and take no more room than they need.
        bytes.chunks(127 * BUCKET_SIZE).for_each(|block| filter.extend(block));
        assert_eq!(filter.buckets.capacity() as u64, bucket_count(10_000));
        assert!(ids(0..10_000).all(|id| filter.may_contain(&id)));
        let passed = ids(10_000..110_000).filter(|id| filter.may_contain(id)).count();
        assert!(passed < 5_000, "{passed} of 100,000 absent ids pass");
    }
}
