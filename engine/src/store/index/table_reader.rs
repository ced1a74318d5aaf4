//! Looks objects up in one table, reading and verifying a block at a time.
//!
//! A block that is not intact makes only those ids doubtful that lie between its intact neighbours.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::Location;
use crate::backend::{Backend, Key, ObjectReader};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    BLOCK_SIZE, ENTRIES_PER_BLOCK, FORMAT_VERSION, Filter, TableEntry, TableHeader, TablePack,
    decode_entries, decode_packs, incompatible, verify_block,
};
use crate::id::{ObjectId, RepositoryId, TableId};

/// An open table.
pub(super) struct Table {
    header: TableHeader,
    packs: Vec<TablePack>,
    reader: Arc<dyn ObjectReader>,
    /// Loaded with the first question that it can answer; `None` if it is not intact.
    filter: OnceLock<Option<Filter>>,
    damaged: AtomicBool,
    /// Found when the first block is met that is not intact.
    damaged_runs: OnceLock<Vec<DamagedRun>>,
}

/// What a table says of an object.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Its places, the newest first.
    pub(super) places: Vec<Location>,
    /// Whether a block that is not intact may name more of them.
    pub(super) is_doubtful: bool,
}

/// Blocks of entries side by side that are not intact.
pub(super) struct DamagedRun {
    blocks: Range<u64>,
    /// The ids that they may have named: from the last one before them to the first one behind them.
    pub(super) ids: RangeInclusive<ObjectId>,
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
        let payload = verify_block(id, 0, &block);
        if let Some(version) = payload.and_then(TableHeader::newer_version) {
            return Err(incompatible(format!("index table {id}"), version, FORMAT_VERSION));
        }
        let header = payload.and_then(TableHeader::decode);
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
        Ok(Self {
            header,
            packs,
            reader,
            filter: OnceLock::new(),
            damaged: AtomicBool::new(false),
            damaged_runs: OnceLock::new(),
        })
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

    /// Whether a block was found that is not intact.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Notes that the table is damaged.
    pub(super) fn note_damage(&self) {
        self.damaged.store(true, Ordering::Relaxed);
    }

    /// Whether the object may be in the table: where its filter is not intact, any may.
    pub(super) fn may_contain(&self, id: &ObjectId) -> bool {
        self.filter_has(id).unwrap_or(true)
    }

    /// Whether the filter has the object; `None` if it is not intact.
    pub(super) fn filter_has(&self, id: &ObjectId) -> Option<bool> {
        let filter = self.filter.get_or_init(|| self.read_filter());
        filter.as_ref().map(|filter| filter.may_contain(id))
    }

    /// The places of an object.
    pub(super) fn look_up(&self, id: &ObjectId) -> Found {
        let (entries, is_doubtful) = self.find(id);
        Found { places: entries.into_iter().map(|(_, place)| place).collect(), is_doubtful }
    }

    /// The entries of an object: their numbers in the table, and what they say; and whether a block that is not intact may
    /// hold more of them.
    pub(super) fn find(&self, id: &ObjectId) -> (Vec<(u64, Location)>, bool) {
        match self.search(id, None) {
            Searched::In(block, entries) => self.collect(id, block, &entries.0),
            Searched::Nowhere => (Vec::new(), false),
            Searched::Doubtful => (Vec::new(), true),
        }
    }

    /// The same, for ids that come in order: those that lie in one block cost one reading of it.
    pub(super) fn find_next(&self, id: &ObjectId, cursor: &mut Cursor) -> (Vec<(u64, Location)>, bool) {
        let known = cursor.blocks.get(&self.id());
        if let Some((block, entries)) = known.filter(|(_, entries)| entries.span(id)) {
            return self.collect(id, *block, &entries.0);
        }
        match self.search(id, known) {
            Searched::In(block, entries) => {
                let found = self.collect(id, block, &entries.0);
                cursor.blocks.insert(self.id(), (block, entries));
                found
            }
            Searched::Nowhere => (Vec::new(), false),
            Searched::Doubtful => (Vec::new(), true),
        }
    }

    /// Looks for the block that has an id between its first one and its last one; a block that is known helps.
    fn search(&self, id: &ObjectId, known: Option<&(u64, Entries)>) -> Searched {
        let (mut low, mut high) = (0, self.entry_block_count());
        // What is known of the ids at the bounds, to interpolate between them.
        let (mut low_id, mut high_id) = (0, u64::MAX);
        match known {
            Some((block, entries)) if *id > entries.last() => {
                (low, low_id) = (block + 1, entries.last().prefix());
            }
            Some((block, entries)) if *id < entries.first() => {
                (high, high_id) = (*block, entries.first().prefix());
            }
            _ => {}
        }
        let mut steps = 0;
        while low < high {
            let guess = match steps {
                // Ids are uniform, so this takes two steps or three; a table that is not sorted is left by halving.
                0..8 => interpolate(id.prefix(), low_id, high_id, low, high),
                _ => low + (high - low) / 2,
            };
            steps += 1;
            match self.entries(guess).and_then(Entries::new) {
                Some(entries) if *id < entries.first() => (high, high_id) = (guess, entries.first().prefix()),
                Some(entries) if *id > entries.last() => (low, low_id) = (guess + 1, entries.last().prefix()),
                Some(entries) => return Searched::In(guess, entries),
                None => match self.side_of_damage(id, guess) {
                    Some(Side::Before(block, known)) => (high, high_id) = (block, known.prefix()),
                    Some(Side::Behind(block, known)) => (low, low_id) = (block, known.prefix()),
                    None => return Searched::Doubtful,
                },
            }
        }
        Searched::Nowhere
    }

    /// On which side of the damaged blocks around one an id lies, the block from which on or up to which it is looked
    /// for, and the id there; `None` if the damaged blocks may have named it.
    fn side_of_damage(&self, id: &ObjectId, block: u64) -> Option<Side> {
        let runs = self.damaged_runs();
        let run = runs.get(runs.partition_point(|run| run.blocks.end <= block))?;
        let (start, end) = (run.blocks.start, run.blocks.end);
        if start > 0 && id <= run.ids.start() {
            return Some(Side::Before(start, *run.ids.start()));
        }
        (end < self.entry_block_count() && id >= run.ids.end()).then_some(Side::Behind(end, *run.ids.end()))
    }

    /// Entries of an id around a block that has it: equal ids may go on in the blocks beside it.
    fn collect(&self, id: &ObjectId, block: u64, entries: &[TableEntry]) -> (Vec<(u64, Location)>, bool) {
        let starts = entries.first().is_some_and(|entry| entry.id == *id);
        let ends = entries.last().is_some_and(|entry| entry.id == *id);
        let beside = |is_wanted: bool, block: u64| match is_wanted {
            true => self.entries(block),
            false => Some(Vec::new()),
        };
        let before = beside(starts && block > 0, block.saturating_sub(1));
        let after = beside(ends && block + 1 < self.entry_block_count(), block + 1);
        let is_doubtful = before.is_none() || after.is_none();
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        let blocks = [(block.saturating_sub(1), &before[..]), (block, entries), (block + 1, &after)];
        let all = blocks.into_iter().flat_map(|(block, entries)| self.numbers_in(block).zip(entries));
        let own = all.filter(|(_, entry)| entry.id == *id);
        (own.filter_map(|(number, entry)| Some((number, self.location(entry)?))).collect(), is_doubtful)
    }

    /// The blocks of entries that are not intact, in order. Reads all of them the first time.
    pub(super) fn damaged_runs(&self) -> &[DamagedRun] {
        self.damaged_runs.get_or_init(|| self.find_damaged_runs())
    }

    fn find_damaged_runs(&self) -> Vec<DamagedRun> {
        const LEAST: ObjectId = ObjectId::from_bytes([0; 32]);
        const GREATEST: ObjectId = ObjectId::from_bytes([0xff; 32]);
        let mut runs = Vec::new();
        let (mut last, mut run_start) = (LEAST, None);
        for block in 0..self.entry_block_count() {
            let Some(entries) = self.entries(block).and_then(Entries::new) else {
                run_start.get_or_insert(block);
                continue;
            };
            if let Some(start) = run_start.take() {
                runs.push(DamagedRun { blocks: start..block, ids: last..=entries.first() });
            }
            last = entries.last();
        }
        if let Some(start) = run_start {
            runs.push(DamagedRun { blocks: start..self.entry_block_count(), ids: last..=GREATEST });
        }
        runs
    }

    pub(super) fn location(&self, entry: &TableEntry) -> Option<Location> {
        let Some(pack) = self.packs.get(entry.pack as usize) else {
            self.note_damage();
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

    /// The numbers of the entries of the `index`-th entry block.
    pub(super) fn numbers_in(&self, index: u64) -> std::ops::RangeFrom<u64> {
        index.saturating_mul(ENTRIES_PER_BLOCK)..
    }

    /// Blocks of entries.
    pub(super) fn entry_block_count(&self) -> u64 {
        self.entry_count().div_ceil(ENTRIES_PER_BLOCK)
    }

    fn read_filter(&self) -> Option<Filter> {
        let mut filter = Filter::with_room_for(self.entry_count());
        for (index, number) in self.header.layout.filter_blocks().enumerate() {
            let length = self.header.layout.filter_block_len(index as u64);
            self.with_block(number, |payload| {
                filter.extend(payload.get(..length)?);
                payload.get(length..)?.iter().all(|&byte| byte == 0).then_some(())
            })?;
        }
        Some(filter)
    }

    /// Reads every block.
    pub(super) fn verify(&self, mut read: impl FnMut(u64) -> Result<()>) -> Result<()> {
        self.verify_each(&mut read, |_| {})
    }

    /// The same, and shows each entry.
    pub(super) fn verify_each(
        &self,
        read: &mut impl FnMut(u64) -> Result<()>,
        mut visit: impl FnMut(&TableEntry),
    ) -> Result<()> {
        let damaged =
            || Error::from(Corrupt::new(format!("index table {}", self.id()), "a block of it is not intact"));
        let mut before: Option<ObjectId> = None;
        for index in 0..self.entry_block_count() {
            let entries = self.entries(index).ok_or_else(damaged)?;
            for entry in entries {
                if before.is_some_and(|before| before > entry.id) || self.location(&entry).is_none() {
                    return Err(damaged());
                }
                visit(&entry);
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
            self.note_damage();
        }
        decoded
    }
}

/// Where to go on looking.
enum Side {
    Before(u64, ObjectId),
    Behind(u64, ObjectId),
}

/// The entries of a block that is not empty.
struct Entries(Vec<TableEntry>);

/// The block of each table that was read last, for ids that are looked up in order.
#[derive(Default)]
pub(crate) struct Cursor {
    blocks: HashMap<TableId, (u64, Entries)>,
}

/// Where an id was searched.
enum Searched {
    /// Its entries, if there are any, begin or end in this block.
    In(u64, Entries),
    /// No block can have it.
    Nowhere,
    /// One may have it that is not intact.
    Doubtful,
}

impl Entries {
    fn new(entries: Vec<TableEntry>) -> Option<Self> {
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// Whether an id lies between the first one and the last one.
    fn span(&self, id: &ObjectId) -> bool {
        (self.first()..=self.last()).contains(id)
    }

    fn first(&self) -> ObjectId {
        // OK to index: it is not empty.
        self.0[0].id
    }

    fn last(&self) -> ObjectId {
        self.0[self.0.len() - 1].id
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
