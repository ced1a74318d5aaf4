//! Reads packs from the first byte to the last, or as many of their chunks as were asked for.

use std::collections::{HashMap, HashSet};

use super::sample::check_sample;
use super::{Scrub, damage_of};
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{ObjectType, PackEntry, PackHeader, PackKind};
use crate::id::{ObjectId, PackId};
use crate::parallel;
use crate::store::{Location, PackCheck};

/// What one pack gave. Small where all is in order, for it is kept of every pack.
struct PackFindings {
    kind: PackKind,
    pack: PackId,
    /// `Err` if the pack can't be taken at its word at all.
    checked: std::result::Result<Checked, String>,
}

#[derive(Default)]
struct Checked {
    chunks: u64,
    bytes: u64,
    bad: Vec<(PackEntry, String)>,
    /// Objects on the damage list whose copies here are intact.
    good_again: Vec<ObjectId>,
}

impl Scrub<'_> {
    /// Verifies packs: header and directory, and checksum and content of as many chunks as were asked for.
    pub(super) fn check_packs(&mut self) -> Result<()> {
        let (packs, total) = self.list_packs()?;
        self.monitor.begin("reading packs", Some(total));
        let listed_bad = self.listed_bad()?;
        let mut all = Vec::with_capacity(packs.len());
        let this = &*self;
        parallel::ordered(
            packs.into_iter().map(Ok),
            || (),
            |(), (kind, pack)| this.check_pack(kind, pack, &listed_bad),
            |findings| {
                all.extend(findings);
                Ok(())
            },
        )?;
        let missing = self.repository.store().index().missing_packs()?;
        let gone = |kind| (kind, "it is gone or truncated".to_owned());
        let mut unreadable: HashMap<_, _> =
            missing.into_iter().map(|(pack, kind)| (pack, gone(kind))).collect();
        for findings in all {
            match findings.checked {
                Ok(checked) => self.take_checked(findings.kind, findings.pack, checked)?,
                Err(reason) => {
                    unreadable.insert(findings.pack, (findings.kind, reason));
                }
            }
        }
        self.check_unreadable(unreadable)
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
        Ok((packs, total))
    }

    /// Packs that are gone or whose directories are damaged: what tables say of them is tried piece by piece.
    fn check_unreadable(&mut self, packs: HashMap<PackId, (PackKind, String)>) -> Result<()> {
        let kinds = packs.iter().map(|(pack, (kind, _))| (*pack, *kind)).collect();
        let mut objects: HashMap<PackId, Vec<ObjectId>> = HashMap::new();
        for (id, location) in self.repository.store().index().entries_of(&kinds)? {
            let object_type = location.kind.object_type();
            if let Err(error) = self.repository.store().verify_place(object_type, &id, &location) {
                self.findings.bad_copies.insert(id, (object_type, damage_of(error)?));
            }
            objects.entry(location.pack).or_default().push(id);
            self.go_on()?;
        }
        for (pack, (kind, reason)) in packs {
            let objects = objects.remove(&pack).unwrap_or_default();
            self.note_damaged_pack(kind, pack, reason, &objects)?;
        }
        Ok(())
    }

    /// `None` if the pack is gone: whether it is missed, the tables say.
    fn check_pack(
        &self,
        kind: PackKind,
        pack: PackId,
        listed_bad: &HashSet<ObjectId>,
    ) -> Result<Option<PackFindings>> {
        let check = match self.inspect(kind, pack, listed_bad) {
            Ok(check) => check,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Ok(Some(PackFindings { kind, pack, checked: Err(damage_of(error)?) })),
        };
        // By place: a pack may hold two copies of an object.
        let bad: HashSet<u32> = check.bad.iter().map(|entry| entry.offset).collect();
        let mut checked = Checked::default();
        for entry in check.entries {
            self.go_on()?;
            if bad.contains(&entry.offset) {
                checked.bad.push((entry, format!("its copy in pack {pack} does not have its checksum")));
                continue;
            }
            if let Err(error) = self.verify_copy(kind, pack, &entry) {
                checked.bad.push((entry, damage_of(error)?));
                continue;
            }
            if entry.object_type == ObjectType::Chunk {
                checked.chunks += 1;
                checked.bytes += u64::from(entry.plain_len);
            }
            checked.good_again.extend(listed_bad.get(&entry.id));
        }
        Ok(Some(PackFindings { kind, pack, checked: Ok(checked) }))
    }

    /// Reads a pack, or of a data pack those chunks that are drawn. What is on the damage list is always.
    fn inspect(&self, kind: PackKind, pack: PackId, listed_bad: &HashSet<ObjectId>) -> Result<PackCheck> {
        let repository = self.repository.header().id;
        let backend = self.repository.backend().as_ref();
        let passed = |bytes| {
            self.monitor.advance(bytes);
            self.go_on()
        };
        if kind == PackKind::Metadata || self.options.percent >= 100.0 {
            return PackCheck::run(backend, repository, kind, pack, passed);
        }
        let draw = |entry: &PackEntry| listed_bad.contains(&entry.id) || self.draw(&entry.id);
        check_sample(backend, PackHeader { kind, pack, repository }, draw, passed)
    }

    fn verify_copy(&self, kind: PackKind, pack: PackId, entry: &PackEntry) -> Result<()> {
        let location = Location {
            pack,
            kind,
            offset: entry.offset,
            stored_len: entry.stored_len,
            plain_len: entry.plain_len,
        };
        self.repository.store().verify_place(entry.object_type, &entry.id, &location)
    }

    fn take_checked(&mut self, kind: PackKind, pack: PackId, checked: Checked) -> Result<()> {
        self.report.chunks_checked += checked.chunks;
        self.report.bytes_checked += checked.bytes;
        self.findings.good_again.extend(checked.good_again);
        self.findings.sound_packs.insert(pack);
        if checked.bad.is_empty() {
            return Ok(());
        }
        let reason = format!("{} of its objects are not intact", checked.bad.len());
        let objects: Vec<ObjectId> = checked.bad.iter().map(|(entry, _)| entry.id).collect();
        for (entry, reason) in checked.bad {
            self.findings.bad_copies.insert(entry.id, (entry.object_type, reason));
        }
        self.note_damaged_pack(kind, pack, reason, &objects)
    }

    /// Notes a damaged pack that no longer serves for these objects: a loss only if one of them has no other copy.
    fn note_damaged_pack(
        &mut self,
        kind: PackKind,
        pack: PackId,
        reason: String,
        objects: &[ObjectId],
    ) -> Result<()> {
        // A pack that no table names: what it holds is not known, so it is not known to be superseded.
        let mut missed = objects.is_empty();
        for id in objects {
            self.go_on()?;
            missed = !self.has_copy_elsewhere(kind, pack, id)?;
            if missed {
                break;
            }
        }
        let file = (Key::pack(kind, pack).to_string(), reason);
        match missed {
            true => self.report.damaged_files.push(file),
            false => self.report.superseded.push(file),
        }
        Ok(())
    }

    fn has_copy_elsewhere(&self, kind: PackKind, pack: PackId, id: &ObjectId) -> Result<bool> {
        let store = self.repository.store();
        for location in store.index().locate_in_tables(id)? {
            if location.pack == pack {
                continue;
            }
            match store.verify_place(kind.object_type(), id, &location) {
                Ok(()) => return Ok(true),
                Err(error) => damage_of(error)?,
            };
        }
        Ok(false)
    }
}
