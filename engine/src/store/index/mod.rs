//! Where objects lie: the tables, what packs say of themselves where a table is damaged, and neighbours.
//!
//! Tables are immutable files that are read block by block, each block verified after it was read. So a table that
//! is truncated or rots under a living mount is noticed and put aside, never believed.

mod merge;
mod neighbours;
mod table_reader;
mod table_writer;

pub(super) use merge::merge_tables;
pub(super) use table_writer::write_table;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use neighbours::Neighbours;
use table_reader::Table;

use super::pack_reader::read_pack_directory;
use crate::backend::{Area, Backend};
use crate::error::Result;
use crate::format::{PackEntry, PackKind};
use crate::id::{ObjectId, PackId, RepositoryId, TableId};

/// Where a copy of an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: PackId,
    pub(crate) kind: PackKind,
    pub(crate) offset: u32,
    pub(crate) stored_len: u32,
    pub(crate) plain_len: u32,
}

impl Location {
    /// Where the directory of a pack says that an object lies.
    pub(crate) fn in_pack(kind: PackKind, pack: PackId, entry: &PackEntry) -> Self {
        let PackEntry { offset, stored_len, plain_len, .. } = *entry;
        Self { pack, kind, offset, stored_len, plain_len }
    }
}

/// The index of a repository. Opens nothing before the first look-up.
pub(crate) struct Index {
    backend: Arc<dyn Backend>,
    repository: RepositoryId,
    tables: RwLock<Option<Arc<TableSet>>>,
    neighbours: Mutex<Neighbours>,
    /// Whether an object was missed that a lost table may have named: from then on, packs without a table are read.
    table_lost: AtomicBool,
    /// What the last salvage found, and in which packs.
    salvage: Mutex<Option<Salvage>>,
}

/// The objects of packs that no healthy table names.
struct Salvage {
    packs: BTreeSet<PackId>,
    objects: Arc<Salvaged>,
}

type Salvaged = HashMap<ObjectId, Vec<Location>>;

/// The tables as they were listed at one moment.
struct TableSet {
    /// Newest first.
    tables: Vec<Arc<Table>>,
    /// Objects of packs that only damaged tables name, from the packs' own directories. For reading alone: such a
    /// pack may be of a run that was cut off, so nothing new may rely on it.
    salvaged: Arc<Salvaged>,
}

impl Index {
    pub(super) fn new(backend: Arc<dyn Backend>, repository: RepositoryId) -> Self {
        Self {
            backend,
            repository,
            tables: RwLock::new(None),
            neighbours: Mutex::default(),
            table_lost: AtomicBool::new(false),
            salvage: Mutex::default(),
        }
    }

    /// All known places of an object, the newest first.
    pub(crate) fn locate(&self, id: &ObjectId) -> Result<Vec<Location>> {
        if let Some(location) = self.neighbours().get(id) {
            // One place is enough for nearly every read; if it fails, the caller asks for all of them.
            return Ok(vec![location]);
        }
        let locations = self.locate_in_tables(id)?;
        // Neighbours count as published: those of a salvaged pack may not be.
        let published = |location: &&Location| !self.is_salvaged(location.pack);
        if let Some(first) = locations.first().filter(published) {
            self.bring_neighbours(first);
        }
        Ok(locations)
    }

    fn is_salvaged(&self, pack: PackId) -> bool {
        let salvage = self.salvage.lock().unwrap_or_else(PoisonError::into_inner);
        salvage.as_ref().is_some_and(|salvage| salvage.packs.contains(&pack))
    }

    /// All known places of an object from the tables, past the neighbours.
    pub(crate) fn locate_in_tables(&self, id: &ObjectId) -> Result<Vec<Location>> {
        loop {
            let set = self.tables()?;
            let Some(mut locations) = set.look_up(id) else {
                self.put_aside_damaged(&set)?;
                continue;
            };
            locations.extend(set.salvaged.get(id).into_iter().flatten());
            return Ok(locations);
        }
    }

    /// All known places of an object after the tables were listed anew; if it is missed even so, a table may have been
    /// lost, and packs that no table names are asked themselves.
    pub(crate) fn locate_again(&self, id: &ObjectId) -> Result<Vec<Location>> {
        self.reload()?;
        let locations = self.locate_in_tables(id)?;
        if !locations.is_empty() {
            return Ok(locations);
        }
        self.table_lost.store(true, Ordering::Relaxed);
        self.reload()?;
        self.locate_in_tables(id)
    }

    /// Whether an object lies in a published pack, so that something new may rely on it.
    pub(crate) fn contains(&self, id: &ObjectId) -> Result<bool> {
        if self.neighbours().get(id).is_some() {
            return Ok(true);
        }
        loop {
            let set = self.tables()?;
            if let Some(location) = set.look_up_filtered(id) {
                if let Some(location) = &location {
                    self.bring_neighbours(location);
                }
                return Ok(location.is_some());
            }
            self.put_aside_damaged(&set)?;
        }
    }

    /// Lists the tables anew; what neighbours said is forgotten.
    pub(crate) fn reload(&self) -> Result<()> {
        self.neighbours().clear();
        let known = self.read_set();
        let set = self.load(known.as_deref())?;
        self.replace_set(set);
        Ok(())
    }

    /// The packs that healthy tables name, but that are gone or have another size than they had when they were written.
    pub(crate) fn missing_packs(&self) -> Result<HashMap<PackId, PackKind>> {
        // Tables first: a pack that a table names is there before the table is.
        let set = self.tables()?;
        let sizes = self.pack_sizes()?;
        let packs = set.tables.iter().filter(|table| !table.is_damaged()).flat_map(|table| table.packs());
        Ok(packs
            .filter(|pack| sizes.get(&pack.pack) != Some(&pack.size))
            .map(|pack| (pack.pack, pack.kind))
            .collect())
    }

    fn pack_sizes(&self) -> Result<HashMap<PackId, u64>> {
        let mut sizes = HashMap::new();
        for kind in PackKind::ALL {
            let listed = self.backend.list(&Area::packs(kind))?;
            sizes.extend(listed.iter().filter_map(|file| Some((PackId::parse(&file.name)?, file.size))));
        }
        Ok(sizes)
    }

    /// Sizes of the packs that no table names; none where a table is damaged, as it may have named any.
    pub(crate) fn unnamed_packs(&self) -> Result<Vec<u64>> {
        // Packs first: a table that comes meanwhile names what was there.
        let mut sizes = self.pack_sizes()?;
        self.reload()?;
        let set = self.tables()?;
        let tables: Vec<_> = set.tables.iter().filter(|table| !table.is_damaged()).collect();
        for pack in tables.iter().flat_map(|table| table.packs()) {
            sizes.remove(&pack.pack);
        }
        let names = self.backend.names(&Area::index())?;
        let listed = names.iter().filter(|name| TableId::parse(name).is_some()).count();
        Ok(if listed > tables.len() { Vec::new() } else { sizes.into_values().collect() })
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
        bytes_max: u64,
        mut read: impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<(String, String)>> {
        match self.try_to_verify_tables(bytes_max, &mut read) {
            // A backup beside this has merged a table away since it was listed.
            Err(error) if error.is_not_found() => self.try_to_verify_tables(bytes_max, &mut read),
            result => result,
        }
    }

    fn try_to_verify_tables(
        &self,
        mut bytes_max: u64,
        read: &mut impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<(String, String)>> {
        let mut damaged = Vec::new();
        let mut listed = self.backend.list(&Area::index())?;
        listed.sort_by_key(|file| file.size);
        for file in listed {
            let Some(id) = TableId::parse(&file.name) else { continue };
            let is_read_whole = file.size <= bytes_max;
            bytes_max = bytes_max.saturating_sub(file.size);
            let table = Table::open(self.backend.as_ref(), self.repository, id);
            match table.and_then(|table| if is_read_whole { table.verify(&mut *read) } else { Ok(()) }) {
                Ok(()) => {}
                Err(error) if error.is_damage() => {
                    damaged.push((Area::index().key(id).to_string(), error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }

    fn tables(&self) -> Result<Arc<TableSet>> {
        if let Some(set) = self.read_set() {
            return Ok(set);
        }
        let set = Arc::new(self.load(None)?);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&set));
        Ok(set)
    }

    fn read_set(&self) -> Option<Arc<TableSet>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace_set(&self, set: TableSet) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(set));
    }

    fn neighbours(&self) -> std::sync::MutexGuard<'_, Neighbours> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the tables that are listed now. Open ones of `known` are kept: a table never changes.
    fn load(&self, known: Option<&TableSet>) -> Result<TableSet> {
        let mut tables = Vec::new();
        let mut damaged = false;
        for name in self.backend.names(&Area::index())? {
            let Some(id) = TableId::parse(&name) else { continue };
            let open = known.and_then(|set| set.tables.iter().find(|table| table.id() == id));
            if let Some(table) = open.filter(|table| !table.is_damaged()) {
                tables.push(Arc::clone(table));
                continue;
            }
            match Table::open(self.backend.as_ref(), self.repository, id) {
                Ok(table) => tables.push(Arc::new(table)),
                // Merged or dropped since it was listed.
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => {
                    log::warn!("{error}; the packs' own directories are used in its place");
                    damaged = true;
                }
                Err(error) => return Err(error),
            }
        }
        // By a clock that may have jumped: then a worse copy is tried first, and costs a read. `Store` tries them all.
        tables.sort_by_key(|table| std::cmp::Reverse(table.created()));
        let wanted = damaged || self.table_lost.load(Ordering::Relaxed);
        let salvaged = if wanted { self.salvage(&tables)? } else { Arc::default() };
        Ok(TableSet { tables, salvaged })
    }

    /// Replaces the set by one without the tables that were found to be damaged while reading.
    fn put_aside_damaged(&self, set: &TableSet) -> Result<()> {
        let (damaged, tables): (Vec<_>, Vec<_>) =
            set.tables.iter().cloned().partition(|table| table.is_damaged());
        for table in damaged {
            log::warn!(
                "index table {} is damaged; the packs' own directories are used in its place",
                table.id()
            );
        }
        self.neighbours().clear();
        let salvaged = self.salvage(&tables)?;
        self.replace_set(TableSet { tables, salvaged });
        Ok(())
    }

    /// The objects of all packs that no healthy table names. Packs never change, so the same packs are read once.
    fn salvage(&self, healthy: &[Arc<Table>]) -> Result<Arc<Salvaged>> {
        let named: HashSet<PackId> =
            healthy.iter().flat_map(|table| table.packs()).map(|pack| pack.pack).collect();
        let mut unnamed = Vec::new();
        for kind in PackKind::ALL {
            let names = self.backend.names(&Area::packs(kind))?;
            let packs = names.iter().filter_map(|name| PackId::parse(name));
            unnamed.extend(packs.filter(|pack| !named.contains(pack)).map(|pack| (kind, pack)));
        }
        let packs: BTreeSet<PackId> = unnamed.iter().map(|(_, pack)| *pack).collect();
        let mut memory = self.salvage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memory.as_ref().filter(|known| known.packs == packs) {
            return Ok(Arc::clone(&known.objects));
        }
        let mut objects = Salvaged::new();
        for (kind, pack) in unnamed {
            self.salvage_pack(kind, pack, &mut objects);
        }
        let objects = Arc::new(objects);
        *memory = Some(Salvage { packs, objects: Arc::clone(&objects) });
        Ok(objects)
    }

    fn salvage_pack(&self, kind: PackKind, pack: PackId, objects: &mut Salvaged) {
        let entries = match read_pack_directory(self.backend.as_ref(), kind, pack) {
            Ok(entries) => entries,
            Err(error) => return log::warn!("{error}"),
        };
        for entry in entries {
            objects.entry(entry.id).or_default().push(Location::in_pack(kind, pack, &entry));
        }
    }

    /// What was stored together is asked for together: after two hits in one pack its directory is loaded.
    fn bring_neighbours(&self, location: &Location) {
        if !self.neighbours().wants(location.pack) {
            return;
        }
        // Only a help: where the pack's directory can't be read, the tables serve.
        if let Ok(entries) = read_pack_directory(self.backend.as_ref(), location.kind, location.pack) {
            self.neighbours().insert(location.kind, location.pack, &entries);
        }
    }
}

impl TableSet {
    /// The places in all tables; `None` if a table turned out to be damaged.
    fn look_up(&self, id: &ObjectId) -> Option<Vec<Location>> {
        let mut locations = Vec::new();
        for table in &self.tables {
            locations.extend(table.look_up(id)?);
        }
        Some(locations)
    }

    /// A place in some table, asked only where a filter lets the id pass; `None` if a table is damaged.
    fn look_up_filtered(&self, id: &ObjectId) -> Option<Option<Location>> {
        for table in &self.tables {
            if table.may_contain(id)?
                && let Some(location) = table.look_up(id)?.first()
            {
                return Some(Some(*location));
            }
        }
        Some(None)
    }
}
