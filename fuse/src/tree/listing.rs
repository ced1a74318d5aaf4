//! An open directory of a tree: where a listing is, so that it goes on there.

use std::sync::{Arc, Mutex, PoisonError};

use treering_engine::{DirectoryTop, Entry, EntryPlace, EntryRun, EntryRuns};

use super::{OpenTree, TreeFs, attributes_of};
use crate::answers::{Attributes, DirectoryEntry, Room};
use crate::errno::Errno;
use crate::inode::Ino;
use crate::namespace::FileKind;
use crate::reports::Piece;

/// An open directory. While it lives, gc keeps what it reads.
pub(crate) struct TreeListing {
    pub(crate) tree: Arc<OpenTree>,
    top: Option<DirectoryTop>,
    pub(crate) ino: Ino,
    pub(crate) parent: Ino,
    position: Mutex<Option<Position>>,
}

/// Where a listing is: before the entry of this number.
struct Position {
    number: u64,
    runs: EntryRuns,
    run: Option<EntryRun>,
    in_run: usize,
}

impl Position {
    /// The next entry, and where it is stored.
    fn entry(&mut self) -> treering_engine::Result<Option<(EntryPlace, &Entry)>> {
        while self.run.as_ref().is_none_or(|run| self.in_run >= run.len()) {
            (self.run, self.in_run) = (None, 0);
            match self.runs.next() {
                Some(run) => self.run = Some(run?),
                None => return Ok(None),
            }
        }
        let run = self.run.as_ref();
        Ok(run.and_then(|run| Some((run.place(self.in_run), run.get(self.in_run)?))))
    }
}

impl TreeListing {
    pub(super) fn new(tree: Arc<OpenTree>, top: Option<DirectoryTop>, ino: Ino, parent: Ino) -> Self {
        Self { tree, top, ino, parent, position: Mutex::default() }
    }

    /// Calls `add` for the entries from a number on, with the number of each, until there is no more room.
    ///
    /// # Errors
    /// A part of the directory that can't be read, if it comes first: what comes before it is listed before.
    fn read(&self, from: u64, add: &mut dyn FnMut(EntryPlace, &Entry, u64) -> Room) -> Result<(), Errno> {
        let mut known = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        let mut position =
            known.take().filter(|position| position.number == from).unwrap_or_else(|| Position {
                number: from,
                runs: self.tree.reader.entry_runs_from(self.top.as_ref(), from),
                run: None,
                in_run: 0,
            });
        let piece = Piece::Directory(self.ino);
        let read_to = loop {
            let number = position.number;
            let (place, entry) = match position.entry() {
                Ok(Some(found)) => found,
                Ok(None) => break u64::MAX,
                // Asked for again at this place, it is the answer.
                Err(_) if number > from => {
                    self.tree.read_well(piece, from..number);
                    return Ok(());
                }
                Err(error) => return Err(self.tree.report(piece, number..number + 1, &error)),
            };
            if add(place, entry, number) == Room::Full {
                break number + 1;
            }
            position.number += 1;
            position.in_run += 1;
        };
        self.tree.read_well(piece, from..read_to);
        *known = Some(position);
        Ok(())
    }
}

/// `.` and `..`, which come first.
const DOTS: usize = 2;

/// What is told of `.` and `..`, of which the kernel takes the number and the type alone.
fn dots(listing: &TreeListing, offset: u64) -> impl Iterator<Item = (DirectoryEntry<'static>, Attributes)> {
    let dots = [(&b"."[..], listing.ino), (b"..", listing.parent)];
    let entries = dots.into_iter().zip(1..).map(|((name, ino), next_offset)| {
        let entry = DirectoryEntry { ino, next_offset, kind: FileKind::Directory, name };
        (entry, Attributes::of_directory(ino))
    });
    entries.skip(usize::try_from(offset).unwrap_or(DOTS))
}

impl TreeFs {
    /// Calls `add` for the entries of a directory from `offset` on, until it says that there is no more room.
    pub(crate) fn list(
        &self,
        listing: &TreeListing,
        offset: u64,
        add: &mut dyn FnMut(DirectoryEntry<'_>) -> Room,
    ) -> Result<(), Errno> {
        for (entry, _) in dots(listing, offset) {
            if add(entry) == Room::Full {
                return Ok(());
            }
        }
        listing.read(offset.saturating_sub(DOTS as u64), &mut |place, entry, number| {
            let ino = self.number(&listing.tree, listing.ino, place, entry);
            add(shown(entry, attributes_of(entry, ino), number))
        })
    }

    /// The same with all attributes, and a lookup counted for each entry but `.` and `..`.
    pub(crate) fn list_plus(
        &self,
        listing: &TreeListing,
        offset: u64,
        add: &mut dyn FnMut(DirectoryEntry<'_>, &Attributes) -> Room,
    ) -> Result<(), Errno> {
        for (entry, attributes) in dots(listing, offset) {
            if add(entry, &attributes) == Room::Full {
                return Ok(());
            }
        }
        listing.read(offset.saturating_sub(DOTS as u64), &mut |place, entry, number| {
            let ino = self.acquire(&listing.tree, listing.ino, place, entry);
            let attributes = attributes_of(entry, ino);
            let added = add(shown(entry, attributes, number), &attributes);
            if added == Room::Full {
                self.forget(ino, 1);
            }
            added
        })
    }
}

/// An entry as it is listed.
fn shown(entry: &Entry, Attributes { ino, kind, .. }: Attributes, number: u64) -> DirectoryEntry<'_> {
    DirectoryEntry { ino, next_offset: number + DOTS as u64 + 1, kind, name: entry.name.as_bytes() }
}
