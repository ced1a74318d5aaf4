//! Makes tables anew from packs, and sets aside the tables and packs that are damaged.

use std::collections::{BTreeSet, HashMap};

use super::Repair;
use crate::backend::{Area, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::PackKind;
use crate::id::{PackId, TableId};
use crate::operations::check::Packs;

/// What is to be set aside is read in pieces of so many bytes.
const PIECE: usize = 1 << 20;

impl Repair<'_> {
    pub(super) fn repair_index(&mut self) -> Result<()> {
        {
            let go_on = || self.check.go_on().map(|()| true);
            // Nobody merges tables meanwhile: which of them are right must stay so.
            let _merging = self.check.repository.lock("index", "the index", go_on)?;
            self.reload()?;
            let packs = self.check.check_packs()?;
            self.refuse_lost_medium(&packs)?;
            self.look_again(&packs)?;
            // First these, so that what is not damaged is found in tables from now on.
            self.make_tables(&packs)?;
            self.reload()?;
            let damaged = self.damaged_packs(&packs);
            let rescues = self.rescue(&packs, &damaged)?;
            self.set_tables_aside(&packs)?;
            for (pack, kind) in damaged {
                let key = Key::pack(kind, pack);
                if self.set_aside(&key)? {
                    let told =
                        rescues.get(&pack).map_or("nothing told what lay in it".to_owned(), |r| r.told());
                    self.note(&key, format!("{}; {told}", self.moved(&key)), None);
                }
            }
        }
        self.reload()?;
        self.check.repository.store().index().merge()
    }

    fn reload(&self) -> Result<()> {
        self.check.repository.store().index().reload()
    }

    /// Refuses to repair without all packs of a kind, which are rather on a medium that is not there.
    fn refuse_lost_medium(&self, packs: &Packs) -> Result<()> {
        for kind in PackKind::ALL {
            let gone = packs.damaged.values().filter(|pack| pack.kind == kind && !pack.is_there).count();
            if gone > 0 && !self.packs.values().any(|(of, _)| *of == kind) {
                let place = Area::packs(kind);
                return Err(Error::WillNotRepair {
                    reason: format!("none of the {gone} packs is in {}/ that tables name", place.path()),
                    hint: "look whether their medium is mounted. If they are lost, a backup stores anew what its source \
                           still has, and then the index can be repaired",
                });
            }
        }
        Ok(())
    }

    /// Reads once more what was found to be damaged.
    ///
    /// # Errors
    /// The medium does not give it back, or gives back something else than before: then nothing is known of what is stored.
    fn look_again(&self, packs: &Packs) -> Result<()> {
        let (damaged, tables) = (self.damaged_packs(packs), bad_tables(packs));
        if damaged.is_empty() && tables.is_empty() {
            return Ok(());
        }
        self.check.monitor.begin("reading again what is damaged", None);
        damaged.iter().try_for_each(|(pack, kind)| self.read_whole(&Key::pack(*kind, *pack)))?;
        tables.iter().try_for_each(|table| self.read_whole(&Key::table(*table)))?;
        let again = self.check.check_packs()?;
        match self.damaged_packs(&again) == damaged && bad_tables(&again) == tables {
            true => Ok(()),
            false => Err(Corrupt::of_medium(
                "the repository",
                "its medium gave back something else when it was read again, so it is not known what is damaged",
            )
            .into()),
        }
    }

    fn read_whole(&self, key: &Key) -> Result<()> {
        let reader = match self.check.repository.backend().open(key) {
            Err(error) if error.is_loss() && !error.is_of_medium() => return Ok(()),
            reader => reader?,
        };
        let (mut offset, size, mut piece) = (0, reader.size()?, vec![0; PIECE]);
        while offset < size {
            self.check.go_on()?;
            let length = (size - offset).min(PIECE as u64);
            reader.read_at(offset, &mut piece[..length as usize])?;
            offset += length;
            self.check.monitor.advance(length);
        }
        Ok(())
    }

    /// The packs that can't be taken at their word, and are there.
    fn damaged_packs(&self, packs: &Packs) -> HashMap<PackId, PackKind> {
        let damaged = packs.damaged.iter().filter(|(pack, damaged)| damaged.is_there && self.was_there(pack));
        damaged.map(|(pack, damaged)| (*pack, damaged.kind)).collect()
    }

    fn was_there(&self, pack: &PackId) -> bool {
        self.packs.contains_key(pack)
    }

    /// Publishes tables of all intact packs of which no table tells that is right in everything.
    fn make_tables(&mut self, packs: &Packs) -> Result<()> {
        let (named, dropped) = (packs.well_named(), self.check.dropped()?);
        let is_wanted =
            |pack: &PackId| self.was_there(pack) && !named.contains(pack) && !dropped.contains(pack);
        let wanted = packs.frames.iter().filter(|(pack, _)| is_wanted(pack));
        let mut wanted: Vec<(PackId, PackKind)> = wanted.map(|(pack, frame)| (*pack, frame.kind)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_by_key(|(pack, kind)| (kind.code(), *pack));
        self.check.monitor.begin("writing index tables", None);
        let index = self.check.repository.store().index();
        let tables = index.publish_packs(&wanted, |bytes| {
            self.check.monitor.advance(bytes);
            self.check.go_on()
        })?;
        let action = format!("made anew from the directories of {} packs: {tables} tables", wanted.len());
        self.note(format!("{}/", Area::index().path()), action, None);
        Ok(())
    }

    /// Sets aside the tables that are not right in everything. All that they rightly say is in others by now.
    fn set_tables_aside(&mut self, packs: &Packs) -> Result<()> {
        for table in bad_tables(packs) {
            let key = Key::table(table);
            if self.set_aside(&key)? {
                self.note(&key, self.moved(&key), None);
            }
        }
        Ok(())
    }
}

/// The tables that are not right in everything.
fn bad_tables(packs: &Packs) -> BTreeSet<TableId> {
    let bad = packs.bad_tables.iter().map(|(table, _)| *table);
    bad.chain(packs.tables_of_lost_packs.iter().copied()).collect()
}
