//! Reads packs from the first byte to the last.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::Scrub;
use crate::backend::{Area, Key};
use crate::error::{Error, Result};
use crate::format::{ObjectType, PackEntry, PackKind};
use crate::id::{ObjectId, PackId};
use crate::parallel;
use crate::store::{Location, PackCheck};

/// What one pack gave.
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
    good: Vec<PackEntry>,
}

impl Scrub<'_> {
    /// Verifies packs: directory, checksums, and the content of as many chunks as was asked for.
    pub(super) fn check_packs(&mut self) -> Result<()> {
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
        self.monitor.begin("reading packs", Some(total));
        let listed_bad = self.listed_bad()?;
        let all = Mutex::new(Vec::new());
        let this = &*self;
        parallel::unordered(packs.into_iter().map(Ok), |(kind, pack)| {
            let findings = this.check_pack(kind, pack)?;
            all.lock().unwrap_or_else(PoisonError::into_inner).push(findings);
            Ok(())
        })?;
        let mut unreadable = self.repository.store().index().missing_packs()?;
        for findings in all.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if findings.checked.is_err() {
                unreadable.insert(findings.pack, findings.kind);
            }
            self.take_findings(findings, &listed_bad);
        }
        self.check_unreadable(&unreadable)
    }

    /// Packs that are gone or whose directories are damaged: what tables say of them is tried piece by piece.
    fn check_unreadable(&mut self, packs: &HashMap<PackId, PackKind>) -> Result<()> {
        for (pack, kind) in packs {
            let file = Key::pack(*kind, *pack).to_string();
            if self.report.damaged_files.iter().all(|(damaged, _)| *damaged != file) {
                self.report.damaged_files.push((file, "it is gone or truncated".to_owned()));
            }
        }
        for (id, location) in self.repository.store().index().entries_of(packs)? {
            let object_type = location.kind.object_type();
            if let Err(error) = self.repository.store().verify_place(object_type, &id, &location) {
                self.findings.bad_copies.insert(id, (object_type, error.to_string()));
            }
            self.go_on()?;
        }
        Ok(())
    }

    fn check_pack(&self, kind: PackKind, pack: PackId) -> Result<PackFindings> {
        let repository = self.repository.header().id;
        let backend = self.repository.backend().as_ref();
        let check = PackCheck::run(backend, repository, kind, pack, |bytes| {
            self.monitor.advance(bytes);
            self.go_on()
        });
        let check = match check {
            Ok(check) => check,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // Removed by gc since it was listed, or unreadable: what needs it says so when it is reached.
            Err(error) => return Ok(PackFindings { kind, pack, checked: Err(error.to_string()) }),
        };
        let mut checked = Checked::default();
        for entry in check.entries {
            if check.bad.contains(&entry) {
                checked.bad.push((entry, format!("its copy in pack {pack} does not have its checksum")));
                continue;
            }
            let wanted = kind == PackKind::Metadata || self.draw(&entry.id);
            if wanted && let Err(error) = self.verify_copy(kind, pack, &entry) {
                checked.bad.push((entry, error.to_string()));
                continue;
            }
            if wanted && entry.object_type == ObjectType::Chunk {
                checked.chunks += 1;
                checked.bytes += u64::from(entry.plain_len);
            }
            checked.good.push(entry);
            self.go_on()?;
        }
        Ok(PackFindings { kind, pack, checked: Ok(checked) })
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

    fn take_findings(&mut self, findings: PackFindings, listed_bad: &HashSet<ObjectId>) {
        let PackFindings { kind, pack, checked } = findings;
        match checked {
            Err(reason) => self.report.damaged_files.push((Key::pack(kind, pack).to_string(), reason)),
            Ok(checked) => {
                self.report.chunks_checked += checked.chunks;
                self.report.bytes_checked += checked.bytes;
                if !checked.bad.is_empty() {
                    let reason = format!("{} of its objects are not intact", checked.bad.len());
                    self.report.damaged_files.push((Key::pack(kind, pack).to_string(), reason));
                }
                for (entry, reason) in checked.bad {
                    self.findings.bad_copies.insert(entry.id, (entry.object_type, reason));
                }
                let again = checked.good.iter().map(|entry| entry.id).filter(|id| listed_bad.contains(id));
                self.findings.good_again.extend(again);
                self.findings.sound_packs.insert(pack);
            }
        }
    }
}
