//! Reads every stored file that is not a pack.

use super::{Findings, Scrub};
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{Header, MAX_SEALED_SIZE, Record, RecordKey, open};
use crate::id::{RevisionId, TableId};
use crate::repository::{LostPart, Stream};

impl Scrub<'_> {
    /// Reads everything that is not a pack. Returns the revisions whose records are in order.
    pub(super) fn check_files(&self, findings: &mut Findings) -> Result<Vec<(Stream, Record)>> {
        let repository = self.repository;
        let backend = repository.backend();
        let header = backend.read(&Key::header(), MAX_SEALED_SIZE);
        let header = header.and_then(|bytes| open::<Header>("the repository header", &bytes));
        findings.note_file("treering-repository", header)?;
        let list = repository.list_streams()?;
        findings
            .damaged_files
            .extend(list.damaged.iter().map(|stream| (stream.file(), stream.reason.clone())));
        findings.is_cut_short |= list.damaged.iter().any(|stream| stream.lost == LostPart::Revisions);
        let damage_list = repository.damage_of_list()?;
        findings.damaged_files.extend(damage_list.map(|reason| (Key::damage().to_string(), reason)));
        findings.note_file(&Key::copy_target().to_string(), repository.copy_target())?;
        let index = repository.store().index();
        findings.damaged_files.extend(index.verify_tables(u64::MAX, |_| self.go_on())?);
        self.check_names(&Area::index(), |name| TableId::parse(name).is_some(), findings)?;
        let mut revisions = Vec::new();
        for stream in list.streams {
            findings.damaged_files.extend(repository.lost_newest(&stream)?);
            self.check_records(&stream, &mut revisions, findings)?;
            findings.damaged_files.extend(repository.all_labels(&stream)?.damaged);
            self.check_names(&Area::labels(stream.id), |name| RevisionId::parse(name).is_some(), findings)?;
        }
        Ok(revisions)
    }

    /// Reads the records of a stream.
    fn check_records(
        &self,
        stream: &Stream,
        revisions: &mut Vec<(Stream, Record)>,
        findings: &mut Findings,
    ) -> Result<()> {
        let before = findings.damaged_files.len();
        for key in self.repository.revisions(stream)? {
            let file = Key::record(stream.id, &key).to_string();
            if let Some(record) = findings.note_file(&file, self.repository.record(stream, &key))? {
                revisions.push((stream.clone(), record));
            }
        }
        let is_record = |name: &str| RecordKey::parse(name).is_some();
        self.check_names(&Area::revisions(stream.id), is_record, findings)?;
        findings.is_cut_short |= findings.damaged_files.len() > before;
        Ok(())
    }

    /// Notes what has the name of an object and is no file: what should lie there is lost.
    fn check_names(
        &self,
        area: &Area,
        is_ours: impl Fn(&str) -> bool,
        findings: &mut Findings,
    ) -> Result<()> {
        for name in self.repository.backend().strangers(area)? {
            if is_ours(&name) {
                let reason = "it is no regular file".to_owned();
                findings.damaged_files.push((area.key(name).to_string(), reason));
            }
        }
        Ok(())
    }
}
