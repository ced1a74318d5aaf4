//! Reads every stored file that is not a pack.

use super::{Findings, Scrub};
use crate::backend::Key;
use crate::error::Result;
use crate::format::{Header, MAX_SEALED_SIZE, Record, open};
use crate::repository::Stream;

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
        let index = repository.store().index();
        findings.damaged_files.extend(index.verify_tables(u64::MAX, |_| self.go_on())?);
        let mut revisions = Vec::new();
        for stream in list.streams {
            for key in repository.revisions(&stream)? {
                let file = Key::record(stream.id, &key).to_string();
                if let Some(record) = findings.note_file(&file, repository.record(&stream, &key))? {
                    revisions.push((stream.clone(), record));
                }
            }
            findings.damaged_files.extend(repository.all_labels(&stream)?.damaged);
        }
        Ok(revisions)
    }
}
