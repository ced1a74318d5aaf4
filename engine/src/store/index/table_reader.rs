//! Looks objects up in one table, reading and verifying a block at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Location;
use crate::backend::{Backend, Key, ObjectReader};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    BLOCK_SIZE, ENTRIES_PER_BLOCK, Filter, TableEntry, TableHeader, TablePack, decode_entries, decode_packs,
    verify_block,
};
use crate::id::{ObjectId, RepositoryId, TableId};

/// An open table.
pub(super) struct Table {
    header: TableHeader,
    packs: Vec<TablePack>,
    reader: Arc<dyn ObjectReader>,
    /// Loaded with the first question that it can answer.
    filter: OnceLock<Filter>,
    damaged: AtomicBool,
}

impl Table {
    /// Opens a table and reads its list of packs.
    pub(super) fn open(backend: &dyn Backend, repository: RepositoryId, id: TableId) -> Result<Self> {
        let key = Key::table(id);
        let reader = backend.open(&key)?;
        let corrupt = |expected: &str| Error::from(Corrupt::new(format!("index table {id}"), expected));
        let size = reader.size()?;
        let mut block = [0; BLOCK_SIZE];
        if size < BLOCK_SIZE as u64 {
            return Err(corrupt("it is truncated"));
        }
        reader.read_at(0, &mut block)?;
        let header = verify_block(id, 0, &block).and_then(TableHeader::decode);
        let header = header.ok_or_else(|| corrupt("its header is not intact"))?;
        if header.table != id || header.repository != repository {
            return Err(corrupt("it belongs to another place"));
        }
        if header.layout.size() != size {
            return Err(corrupt("its size is not that of its header"));
        }
        let mut packs = Vec::new();
        for (index, number) in header.layout.pack_blocks().enumerate() {
            reader.read_at(number * BLOCK_SIZE as u64, &mut block)?;
            let count = header.layout.packs_in_block(index as u64);
            let decoded = verify_block(id, number, &block).and_then(|payload| decode_packs(payload, count));
            packs.extend(decoded.ok_or_else(|| corrupt("its list of packs is not intact"))?);
        }
        Ok(Self { header, packs, reader, filter: OnceLock::new(), damaged: AtomicBool::new(false) })
    }

    pub(super) fn id(&self) -> TableId {
        self.header.table
    }

    /// Nanoseconds since 1970.
    pub(super) fn created(&self) -> u64 {
        self.header.created
    }

    pub(super) fn packs(&self) -> &[TablePack] {
        &self.packs
    }

    pub(super) fn entry_count(&self) -> u64 {
        self.header.layout.entry_count
    }

    /// Whether a block was found that is not intact. Such a table must not be asked any more.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Notes that the table is damaged.
    pub(super) fn put_aside(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Whether the object may be in the table; `None` if the table is damaged.
    pub(super) fn may_contain(&self, id: &ObjectId) -> Option<bool> {
        if let Some(filter) = self.filter.get() {
            return Some(filter.may_contain(id));
        }
        let filter = self.read_filter()?;
        Some(self.filter.get_or_init(|| filter).may_contain(id))
    }

    /// The places of an object, the newest first; `None` if the table is damaged.
    pub(super) fn look_up(&self, id: &ObjectId) -> Option<Vec<Location>> {
        let blocks = self.header.layout.entry_blocks().count() as u64;
        let (mut low, mut high) = (0, blocks);
        // What is known of the ids at the bounds, to interpolate between them.
        let (mut low_id, mut high_id) = (0, u64::MAX);
        let mut steps = 0;
        while low < high {
            let guess = match steps {
                // Ids are uniform, so this takes two steps or three; a table that is not sorted is left by halving.
                0..8 => interpolate(id.prefix(), low_id, high_id, low, high),
                _ => low + (high - low) / 2,
            };
            steps += 1;
            let entries = self.entries(guess)?;
            let (first, last) = (entries.first()?, entries.last()?);
            if *id < first.id {
                (high, high_id) = (guess, first.id.prefix());
            } else if *id > last.id {
                (low, low_id) = (guess + 1, last.id.prefix());
            } else {
                return self.collect(id, guess, entries);
            }
        }
        Some(Vec::new())
    }

    /// Entries of an id around a block that has it: equal ids may go on in the blocks beside it.
    fn collect(&self, id: &ObjectId, block: u64, entries: Vec<TableEntry>) -> Option<Vec<Location>> {
        let starts = entries.first().is_some_and(|entry| entry.id == *id);
        let ends = entries.last().is_some_and(|entry| entry.id == *id);
        let mut all = entries;
        let last = self.header.layout.entry_blocks().count() as u64;
        if starts && block > 0 {
            all.splice(0..0, self.entries(block - 1)?);
        }
        if ends && block + 1 < last {
            all.extend(self.entries(block + 1)?);
        }
        all.iter().filter(|entry| entry.id == *id).map(|entry| self.location(entry)).collect()
    }

    pub(super) fn location(&self, entry: &TableEntry) -> Option<Location> {
        let Some(pack) = self.packs.get(entry.pack as usize) else {
            self.put_aside();
            return None;
        };
        Some(Location {
            pack: pack.pack,
            kind: pack.kind,
            offset: entry.offset,
            stored_len: entry.stored_len,
            plain_len: entry.plain_len,
        })
    }

    /// The entries of the `index`-th entry block; `None` if it is damaged.
    pub(super) fn entries(&self, index: u64) -> Option<Vec<TableEntry>> {
        let number = self.header.layout.entry_blocks().start + index;
        let count = self.header.layout.entries_in_block(index);
        self.with_block(number, |payload| decode_entries(payload, count))
    }

    /// Blocks of entries.
    pub(super) fn entry_block_count(&self) -> u64 {
        self.entry_count().div_ceil(ENTRIES_PER_BLOCK)
    }

    fn read_filter(&self) -> Option<Filter> {
        let mut bytes = Vec::new();
        for (index, number) in self.header.layout.filter_blocks().enumerate() {
            let length = self.header.layout.filter_block_len(index as u64);
            self.with_block(number, |payload| {
                bytes.extend_from_slice(payload.get(..length)?);
                payload.get(length..)?.iter().all(|&byte| byte == 0).then_some(())
            })?;
        }
        Some(Filter::decode(&bytes))
    }

    /// Reads every block.
    pub(super) fn verify(&self, mut read: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let damaged =
            || Error::from(Corrupt::new(format!("index table {}", self.id()), "a block of it is not intact"));
        let mut before: Option<ObjectId> = None;
        for index in 0..self.entry_block_count() {
            let entries = self.entries(index).ok_or_else(damaged)?;
            for entry in entries {
                if before.is_some_and(|before| before > entry.id) || self.location(&entry).is_none() {
                    return Err(damaged());
                }
                before = Some(entry.id);
            }
            read(BLOCK_SIZE as u64)?;
        }
        self.read_filter().map(|_| ()).ok_or_else(damaged)
    }

    fn with_block<T>(&self, number: u64, decode: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        let mut block = [0; BLOCK_SIZE];
        let read = self.reader.read_at(number * BLOCK_SIZE as u64, &mut block);
        let decoded = read.ok().and_then(|()| verify_block(self.id(), number, &block)).and_then(decode);
        if decoded.is_none() {
            self.put_aside();
        }
        decoded
    }
}

/// A block in `low..high` where `target` should lie if ids between the bounds are uniform.
fn interpolate(target: u64, low_id: u64, high_id: u64, low: u64, high: u64) -> u64 {
    let span = u128::from(high_id.saturating_sub(low_id)) + 1;
    let part = u128::from(target.saturating_sub(low_id));
    let blocks = u128::from(high - low);
    let guess = low + u64::try_from(part * blocks / span).unwrap_or(0);
    guess.clamp(low, high - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_stays_within_its_bounds() {
        assert_eq!(interpolate(0, 0, u64::MAX, 0, 10), 0);
        assert_eq!(interpolate(u64::MAX, 0, u64::MAX, 0, 10), 9);
        assert_eq!(interpolate(u64::MAX / 2, 0, u64::MAX, 0, 10), 4);
        assert_eq!(interpolate(5, 10, 3, 4, 5), 4);
    }
}
