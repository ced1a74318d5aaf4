//! Merges tables when there are many, so that a look-up asks few.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::table_reader::Table;
use super::write_table;
use crate::backend::{Area, Backend, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::{TableEntry, TablePack};
use crate::id::{ObjectId, RepositoryId, TableId};

/// So many tables of one order of magnitude are made into one: every entry is rewritten a few times at most, and a
/// look-up asks some ten tables.
const MERGE_AT: usize = 8;

/// Merges what there is to merge. Does nothing if another process is at it.
pub(in crate::store) fn merge_tables(backend: &dyn Backend, repository: RepositoryId) -> Result<()> {
    let listed = backend.list(&Area::index())?;
    if listed.len() < MERGE_AT {
        return Ok(());
    }
    let Some(_lock) = backend.try_lock("index")? else { return Ok(()) };
    loop {
        let mut tables = Vec::new();
        for listed in backend.list(&Area::index())? {
            let Some(id) = TableId::parse(&listed.name) else { continue };
            match Table::open(backend, repository, id) {
                Ok(table) => tables.push(Arc::new(table)),
                // A damaged table is left for `check`, which can say what was lost with it.
                Err(error) if error.is_damage() || error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let Some(group) = group_to_merge(tables) else { return Ok(()) };
        match merge(backend, repository, group) {
            // A damaged table is left for `check`, and with it those that it would be merged with.
            Err(error) if error.is_damage() => return Ok(()),
            other => other?,
        }
    }
}

/// Tables whose numbers of entries are of one order of magnitude, if they are enough.
fn group_to_merge(tables: Vec<Arc<Table>>) -> Option<Vec<Arc<Table>>> {
    let mut by_magnitude: HashMap<u32, Vec<Arc<Table>>> = HashMap::new();
    for table in tables {
        // Powers of eight; all tables below some 32,000 entries count as small.
        let magnitude = (table.entry_count() >> 15).max(1).ilog2() / 3;
        by_magnitude.entry(magnitude).or_default().push(table);
    }
    by_magnitude.into_values().find(|group| group.len() >= MERGE_AT)
}

fn merge(backend: &dyn Backend, repository: RepositoryId, mut inputs: Vec<Arc<Table>>) -> Result<()> {
    inputs.sort_by_key(|table| Reverse(table.created()));
    let mut packs: Vec<TablePack> = Vec::new();
    let mut ordinals = HashMap::new();
    for pack in inputs.iter().flat_map(|table| table.packs()) {
        ordinals.entry(pack.pack).or_insert_with(|| {
            packs.push(*pack);
            packs.len() as u32 - 1
        });
    }
    let translations: Vec<Vec<u32>> = inputs
        .iter()
        .map(|table| table.packs().iter().filter_map(|pack| ordinals.get(&pack.pack).copied()).collect())
        .collect();
    let entries = || Merged::new(&inputs, &translations);
    let mut entry_count = 0;
    for entry in entries()? {
        entry?;
        entry_count += 1;
    }
    write_table(backend, repository, &packs, entry_count, entries()?)?.publish(backend)?;
    inputs.iter().try_for_each(|table| backend.remove(&Key::table(table.id())))
}

/// The entries of several tables in one order; one place that two tables name comes once.
struct Merged<'a> {
    cursors: Vec<Cursor<'a>>,
    /// The next id of each cursor, the least on top; equal ids in the order of the cursors, the newest table first.
    heads: BinaryHeap<Reverse<(ObjectId, usize)>>,
    given: Vec<TableEntry>,
}

struct Cursor<'a> {
    table: &'a Table,
    translation: &'a [u32],
    block: u64,
    entries: std::vec::IntoIter<TableEntry>,
}

impl<'a> Merged<'a> {
    fn new(tables: &'a [Arc<Table>], translations: &'a [Vec<u32>]) -> Result<Self> {
        let cursor = |(table, translation): (&'a Arc<Table>, &'a Vec<u32>)| Cursor {
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
            let translation = cursor.translation;
            self.push_head(index)?;
            let Some(entry) = entry else { continue };
            let pack = translation.get(entry.pack as usize).copied();
            let pack = pack.ok_or_else(|| damaged(id))?;
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

fn damaged(id: ObjectId) -> Error {
    Corrupt::new("an index table", format!("its entry of {id} names no pack")).into()
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
