//! What whole tables say of packs, told briefly enough to be kept for all packs at once and compared with their own
//! directories; and tables made anew from these.

use std::collections::HashMap;

use super::table_reader::Table;
use super::{Index, open_listed, write_table};
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{PackEntry, PackKind, TableEntry, TablePack};
use crate::id::{ObjectId, PackId, TableId};
use crate::store::pack_reader::read_pack_directory;

/// A table is closed after so many entries, whose places are in memory until then.
const ENTRIES_PER_TABLE: usize = 500_000;

/// What a table, or its own directory, says of a pack: how many objects, and a sum over their ids and places. It tells
/// accidents, as checksums do, and takes a few bytes whatever the pack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackSum {
    pub(crate) objects: u64,
    sum: u64,
}

impl PackSum {
    /// What a pack's own directory says.
    pub(crate) fn of_directory(entries: &[PackEntry]) -> Self {
        let mut sum = Self::default();
        entries
            .iter()
            .for_each(|entry| sum.add(&entry.id, [entry.offset, entry.stored_len, entry.plain_len]));
        sum
    }

    /// In whatever order they come.
    fn add(&mut self, id: &ObjectId, place: [u32; 3]) {
        let (words, _) = id.as_bytes().as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mixed = words.chain(place.map(u64::from)).fold(0u64, |mixed, word| {
            let mixed = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ (mixed >> 29)
        });
        self.objects += 1;
        self.sum = self.sum.wrapping_add(mixed);
    }
}

/// A table that is whole, and what it says of its packs.
pub(crate) struct TableContents {
    pub(crate) id: TableId,
    pub(crate) packs: Vec<(TablePack, PackSum)>,
}

/// All tables of one moment.
#[derive(Default)]
pub(crate) struct AllContents {
    pub(crate) whole: Vec<TableContents>,
    /// Those that are damaged, and how.
    pub(crate) damaged: Vec<(TableId, String)>,
}

impl Index {
    /// Reads every table from its begin to its end, and verifies each block.
    pub(crate) fn read_contents(&self, mut read: impl FnMut(u64) -> Result<()>) -> Result<AllContents> {
        let list = || self.listed_tables();
        // What is gone by then was merged into another one.
        let tables = open_listed(list, |id| match Table::open(self.backend.as_ref(), self.repository, id) {
            Err(error) if error.is_damage() => Ok((id, Err(error.to_string()))),
            table => Ok((id, Ok(table?))),
        })?;
        let mut all = AllContents::default();
        for (id, table) in tables {
            match table.map(|table| contents_of(&table, &mut read)) {
                Ok(Ok(packs)) => all.whole.push(TableContents { id, packs }),
                Ok(Err(error)) if error.is_damage() => all.damaged.push((id, error.to_string())),
                Ok(Err(error)) => return Err(error),
                Err(reason) => all.damaged.push((id, reason)),
            }
        }
        Ok(all)
    }

    /// Publishes tables of packs, from their own directories, and returns how many. The packs are made durable first: nobody
    /// knows whether a pack that no table names is.
    pub(crate) fn publish_packs(
        &self,
        packs: &[(PackId, PackKind)],
        mut go_on: impl FnMut(u64) -> Result<()>,
    ) -> Result<u64> {
        let (mut group, mut tables) = (Group::default(), 0);
        for (pack, kind) in packs {
            let entries = read_pack_directory(self.backend.as_ref(), *kind, *pack)?;
            self.backend.sync_object(&Key::pack(*kind, *pack))?;
            let size = self.backend.open(&Key::pack(*kind, *pack))?.size()?;
            group.add(TablePack { pack: *pack, kind: *kind, size }, &entries);
            go_on(size)?;
            if group.entries.len() >= ENTRIES_PER_TABLE {
                self.publish_group(std::mem::take(&mut group))?;
                tables += 1;
            }
        }
        if !group.packs.is_empty() {
            self.publish_group(group)?;
            tables += 1;
        }
        Ok(tables)
    }

    fn publish_group(&self, group: Group) -> Result<()> {
        let Group { packs, mut entries } = group;
        PackKind::ALL.iter().try_for_each(|kind| self.backend.sync_area(&Area::packs(*kind)))?;
        entries.sort_unstable_by_key(|entry| entry.id);
        let count = entries.len() as u64;
        let entries = entries.into_iter().map(Ok);
        write_table(self.backend.as_ref(), self.repository, &packs, count, entries)?
            .publish(self.backend.as_ref())?;
        Ok(())
    }
}

/// What is to be in one table.
#[derive(Default)]
struct Group {
    packs: Vec<TablePack>,
    entries: Vec<TableEntry>,
}

impl Group {
    fn add(&mut self, pack: TablePack, entries: &[PackEntry]) {
        // OK to unwrap: a group is closed long before.
        let ordinal = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(pack);
        self.entries.extend(entries.iter().map(|entry| {
            let &PackEntry { id, offset, stored_len, plain_len, .. } = entry;
            TableEntry { id, pack: ordinal, offset, stored_len, plain_len }
        }));
    }
}

fn contents_of(table: &Table, read: &mut impl FnMut(u64) -> Result<()>) -> Result<Vec<(TablePack, PackSum)>> {
    let mut packs: Vec<(TablePack, PackSum)> =
        table.packs().iter().map(|pack| (*pack, PackSum::default())).collect();
    table.verify_each(read, |entry| {
        if let Some((_, sum)) = packs.get_mut(entry.pack as usize) {
            sum.add(&entry.id, [entry.offset, entry.stored_len, entry.plain_len]);
        }
    })?;
    Ok(packs)
}

impl AllContents {
    /// What tables say of each pack, each table for itself.
    pub(crate) fn by_pack(&self) -> HashMap<PackId, Vec<(TablePack, PackSum)>> {
        let mut by_pack: HashMap<PackId, Vec<(TablePack, PackSum)>> = HashMap::new();
        for (pack, sum) in self.whole.iter().flat_map(|table| &table.packs) {
            by_pack.entry(pack.pack).or_default().push((*pack, *sum));
        }
        by_pack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ObjectType;

    fn entry(number: u8, offset: u32) -> PackEntry {
        let (id, object_type) = (ObjectId::from_bytes([number; 32]), ObjectType::Chunk);
        PackEntry { id, object_type, offset, stored_len: 10, plain_len: 20, checksum: [0; 8] }
    }

    #[test]
    fn a_sum_is_that_of_the_same_objects_at_the_same_places_in_whatever_order() {
        let sum = PackSum::of_directory(&[entry(1, 64), entry(2, 74)]);
        assert_eq!(sum, PackSum::of_directory(&[entry(2, 74), entry(1, 64)]));
        let longer = PackEntry { plain_len: 21, ..entry(2, 74) };
        let others = [
            vec![entry(1, 64)],
            vec![entry(1, 64), entry(2, 75)],
            vec![entry(1, 74), entry(2, 64)],
            vec![entry(1, 64), longer],
        ];
        assert!(others.iter().all(|other| PackSum::of_directory(other) != sum));
    }
}
