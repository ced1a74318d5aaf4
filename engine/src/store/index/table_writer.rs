//! Writes a table from entries that come in order.

use crate::backend::{Area, Backend, Key, ObjectWriter};
use crate::error::{Error, Result};
use crate::format::{
    ENTRIES_PER_BLOCK, FilterBuilder, TableEntry, TableHeader, TableLayout, TablePack, Timestamp, seal_block,
};
use crate::id::{RepositoryId, TableId};

/// A table that is written, but that nobody sees yet. Dropped, it leaves nothing.
pub(in crate::store) struct TableDraft {
    writer: Box<dyn ObjectWriter>,
    size: u64,
}

impl TableDraft {
    /// Publishes the table: visible and durable afterwards. Returns its size in bytes.
    ///
    /// From the moment this is called, others may rely on what the table names, also if it fails: then it is not known
    /// whether the table is visible.
    pub(in crate::store) fn publish(self, backend: &dyn Backend) -> Result<u64> {
        self.writer.finish()?;
        backend.sync_area(&Area::index())?;
        Ok(self.size)
    }
}

/// Writes a table. The packs it names must be durable.
///
/// `entries` must be sorted by id and give `entry_count` items.
pub(in crate::store) fn write_table(
    backend: &dyn Backend,
    repository: RepositoryId,
    packs: &[TablePack],
    entry_count: u64,
    entries: impl Iterator<Item = Result<TableEntry>>,
) -> Result<TableDraft> {
    let too_large =
        || Error::NotStorable { object: "index table", reason: "it has too many entries".to_owned() };
    let table = TableId::random();
    let pack_count = u32::try_from(packs.len()).map_err(|_| too_large())?;
    let layout = TableLayout::new(entry_count, pack_count).ok_or_else(too_large)?;
    let created = Timestamp::now().as_nanoseconds().and_then(|time| u64::try_from(time).ok());
    let header = TableHeader { table, repository, created: created.unwrap_or(0), layout };
    let mut number = 0;
    let mut writer = backend.write(&Key::table(table))?;
    let mut block = |payload: &[u8]| {
        let sealed = seal_block(table, number, payload).ok_or_else(too_large)?;
        number += 1;
        writer.append(&sealed)
    };

    block(&header.encode())?;
    for packs in packs.chunks(TablePack::per_block()) {
        let mut payload = Vec::new();
        packs.iter().for_each(|pack| pack.encode(&mut payload));
        block(&payload)?;
    }
    let mut filter = FilterBuilder::new(entry_count);
    let mut payload = Vec::new();
    for entry in entries {
        let entry = entry?;
        filter.insert(&entry.id);
        entry.encode(&mut payload);
        if payload.len() == TableEntry::SIZE * ENTRIES_PER_BLOCK as usize {
            block(&payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        block(&payload)?;
        payload.clear();
    }
    for bucket in filter.bytes() {
        payload.extend_from_slice(&bucket);
        if payload.len() == layout.filter_block_len(0) {
            block(&payload)?;
            payload.clear();
        }
    }
    if !payload.is_empty() {
        block(&payload)?;
    }
    debug_assert_eq!(number, layout.filter_blocks().end);
    Ok(TableDraft { writer, size: layout.size() })
}
