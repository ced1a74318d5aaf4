//! What was logged of damage: one line for each piece while the mount lives, whoever asks for it and how often.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use treering_engine::RevisionId;

/// An image that is damaged all over is not worth more lines than this.
const LINES_MAX: usize = 1000;
/// Of more damaged revisions than this, all are forgotten: their lines come once more, and memory stays bounded.
const REVISIONS_MAX: usize = 256;

/// A piece of a revision that can be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// What is needed to open it.
    Revision,
    /// One of its chunks, by its index.
    Chunk(u64),
}

/// The pieces of which a line was logged.
#[derive(Default)]
pub(crate) struct Reports {
    logged: Mutex<HashMap<RevisionId, HashSet<Piece>>>,
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
        let mut logged = self.lock();
        if logged.len() >= REVISIONS_MAX && !logged.contains_key(&revision) {
            logged.clear();
        }
        let pieces = logged.entry(revision).or_default();
        if pieces.len() < LINES_MAX && pieces.insert(piece) {
            log::error!("{line}");
            if pieces.len() == LINES_MAX {
                log::error!("{name}: further damage of this revision is not logged");
            }
        }
    }

    /// Whether a line was logged of a piece, or none will be.
    pub(crate) fn is_settled(&self, revision: RevisionId, piece: Piece) -> bool {
        self.lock().get(&revision).is_some_and(|pieces| pieces.len() >= LINES_MAX || pieces.contains(&piece))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, HashSet<Piece>>> {
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
        assert!(reports.is_settled(revision, Piece::Revision));
        assert_eq!(reports.lock()[&revision].len(), LINES_MAX);
    }

    #[test]
    fn memory_is_bounded_however_many_revisions_are_damaged() {
        let reports = Reports::default();
        for _ in 0..3 * REVISIONS_MAX {
            let revision = RevisionId::random();
            report(&reports, revision, Piece::Revision);
            assert!(reports.is_settled(revision, Piece::Revision));
            assert!(reports.lock().len() <= REVISIONS_MAX);
        }
    }
}
