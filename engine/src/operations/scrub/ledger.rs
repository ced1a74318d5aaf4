//! Notes which packs were read whole, as it goes: of a scrub that is killed little is to be lost.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::packs::CheckedPack;
use super::{Scrub, ScrubReport};
use crate::error::Error;
use crate::format::{LastScrub, Timestamp};
use crate::id::PackId;

/// How often the ledger is written.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// Writes the ledger while packs are read.
pub(super) struct LedgerKeeper<'a> {
    scrub: &'a Scrub<'a>,
    noted: Instant,
}

impl<'a> LedgerKeeper<'a> {
    pub(super) fn new(scrub: &'a Scrub<'a>) -> Self {
        Self { scrub, noted: Instant::now() }
    }

    /// Notes a pack, and writes the ledger now and then; `waiting` are those that are not in it yet. What can't be written
    /// is told at the end.
    pub(super) fn note(&mut self, checked: &CheckedPack, waiting: &mut Vec<PackId>) {
        if checked.is_read() {
            waiting.push(checked.pack);
        }
        if self.noted.elapsed() < NOTE_EVERY {
            return;
        }
        self.noted = Instant::now();
        match self.scrub.repository.note_verified(waiting, None) {
            Ok(()) => waiting.clear(),
            Err(error) => log::debug!("the scrub ledger: {error}"),
        }
    }
}

impl Scrub<'_> {
    /// Notes the packs that were read since, and how the scrub ended.
    pub(super) fn note_end(&self, waiting: &[PackId], report: &ScrubReport, is_complete: bool) {
        let last = LastScrub {
            start: self.began,
            end: Timestamp::now(),
            is_complete,
            packs: report.packs_read,
            bytes: report.bytes_checked,
            bad_objects: report.bad.len() as u64,
            damaged_files: report.damaged_files.len() as u64,
        };
        match self.repository.note_verified(waiting, Some(last)) {
            Ok(()) => {}
            // Of a medium that others write nothing is to be noted by who may not.
            Err(error) if may_not_be_written(&error) => {
                log::info!("the scrub ledger is left as it is: {error}")
            }
            Err(error) => {
                self.monitor
                    .warn(&format!("what was verified could not be noted in the repository: {error}"));
            }
        }
    }
}

fn may_not_be_written(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::SilentMonitor;
    use crate::operations::scrub::ScrubOptions;
    use crate::revision::test_trees::Trees;

    /// Of a scrub that is killed after hours, all but the last minute counts.
    #[test]
    fn what_was_read_is_noted_while_a_scrub_runs_and_not_after_each_pack() {
        let trees = Trees::new();
        for content in [b"one", b"two"] {
            trees.chunk(content);
        }
        let options = ScrubOptions { percent: 100.0, source: None };
        let scrub = Scrub::new(&trees.repository, &options, &SilentMonitor).unwrap();
        let packs = trees.repository.store().index().list_packs().unwrap();
        let checked: Vec<CheckedPack> =
            packs.into_iter().map(|(pack, (kind, _))| scrub.check_pack(kind, pack).0).collect();
        let mut keeper = LedgerKeeper::new(&scrub);
        let mut waiting = Vec::new();
        keeper.note(&checked[0], &mut waiting);
        assert_eq!(waiting, [checked[0].pack], "a minute is not over");
        keeper.noted = Instant::now().checked_sub(NOTE_EVERY).unwrap();
        keeper.note(&checked[1], &mut waiting);
        assert_eq!(waiting, []);
        let verified = trees.repository.verified_packs().unwrap();
        assert!(checked.iter().all(|checked| verified.contains_key(&checked.pack)));
        keeper.note(&checked[0], &mut waiting);
        assert_eq!(waiting, [checked[0].pack], "the next minute has begun");
    }
}
