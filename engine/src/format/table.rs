//! Blocks of an index table (`docs/format.md`, section 9).

use super::bytes::Fields;
use super::filter::{BUCKET_SIZE, bucket_count};
use super::hash::ChecksumContext;
use super::pack::{MAX_PACK_SIZE, PackKind};
use super::version::newer_magic;
use crate::id::{ObjectId, PackId, RepositoryId, TableId};

const MAGIC: [u8; 8] = *b"TRINDEX\x01";

/// Size of a block in bytes.
pub(crate) const BLOCK_SIZE: usize = 4096;
const CHECKSUM_SIZE: usize = 16;
const PAYLOAD_SIZE: usize = BLOCK_SIZE - CHECKSUM_SIZE;

const PACKS_PER_BLOCK: u64 = (PAYLOAD_SIZE / TablePack::SIZE) as u64;
/// Entries in a full block.
pub(crate) const ENTRIES_PER_BLOCK: u64 = (PAYLOAD_SIZE / TableEntry::SIZE) as u64;
const BUCKETS_PER_BLOCK: u64 = (PAYLOAD_SIZE / BUCKET_SIZE) as u64;

/// Completes a block: pads the payload with zeros and adds the checksum. `None` if the payload is too long.
pub(crate) fn seal_block(table: TableId, number: u64, payload: &[u8]) -> Option<[u8; BLOCK_SIZE]> {
    let mut block = [0; BLOCK_SIZE];
    block.get_mut(..PAYLOAD_SIZE)?.get_mut(..payload.len())?.copy_from_slice(payload);
    let sum = block_checksum(table, number, &block[..PAYLOAD_SIZE]);
    block[PAYLOAD_SIZE..].copy_from_slice(&sum);
    Some(block)
}

/// The payload of a block, or `None` if it is not this block of this table.
pub(crate) fn verify_block(table: TableId, number: u64, block: &[u8]) -> Option<&[u8]> {
    let (payload, sum) = block.split_last_chunk::<CHECKSUM_SIZE>()?;
    let sized = payload.len() == PAYLOAD_SIZE;
    (sized && block_checksum(table, number, payload) == *sum).then_some(payload)
}

fn block_checksum(table: TableId, number: u64, payload: &[u8]) -> [u8; CHECKSUM_SIZE] {
    let number = number.to_le_bytes();
    ChecksumContext::IndexBlock.sum_of_parts(&[table.as_bytes(), &number, payload])
}

/// The numbers of blocks of each section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableLayout {
    pub(crate) entry_count: u64,
    pub(crate) pack_count: u32,
    pack_blocks: u32,
    entry_blocks: u32,
    filter_blocks: u32,
}

impl TableLayout {
    /// The layout of a table with so many entries and packs; `None` if it can't be that large.
    pub(crate) fn new(entry_count: u64, pack_count: u32) -> Option<Self> {
        let blocks = |count: u64, per_block: u64| u32::try_from(count.div_ceil(per_block)).ok();
        Some(Self {
            entry_count,
            pack_count,
            pack_blocks: blocks(pack_count.into(), PACKS_PER_BLOCK)?,
            entry_blocks: blocks(entry_count, ENTRIES_PER_BLOCK)?,
            filter_blocks: blocks(bucket_count(entry_count), BUCKETS_PER_BLOCK)?,
        })
    }

    /// Block numbers of the packs.
    pub(crate) fn pack_blocks(&self) -> std::ops::Range<u64> {
        1..1 + u64::from(self.pack_blocks)
    }

    /// Block numbers of the entries.
    pub(crate) fn entry_blocks(&self) -> std::ops::Range<u64> {
        let start = self.pack_blocks().end;
        start..start + u64::from(self.entry_blocks)
    }

    /// Block numbers of the filter.
    pub(crate) fn filter_blocks(&self) -> std::ops::Range<u64> {
        let start = self.entry_blocks().end;
        start..start + u64::from(self.filter_blocks)
    }

    /// How many of its payload bytes the `index`-th filter block uses.
    pub(crate) fn filter_block_len(&self, index: u64) -> usize {
        let before = index.saturating_mul(BUCKETS_PER_BLOCK);
        let left = bucket_count(self.entry_count).saturating_sub(before);
        left.min(BUCKETS_PER_BLOCK) as usize * BUCKET_SIZE
    }

    /// How many packs lie in the `index`-th pack block.
    pub(crate) fn packs_in_block(&self, index: u64) -> usize {
        let before = index.saturating_mul(PACKS_PER_BLOCK);
        u64::from(self.pack_count).saturating_sub(before).min(PACKS_PER_BLOCK) as usize
    }

    /// How many entries lie in the `index`-th entry block.
    pub(crate) fn entries_in_block(&self, index: u64) -> usize {
        let before = index.saturating_mul(ENTRIES_PER_BLOCK);
        self.entry_count.saturating_sub(before).min(ENTRIES_PER_BLOCK) as usize
    }

    /// Size of the table in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.filter_blocks().end * BLOCK_SIZE as u64
    }
}

/// The first block of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableHeader {
    pub(crate) table: TableId,
    pub(crate) repository: RepositoryId,
    /// Nanoseconds since 1970; places in newer tables are tried first.
    pub(crate) created: u64,
    pub(crate) layout: TableLayout,
}

impl TableHeader {
    /// The payload of block 0.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let layout = &self.layout;
        let mut bytes = Vec::with_capacity(72);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.table.as_bytes());
        bytes.extend_from_slice(self.repository.as_bytes());
        bytes.extend_from_slice(&self.created.to_le_bytes());
        bytes.extend_from_slice(&layout.entry_count.to_le_bytes());
        for count in [layout.pack_count, layout.pack_blocks, layout.entry_blocks, layout.filter_blocks] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// The version in the verified payload of block 0, if it is newer than what is known here.
    pub(crate) fn newer_version(payload: &[u8]) -> Option<u8> {
        newer_magic(MAGIC, payload)
    }

    /// Decodes the verified payload of block 0; `None` if its numbers contradict each other.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(payload);
        fields.expect(MAGIC)?;
        let table = TableId::from_bytes(fields.array()?);
        let repository = RepositoryId::from_bytes(fields.array()?);
        let created = fields.u64()?;
        let entry_count = fields.u64()?;
        let stored = TableLayout {
            entry_count,
            pack_count: fields.u32()?,
            pack_blocks: fields.u32()?,
            entry_blocks: fields.u32()?,
            filter_blocks: fields.u32()?,
        };
        fields.zeros_to_end()?;
        let layout = TableLayout::new(entry_count, stored.pack_count).filter(|layout| *layout == stored)?;
        Some(Self { table, repository, created, layout })
    }
}

/// A pack whose objects a table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TablePack {
    pub(crate) pack: PackId,
    pub(crate) kind: PackKind,
    /// Size of the pack's file in bytes.
    pub(crate) size: u64,
}

impl TablePack {
    const SIZE: usize = 32;

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.pack.as_bytes());
        bytes.extend_from_slice(&[self.kind.code(), 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.size.to_le_bytes());
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let pack = PackId::from_bytes(fields.array()?);
        let kind = PackKind::from_code(fields.u8()?)?;
        fields.expect([0; 7])?;
        let size = fields.u64().filter(|&size| size <= MAX_PACK_SIZE)?;
        Some(Self { pack, kind, size })
    }

    /// How many fit in a block.
    pub(crate) const fn per_block() -> usize {
        PACKS_PER_BLOCK as usize
    }
}

/// Decodes the verified payload of a block with `count` packs.
pub(crate) fn decode_packs(payload: &[u8], count: usize) -> Option<Vec<TablePack>> {
    let mut fields = Fields::new(payload);
    let packs = (0..count).map(|_| TablePack::decode(&mut fields)).collect::<Option<_>>()?;
    fields.zeros_to_end()?;
    Some(packs)
}

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    pub(crate) id: ObjectId,
    /// Ordinal of the pack in the table's list.
    pub(crate) pack: u32,
    /// Where the blob begins in the pack.
    pub(crate) offset: u32,
    /// Length of the blob.
    pub(crate) stored_len: u32,
    /// Length of the plain content.
    pub(crate) plain_len: u32,
}

impl TableEntry {
    pub(crate) const SIZE: usize = 48;

    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.id.as_bytes());
        for field in [self.pack, self.offset, self.stored_len, self.plain_len] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            id: ObjectId::from_bytes(fields.array()?),
            pack: fields.u32()?,
            offset: fields.u32()?,
            stored_len: fields.u32()?,
            plain_len: fields.u32()?,
        })
    }
}

/// Decodes the verified payload of a block with `count` entries.
pub(crate) fn decode_entries(payload: &[u8], count: usize) -> Option<Vec<TableEntry>> {
    let mut fields = Fields::new(payload);
    let entries = (0..count).map(|_| TableEntry::decode(&mut fields)).collect::<Option<_>>()?;
    fields.zeros_to_end()?;
    Some(entries)
}
