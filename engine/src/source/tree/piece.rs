//! A piece of a directory: some of its entries, looked at.

use std::sync::Arc;

use super::directory::Directory;
use super::entry::Entry;
use super::names::Names;
use super::problem::{Cause, EntryError};
use super::selection::Selection;
use super::stat::{EntryStat, EntryType};
use crate::format::{EntryName, Timestamp};

/// How many entries of a directory are looked at in one go.
const PIECE_ENTRIES: usize = 1024;

/// How deep below the root places are told apart. What lies deeper is not looked at ahead of its turn: such trees are
/// rare, and there may be many places at once.
const PLACES_DEPTH: usize = 64;

/// A place in the tree: comparing two says which comes first in the walk.
pub(super) type Place = Vec<u64>;

/// What is to be looked at next in a directory.
#[derive(Clone)]
pub(super) struct Task {
    directory: Arc<Directory>,
    /// Where the directory stands; `None` if it is too deep.
    place: Option<Place>,
    /// Its names, once they are known, and the first that was not looked at.
    rest: Option<(Arc<Names>, usize)>,
}

/// Some entries of a directory in the order of their names' bytes.
pub(super) struct Piece {
    /// What was found.
    pub(super) found: Vec<Found>,
    /// What went wrong with opening or listing the directory.
    pub(super) problem: Option<EntryError>,
    /// What follows in the same directory.
    pub(super) next: Option<Task>,
    /// Something in it is to be left out.
    pub(super) left_out: bool,
}

/// What stands behind a name.
pub(super) enum Found {
    /// Anything but a directory.
    Entry(Entry),
    /// A directory, and how to look into it, unless it is kept empty.
    Directory(Entry, Option<Task>),
    /// Something that could not be looked at.
    Failed(Failed),
}

/// A name that could not be looked at. The error has a path, which may be long where there are many.
pub(super) struct Failed {
    directory: Arc<Directory>,
    name: Box<[u8]>,
    cause: Cause,
}

impl Task {
    /// To list a whole tree.
    pub(super) fn root(directory: &Arc<Directory>) -> Self {
        Self { directory: Arc::clone(directory), place: Some(Place::new()), rest: None }
    }

    /// Where this stands among all tasks: behind the entries before it, before those that it will find.
    pub(super) fn place(&self) -> Option<Place> {
        let first = self.rest.as_ref().map(|(_, first)| *first as u64 * 2);
        Some(self.place.as_ref()?.iter().copied().chain(first).collect())
    }

    /// Looks at the next entries.
    pub(super) fn run(&self, selection: &Selection) -> Piece {
        match &self.rest {
            Some((names, first)) => self.look(selection, names, *first),
            None => match self.list(selection) {
                Ok(Listed { names, left_out, problem }) => {
                    let piece = self.look(selection, &Arc::new(names), 0);
                    let problem = problem.or(piece.problem);
                    Piece { problem, left_out: left_out || piece.left_out, ..piece }
                }
                Err(problem) => Piece::failed(problem),
            },
        }
    }

    fn list(&self, selection: &Selection) -> Result<Listed, EntryError> {
        let failed = |action, cause| self.directory.error(b"", action, cause);
        let descriptor = self.directory.open().map_err(|cause| failed("open", cause))?;
        let (all, outcome) = Names::read(&descriptor);
        let problem = outcome.err().map(|error| failed("list", error.into()));
        let count = all.len();
        let names = selection.names(&descriptor, all);
        Ok(Listed { left_out: names.len() < count, names, problem })
    }

    fn look(&self, selection: &Selection, names: &Arc<Names>, first: usize) -> Piece {
        let descriptor = match self.directory.open() {
            Ok(descriptor) => descriptor,
            // Without its directory none of them can be looked at, nor can those that follow.
            Err(cause) => {
                let problem = self.directory.error(b"", "open", cause);
                // What it had is not all known to be gone, if this is not the first that is looked at.
                return Piece { left_out: first > 0, ..Piece::failed(problem) };
            }
        };
        let end = names.len().min(first + PIECE_ENTRIES);
        let next = (end < names.len()).then(|| Self { rest: Some((Arc::clone(names), end)), ..self.clone() });
        let mut look = Look::new(self, selection);
        let part = names.part(first, end - first).zip(first as u64..);
        let found = part.filter_map(|(name, index)| look.at(&descriptor, name, index)).collect();
        Piece { found, problem: None, next, left_out: look.left_out }
    }
}

/// The names of a directory that are to be looked at.
struct Listed {
    names: Names,
    /// There are others.
    left_out: bool,
    /// What went wrong with listing all of them.
    problem: Option<EntryError>,
}

/// Looking at the entries of one directory.
struct Look<'a> {
    task: &'a Task,
    selection: &'a Selection,
    seen: Timestamp,
    /// The directory's path below the root with a slash behind it, where paths matter.
    path: Vec<u8>,
    /// Something was left out.
    left_out: bool,
}

impl<'a> Look<'a> {
    fn new(task: &'a Task, selection: &'a Selection) -> Self {
        let mut path = Vec::new();
        if selection.knows_paths() && task.directory.depth() > 0 {
            path = task.directory.relative_path(b"");
            path.push(b'/');
        }
        Self { task, selection, seen: Timestamp::now(), path, left_out: false }
    }

    fn at(&mut self, descriptor: &std::os::fd::OwnedFd, name: &[u8], index: u64) -> Option<Found> {
        let stat = match EntryStat::at(descriptor, name).map_err(Cause::from) {
            Ok(stat) => stat,
            // What is left out may vanish without a word.
            Err(cause) if self.is_left_out_unseen(name) => {
                self.left_out |= !cause.is_gone();
                return None;
            }
            Err(cause) => return Some(self.failed(name, cause)),
        };
        let is_directory = stat.kind == EntryType::Directory;
        if !is_directory && self.selection.is_mounted_file(descriptor, name, &stat) {
            self.left_out = true;
            return None;
        }
        if is_directory && self.selection.is_never(stat.identity) || self.is_excluded(name, is_directory) {
            self.left_out = true;
            return None;
        }
        if name.len() > EntryName::MAX_LEN {
            return Some(self.failed(name, Cause::NameTooLong(EntryName::MAX_LEN)));
        }
        let entry = Entry::new(&self.task.directory, name, stat, self.seen);
        if !is_directory {
            return Some(Found::Entry(entry));
        }
        let below = (!self.selection.is_boundary(&entry.stat)).then(|| self.below(&entry, index));
        Some(Found::Directory(entry, below))
    }

    fn failed(&self, name: &[u8], cause: Cause) -> Found {
        let directory = Arc::clone(&self.task.directory);
        Found::Failed(Failed { directory, name: name.into(), cause })
    }

    fn below(&self, directory: &Entry, index: u64) -> Task {
        let above = self.task.place.as_ref().filter(|place| place.len() < PLACES_DEPTH);
        let place = above.map(|above| above.iter().copied().chain([index * 2 + 1]).collect());
        let directory = self.task.directory.child(directory.name(), directory.stat.identity);
        Task { directory, place, rest: None }
    }

    fn is_left_out_unseen(&mut self, name: &[u8]) -> bool {
        self.is_excluded(name, false) || self.selection.is_never_at(&self.task.directory, name)
    }

    fn is_excluded(&mut self, name: &[u8], is_directory: bool) -> bool {
        if !self.selection.knows_paths() {
            return false;
        }
        let length = self.path.len();
        self.path.extend_from_slice(name);
        let excluded = self.selection.excludes_path(&self.path, is_directory);
        self.path.truncate(length);
        excluded
    }
}

impl Piece {
    /// Nothing of the directory could be looked at.
    fn failed(problem: EntryError) -> Self {
        Self { found: Vec::new(), problem: Some(problem), next: None, left_out: false }
    }

    /// How much it holds, in entries; names that wait count too.
    pub(super) fn weight(&self) -> usize {
        let waiting = self.next.as_ref().and_then(|task| task.rest.as_ref());
        16 + self.found.len() + waiting.map_or(0, |(names, first)| names.len().saturating_sub(*first) / 8)
    }
}

impl Failed {
    /// Tells it with the path.
    pub(super) fn error(&self) -> EntryError {
        self.directory.error(&self.name, "look at", self.cause)
    }
}
