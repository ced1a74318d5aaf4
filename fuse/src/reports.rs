//! What was logged of damage: one line for each piece until it is read well again, whoever asks for it and how often.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use treering_engine::RevisionId;

use crate::inode::Ino;

/// An image that is damaged all over is not worth more lines than this.
const LINES_MAX: usize = 1000;
/// Of more damaged revisions than this, all are forgotten: their lines come once more, and memory stays bounded.
const REVISIONS_MAX: usize = 256;

/// A piece of a revision that can be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Piece {
    /// Its record.
    Record,
    /// What else is needed to open it.
    Map,
    /// One of its chunks, by its index.
    Chunk(u64),
    /// What is stored of an entry of a tree.
    Entry(Ino),
    /// Its extended attributes, where they are stored by themselves.
    Attributes(Ino),
    /// The entries of a directory of a tree, by their numbers: one line for all of it.
    Directory(Ino),
    /// The content of a file of a tree: one line for all of it, however it is read.
    Content(Ino),
}

/// The range of a piece that is read as a whole, or of which nobody knows what part was.
pub(crate) const WHOLE: Range<u64> = 0..u64::MAX;

/// The pieces of which a line was logged.
#[derive(Default)]
pub(crate) struct Reports {
    logged: Mutex<HashMap<RevisionId, Logged>>,
    /// Whether there ever was one: as a rule nothing is damaged, and readers need not look.
    is_used: AtomicBool,
}

/// What was logged of one revision.
#[derive(Default)]
struct Logged {
    /// Pieces that were damaged when they were last asked for, and in which range of each a damaged place lies.
    pieces: HashMap<Piece, Range<u64>>,
    /// Lines of all, also of pieces that were read well since.
    line_count: usize,
}

impl Logged {
    fn is_settled(&self, piece: Piece) -> bool {
        self.line_count >= LINES_MAX || self.pieces.contains_key(&piece)
    }

    /// Learns from a part that failed: the damaged place that is known may be this one.
    fn narrow(&mut self, piece: Piece, part: &Range<u64>) {
        if let Some(known) = self.pieces.get_mut(&piece) {
            let both = known.start.max(part.start)..known.end.min(part.end);
            if !both.is_empty() {
                *known = both;
            }
        }
    }

    /// Learns from a part that was read well: the damaged place is not there, or not any more.
    fn read_part_well(&mut self, piece: Piece, part: &Range<u64>) {
        let Some(known) = self.pieces.get_mut(&piece) else { return };
        if part.start <= known.start {
            known.start = known.start.max(part.end);
        }
        if part.end >= known.end {
            known.end = known.end.min(part.start);
        }
        if known.is_empty() {
            self.pieces.remove(&piece);
        }
    }
}

impl Reports {
    /// Logs that a piece of a revision, which is called `name`, is damaged, unless that was done before.
    pub(crate) fn report(
        &self,
        revision: RevisionId,
        name: &str,
        piece: Piece,
        line: std::fmt::Arguments<'_>,
    ) {
        self.report_part(revision, name, piece, WHOLE, line);
    }

    /// The same of a part of a piece: one line for the piece, until the damaged place is read well.
    ///
    /// The kernel asks for much at a time, and after a failure again page by page.
    pub(crate) fn report_part(
        &self,
        revision: RevisionId,
        name: &str,
        piece: Piece,
        part: Range<u64>,
        line: std::fmt::Arguments<'_>,
    ) {
        let mut all = self.lock();
        if all.len() >= REVISIONS_MAX && !all.contains_key(&revision) {
            all.clear();
        }
        let logged = all.entry(revision).or_default();
        if logged.is_settled(piece) {
            logged.narrow(piece, &part);
            return;
        }
        self.is_used.store(true, Ordering::Relaxed);
        logged.pieces.insert(piece, part);
        logged.line_count += 1;
        log::error!("{line}");
        if logged.line_count == LINES_MAX {
            log::error!("{name}: further damage of this revision is not logged");
        }
    }

    /// Whether a line was logged of a piece, or none will be.
    pub(crate) fn is_settled(&self, revision: RevisionId, piece: Piece) -> bool {
        self.lock().get(&revision).is_some_and(|logged| logged.is_settled(piece))
    }

    /// Notes that pieces were read well: if one fails again, that is worth another line.
    pub(crate) fn read_well(&self, revision: RevisionId, pieces: RangeInclusive<Piece>) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        if let Some(logged) = self.lock().get_mut(&revision) {
            logged.pieces.retain(|piece, _| !pieces.contains(piece));
        }
    }

    /// Notes that a part of a piece was read well.
    pub(crate) fn read_part_well(&self, revision: RevisionId, piece: Piece, part: Range<u64>) {
        if !self.is_used.load(Ordering::Relaxed) {
            return;
        }
        if let Some(logged) = self.lock().get_mut(&revision) {
            logged.read_part_well(piece, &part);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Logged>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(reports: &Reports, revision: RevisionId, piece: Piece) {
        reports.report(revision, "a@b", piece, format_args!("damaged"));
    }

    #[test]
    fn what_was_logged_is_settled_and_past_the_bound_everything_is() {
        let (reports, revision) = (Reports::default(), RevisionId::random());
        report(&reports, revision, Piece::Chunk(7));
        assert!(reports.is_settled(revision, Piece::Chunk(7)));
        assert!(!reports.is_settled(revision, Piece::Chunk(8)));
        assert!(!reports.is_settled(RevisionId::random(), Piece::Chunk(7)));
        (0..2 * LINES_MAX as u64).for_each(|index| report(&reports, revision, Piece::Chunk(index)));
        assert!(reports.is_settled(revision, Piece::Map));
        assert_eq!(reports.lock()[&revision].pieces.len(), LINES_MAX);
    }

    /// A passing error once used up the one line of a piece for the life of the mount.
    #[test]
    fn what_was_read_well_is_logged_again_when_it_fails_again() {
        let (reports, revision) = (Reports::default(), RevisionId::random());
        for piece in [Piece::Record, Piece::Map, Piece::Chunk(0), Piece::Chunk(7), Piece::Chunk(8)] {
            report(&reports, revision, piece);
        }
        reports.read_well(RevisionId::random(), Piece::Record..=Piece::Chunk(u64::MAX));
        reports.read_well(revision, Piece::Map..=Piece::Map);
        reports.read_well(revision, Piece::Chunk(5)..=Piece::Chunk(7));
        let settled = |piece| reports.is_settled(revision, piece);
        assert!(settled(Piece::Record) && settled(Piece::Chunk(0)) && settled(Piece::Chunk(8)));
        assert!(!settled(Piece::Map) && !settled(Piece::Chunk(7)));
    }

    /// The kernel asks again page by page: the pages before and behind the bad one once made a line more each time.
    #[test]
    fn a_file_that_is_read_around_a_bad_place_has_one_line_until_that_is_mended() {
        let (reports, revision, file) = (Reports::default(), RevisionId::random(), Piece::Content(Ino::ROOT));
        let failed = |part| reports.report_part(revision, "a@b", file, part, format_args!("damaged"));
        let read = |part| reports.read_part_well(revision, file, part);
        let lines = || reports.lock()[&revision].line_count;
        for _ in 0..3 {
            failed(0..100);
            (0..50).step_by(10).for_each(|at| read(at..at + 10));
            failed(50..60);
            (60..100).step_by(10).for_each(|at| read(at..at + 10));
            // Another bad place is not the one that is known.
            failed(200..300);
            read(100..200);
            assert_eq!(lines(), 1);
        }
        read(40..70);
        failed(0..100);
        assert_eq!(lines(), 2, "mended, it is worth another line");
    }

    #[test]
    fn a_piece_that_fails_now_and_then_does_not_fill_the_log() {
        let (reports, revision) = (Reports::default(), RevisionId::random());
        for _ in 0..2 * LINES_MAX {
            report(&reports, revision, Piece::Map);
            reports.read_well(revision, Piece::Map..=Piece::Map);
        }
        assert!(reports.is_settled(revision, Piece::Map));
        assert_eq!(reports.lock()[&revision].line_count, LINES_MAX);
    }

    #[test]
    fn memory_is_bounded_however_many_revisions_are_damaged() {
        let reports = Reports::default();
        for _ in 0..3 * REVISIONS_MAX {
            let revision = RevisionId::random();
            report(&reports, revision, Piece::Map);
            assert!(reports.is_settled(revision, Piece::Map));
            assert!(reports.lock().len() <= REVISIONS_MAX);
        }
    }
}
