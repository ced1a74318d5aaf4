//! Merges tables when there are many, so that a look-up asks few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;

use super::table_reader::Table;
use super::{DamagedTables, write_table};
use crate::backend::{Area, Backend, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::{TableEntry, TablePack};
use crate::id::{ObjectId, PackId, RepositoryId, TableId};
use crate::store::condemned::read_dropped;

/// So many tables of one order of magnitude are made into one: every entry is rewritten a few times at most, and a
/// look-up asks some ten tables.
const MERGE_AT: usize = 8;

/// A table of whose packs fewer than one of so many were deleted is left as it is.
const FEW_DROPPED: usize = 8;

/// No merge makes a table of more entries: its filter, of a byte for each, is in memory while it is written, beside those
/// that are merged. So 10 TiB in chunks of 64 KiB are in some five to ten large tables.
const MERGED_ENTRIES_MAX: u64 = 1 << 25;

/// Merges what there is to merge. Does nothing if another process is at it. Damaged tables are left as they are, for
/// `check`, which can say what was lost with them.
pub(super) fn merge_tables(
    backend: &dyn Backend,
    repository: RepositoryId,
    damaged: &DamagedTables,
) -> Result<()> {
    if backend.names(&Area::index())?.len() < MERGE_AT {
        return Ok(());
    }
    let Some(_lock) = backend.try_lock("index")? else { return Ok(()) };
    let dropped = read_dropped(backend)?.iter().map(|(pack, _)| pack).collect();
    let entry_count = |table: &Arc<Table>| table.entry_count();
    while let Some(group) = group_to_merge(intact_tables(backend, repository, damaged)?, entry_count) {
        match merge(backend, repository, &group, &dropped) {
            // The others are merged without it: else they would become more for ever, and each is an open file.
            Err(error) if error.is_damage() => {
                let found: Vec<_> = group.iter().filter(|table| table.is_damaged()).collect();
                if found.is_empty() {
                    return Err(error);
                }
                found.iter().for_each(|table| damaged.note(table.id(), &error.to_string()));
            }
            other => other?,
        }
    }
    Ok(())
}

/// The tables that are not known to be damaged.
fn intact_tables(
    backend: &dyn Backend,
    repository: RepositoryId,
    damaged: &DamagedTables,
) -> Result<Vec<Arc<Table>>> {
    let mut tables = Vec::new();
    for name in backend.names(&Area::index())? {
        let Some(id) = TableId::parse(&name).filter(|id| !damaged.contains(*id)) else { continue };
        match Table::open(backend, repository, id) {
            Ok(table) => tables.push(Arc::new(table)),
            Err(error) if error.is_damage() => damaged.note(id, &error.to_string()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tables)
}

/// Tables whose numbers of entries are of one order of magnitude, if they are enough: the smallest of them, as many as
/// one table may hold. What is made of them belongs to the next order, whether these are all or not.
fn group_to_merge<T>(tables: Vec<T>, entry_count: impl Fn(&T) -> u64) -> Option<Vec<T>> {
    let mut by_magnitude: BTreeMap<u32, Vec<T>> = BTreeMap::new();
    for table in tables {
        // Powers of eight; all tables below some 32,000 entries count as small.
        let magnitude = (entry_count(&table) >> 15).max(1).ilog2() / 3;
        by_magnitude.entry(magnitude).or_default().push(table);
    }
    let smallest = |mut group: Vec<T>| {
        group.sort_by_key(&entry_count);
        let mut sum = 0u64;
        let fits = |table: &T| {
            sum = sum.saturating_add(entry_count(table));
            sum <= MERGED_ENTRIES_MAX
        };
        group.into_iter().take_while(fits).collect::<Vec<T>>()
    };
    let enough = by_magnitude.into_values().filter(|group| group.len() >= MERGE_AT);
    enough.map(smallest).find(|group| group.len() > 1)
}

/// Writes those tables anew without what lies in packs that were deleted of which these are an eighth or more. Returns the
/// deleted packs that are named still. Who merges tables meanwhile leaves them out as well.
pub(super) fn drop_packs(
    backend: &dyn Backend,
    repository: RepositoryId,
    damaged: &DamagedTables,
    dropped: &HashSet<PackId>,
) -> Result<HashSet<PackId>> {
    let Some(_lock) = backend.try_lock("index")? else { return Ok(dropped.clone()) };
    let mut named = HashSet::new();
    for table in intact_tables(backend, repository, damaged)? {
        let gone: Vec<PackId> =
            table.packs().iter().map(|pack| pack.pack).filter(|pack| dropped.contains(pack)).collect();
        match gone.len() * FEW_DROPPED < table.packs().len() || gone.is_empty() {
            true => named.extend(gone),
            false => merge(backend, repository, &[table], dropped)?,
        }
    }
    Ok(named)
}

/// Makes one table of some, without what lies in `dropped` packs.
fn merge(
    backend: &dyn Backend,
    repository: RepositoryId,
    group: &[Arc<Table>],
    dropped: &HashSet<PackId>,
) -> Result<()> {
    let mut inputs = group.to_vec();
    inputs.sort_by_key(|table| Reverse(table.created()));
    let mut packs: Vec<TablePack> = Vec::new();
    let mut ordinals = HashMap::new();
    let packs_left =
        inputs.iter().flat_map(|table| table.packs()).filter(|pack| !dropped.contains(&pack.pack));
    for pack in packs_left {
        ordinals.entry(pack.pack).or_insert_with(|| {
            packs.push(*pack);
            packs.len() as u32 - 1
        });
    }
    let translations: Vec<Translation> = inputs
        .iter()
        .map(|table| table.packs().iter().map(|pack| ordinals.get(&pack.pack).copied()).collect())
        .collect();
    let entries = || Merged::new(&inputs, &translations);
    let mut entry_count = 0;
    for entry in entries()? {
        entry?;
        entry_count += 1;
    }
    if !packs.is_empty() || dropped.is_empty() {
        write_table(backend, repository, &packs, entry_count, entries()?)?.publish(backend)?;
    }
    inputs.iter().try_for_each(|table| backend.remove(&Key::table(table.id())))
}

/// Of each pack of a table its ordinal in another one; `None` if that leaves it out.
type Translation = Vec<Option<u32>>;

/// The entries of several tables in one order; one place that two tables name comes once.
struct Merged<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The next id of each cursor, the least on top; equal ids in the order of the cursors, the newest table first.
    heads: BinaryHeap<Reverse<(ObjectId, usize)>>,
    given: Vec<TableEntry>,
}

struct Cursor<'a> {
    table: &'a Table,
    translation: &'a [Option<u32>],
    block: u64,
    entries: std::vec::IntoIter<TableEntry>,
}

impl<'a> Merged<'a> {
    fn new(tables: &'a [Arc<Table>], translations: &'a [Translation]) -> Result<Self> {
        let cursor = |(table, translation): (&'a Arc<Table>, &'a Translation)| Cursor {
            table,
            translation,
            block: 0,
            entries: Vec::new().into_iter(),
        };
        let cursors = tables.iter().zip(translations).map(cursor).collect();
        let mut merged = Self { cursors, heads: BinaryHeap::new(), given: Vec::new() };
        for index in 0..merged.cursors.len() {
            merged.push_head(index)?;
        }
        Ok(merged)
    }

    fn push_head(&mut self, index: usize) -> Result<()> {
        if let Some(cursor) = self.cursors.get_mut(index)
            && let Some(id) = cursor.peek()?
        {
            self.heads.push(Reverse((id, index)));
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<TableEntry>> {
        while let Some(Reverse((id, index))) = self.heads.pop() {
            let Some(cursor) = self.cursors.get_mut(index) else { continue };
            let entry = cursor.entries.next();
            let (table, translation) = (cursor.table, cursor.translation);
            self.push_head(index)?;
            let Some(entry) = entry else { continue };
            let pack = translation.get(entry.pack as usize).copied();
            let Some(pack) = pack.ok_or_else(|| names_no_pack(table, id))? else { continue };
            let entry = TableEntry { pack, ..entry };
            if self.given.first().is_some_and(|given| given.id != id) {
                self.given.clear();
            }
            if !self.given.contains(&entry) {
                self.given.push(entry);
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

fn names_no_pack(table: &Table, id: ObjectId) -> Error {
    table.note_damage();
    Corrupt::new(format!("index table {}", table.id()), format!("its entry of {id} names no pack")).into()
}

impl Iterator for Merged<'_> {
    type Item = Result<TableEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

impl Cursor<'_> {
    fn peek(&mut self) -> Result<Option<ObjectId>> {
        while self.entries.as_slice().is_empty() && self.block < self.table.entry_block_count() {
            let entries = self.table.entries(self.block);
            let entries = entries.ok_or_else(|| {
                Error::from(Corrupt::new(
                    format!("index table {}", self.table.id()),
                    "a block of it is not intact",
                ))
            })?;
            self.entries = entries.into_iter();
            self.block += 1;
        }
        Ok(self.entries.as_slice().first().map(|entry| entry.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::LocalBackend;
    use crate::format::PackKind;
    use crate::id::PackId;
    use crate::store::index::Location;

    const REPOSITORY: RepositoryId = RepositoryId::from_bytes([1; 16]);

    struct World {
        _directory: tempfile::TempDir,
        backend: LocalBackend,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let backend = LocalBackend::new(directory.path().to_owned());
            backend.create_areas(&Area::fixed()).unwrap();
            Self { _directory: directory, backend }
        }

        /// Publishes a table that places these objects, in this order, in one pack each; the number is the offset.
        fn table(&self, entries: &[(u64, PackId, u32)]) {
            let mut packs: Vec<PackId> = Vec::new();
            let mut placed: Vec<TableEntry> = Vec::new();
            for &(object, pack, offset) in entries {
                let ordinal = packs.iter().position(|known| *known == pack).unwrap_or_else(|| {
                    packs.push(pack);
                    packs.len() - 1
                });
                placed.push(TableEntry {
                    id: id(object),
                    pack: ordinal as u32,
                    offset,
                    stored_len: 3,
                    plain_len: 4,
                });
            }
            placed.sort_by_key(|entry| entry.id);
            let packs: Vec<TablePack> =
                packs.into_iter().map(|pack| TablePack { pack, kind: PackKind::Data, size: 5 }).collect();
            let count = placed.len() as u64;
            let table = write_table(&self.backend, REPOSITORY, &packs, count, placed.into_iter().map(Ok));
            table.unwrap().publish(&self.backend).unwrap();
        }

        fn merge(&self) {
            merge_tables(&self.backend, REPOSITORY, &DamagedTables::default()).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> =
                self.backend.list(&Area::index()).unwrap().into_iter().map(|listed| listed.name).collect();
            names.sort();
            names
        }

        fn open(&self, name: &str) -> Table {
            Table::open(&self.backend, REPOSITORY, TableId::parse(name).unwrap()).unwrap()
        }

        /// The one table that is left.
        fn merged(&self) -> Table {
            let names = self.names();
            assert_eq!(names.len(), 1);
            let table = self.open(&names[0]);
            table.verify(|_| Ok(())).unwrap();
            table
        }

        /// Changes a byte of a table.
        fn flip(&self, name: &str, offset: u64) {
            let key = Area::index().key(name);
            let mut bytes = self.backend.read(&key, 1 << 30).unwrap();
            bytes[offset as usize] ^= 1;
            self.backend.put(&key, &bytes).unwrap();
        }
    }

    fn id(number: u64) -> ObjectId {
        let mut bytes = [0; 32];
        // Spread evenly, as hashes are.
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    fn pack(number: u64) -> PackId {
        PackId::from_bytes(u128::from(number + 1).to_le_bytes())
    }

    /// Packs and offsets of an object.
    fn places(table: &Table, object: u64) -> Vec<(PackId, u32)> {
        let place = |location: Location| {
            assert_eq!((location.kind, location.stored_len, location.plain_len), (PackKind::Data, 3, 4));
            (location.pack, location.offset)
        };
        table.look_up(&id(object)).places.into_iter().map(place).collect()
    }

    #[test]
    fn few_tables_are_left_as_they_are() {
        let world = World::new();
        (0..MERGE_AT as u64 - 1).for_each(|number| world.table(&[(number, pack(number), 64)]));
        let before = world.names();
        world.merge();
        assert_eq!(world.names(), before);
    }

    #[test]
    fn many_tables_become_one_that_knows_everything_where_it_was() {
        let world = World::new();
        for number in 0..MERGE_AT as u64 {
            let entries: Vec<_> =
                (0..300).map(|object| (1000 * number + object, pack(number), 64 + object as u32)).collect();
            world.table(&entries);
        }
        world.merge();
        let merged = world.merged();
        assert_eq!((merged.entry_count(), merged.packs().len()), (2400, 8));
        for number in 0..8 {
            for object in 0..300 {
                let expected = [(pack(number), 64 + object as u32)];
                assert_eq!(places(&merged, 1000 * number + object), expected);
                assert!(merged.may_contain(&id(1000 * number + object)));
            }
            assert_eq!(places(&merged, 1000 * number + 300), []);
        }
    }

    #[test]
    fn places_of_one_object_come_from_the_newest_table_first_also_after_more_merges() {
        let world = World::new();
        // So many that equal ids lie on both sides of borders of blocks.
        let objects = 0..500;
        let newest_first =
            |from: u64, to: u64| (from..to).rev().map(|n| (pack(n), n as u32)).collect::<Vec<_>>();
        let tables = |numbers: std::ops::Range<u64>| {
            for number in numbers {
                let entries: Vec<_> =
                    objects.clone().map(|object| (object, pack(number), number as u32)).collect();
                world.table(&entries);
            }
        };
        tables(0..8);
        world.merge();
        let merged = world.merged();
        assert_eq!(merged.entry_count(), 4000);
        objects.clone().for_each(|object| assert_eq!(places(&merged, object), newest_first(0, 8)));
        tables(8..15);
        world.merge();
        let merged = world.merged();
        objects.clone().for_each(|object| assert_eq!(places(&merged, object), newest_first(0, 15)));
    }

    #[test]
    fn a_place_that_several_tables_name_comes_once() {
        let world = World::new();
        // What a merge that was cut off leaves, the packs in another order.
        (0..4).for_each(|_| world.table(&[(1, pack(1), 64), (2, pack(2), 64), (2, pack(1), 70)]));
        (0..4).for_each(|_| world.table(&[(2, pack(2), 64), (2, pack(1), 70), (3, pack(3), 64)]));
        world.merge();
        let merged = world.merged();
        assert_eq!((merged.entry_count(), merged.packs().len()), (4, 3));
        assert_eq!(places(&merged, 1), [(pack(1), 64)]);
        assert_eq!(places(&merged, 2), [(pack(2), 64), (pack(1), 70)]);
        assert_eq!(places(&merged, 3), [(pack(3), 64)]);
    }

    #[test]
    fn empty_tables_are_merged_too() {
        let world = World::new();
        (0..8).for_each(|_| world.table(&[]));
        world.merge();
        assert_eq!((world.merged().entry_count(), places(&world.merged(), 1)), (0, Vec::new()));
        (0..6).for_each(|_| world.table(&[]));
        world.table(&[(1, pack(1), 64)]);
        world.merge();
        assert_eq!(places(&world.merged(), 1), [(pack(1), 64)]);
        World::new().merge();
    }

    #[test]
    fn tables_of_another_order_of_magnitude_are_not_rewritten() {
        let world = World::new();
        let entries: Vec<_> = (0..1 << 18).map(|object| (object, pack(0), 64)).collect();
        world.table(&entries);
        let large = world.names();
        (1..8).for_each(|number| world.table(&[(number, pack(number), 64)]));
        world.merge();
        assert_eq!(world.names().len(), 8, "seven small ones are not enough");
        world.table(&[(8, pack(8), 64)]);
        world.merge();
        let names = world.names();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&large[0]));
    }

    /// How many entries the tables have after these came one by one.
    fn merged(published: &[u64]) -> Vec<u64> {
        let mut tables: Vec<u64> = Vec::new();
        for &count in published {
            tables.push(count);
            while let Some(group) = group_to_merge(tables.clone(), |&count| count) {
                for gone in &group {
                    tables.swap_remove(tables.iter().position(|count| count == gone).unwrap());
                }
                tables.push(group.iter().sum());
            }
        }
        tables
    }

    /// Where the tables of one order of magnitude were together too large for one, none of them was merged any more, and
    /// they became more for ever.
    #[test]
    fn tables_stay_few_and_none_becomes_too_large() {
        for size in [1, 100, 40_000, 500_000, 700_000, 1_000_000, 3_000_000, 9_000_000] {
            let mut random = crate::random::Random::new();
            // 10 TiB in chunks of 64 KiB, or ten thousand tables. Below the large ones there are three orders of magnitude.
            let tables = (160_000_000 / size).min(10_000);
            let published: Vec<u64> =
                (0..tables).map(|_| (size / 2 + random.below(size + 1)).max(1)).collect();
            let tables = merged(&published);
            assert_eq!(tables.iter().sum::<u64>(), published.iter().sum::<u64>());
            assert!(tables.iter().all(|&count| count <= MERGED_ENTRIES_MAX), "{size}: {tables:?}");
            let large = tables.iter().filter(|count| **count >= 1 << 24).count();
            assert!(tables.len() - large <= 3 * (MERGE_AT - 1), "{size}: {} tables", tables.len());
        }
    }

    #[test]
    fn a_damaged_table_is_never_removed() {
        let world = World::new();
        (0..8).for_each(|number| world.table(&[(number, pack(number), 64)]));
        let tables = world.names();
        // An entry: found while merging, so that all stay.
        world.flip(&tables[3], 2 * 4096);
        world.merge();
        assert_eq!(world.names(), tables);
        // A header: seven are not enough, with one more they are merged without it.
        world.flip(&tables[3], 0);
        world.table(&[(8, pack(8), 64)]);
        world.merge();
        let names = world.names();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&tables[3]));
    }

    /// All others stayed as well, and a long backup ran out of file handles.
    #[test]
    fn a_damaged_block_keeps_no_other_table_from_being_merged() {
        let world = World::new();
        (0..10).for_each(|number| world.table(&[(number, pack(number), 64)]));
        let tables = world.names();
        let damaged = DamagedTables::default();
        for bad in &tables[..2] {
            world.flip(bad, 2 * 4096);
        }
        merge_tables(&world.backend, REPOSITORY, &damaged).unwrap();
        let names = world.names();
        assert_eq!(names.len(), 3);
        for bad in &tables[..2] {
            assert!(names.contains(bad) && damaged.contains(TableId::parse(bad).unwrap()));
        }
    }

    #[test]
    fn nothing_is_merged_while_another_does() {
        let world = World::new();
        (0..8).for_each(|number| world.table(&[(number, pack(number), 64)]));
        let lock = world.backend.try_lock("index").unwrap().unwrap();
        world.merge();
        assert_eq!(world.names().len(), 8);
        drop(lock);
        world.merge();
        assert_eq!(world.merged().entry_count(), 8);
    }
}
