//! Which of the objects that tables name are in use: one bit for each entry of the tables of one moment.
//!
//! An object that several packs hold is in use in one of them, which was read and verified: the others can go.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::table_reader::Table;
use super::{Cursor, Index, Location, lock};
use crate::error::{Corrupt, Result};
use crate::format::{PackEntry, PackKind, TablePack};
use crate::id::{ObjectId, PackId};
use crate::store::Store;

/// What marking an object found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It was not marked before.
    New,
    /// It was.
    Known,
    /// No table names it.
    Unnamed,
}

/// How much of a pack is in use. Bytes are those of blobs and of their entries in the pack's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackUse {
    pub(crate) kind: PackKind,
    /// Size of the file.
    pub(crate) size: u64,
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    /// How many objects of it are in use.
    pub(crate) live_objects: u64,
}

impl PackUse {
    /// Of a pack of which nothing was counted yet.
    fn none(pack: &TablePack) -> Self {
        Self { kind: pack.kind, size: pack.size, live_bytes: 0, dead_bytes: 0, live_objects: 0 }
    }

    fn count(&mut self, stored_len: u32, is_live: bool) {
        let bytes = u64::from(stored_len) + PackEntry::SIZE as u64;
        match is_live {
            true => self.live_bytes += bytes,
            false => self.dead_bytes += bytes,
        }
        self.live_objects += u64::from(is_live);
    }

    fn add(&mut self, other: &Self) {
        self.live_bytes += other.live_bytes;
        self.dead_bytes += other.dead_bytes;
        self.live_objects += other.live_objects;
    }
}

/// The bits, and the tables that they belong to, which stay readable whatever becomes of their files.
pub(crate) struct LiveSet {
    tables: Vec<(Arc<Table>, Vec<AtomicU64>)>,
    /// Packs that were deleted: what lies there is nowhere.
    dropped: HashSet<PackId>,
    /// Packs that are condemned: another copy is preferred.
    condemned: HashSet<PackId>,
    /// Packs in which something was marked since they were asked for.
    touched: Mutex<HashSet<PackId>>,
}

/// An entry of a table: which table, which entry, what it says.
type Named = (usize, u64, Location);

impl Index {
    /// A set of the objects that tables name now, none of them marked. Of an object in several packs the copies in
    /// `condemned` ones are not preferred. `reload` lists the tables anew.
    ///
    /// # Errors
    /// Damage if a table is not whole: what it names is not known.
    pub(crate) fn live_set(
        &self,
        condemned: HashSet<PackId>,
        reload: fn(&Self) -> Result<()>,
    ) -> Result<LiveSet> {
        reload(self)?;
        let set = self.tables()?;
        if let Some(damaged) = set.damaged.iter().min() {
            return Err(not_whole(&damaged.to_string()));
        }
        let bits = |table: &Arc<Table>| {
            let words = usize::try_from(table.entry_count().div_ceil(64)).unwrap_or(usize::MAX);
            let mut bits = Vec::with_capacity(words);
            bits.resize_with(words, AtomicU64::default);
            (Arc::clone(table), bits)
        };
        let tables = set.tables.iter().map(bits).collect();
        let dropped = set.dropped.clone();
        Ok(LiveSet { tables, dropped, condemned, touched: Mutex::default() })
    }
}

fn not_whole(table: &str) -> crate::Error {
    Corrupt::new(format!("index table {table}"), "what it named is not known, so nothing may be deleted")
        .into()
}

impl LiveSet {
    /// Marks an object as used. `cursor` is that of whoever marks several of them in the order of their ids.
    ///
    /// # Errors
    /// Damage if a table is not whole.
    pub(crate) fn mark(&self, store: &Store, id: &ObjectId, cursor: &mut Cursor) -> Result<Mark> {
        let named = self.find(id, cursor)?;
        if named.is_empty() {
            return Ok(Mark::Unnamed);
        }
        if named.iter().any(|entry| self.has_bit(entry)) {
            return Ok(Mark::Known);
        }
        let kept = self.place_to_keep(store, id, &named);
        for entry in named.iter().filter(|(.., place)| kept.is_none_or(|kept| *place == kept)) {
            self.set_bit(entry);
        }
        Ok(Mark::New)
    }

    /// Whether an object is in use in this pack, at the place that the pack's directory tells.
    pub(crate) fn is_used_at(&self, kind: PackKind, pack: PackId, entry: &PackEntry) -> Result<bool> {
        let place = Location::in_pack(kind, pack, entry);
        Ok(self
            .find(&entry.id, &mut Cursor::default())?
            .iter()
            .any(|named| named.2 == place && self.has_bit(named)))
    }

    /// The places of an object at which it is in use; none if it is not.
    ///
    /// # Errors
    /// Damage if a table is not whole.
    pub(crate) fn used_places(&self, id: &ObjectId) -> Result<Vec<Location>> {
        let named = self.find(id, &mut Cursor::default())?;
        Ok(named.iter().filter(|entry| self.has_bit(entry)).map(|(.., place)| *place).collect())
    }

    /// All packs that tables name, also those that were deleted.
    pub(crate) fn knows_packs(&self) -> HashSet<PackId> {
        self.tables.iter().flat_map(|(table, _)| table.packs()).map(|pack| pack.pack).collect()
    }

    /// The packs in which something was marked since this was asked the last time.
    pub(crate) fn take_touched(&self) -> HashSet<PackId> {
        std::mem::take(&mut *lock(&self.touched))
    }

    /// The packs that tables name and that were not deleted, and how much of each is in use. Reads every table.
    ///
    /// # Errors
    /// Damage if a table is not whole.
    pub(crate) fn uses(&self, mut read: impl FnMut() -> Result<()>) -> Result<HashMap<PackId, PackUse>> {
        let mut uses = HashMap::new();
        for (table, bits) in &self.tables {
            let mut own: Vec<PackUse> = table.packs().iter().map(PackUse::none).collect();
            for block in 0..table.entry_block_count() {
                read()?;
                let entries = table.entries(block).ok_or_else(|| not_whole(&table.id().to_string()))?;
                for (number, entry) in table.numbers_in(block).zip(entries) {
                    if let Some(pack) = own.get_mut(entry.pack as usize) {
                        pack.count(entry.stored_len, is_set(bits, number));
                    }
                }
            }
            for (pack, own) in table.packs().iter().zip(own) {
                uses.entry(pack.pack).or_insert_with(|| PackUse::none(pack)).add(&own);
            }
        }
        uses.retain(|pack, _| !self.dropped.contains(pack));
        Ok(uses)
    }

    /// The objects that are in use in a pack, as tables say. Reads those that name it.
    ///
    /// # Errors
    /// Damage if a table is not whole.
    pub(crate) fn used_in(&self, pack: PackId) -> Result<HashSet<ObjectId>> {
        let mut used = HashSet::new();
        for (table, bits) in &self.tables {
            let Some(ordinal) = table.packs().iter().position(|named| named.pack == pack) else { continue };
            for block in 0..table.entry_block_count() {
                let entries = table.entries(block).ok_or_else(|| not_whole(&table.id().to_string()))?;
                let numbered = table.numbers_in(block).zip(entries);
                let own = numbered
                    .filter(|(number, entry)| entry.pack as usize == ordinal && is_set(bits, *number));
                used.extend(own.map(|(_, entry)| entry.id));
            }
        }
        Ok(used)
    }

    fn find(&self, id: &ObjectId, cursor: &mut Cursor) -> Result<Vec<Named>> {
        let mut named = Vec::new();
        for (ordinal, (table, _)) in self.tables.iter().enumerate() {
            if !table.may_contain(id) {
                continue;
            }
            let (entries, is_doubtful) = table.find_next(id, cursor);
            if is_doubtful || table.is_damaged() {
                return Err(not_whole(&table.id().to_string()));
            }
            let there = entries.into_iter().filter(|(_, place)| !self.dropped.contains(&place.pack));
            named.extend(there.map(|(number, place)| (ordinal, number, place)));
        }
        Ok(named)
    }

    /// Which of several places is kept: the first that can be read, where possible in a pack that is not condemned. `None`
    /// if there is one alone, or if none can be read: then all are kept.
    fn place_to_keep(&self, store: &Store, id: &ObjectId, named: &[Named]) -> Option<Location> {
        let mut places: Vec<Location> = named.iter().map(|(.., place)| *place).collect();
        places.dedup();
        if places.len() < 2 {
            return None;
        }
        places.sort_by_key(|place| self.condemned.contains(&place.pack));
        places.into_iter().find(|place| store.identify_place(id, place).is_ok())
    }

    fn has_bit(&self, (table, number, _): &Named) -> bool {
        self.tables.get(*table).is_some_and(|(_, bits)| is_set(bits, *number))
    }

    fn set_bit(&self, (table, number, place): &Named) {
        let word = self.tables.get(*table).and_then(|(_, bits)| bits.get((number / 64) as usize));
        if let Some(word) = word {
            word.fetch_or(1 << (number % 64), Ordering::Relaxed);
        }
        lock(&self.touched).insert(place.pack);
    }
}

fn is_set(bits: &[AtomicU64], number: u64) -> bool {
    let word = bits.get((number / 64) as usize);
    word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (number % 64)) != 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::{Area, Backend, LocalBackend};
    use crate::format::{Compression, Header, TableEntry, TablePack, Timestamp};
    use crate::id::RepositoryId;
    use crate::store::index::write_table;

    /// Objects in each pack.
    const IN_PACK: u64 = 500;

    fn id(number: u64, count: u64) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number * (u64::MAX / count)).to_be_bytes());
        bytes[8..16].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    /// A store whose index names so many objects, the n-th in pack n modulo the number of packs.
    fn store(directory: &std::path::Path, count: u64, tables: u64) -> Store {
        let backend = LocalBackend::new(directory.to_owned());
        backend.create_areas(&Area::fixed()).unwrap();
        let header = Header {
            id: RepositoryId::random(),
            created: Timestamp::now(),
            chunk_size: 65536,
            compression: Compression::None,
            features: Vec::new(),
        };
        let in_table = count / tables;
        for table in 0..tables {
            let pack_count = (in_table / IN_PACK).max(1);
            let pack = |number: u64| {
                PackId::from_bytes((u128::from(table) << 64 | u128::from(number)).to_le_bytes())
            };
            let packs: Vec<TablePack> = (0..pack_count)
                .map(|number| TablePack { pack: pack(number), kind: PackKind::Data, size: 1 << 20 })
                .collect();
            let entry = |number: u64| TableEntry {
                id: id(number * tables + table, count),
                pack: (number % pack_count) as u32,
                offset: 64,
                stored_len: 1000,
                plain_len: 2000,
            };
            let entries = (0..in_table).map(|number| Ok(entry(number)));
            write_table(&backend, header.id, &packs, in_table, entries).unwrap().publish(&backend).unwrap();
        }
        Store::new(Arc::new(backend), header, 1 << 20)
    }

    /// Bytes of memory that the process has in use.
    fn memory_in_use() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// A byte an entry for the filter, a bit for the mark. `TREERING_TEST_ENTRIES=100000000` measures what a repository of
    /// 6 TiB takes.
    #[test]
    fn marking_takes_little_more_than_a_byte_for_each_object() {
        let asked = std::env::var("TREERING_TEST_ENTRIES").ok();
        let count: u64 = asked.map_or(3_000_000, |count| count.parse().unwrap());
        let tables = count.div_ceil(1 << 25).max(1);
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), count, tables);
        let before = memory_in_use();
        let live = store.index.live_set(HashSet::new(), Index::reload_unmerged).unwrap();
        let start = std::time::Instant::now();
        // Every object of the first tenth of all packs.
        let marked = (0..count / tables).flat_map(|number| (0..tables).map(move |table| (number, table)));
        let pack_count = (count / tables / IN_PACK).max(1);
        let (mut marked_count, mut cursor) = (0, Cursor::default());
        for (number, table) in marked.filter(|(number, _)| number % pack_count < pack_count / 10) {
            assert_eq!(
                live.mark(&store, &id(number * tables + table, count), &mut cursor).unwrap(),
                Mark::New
            );
            marked_count += 1;
        }
        let marking = start.elapsed();
        let uses = live.uses(|| Ok(())).unwrap();
        let taken = memory_in_use() - before;
        println!(
            "{count} entries: {taken} bytes, {marked_count} marked in {marking:?}, all in {:?}",
            start.elapsed()
        );
        let in_use = uses.values().filter(|pack| pack.live_bytes > 0).count() as u64;
        assert_eq!(in_use, pack_count / 10 * tables);
        assert!(uses.values().all(|pack| pack.live_bytes == 0 || pack.dead_bytes == 0));
        assert!(taken < count * 3 / 2 + (16 << 20), "{taken} bytes for {count} entries");
    }

    #[test]
    fn an_object_is_marked_once_and_what_no_table_names_never() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1000, 2);
        let live = store.index.live_set(HashSet::new(), Index::reload_unmerged).unwrap();
        let mut cursor = Cursor::default();
        for expected in [Mark::New, Mark::Known, Mark::Known] {
            assert_eq!(live.mark(&store, &id(7, 1000), &mut cursor).unwrap(), expected);
        }
        assert_eq!(live.mark(&store, &ObjectId::from_bytes([9; 32]), &mut cursor).unwrap(), Mark::Unnamed);
        assert_eq!(live.take_touched().len(), 1);
        assert_eq!(live.take_touched().len(), 0);
        let uses = live.uses(|| Ok(())).unwrap();
        assert_eq!(uses.values().map(|pack| pack.live_bytes).sum::<u64>(), 1000 + PackEntry::SIZE as u64);
    }
}
