//! What is to be done with what the walk meets, cut into pieces of work.
//!
//! Steps are gathered into stretches, each of which ends with a bundle of small files, or when it has enough steps. Files
//! that are too large for a bundle are read by themselves and sent ahead of the stretch in which they stand; large ones
//! are read and cut here, since a cut depends on the one before, and their pieces go to all workers.

use std::collections::VecDeque;

use super::file::FileReading;
use super::hard_links::{HardLinks, Meeting};
use super::item::{Found, Item, Step};
use super::merge::{Merge, Met};
use crate::chunker::Bundler;
use crate::error::{Error, Result};
use crate::format::Entry;
use crate::monitor::Monitor;
use crate::source::tree::EntryType;

/// A stretch without small files ends after so many steps,
const STEPS: usize = 1 << 10;

/// and one whose bundle does not get full after so many.
const STEPS_MAX: usize = 4 << 10;

/// Files of more bytes are read piece by piece.
pub(super) const LARGE: u64 = 2 << 20;

/// The pieces of work of a whole tree, in order.
pub(super) struct Planner<'a> {
    merge: Merge<'a>,
    links: &'a HardLinks,
    monitor: &'a dyn Monitor,
    chunk_size: u32,
    bundler: Bundler,
    /// The bundle into which the stretch's small files go, if it has any.
    bundle: Option<u64>,
    stretch: Vec<Step>,
    ready: VecDeque<Item>,
    /// The large file that is read.
    reading: Option<FileReading>,
    is_over: bool,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        merge: Merge<'a>,
        links: &'a HardLinks,
        monitor: &'a dyn Monitor,
        chunk_size: u32,
    ) -> Self {
        Self {
            merge,
            links,
            monitor,
            chunk_size,
            bundler: Bundler::default(),
            bundle: None,
            stretch: Vec::new(),
            ready: VecDeque::new(),
            reading: None,
            is_over: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Item>> {
        loop {
            // All of a file goes ahead of its stretch, which may be ready.
            if let Some(reading) = self.reading.take() {
                return Ok(Some(self.next_of(reading)));
            }
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.is_over {
                return Ok(None);
            }
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match self.merge.step()? {
                Some(met) => self.plan(met),
                None => {
                    self.is_over = true;
                    self.end_stretch();
                }
            }
        }
    }

    /// The next piece of a large file.
    fn next_of(&mut self, mut reading: FileReading) -> Item {
        match reading.next_piece() {
            Ok(Some(piece)) => {
                self.reading = Some(reading);
                Item::Piece(piece)
            }
            Ok(None) => Item::End(Ok(reading.into_file())),
            Err(error) => Item::End(Err(error)),
        }
    }

    fn plan(&mut self, met: Met) {
        match met {
            Met::Enter(found, attributes) => self.stretch.push(Step::Enter(found, attributes)),
            Met::Leave { left_out } => self.stretch.push(Step::Leave { left_out }),
            Met::Failed(error) => self.stretch.push(Step::Failed(error)),
            Met::Entry(found, unchanged) => self.plan_entry(found, unchanged),
        }
        let is_enough = if self.bundle.is_some() { STEPS_MAX } else { STEPS };
        if self.stretch.len() >= is_enough {
            self.end_stretch();
            self.bundler = Bundler::default();
        }
    }

    fn plan_entry(&mut self, mut found: Found, unchanged: Option<Entry>) {
        if found.entry.stat.links > 1 {
            let inode = found.inode();
            let meeting = self.links.meet(inode, found.entry.stat.links);
            found.link = (meeting != Meeting::Untracked).then_some(inode);
            if meeting == Meeting::Later {
                return self.stretch.push(Step::Same(found));
            }
        }
        match unchanged {
            Some(entry) => self.stretch.push(Step::Ready(entry, found.link)),
            None if found.entry.stat.kind == EntryType::File => self.plan_file(found),
            None => self.stretch.push(Step::Look(found)),
        }
    }

    fn plan_file(&mut self, found: Found) {
        let size = found.entry.stat.size;
        if Bundler::takes(size) {
            let place = self.bundler.place(found.name.as_bytes(), u32::try_from(size).unwrap_or(u32::MAX));
            if self.bundle.is_some_and(|bundle| bundle != place.bundle) {
                self.end_stretch();
            }
            self.bundle = Some(place.bundle);
        }
        if Bundler::takes(size) || size == 0 {
            self.stretch.push(Step::Small(found));
        } else if size <= LARGE {
            self.ready.push_back(Item::File(found.entry.clone()));
            self.stretch.push(Step::Queued(found));
        } else {
            match FileReading::open(&found.entry, self.chunk_size) {
                Ok(reading) => {
                    self.reading = Some(reading);
                    self.stretch.push(Step::Queued(found));
                }
                Err(error) => self.stretch.push(Step::Failed(error)),
            }
        }
    }

    fn end_stretch(&mut self) {
        self.bundle = None;
        if !self.stretch.is_empty() {
            self.ready.push_back(Item::Stretch(std::mem::take(&mut self.stretch)));
        }
    }
}

impl Iterator for Planner<'_> {
    type Item = Result<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
