//! Makes tables anew from packs, and sets aside the tables and packs that are damaged.

use std::collections::HashMap;

use super::Repair;
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::PackKind;
use crate::id::{PackId, TableId};
use crate::operations::check::Packs;

impl Repair<'_> {
    pub(super) fn repair_index(&mut self) -> Result<()> {
        {
            let go_on = || self.check.go_on().map(|()| true);
            // Nobody merges tables meanwhile: which of them are right must stay so.
            let _merging = self.check.repository.lock("index", "the index", go_on)?;
            self.check.repository.store().index().reload()?;
            let mut packs = self.check.check_packs()?;
            let damaged = self.damaged_packs(&packs);
            let rescues = self.rescue(&packs, &damaged)?;
            if !damaged.is_empty() {
                // With what was just stored.
                packs = self.check.check_packs()?;
            }
            self.make_tables(&packs)?;
            self.set_tables_aside(&packs)?;
            for (pack, kind) in damaged {
                let key = Key::pack(kind, pack);
                self.set_aside(&key)?;
                let told = rescues.get(&pack).map_or("nothing told what lay in it".to_owned(), |r| r.told());
                self.note(&key, format!("{}; {told}", self.moved(&key)), None);
            }
        }
        let index = self.check.repository.store().index();
        index.reload()?;
        index.merge()
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
        let bad = packs.bad_tables.iter().map(|(table, _)| *table);
        let bad: Vec<TableId> = bad.chain(packs.tables_of_lost_packs.iter().copied()).collect();
        for table in bad {
            let key = Key::table(table);
            self.set_aside(&key)?;
            self.note(&key, self.moved(&key), None);
        }
        Ok(())
    }
}
