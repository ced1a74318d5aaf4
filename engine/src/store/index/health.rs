//! What the index says of its own health: tables that are damaged or missing, and packs that are missing or in no table.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::Index;
use super::table_reader::Table;
use crate::backend::Area;
use crate::error::Result;
use crate::format::PackKind;
use crate::id::{ObjectId, PackId, TableId};
use crate::store::Location;
use crate::store::condemned::read_dropped;

impl Index {
    /// The packs that tables name, but that are gone or have another size than they had when they were written. Those that
    /// gc has deleted are not missed.
    pub(crate) fn missing_packs(&self) -> Result<HashMap<PackId, PackKind>> {
        let missing = self.missing_packs_besides(&HashSet::new())?;
        if missing.is_empty() {
            return Ok(missing);
        }
        // Read after the packs were listed, as it is there before a pack is deleted. What tables name no longer was deleted,
        // and its list is gone.
        let dropped: HashSet<PackId> =
            read_dropped(self.backend.as_ref())?.iter().map(|(pack, _)| pack).collect();
        self.reload()?;
        self.missing_packs_besides(&dropped)
    }

    /// The same besides those that are known.
    pub(super) fn missing_packs_besides(&self, known: &HashSet<PackId>) -> Result<HashMap<PackId, PackKind>> {
        // Tables first: a pack that a table names is there before the table is.
        let set = self.tables()?;
        let sizes = self.pack_sizes()?;
        let packs = set.tables.iter().flat_map(|table| table.packs());
        Ok(packs
            .filter(|pack| !known.contains(&pack.pack) && sizes.get(&pack.pack) != Some(&pack.size))
            .map(|pack| (pack.pack, pack.kind))
            .collect())
    }

    /// Whether a table says what lies in a pack that gc has not deleted.
    pub(crate) fn names_pack(&self, pack: PackId) -> Result<bool> {
        let set = self.tables()?;
        let mut named = set.tables.iter().flat_map(|table| table.packs());
        Ok(!set.dropped.contains(&pack) && named.any(|named| named.pack == pack))
    }

    /// The packs that are there, and their sizes.
    pub(crate) fn list_packs(&self) -> Result<HashMap<PackId, (PackKind, u64)>> {
        let mut packs = HashMap::new();
        for kind in PackKind::ALL {
            let listed = self.backend.list(&Area::packs(kind))?;
            packs.extend(
                listed.iter().filter_map(|file| Some((PackId::parse(&file.name)?, (kind, file.size)))),
            );
        }
        Ok(packs)
    }

    fn pack_sizes(&self) -> Result<HashMap<PackId, u64>> {
        Ok(self.list_packs()?.into_iter().map(|(pack, (_, size))| (pack, size)).collect())
    }

    /// Sizes of the packs that no table names; none where a table is damaged, as it may have named any.
    pub(crate) fn unnamed_packs(&self) -> Result<Vec<u64>> {
        // Packs first: a table that comes meanwhile names what was there.
        let mut sizes = self.pack_sizes()?;
        self.reload()?;
        let set = self.tables()?;
        for pack in set.tables.iter().flat_map(|table| table.packs()) {
            sizes.remove(&pack.pack);
        }
        let is_any_damaged = !set.damaged.is_empty() || set.tables.iter().any(|table| table.is_damaged());
        Ok(if is_any_damaged { Vec::new() } else { sizes.into_values().collect() })
    }

    /// The packs that tables name which are open now.
    pub(crate) fn named_packs(&self) -> Result<HashSet<PackId>> {
        let set = self.tables()?;
        Ok(set.tables.iter().flat_map(|table| table.packs()).map(|pack| pack.pack).collect())
    }

    /// Whether tables are missing: one of these objects, each of which was published, is in none, and none is damaged.
    pub(crate) fn lacks_tables(&self, published: &[ObjectId]) -> Result<bool> {
        self.reload()?;
        published.iter().try_fold(false, |lacks, id| Ok(lacks || !self.is_named(id)?))
    }

    /// Whether something was asked for that is in no table, though a pack has it.
    pub(crate) fn has_missed_tables(&self) -> bool {
        self.table_lost.load(Ordering::Relaxed)
    }

    /// Whether packs that no table names are asked, as tables are damaged or may be lost.
    pub(crate) fn asks_unnamed_packs(&self) -> bool {
        self.has_missed_tables() || self.read_set().is_some_and(|set| set.is_incomplete())
    }

    /// Whether a table names an object, or one that is damaged may.
    pub(crate) fn is_named(&self, id: &ObjectId) -> Result<bool> {
        let set = self.tables()?;
        Ok(!set.damaged.is_empty() || set.names(id))
    }

    /// Calls `visit` for all that the tables say of some packs. Reads every table.
    pub(crate) fn visit_entries_of(
        &self,
        packs: &HashMap<PackId, PackKind>,
        mut visit: impl FnMut(ObjectId, Location) -> Result<()>,
    ) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let set = self.tables()?;
        for table in
            set.tables.iter().filter(|table| table.packs().iter().any(|pack| packs.contains_key(&pack.pack)))
        {
            for block in 0..table.entry_block_count() {
                let Some(entries) = table.entries(block) else { continue };
                for entry in &entries {
                    let location = table.location(entry);
                    if let Some(location) = location.filter(|location| packs.contains_key(&location.pack)) {
                        visit(entry.id, location)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens every table, and reads whole as many of them, the smallest first, as have no more bytes together. Names those
    /// that are damaged, and says why.
    pub(crate) fn verify_tables(
        &self,
        mut bytes_max: u64,
        mut read: impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<(String, String)>> {
        let mut damaged = Vec::new();
        let mut listed = self.backend.list(&Area::index())?;
        listed.sort_by_key(|file| file.size);
        for file in listed {
            let Some(id) = TableId::parse(&file.name) else { continue };
            let is_read_whole = file.size <= bytes_max;
            bytes_max = bytes_max.saturating_sub(file.size);
            let table = Table::open(self.backend.as_ref(), self.repository, id);
            match table.and_then(|table| if is_read_whole { table.verify(&mut read) } else { Ok(()) }) {
                Ok(()) => {}
                // A backup beside this has merged it with others, and verified it as it did.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => {
                    damaged.push((Area::index().key(id).to_string(), error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }
}
