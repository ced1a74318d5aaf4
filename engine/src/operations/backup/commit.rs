//! The last step of a backup: the record, whose creation is the commit.

use std::collections::HashSet;

use super::{BackupReport, Made, Run};
use crate::error::{Error, Result};
use crate::format::{Counters, Record, Timestamp, seal};
use crate::id::{RevisionId, StreamId};
use crate::repository::{Stream, host_name};

const PROGRAM: &str = concat!("treering ", env!("CARGO_PKG_VERSION"));

impl Run<'_> {
    /// Writes labels and record. After that the revision is there, for ever and for all.
    pub(super) fn commit(self, source: &str, made: Made) -> Result<BackupReport> {
        // The end of a stream may be the end of a producer that was stopped by the same signal as we.
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let end = Timestamp::now();
        let elapsed = end.seconds_since(self.start).max(0.0);
        let mut record = Record {
            stream: self.place.stream.as_ref().map_or_else(StreamId::random, |stream| stream.id),
            sequence: 0,
            id: RevisionId::random(),
            name: self.start.to_revision_name(),
            snapshot_time: None,
            start: self.start,
            end,
            host: host_name(),
            program: PROGRAM.to_owned(),
            source: source.to_owned(),
            source_snapshot: None,
            evidence: made.evidence,
            parent: self.place.parent.as_ref().map(|parent| parent.id),
            method: made.method,
            hints: made.hints,
            counters: Counters { nanoseconds: (elapsed * 1e9) as u64, ..made.counters },
            warnings: self.warnings.clone(),
            content: made.content,
        };
        if let Some(stream) = self.place.stream.as_ref().filter(|_| !self.options.dry_run) {
            let history = self.repository.lock_history(stream)?;
            self.store_record(stream, &mut record)?;
            // The next backup does it if this one can't.
            if let Err(error) = self.repository.note_revisions(stream) {
                self.monitor.warn(&format!("the stream's file could not be changed: {error}"));
            }
            drop(history);
            // The revision is there: what was healed may be taken off the list another time.
            if let Err(error) = self.repository.change_damage(Vec::new(), &made.healed, false) {
                self.monitor.warn(&format!("the damage list could not be changed: {error}"));
            }
        }
        Ok(BackupReport {
            stream: self.options.stream.clone(),
            record,
            source_changed: self.source_changed,
            problem_count: self.problem_count,
        })
    }

    fn store_record(&self, stream: &Stream, record: &mut Record) -> Result<()> {
        (record.sequence, record.name) = self.next_place(stream, &record.name)?;
        // Fixed width: the length does not depend on the number that is put in.
        record.counters.bytes_stored += seal(record)?.len() as u64;
        if !self.options.tags.is_empty() {
            self.repository.put_tags(stream, record.id, &self.options.tags)?;
        }
        self.repository.create_record(stream, &record.key(), &seal(record)?)
    }

    /// The sequence and name of the next revision: newest + 1, and a name that the stream never had.
    fn next_place(&self, stream: &Stream, name: &str) -> Result<(u64, String)> {
        let keys = self.repository.revisions(stream)?;
        let object = self.repository.stream_object(stream.id)?;
        let newest = keys.last().map_or(0, |key| key.sequence).max(object.sequence_floor);
        let used: HashSet<&str> = keys
            .iter()
            .map(|key| key.name.as_str())
            .chain(object.retired_names.iter().map(String::as_str))
            .collect();
        let free = |candidate: &String| !used.contains(candidate.as_str());
        let candidates = std::iter::once(name.to_owned()).chain((2..).map(|n: u64| format!("{name}-{n}")));
        let name = candidates.into_iter().find(free).unwrap_or_else(|| name.to_owned());
        // One sequence twice would put two revisions in one place of the order.
        let sequence = newest.checked_add(1).ok_or_else(|| Error::NotStorable {
            object: "record",
            reason: format!(
                "stream '{}' has a revision with the highest sequence that there is",
                stream.name
            ),
        })?;
        Ok((sequence, name))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use crate::error::Error;
    use crate::format::{Content, ImageContent, Kind};
    use crate::monitor::SilentMonitor;
    use crate::operations::backup::{BackupOptions, backup};
    use crate::repository::{CreateOptions, Repository};
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::commit;
    use crate::source::Source;

    /// The next one got the same, and the order of the two depended on their ids.
    #[test]
    fn no_sequence_is_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(&directory.path().join("r"), &CreateOptions::default()).unwrap();
        let stream = repository.stream_for_backup("vm", Kind::Image, "vm.img", false).unwrap();
        let content = || Content::Image(ImageContent { root: absent(1), size: 1, data_bytes: 1 });
        let back_up = || {
            let source =
                Source::Stream { name: "stdin".to_owned(), bytes: Box::new(Cursor::new(b"bytes".to_vec())) };
            let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
            backup(&repository, source, &options, &SilentMonitor)
        };
        commit(&repository, &stream, u64::MAX - 1, content());
        assert_eq!(back_up().unwrap().record.sequence, u64::MAX);
        let error = back_up().map(|report| report.record.sequence).unwrap_err();
        assert!(matches!(error, Error::NotStorable { .. }), "{error}");
        assert_eq!(repository.revisions(&stream).unwrap().len(), 2);
    }
}
