//! Where objects lie: the tables, what packs say of themselves where a table is damaged, and neighbours.
//!
//! Tables are immutable files that are read block by block, each block verified after it was read. So a table that
//! is truncated or rots under a living mount is noticed and put aside, never believed.

mod contents;
mod health;
mod live;
mod merge;
mod neighbours;
mod reliance;
mod salvage;
mod table_reader;
mod table_writer;
#[cfg(test)]
mod tests;

pub(crate) use contents::{AllContents, PackSum, TableContents};
pub(crate) use live::{LiveSet, Mark, PackUse};
pub(crate) use table_reader::Cursor;
pub(super) use table_writer::write_table;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use merge::merge_tables;
use neighbours::Neighbours;
use reliance::Losses;
use salvage::{Salvage, Salvaged, salvage_blocks};
use table_reader::Table;

use super::condemned::read_dropped;
use super::locks::{LockName, Locks};
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
    locks: Arc<Locks>,
    repository: RepositoryId,
    tables: RwLock<Option<Arc<TableSet>>>,
    /// Held while the tables are listed and their set is replaced: an older list must not come after a newer one.
    listing: Mutex<()>,
    neighbours: Mutex<Neighbours>,
    /// Whether an object was missed that a lost table may have named: from then on, packs without a table are read.
    table_lost: AtomicBool,
    damaged: DamagedTables,
    salvage: Mutex<Salvage>,
    /// Of tables with damaged blocks, what these may have named.
    salvaged_blocks: Mutex<HashMap<TableId, Arc<Salvaged>>>,
    losses: Losses,
}

/// Tables that were found to be damaged. Each is reported once.
#[derive(Default)]
struct DamagedTables(Mutex<HashSet<TableId>>);

impl DamagedTables {
    fn contains(&self, id: TableId) -> bool {
        lock(&self.0).contains(&id)
    }

    fn note(&self, id: TableId, reason: &str) {
        if lock(&self.0).insert(id) {
            log::warn!("{reason}; the packs' own directories are used in its place");
        }
    }
}

/// The tables as they were listed at one moment.
struct TableSet {
    /// Newest first.
    tables: Vec<Arc<Table>>,
    /// Those that are put aside.
    damaged: HashSet<TableId>,
    /// Packs that gc has deleted, though tables name them: what lies there is nowhere.
    dropped: HashSet<PackId>,
    /// Whether packs without a table are read though no table is known to be damaged.
    table_lost: bool,
    /// Objects of packs that no table of the set names, from the packs' own directories, when the first is asked for. For
    /// reading alone: such a pack may be of a run that was cut off, so nothing new may rely on it.
    salvaged: OnceLock<Arc<Salvaged>>,
}

/// So often tables are listed when one of them is gone before it is opened.
const LISTINGS_MAX: usize = 5;

impl Index {
    pub(super) fn new(backend: Arc<dyn Backend>, locks: Arc<Locks>, repository: RepositoryId) -> Self {
        Self {
            backend,
            locks,
            repository,
            tables: RwLock::new(None),
            listing: Mutex::default(),
            neighbours: Mutex::default(),
            table_lost: AtomicBool::new(false),
            damaged: DamagedTables::default(),
            salvage: Mutex::default(),
            salvaged_blocks: Mutex::default(),
            losses: Losses::default(),
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
        let published = |location: &&Location| !lock(&self.salvage).contains(location.pack);
        if let Some(first) = locations.first().filter(published) {
            self.bring_neighbours(first);
        }
        Ok(locations)
    }

    /// All known places of an object from the tables, past the neighbours.
    pub(crate) fn locate_in_tables(&self, id: &ObjectId) -> Result<Vec<Location>> {
        self.locate_by(id, |table| table.find(id))
    }

    /// The same, for ids that come in order.
    pub(crate) fn locate_next_in_tables(&self, id: &ObjectId, cursor: &mut Cursor) -> Result<Vec<Location>> {
        self.locate_by(id, |table| table.find_next(id, cursor))
    }

    fn locate_by(
        &self,
        id: &ObjectId,
        mut find: impl FnMut(&Table) -> (Vec<(u64, Location)>, bool),
    ) -> Result<Vec<Location>> {
        let set = self.tables()?;
        let mut locations = Vec::new();
        for table in &set.tables {
            let (entries, is_doubtful) = find(table);
            locations.extend(entries.into_iter().map(|(_, place)| place).filter(|place| set.has(place)));
            if is_doubtful {
                let salvaged = self.salvaged_blocks(table);
                let is_new = |place: &Location| set.has(place) && !locations.contains(place);
                let others: Vec<Location> = salvaged.get(id).filter(is_new).collect();
                locations.extend(others);
            }
        }
        if set.is_incomplete() {
            locations.extend(self.salvaged(&set)?.get(id));
        }
        Ok(locations)
    }

    /// The places of an object on which something new may rely: those that intact blocks of tables tell. What only packs
    /// know may be of a run that was cut off, and not be durable.
    pub(crate) fn published_places(&self, id: &ObjectId) -> Result<Vec<Location>> {
        let set = self.tables()?;
        let told = set.tables.iter().filter(|table| table.may_contain(id));
        Ok(told.flat_map(|table| table.look_up(id).places).filter(|place| set.has(place)).collect())
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

    /// The places of an object in packs that no table names. For whoever could read it at none of the places that tables
    /// tell: the table that told of a good one may be lost.
    pub(super) fn locate_in_unnamed_packs(&self, id: &ObjectId) -> Result<Vec<Location>> {
        self.table_lost.store(true, Ordering::Relaxed);
        if !self.tables()?.table_lost {
            self.reload()?;
        }
        let set = self.tables()?;
        Ok(self.salvaged(&set)?.get(id).collect())
    }

    /// Lists the tables anew, and tries those again that were damaged; what neighbours said is forgotten.
    pub(crate) fn reload(&self) -> Result<()> {
        let _listing = lock(&self.listing);
        self.neighbours().clear();
        let known = self.read_set();
        let mut set = self.load(known.as_deref(), Damaged::TryAgain)?;
        // Where nothing has changed, the packs' directories are not listed again for each object that is missed.
        if let Some(known) = known.filter(|known| known.is_of_the_same_tables(&set)) {
            set.salvaged = known.salvaged.clone();
        }
        self.replace_set(set);
        Ok(())
    }

    /// Lists the tables anew while nobody merges any: a listing beside a merge may miss both what was merged and what was
    /// made of it.
    pub(crate) fn reload_unmerged(&self) -> Result<()> {
        let _lock = self.locks.take(LockName { name: "index", what: "the index" })?;
        self.reload()
    }

    /// The same for who changes nothing, not even a lock, as where nothing can be written: until nothing has changed from
    /// before the listing to after it.
    pub(crate) fn reload_unlocked(&self) -> Result<()> {
        let listed = || -> Result<HashSet<TableId>> { Ok(self.listed_tables()?.into_iter().collect()) };
        for _ in 0..LISTINGS_MAX {
            let before = listed()?;
            self.reload()?;
            if listed()? == before {
                break;
            }
        }
        Ok(())
    }

    /// Lists the tables anew after one was published, which a long run does again and again: what was damaged stays put
    /// aside, and what was salvaged for it serves on.
    pub(super) fn refresh(&self) -> Result<()> {
        let _listing = lock(&self.listing);
        self.neighbours().clear();
        let known = self.read_set();
        let mut set = self.load(known.as_deref(), Damaged::PassOver)?;
        if let Some(known) = known.filter(|known| known.misses_as_much_as(&set)) {
            set.salvaged = known.salvaged.clone();
        }
        self.replace_set(set);
        Ok(())
    }

    /// Merges tables where there are many. Does nothing if another process is at it.
    pub(crate) fn merge(&self) -> Result<()> {
        merge_tables(self.backend.as_ref(), self.repository, &self.damaged)
    }

    /// Writes those tables anew that name many packs that were deleted. Returns the deleted packs that tables name still.
    pub(crate) fn drop_packs(&self, dropped: &HashSet<PackId>) -> Result<HashSet<PackId>> {
        merge::drop_packs(self.backend.as_ref(), self.repository, &self.damaged, dropped)
    }

    fn tables(&self) -> Result<Arc<TableSet>> {
        if let Some(set) = self.read_set() {
            return Ok(set);
        }
        let _listing = lock(&self.listing);
        match self.read_set() {
            Some(set) => Ok(set),
            None => Ok(self.replace_set(self.load(None, Damaged::TryAgain)?)),
        }
    }

    fn read_set(&self) -> Option<Arc<TableSet>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace_set(&self, set: TableSet) -> Arc<TableSet> {
        let set = Arc::new(set);
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&set));
        set
    }

    fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        lock(&self.neighbours)
    }

    /// Opens the tables that are listed now. Open ones of `known` are kept: a table never changes.
    fn load(&self, known: Option<&TableSet>, damaged: Damaged) -> Result<TableSet> {
        let dropped = read_dropped(self.backend.as_ref())?.iter().map(|(pack, _)| pack).collect();
        let is_open = |id: TableId| {
            let mut tables = known.iter().flat_map(|set| &set.tables);
            // Also one with damaged blocks: for what these may have named, packs have been asked.
            tables.find(|table| table.id() == id).cloned()
        };
        let opened = open_listed(
            || self.listed_tables(),
            |id| match is_open(id) {
                Some(table) => Ok((id, Some(table))),
                None if damaged == Damaged::PassOver && self.damaged.contains(id) => Ok((id, None)),
                None => Ok((id, self.open_table(id)?)),
            },
        )?;
        let damaged = opened.iter().filter(|(_, table)| table.is_none()).map(|(id, _)| *id).collect();
        let mut tables: Vec<Arc<Table>> = opened.into_iter().filter_map(|(_, table)| table).collect();
        // By a clock that may have jumped: then a worse copy is tried first, and costs a read. `Store` tries them all.
        tables.sort_by_key(|table| std::cmp::Reverse(table.created()));
        let table_lost = self.table_lost.load(Ordering::Relaxed);
        Ok(TableSet { tables, damaged, dropped, table_lost, salvaged: OnceLock::new() })
    }

    fn listed_tables(&self) -> Result<Vec<TableId>> {
        let names = self.backend.names(&Area::index())?;
        Ok(names.iter().filter_map(|name| TableId::parse(name)).collect())
    }

    /// Opens a table, unless it is damaged.
    fn open_table(&self, id: TableId) -> Result<Option<Arc<Table>>> {
        match Table::open(self.backend.as_ref(), self.repository, id) {
            Err(error) if error.is_damage() => {
                self.damaged.note(id, &error.to_string());
                Ok(None)
            }
            table => table.map(|table| Some(Arc::new(table))),
        }
    }

    /// What the damaged blocks of a table may have named.
    fn salvaged_blocks(&self, table: &Arc<Table>) -> Arc<Salvaged> {
        // Held while the packs are read: the others wait for it instead of doing the same.
        let mut salvaged = lock(&self.salvaged_blocks);
        let salvage = || {
            self.damaged.note(table.id(), &format!("index table {} is damaged", table.id()));
            salvage_blocks(self.backend.as_ref(), table)
        };
        Arc::clone(salvaged.entry(table.id()).or_insert_with(salvage))
    }

    /// The objects of all packs that no table of the set names.
    fn salvaged<'a>(&self, set: &'a TableSet) -> Result<&'a Salvaged> {
        if let Some(salvaged) = set.salvaged.get() {
            return Ok(salvaged);
        }
        let named: HashSet<PackId> =
            set.tables.iter().flat_map(|table| table.packs()).map(|pack| pack.pack).collect();
        let mut unnamed = HashMap::new();
        for kind in PackKind::ALL {
            let names = self.backend.names(&Area::packs(kind))?;
            let packs = names.iter().filter_map(|name| PackId::parse(name));
            unnamed.extend(packs.filter(|pack| !named.contains(pack)).map(|pack| (pack, kind)));
        }
        let salvaged = lock(&self.salvage).objects_of(self.backend.as_ref(), &unnamed);
        Ok(set.salvaged.get_or_init(|| salvaged))
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

/// What is done about tables that were found to be damaged before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damaged {
    TryAgain,
    PassOver,
}

/// Opens what is listed. What is gone by then has been merged into something newer: the list is made again, but not for
/// ever, as whoever misses anything lists again.
fn open_listed<T>(
    list: impl Fn() -> Result<Vec<TableId>>,
    open: impl Fn(TableId) -> Result<T>,
) -> Result<Vec<T>> {
    let mut listings = 1;
    loop {
        let (mut opened, mut is_any_gone) = (Vec::new(), false);
        for id in list()? {
            match open(id) {
                Err(error) if error.is_not_found() => is_any_gone = true,
                table => opened.push(table?),
            }
        }
        if !is_any_gone || listings == LISTINGS_MAX {
            return Ok(opened);
        }
        listings += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TableSet {
    /// Whether a table names an object, or may do so in a block that is damaged.
    fn names(&self, id: &ObjectId) -> bool {
        self.tables.iter().any(|table| {
            let found = table.look_up(id);
            found.is_doubtful || found.places.iter().any(|place| self.has(place))
        })
    }

    /// Whether there may be anything at a place that a table tells.
    fn has(&self, place: &Location) -> bool {
        !self.dropped.contains(&place.pack)
    }

    /// Whether packs must be asked themselves for what is in no table.
    fn is_incomplete(&self) -> bool {
        self.table_lost || !self.damaged.is_empty()
    }

    /// Whether what was salvaged for this set is all that a newer one wants.
    fn misses_as_much_as(&self, newer: &Self) -> bool {
        self.table_lost == newer.table_lost && newer.damaged.is_subset(&self.damaged)
    }

    fn is_of_the_same_tables(&self, other: &Self) -> bool {
        let ids = |set: &Self| -> Vec<TableId> { set.tables.iter().map(|table| table.id()).collect() };
        self.table_lost == other.table_lost && self.damaged == other.damaged && ids(self) == ids(other)
    }
}
