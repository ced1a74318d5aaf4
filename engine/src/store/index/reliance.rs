//! On what something new may rely: what intact tables name, in packs that are there.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Index, Location};
use crate::error::Result;
use crate::id::{ObjectId, PackId};
use crate::store::condemned::read_unusable;

/// What was published once and is not to be relied upon any more.
#[derive(Default)]
pub(super) struct Losses {
    /// Packs that tables name, and on which nothing new may rely: those that are gone or truncated, and those that gc has
    /// condemned or deleted.
    packs: RwLock<Arc<HashSet<PackId>>>,
    /// Whether some are gone or truncated, which gc did not do.
    has_packs: AtomicBool,
    /// Whether an object that was published is in no table.
    has_tables: AtomicBool,
}

impl Losses {
    fn packs(&self) -> Arc<HashSet<PackId>> {
        Arc::clone(&self.packs.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Index {
    /// Begins to rely on what is stored: lists the tables anew, and looks which packs are condemned or missing, from now on
    /// to rely on nothing in them. Returns how many are missing. What was known of lost tables is forgotten.
    ///
    /// To be called after a session has its claim, and never before (`docs/format.md`, section 4): lists, tables and packs
    /// are read in this order.
    pub(crate) fn begin_reliance(&self) -> Result<usize> {
        let mut unusable = read_unusable(self.backend.as_ref())?;
        self.reload()?;
        let missing: HashSet<PackId> = self.missing_packs_besides(&unusable)?.into_keys().collect();
        let count = missing.len();
        unusable.extend(missing);
        *self.losses.packs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(unusable);
        self.losses.has_packs.store(count > 0, Ordering::Relaxed);
        self.losses.has_tables.store(false, Ordering::Relaxed);
        Ok(count)
    }

    /// Whether packs were found to be missing.
    pub(crate) fn has_missing_packs(&self) -> bool {
        self.losses.has_packs.load(Ordering::Relaxed)
    }

    /// Whether something that was published was found to be in no table: one is lost, or damaged.
    pub(crate) fn has_lost_tables(&self) -> bool {
        self.losses.has_tables.load(Ordering::Relaxed)
    }

    /// Whether anything that was published was found to be lost.
    pub(crate) fn has_losses(&self) -> bool {
        self.has_missing_packs() || self.has_lost_tables()
    }

    /// Whether an object lies in a published pack that is there, so that something new may rely on it.
    pub(crate) fn contains(&self, id: &ObjectId) -> Result<bool> {
        let unusable = self.losses.packs();
        let is_there = |location: &Location| !unusable.contains(&location.pack);
        if self.neighbours().get(id).as_ref().is_some_and(is_there) {
            return Ok(true);
        }
        for table in &self.tables()?.tables {
            if !table.may_contain(id) {
                continue;
            }
            // What only a damaged block may have named counts as absent: it is stored once more.
            if let Some(location) = table.look_up(id).places.iter().find(|location| is_there(location)) {
                self.bring_neighbours(location);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The same of an object that was published once. If it is in no table, also when they are listed anew, it is noted
    /// that tables are lost.
    pub(crate) fn still_contains(&self, id: &ObjectId) -> Result<bool> {
        if self.contains(id)? {
            return Ok(true);
        }
        if self.has_lost_tables() {
            return Ok(false);
        }
        self.refresh()?;
        let is_there = self.contains(id)?;
        // What lies in a missing pack, or may stand in a damaged block, tells nothing of other tables.
        if !is_there && !self.tables()?.names(id) {
            self.losses.has_tables.store(true, Ordering::Relaxed);
        }
        Ok(is_there)
    }

    /// The same as far as the filters in memory tell, each of which lets a few of those pass that its table does not name.
    pub(crate) fn stands(&self, id: &ObjectId) -> Result<bool> {
        Ok(self.filters_name(id)? == Some(true) || self.still_contains(id)?)
    }

    /// Whether the filter of a table has an object; `None` if only one that is not intact could tell.
    fn filters_name(&self, id: &ObjectId) -> Result<Option<bool>> {
        let mut said = Some(false);
        for table in &self.tables()?.tables {
            match table.filter_has(id) {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => said = None,
            }
        }
        Ok(said)
    }
}
