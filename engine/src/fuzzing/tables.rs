//! Index tables: their blocks one by one, and as a whole.

use super::input::Input;
use super::is_canonical;
use super::memory::{Memory, REPOSITORY};
use crate::backend::Key;
use crate::format::{
    BLOCK_SIZE, ENTRIES_PER_BLOCK, TableEntry, TableHeader, TableLayout, TablePack, decode_entries,
    decode_packs, seal_block, verify_block,
};
use crate::id::{ObjectId, TableId};
use crate::store::Index;

/// The table that everything belongs to.
const TABLE: TableId = TableId::from_bytes([0x20; 16]);

/// Bytes of a block that are not its checksum.
const PAYLOAD: usize = BLOCK_SIZE - 16;

/// The payload of a table's first block. What is missing behind the bytes is zero.
pub fn table_header(bytes: &[u8]) -> bool {
    let Some(payload) = payload(bytes) else { return false };
    is_canonical(&payload, TableHeader::decode, |header| padded(header.encode()))
}

/// The payload of a block with packs, behind a byte that says how many.
pub fn table_packs(bytes: &[u8]) -> bool {
    let Some((count, payload)) = bytes.split_first().and_then(|(count, rest)| Some((*count, payload(rest)?)))
    else {
        return false;
    };
    is_canonical(
        &payload,
        |payload| decode_packs(payload, count.into()),
        |packs| encoded(packs, TablePack::encode),
    )
}

/// The payload of a block with entries, behind a byte that says how many.
pub fn table_entries(bytes: &[u8]) -> bool {
    let Some((count, payload)) = bytes.split_first().and_then(|(count, rest)| Some((*count, payload(rest)?)))
    else {
        return false;
    };
    is_canonical(
        &payload,
        |payload| decode_entries(payload, count.into()),
        |entries| encoded(entries, TableEntry::encode),
    )
}

/// A whole table of what its packs and entries say, some blocks of which are damaged.
///
/// Two bytes for the number of entries, one for that of packs, one with a bit for each eighth block that is damaged;
/// then the packs, the entries and the filter as they are stored.
pub fn table(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let (entry_count, pack_count, damaged) = (input.u16() % 1024, input.u8(), input.u8());
    let Some(layout) = TableLayout::new(entry_count.into(), pack_count.into()) else { return false };
    let header = TableHeader { table: TABLE, repository: REPOSITORY, created: 1, layout };
    let mut payloads = vec![header.encode()];
    payloads.extend(blocks(&mut input, usize::from(pack_count) * 32, PAYLOAD / 32 * 32));
    let entries = input.bytes(usize::from(entry_count) * TableEntry::SIZE);
    payloads.extend(blocks(
        &mut Input::new(entries),
        usize::from(entry_count) * TableEntry::SIZE,
        ENTRIES_PER_BLOCK as usize * TableEntry::SIZE,
    ));
    let filter_blocks = layout.filter_blocks();
    payloads.extend(
        (0..filter_blocks.end - filter_blocks.start)
            .map(|index| exact(&mut input, layout.filter_block_len(index))),
    );
    let file: Vec<u8> =
        (0..).zip(&payloads).flat_map(|(number, payload)| block(number, payload, damaged)).collect();
    assert!(file.len() as u64 == layout.size());
    let ids = entries.chunks_exact(TableEntry::SIZE).filter_map(|entry| entry.first_chunk());
    let ids: Vec<ObjectId> = ids.take(64).map(|id| ObjectId::from_bytes(*id)).collect();
    ask(Memory::default().with(Key::table(TABLE), file).into_store().index(), &ids)
}

/// Asks a table all that is asked of tables.
fn ask(index: &Index, ids: &[ObjectId]) -> bool {
    let mut found = false;
    for id in ids.iter().chain(&[ObjectId::from_bytes([0; 32]), ObjectId::from_bytes([0xff; 32])]) {
        found |= index.locate_in_tables(id).is_ok_and(|places| !places.is_empty());
        let _ = (index.locate(id), index.locate_again(id), index.is_named(id), index.contains(id));
    }
    let _ = (index.missing_packs(), index.unnamed_packs(), index.lacks_tables(ids), index.reload());
    let damaged = index.verify_tables(u64::MAX, |_| Ok(()));
    found && damaged.is_ok_and(|damaged| damaged.is_empty())
}

/// A block with its checksum, unless it is one of those that are damaged.
fn block(number: u64, payload: &[u8], damaged: u8) -> Vec<u8> {
    let mut block = seal_block(TABLE, number, payload).map_or_else(Vec::new, Vec::from);
    // Never the header: without it nothing else is read.
    if number > 0 && damaged & (1 << (number % 8)) != 0 {
        block.iter_mut().take(1).for_each(|byte| *byte ^= 1);
    }
    assert!(number > 0 || verify_block(TABLE, number, &block).is_some());
    block
}

/// So many of the next bytes, zeros behind their end.
fn exact(input: &mut Input<'_>, length: usize) -> Vec<u8> {
    let mut bytes = input.bytes(length).to_vec();
    bytes.resize(length, 0);
    bytes
}

/// So many of the next bytes, cut into payloads of blocks.
fn blocks(input: &mut Input<'_>, length: usize, per_block: usize) -> Vec<Vec<u8>> {
    exact(input, length).chunks(per_block).map(<[u8]>::to_vec).collect()
}

fn encoded<T>(values: &[T], encode: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| encode(value, &mut bytes));
    padded(bytes)
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(PAYLOAD, 0);
    bytes
}

/// The bytes as a payload; `None` if they are more than fit.
fn payload(bytes: &[u8]) -> Option<Vec<u8>> {
    (bytes.len() <= PAYLOAD).then(|| padded(bytes.to_vec()))
}
