//! Reads packs from the first byte to the last, or as many of their chunks as were asked for.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::findings::DamagedPack;
use super::ledger::LedgerKeeper;
use super::{Findings, Scrub, damage_of, gather};
use crate::backend::Area;
use crate::error::Result;
use crate::format::{ObjectType, PackEntry, PackKind};
use crate::id::{ObjectId, PackId};
use crate::store::Location;

/// What one pack gave.
pub(super) struct CheckedPack {
    kind: PackKind,
    pub(super) pack: PackId,
    frame: Frame,
    chunks: u64,
    bytes: u64,
    bad: Vec<(PackEntry, String)>,
    /// An object of which no table says that it lies where it does, though one names the pack.
    misplaced: Option<ObjectId>,
    /// Objects on the damage list whose copies here are intact.
    good_again: Vec<ObjectId>,
    /// Whether all its objects were looked at.
    is_whole: bool,
}

/// What holds the blobs of a pack together.
enum Frame {
    Intact,
    /// The pack can't be taken at its word at all.
    Damaged(String),
    /// The pack is gone: whether it is missed, the tables say.
    Gone,
}

impl Scrub<'_> {
    /// Verifies packs: header and directory, and checksum and content of as many chunks as were asked for.
    pub(super) fn check_packs(&self, findings: &mut Findings) -> Result<()> {
        let (packs, total) = self.list_packs()?;
        self.monitor.begin("reading packs", Some(total));
        let (is_out_of_time, has_read) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut ledger = LedgerKeeper::new(self);
        gather(
            self.in_time(packs, &is_out_of_time, &has_read),
            |(kind, pack)| self.check_pack(kind, pack),
            |checked| {
                findings.packs_read += u64::from(checked.is_read());
                has_read.fetch_or(checked.is_read(), Ordering::Relaxed);
                ledger.note(&checked, &mut findings.read_packs);
                self.take_pack(checked, findings)
            },
        )?;
        findings.is_out_of_time = is_out_of_time.into_inner();
        self.check_unreadable(findings)
    }

    /// All packs, or as many as there is time for, those first that were not read for longest. One is read whole at least, so
    /// that all have their turn however short the time is, and those that can't be read don't stand before all others.
    fn in_time<'a>(
        &'a self,
        packs: Vec<(PackKind, PackId)>,
        is_out_of_time: &'a AtomicBool,
        has_read: &'a AtomicBool,
    ) -> impl Iterator<Item = (PackKind, PackId)> + Send + 'a {
        packs.into_iter().map_while(move |pack| {
            let is_over = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            let is_begun = !is_over || !has_read.load(Ordering::Relaxed);
            is_out_of_time.fetch_or(!is_begun, Ordering::Relaxed);
            is_begun.then_some(pack)
        })
    }

    /// All packs, and their size.
    fn list_packs(&self) -> Result<(Vec<(PackKind, PackId)>, u64)> {
        let mut packs = Vec::new();
        let mut total = 0;
        for kind in PackKind::ALL {
            for listed in self.repository.backend().list(&Area::packs(kind))? {
                if let Some(pack) = PackId::parse(&listed.name) {
                    total += listed.size;
                    packs.push((kind, pack));
                }
            }
        }
        if self.deadline.is_some() {
            let verified = self.repository.verified_packs()?;
            packs.sort_by_key(|(_, pack)| verified.get(pack).copied());
        }
        Ok((packs, total))
    }

    /// What was found in a pack, and whether the scrub can go on.
    pub(super) fn check_pack(&self, kind: PackKind, pack: PackId) -> (CheckedPack, Result<()>) {
        let frame = Frame::Gone;
        let (bad, good_again) = (Vec::new(), Vec::new());
        let mut found = CheckedPack {
            kind,
            pack,
            frame,
            chunks: 0,
            bytes: 0,
            bad,
            misplaced: None,
            good_again,
            is_whole: false,
        };
        let result = self.check_pack_into(&mut found);
        (found, result)
    }

    fn check_pack_into(&self, found: &mut CheckedPack) -> Result<()> {
        self.go_on()?;
        let (mut check, entries) = match self.repository.store().check_pack(found.kind, found.pack) {
            Ok(opened) => opened,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                found.frame = Frame::Damaged(damage_of(error)?);
                return Ok(());
            }
        };
        found.frame = Frame::Intact;
        let index = self.repository.store().index();
        let is_named = index.names_pack(found.pack)?;
        for entry in entries {
            self.go_on()?;
            // Metadata is verified whole.
            if found.kind == PackKind::Metadata || self.is_drawn(&entry.id) {
                match check.verify(&entry) {
                    Ok(()) => found.note_intact(&entry, self.listed_bad.contains(&entry.id)),
                    Err(error) => found.bad.push((entry, damage_of(error)?)),
                }
                let place = Location::in_pack(found.kind, found.pack, &entry);
                if is_named && !index.locate_in_tables(&entry.id)?.contains(&place) {
                    found.misplaced = Some(entry.id);
                }
            }
            self.monitor.advance(entry.stored_len.into());
        }
        found.is_whole = self.reads_all_chunks();
        Ok(())
    }

    fn take_pack(&self, checked: CheckedPack, findings: &mut Findings) -> Result<()> {
        let CheckedPack { kind, pack, frame, chunks, bytes, bad, misplaced, good_again, .. } = checked;
        findings.chunks_checked += chunks;
        findings.bytes_checked += bytes;
        findings.good_again.extend(good_again);
        match frame {
            Frame::Gone => return Ok(()),
            Frame::Damaged(reason) => {
                findings.damaged_packs.push(DamagedPack { kind, pack, reason, lost: None });
                return Ok(());
            }
            Frame::Intact => findings.sound_packs.insert(pack),
        };
        if let Some(id) = misplaced {
            let reason =
                format!("no index table says where {id} lies in pack {pack}, though one names the pack");
            findings.note_index(reason);
        }
        if bad.is_empty() {
            return Ok(());
        }
        let reason = format!("{} of its objects are not intact", bad.len());
        let mut lost = Vec::new();
        let mut result = Ok(());
        for (entry, reason) in bad {
            let place = Location::in_pack(kind, pack, &entry);
            let is_lost = self.note_bad_copy(entry.id, entry.object_type, &place, reason, findings);
            // Those that are not kept need no memory either.
            if *is_lost.as_ref().unwrap_or(&true) && !findings.too_many {
                lost.push(entry.id);
            }
            result = result.and(is_lost.map(|_| ()));
        }
        findings.damaged_packs.push(DamagedPack { kind, pack, reason, lost: Some(lost) });
        result
    }

    /// Packs that are gone or whose directories are damaged: what tables say of them is tried piece by piece.
    fn check_unreadable(&self, findings: &mut Findings) -> Result<()> {
        let index = self.repository.store().index();
        let known: HashSet<PackId> = findings.damaged_packs.iter().map(|damaged| damaged.pack).collect();
        for (pack, kind) in index.missing_packs()? {
            if !known.contains(&pack) {
                let reason = "it is gone or truncated".to_owned();
                findings.damaged_packs.push(DamagedPack { kind, pack, reason, lost: None });
            }
        }
        let unreadable = findings.damaged_packs.iter().filter(|damaged| damaged.lost.is_none());
        let unreadable = unreadable.map(|damaged| (damaged.pack, damaged.kind)).collect();
        // A pack that no table names is not in here: what it held is not known.
        let mut lost: HashMap<PackId, Vec<ObjectId>> = HashMap::new();
        index.visit_entries_of(&unreadable, |id, place| {
            self.go_on()?;
            let lost = lost.entry(place.pack).or_default();
            let is_lost = match self.repository.store().identify_place(&id, &place) {
                Err(error) => {
                    // What it was nobody says here: who comes upon it among what revisions reach will know.
                    let object_type = place.kind.object_types().first().copied().unwrap_or(ObjectType::Chunk);
                    self.note_bad_copy(id, object_type, &place, damage_of(error)?, findings)?
                }
                Ok(_) if self.has_copy_elsewhere(&id, &place)? => false,
                Ok(object_type) => {
                    findings.note_relied_on(id, object_type);
                    true
                }
            };
            // Those that are not kept need no memory either.
            if is_lost && !findings.too_many {
                lost.push(id);
            }
            Ok(())
        })?;
        for damaged in findings.damaged_packs.iter_mut().filter(|damaged| damaged.lost.is_none()) {
            damaged.lost = lost.remove(&damaged.pack);
        }
        Ok(())
    }

    /// Notes a copy of an object that is not intact; says whether the object is lost with it. A bad copy is no harm while
    /// another is intact. One without, used or not, must not be built upon.
    fn note_bad_copy(
        &self,
        id: ObjectId,
        object_type: ObjectType,
        place: &Location,
        reason: String,
        findings: &mut Findings,
    ) -> Result<bool> {
        if findings.bad.contains_key(&id) {
            return Ok(true);
        }
        let elsewhere = self.has_copy_elsewhere(&id, place);
        // Also if that could not be told.
        if !matches!(elsewhere, Ok(true)) {
            findings.note_bad(id, object_type, reason);
        }
        elsewhere.map(|found| !found)
    }

    /// Whether another copy is intact. One that no table names does not count: no backup would rely on it, but on this one.
    fn has_copy_elsewhere(&self, id: &ObjectId, place: &Location) -> Result<bool> {
        let store = self.repository.store();
        for location in store.index().published_places(id)? {
            if (location.pack, location.offset) == (place.pack, place.offset) {
                continue;
            }
            match store.identify_place(id, &location) {
                Ok(_) => return Ok(true),
                Err(error) => damage_of(error)?,
            };
        }
        Ok(false)
    }
}

impl CheckedPack {
    /// Whether all of it could be read, good or bad.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.frame, Frame::Intact) && self.is_whole
    }

    fn note_intact(&mut self, entry: &PackEntry, is_listed_bad: bool) {
        if entry.object_type == ObjectType::Chunk {
            self.chunks += 1;
            self.bytes += u64::from(entry.plain_len);
        }
        if is_listed_bad {
            self.good_again.push(entry.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::MAX_BAD;
    use super::super::{ScrubOptions, damage_of};
    use super::*;
    use crate::error::Error;
    use crate::monitor::SilentMonitor;
    use crate::repository::{CreateOptions, Repository};

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::from_bytes(bytes)
    }

    /// All that a bad disk had made bad was kept once more, pack by pack.
    #[test]
    fn of_bad_objects_that_are_too_many_none_is_kept_with_its_pack() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(&directory.path().join("r"), &CreateOptions::default()).unwrap();
        let options = ScrubOptions { percent: 100.0, source: None };
        let scrub = Scrub::new(&repository, &options, &SilentMonitor).unwrap();
        let mut findings = Findings::default();
        let bad = |number: usize| {
            let (id, object_type) = (id(number), ObjectType::Chunk);
            let (offset, checksum) = (64, [0; 8]);
            let entry = PackEntry { id, object_type, offset, stored_len: 1, plain_len: 1, checksum };
            (entry, damage_of(Error::missing(&id)).unwrap())
        };
        for range in [0..10, 10..MAX_BAD + 10, MAX_BAD + 10..2 * MAX_BAD] {
            let checked = CheckedPack {
                kind: PackKind::Data,
                pack: PackId::random(),
                frame: Frame::Intact,
                chunks: 0,
                bytes: 0,
                bad: range.map(bad).collect(),
                misplaced: None,
                good_again: Vec::new(),
                is_whole: true,
            };
            scrub.take_pack(checked, &mut findings).unwrap();
        }
        let lost = findings.damaged_packs.iter().map(|damaged| damaged.lost.as_ref().unwrap().len());
        assert_eq!(lost.collect::<Vec<_>>(), [10, MAX_BAD - 10, 0]);
        assert!(findings.too_many && findings.bad.len() == MAX_BAD);
    }
}
