//! The walk: depth first, the entries of each directory in the order of their names' bytes.

use super::ahead::Ahead;
use super::entry::Entry;
use super::piece::{Found, Piece, Task};
use super::problem::EntryError;

/// One step of the walk.
#[derive(Clone)]
pub(crate) enum Step {
    /// A directory begins, the root first of all. Its entries follow, up to its [`Step::Leave`].
    Enter(Entry),
    /// Anything but a directory.
    Entry(Entry),
    /// The directory that was entered last and not left yet ends. Not all that was in it was met, if so: something is to be
    /// left out, or lies on another file system.
    Leave { left_out: bool },
    /// Something could not be read; the walk goes on behind it. Between the steps of a directory that could not be
    /// opened or listed, or not in full, the error names that directory.
    Failed(EntryError),
}

/// The walk of a tree, step by step.
///
/// It holds the names of the directories that were entered and not left, and bounded parts of what comes next.
pub(crate) struct Walk {
    ahead: Ahead,
    /// The root, as long as it was not entered.
    root: Option<(Entry, Task)>,
    /// The directories that were entered and not left.
    levels: Vec<Level>,
}

/// What is left of a directory.
#[derive(Default)]
struct Level {
    found: std::vec::IntoIter<Found>,
    problem: Option<EntryError>,
    next: Option<Task>,
    left_out: bool,
}

impl Walk {
    pub(super) fn new(ahead: Ahead, root: Entry, below: Task) -> Self {
        Self { ahead, root: Some((root, below)), levels: Vec::new() }
    }

    fn step(&mut self, found: Found) -> Step {
        match found {
            Found::Entry(entry) => Step::Entry(entry),
            Found::Directory(directory, below) => self.enter(directory, below),
            Found::Failed(failed) => Step::Failed(failed.error()),
        }
    }

    /// Enters a directory, unless its name leads elsewhere by now.
    fn enter(&mut self, directory: Entry, below: Option<Task>) -> Step {
        // One that is kept empty may have anything in it.
        let kept_empty = || Level { left_out: true, ..Level::default() };
        let level = below.map_or_else(kept_empty, |task| Level::from(self.ahead.take(&task)));
        match level.problem {
            Some(problem) if problem.cause.is_out_of_reach() && level.found.as_slice().is_empty() => {
                Step::Failed(problem)
            }
            _ => {
                self.levels.push(level);
                Step::Enter(directory)
            }
        }
    }
}

impl From<Piece> for Level {
    fn from(Piece { found, problem, next, left_out }: Piece) -> Self {
        Self { found: found.into_iter(), problem, next, left_out }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some((root, below)) = self.root.take() {
            return Some(self.enter(root, Some(below)));
        }
        loop {
            let level = self.levels.last_mut()?;
            if let Some(problem) = level.problem.take() {
                return Some(Step::Failed(problem));
            }
            if let Some(found) = level.found.next() {
                return Some(self.step(found));
            }
            let left_out = level.left_out;
            let Some(next) = level.next.take() else {
                self.levels.pop();
                return Some(Step::Leave { left_out });
            };
            let next = Level::from(self.ahead.take(&next));
            *level = Level { left_out: left_out || next.left_out, ..next };
        }
    }
}
