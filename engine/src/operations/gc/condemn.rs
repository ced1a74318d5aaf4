//! Condemns packs, and deletes those that nobody can rely on.

use std::collections::{HashMap, HashSet};

use super::{Gc, Pending};
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{Claim, Condemned, PackKind, PackNames};
use crate::id::{ClaimId, PackId};
use crate::revision::FileCount;
use crate::store::{put_condemned, put_dropped, read_dropped, remove_condemned};

/// Packs of one list: half a TiB, whose lists take far less than the 1 MiB that a full disk may have left.
const ROUND_PACKS: usize = 16_384;

impl Gc<'_> {
    /// Deletes packs of which nothing is in use, as far as they are there; whether that was possible.
    pub(super) fn delete_dead(&mut self, dead: &HashMap<PackId, (PackKind, u64)>) -> Result<bool> {
        let there = self.repository.store().index().list_packs()?;
        let packs = dead.iter().filter(|(pack, _)| there.contains_key(*pack));
        let packs: Vec<(PackId, PackKind)> = packs.map(|(pack, (kind, _))| (*pack, *kind)).collect();
        for round in packs.chunks(ROUND_PACKS) {
            if !self.delete(round.iter().copied().collect())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Condemns packs, and deletes them if no session may rely on them; whether that was so.
    pub(super) fn delete(&mut self, packs: PackNames) -> Result<bool> {
        let list = Condemned { packs, seen: None };
        put_condemned(self.repository.backend().as_ref(), &list)?;
        self.settle(list, &HashSet::new())
    }

    /// Deletes what is condemned, unless a session lives that may have begun before it was; whether that was so. What came
    /// since is marked first; it, and what is `in_use` for other reasons, stays.
    pub(super) fn settle(&mut self, list: Condemned, in_use: &HashSet<PackId>) -> Result<bool> {
        self.go_on()?;
        let living = self.repository.living_claims(&Area::sessions())?;
        let seen = match &list.seen {
            Some(seen) => seen.clone(),
            None => self.note_seen(&list, &living)?,
        };
        let holders: Vec<String> =
            living.iter().filter(|claim| seen.contains(&claim.id)).map(Claim::holder).collect();
        if !holders.is_empty() {
            let packs = self.sizes_of(&list.packs)?;
            self.report.pending = Some(Pending { packs, holders });
            return Ok(false);
        }
        let mut needed = self.marking.mark_new()?;
        self.refuse_damage()?;
        needed.extend(in_use);
        // Of a backup that healed something and has ended since, say.
        needed.extend(self.only_copies_in(list.packs.iter())?.into_iter().map(|(pack, _)| pack));
        let doomed: PackNames = list.packs.iter().filter(|(pack, _)| !needed.contains(pack)).collect();
        self.drop_packs(&doomed)?;
        remove_condemned(self.repository.backend().as_ref())?;
        self.clean_tables()?;
        Ok(true)
    }

    /// Notes which sessions there are, after the list: those that come later heed it.
    fn note_seen(&self, list: &Condemned, living: &[Claim]) -> Result<Vec<ClaimId>> {
        let seen: Vec<ClaimId> = living.iter().map(|claim| claim.id).collect();
        let list = Condemned { seen: Some(seen.clone()), ..list.clone() };
        put_condemned(self.repository.backend().as_ref(), &list)?;
        Ok(seen)
    }

    /// Deletes packs. That they are is noted first, so that nobody misses them.
    fn drop_packs(&mut self, doomed: &PackNames) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        self.go_on()?;
        let backend = self.repository.backend();
        self.report.bytes_freed += self.sizes_of(doomed)?.bytes;
        // No removal of a record may be undone by a crash once its packs are gone.
        self.sync_histories()?;
        let dropped = read_dropped(backend.as_ref())?;
        put_dropped(backend.as_ref(), dropped.iter().chain(doomed.iter()).collect())?;
        for (pack, kind) in doomed.iter() {
            self.go_on()?;
            backend.remove(&Key::pack(kind, pack))?;
        }
        Ok(())
    }

    fn sync_histories(&self) -> Result<()> {
        let backend = self.repository.backend();
        for (all, area_of) in [
            (Area::all_revisions(), Area::revisions as fn(_) -> _),
            (Area::all_trash(), Area::trash as fn(_) -> _),
        ] {
            for name in backend.areas_below(&all)? {
                if let Some(id) = crate::id::StreamId::parse(&name) {
                    backend.sync_area(&area_of(id))?;
                }
            }
        }
        Ok(())
    }

    /// Writes tables anew that name many deleted packs, and forgets those that none names. Where there is no room for that,
    /// it is left to the next merge.
    pub(super) fn clean_tables(&self) -> Result<()> {
        let backend = self.repository.backend();
        let dropped = read_dropped(backend.as_ref())?;
        if dropped.is_empty() {
            return Ok(());
        }
        // A crash may have brought back what was deleted.
        for (pack, kind) in dropped.iter() {
            backend.remove(&Key::pack(kind, pack))?;
        }
        PackKind::ALL.iter().try_for_each(|kind| backend.sync_area(&Area::packs(*kind)))?;
        let packs: HashSet<PackId> = dropped.iter().map(|(pack, _)| pack).collect();
        let cleaned = self.repository.store().index().drop_packs(&packs).and_then(|named| {
            backend.sync_area(&Area::index())?;
            put_dropped(backend.as_ref(), dropped.iter().filter(|(pack, _)| named.contains(pack)).collect())
        });
        if let Err(error) = cleaned {
            self.monitor
                .warn(&format!("index tables could not be written anew, which the next gc does: {error}"));
        }
        Ok(())
    }

    fn sizes_of(&self, packs: &PackNames) -> Result<FileCount> {
        let listed = self.repository.store().index().list_packs()?;
        let mut sizes = FileCount::default();
        for (pack, _) in packs.iter() {
            listed.get(&pack).into_iter().for_each(|(_, size)| sizes.add(*size));
        }
        Ok(sizes)
    }
}
