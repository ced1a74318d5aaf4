//! Large files, piece by piece on all cores.
//!
//! A new one lies under another name until it is complete, and is continued there after an interruption. One that is
//! there is mended in place, so that only what differs is written.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::content::{Allocation, Content, Outcome, Piece};
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::{Ended, First, conclude, meet, settle, stat_at};
use super::file::{NewFile, keep_or_clear, tell_lost};
use super::hard_links::Key;
use super::metadata::{Before, Changes, Handle};
use super::problems::{Attempt, Trouble};
use super::verify::{open_uncached, verify_links};
use crate::format::{Entry, FileData};
use crate::revision::FileReader;
use crate::source::tree::{EntryStat, EntryType};

/// Files of more bytes are restored piece by piece.
pub(super) const LARGE: u64 = 4 << 20;

/// How the target is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is new, and all hole.
    Write,
    /// It may have anything: what differs is written.
    Mend,
    /// It is read back.
    Verify,
}

/// A large file under way.
pub(super) struct Large {
    directory: Arc<TargetDirectory>,
    entry: Entry,
    reader: FileReader,
    target: NewFile,
    way: Way,
    allocation: Allocation,
    key: Option<Key>,
    /// Pieces under way, and the walk through them.
    pending: AtomicUsize,
    has_failed: AtomicBool,
    result: Mutex<Attempt<Outcome>>,
}

impl Large {
    /// Begins a large file. `None` if there is nothing to be written or read, and what became of it was told.
    pub(super) fn begin(
        context: &Context<'_>,
        directory: &Arc<TargetDirectory>,
        entry: &Entry,
        data: &FileData,
    ) -> Option<Arc<Self>> {
        let (key, begun) = match directory.open() {
            Ok(above) => Self::open(context, directory, &above, entry, data),
            Err(trouble) => (None, Err(trouble)),
        };
        match begun {
            Ok(Begun::Large(large)) => Some(Arc::new(*large)),
            Ok(Begun::Ended(ended)) => {
                context.monitor.advance(data.size());
                let ended = Ok(ended);
                settle(context, directory, entry, key, &ended);
                conclude(context, directory, entry, ended);
                None
            }
            Err(trouble) => {
                let ended = Err(trouble);
                settle(context, directory, entry, key, &ended);
                conclude(context, directory, entry, ended);
                None
            }
        }
    }

    fn open(
        context: &Context<'_>,
        directory: &Arc<TargetDirectory>,
        above: &OwnedFd,
        entry: &Entry,
        data: &FileData,
    ) -> (Option<Key>, Attempt<Begun>) {
        if context.verifies() {
            return (None, Self::open_to_verify(context, directory, above, entry, data));
        }
        match meet(context, directory, above, entry) {
            First::Done(ended) => (None, ended.map(Begun::Ended)),
            First::Make(key) => {
                let begun = Self::open_to_write(context, directory, above, entry, data);
                let keyed = |begun| match begun {
                    Begun::Large(large) => Begun::Large(Box::new(Self { key, ..*large })),
                    ended @ Begun::Ended(_) => ended,
                };
                (key, begun.map(keyed))
            }
        }
    }

    fn under_way(
        directory: &Arc<TargetDirectory>,
        entry: &Entry,
        reader: FileReader,
        target: NewFile,
        way: Way,
    ) -> Begun {
        directory.begin();
        Begun::Large(Box::new(Self {
            directory: Arc::clone(directory),
            entry: entry.clone(),
            reader,
            target,
            way,
            allocation: Allocation::default(),
            key: None,
            pending: AtomicUsize::new(1),
            has_failed: AtomicBool::new(false),
            result: Mutex::new(Ok(Outcome::default())),
        }))
    }

    fn open_to_verify(
        context: &Context<'_>,
        directory: &Arc<TargetDirectory>,
        above: &OwnedFd,
        entry: &Entry,
        data: &FileData,
    ) -> Attempt<Begun> {
        let file = open_uncached(above, entry.name.as_bytes())?;
        let stat = EntryStat::of(&file).map_err(Trouble::of("read back"))?;
        if stat.kind != EntryType::File || stat.size != data.size() {
            return Err(Trouble::Refused("it is not what was written to it"));
        }
        verify_links(context, directory, entry, &stat)?;
        let target = NewFile { file, partial: None };
        Ok(Self::under_way(directory, entry, context.tree.open_file(data), target, Way::Verify))
    }

    fn open_to_write(
        context: &Context<'_>,
        directory: &Arc<TargetDirectory>,
        above: &OwnedFd,
        entry: &Entry,
        data: &FileData,
    ) -> Attempt<Begun> {
        let (name, reader) = (entry.name.as_bytes(), context.tree.open_file(data));
        if let Some(stat) = stat_at(context, directory, above, name)? {
            if context.options.in_place
                && let Some(file) = open_to_mend(above, name, |stat| {
                    context.is_own(stat) || stat.uid == context.owners.user(entry.metadata.uid)
                })
            {
                return Self::mend(directory, entry, reader, NewFile { file, partial: None });
            }
            if let Some(ended) = keep_or_clear(context, directory, above, entry, &reader, &stat)? {
                return Ok(Begun::Ended(ended));
            }
        }
        if context.options.in_place && !directory.traits.is_new {
            let partial = directory.partial_name(context, name)?;
            if let Some(file) = open_to_mend(above, &partial, |stat| context.is_own(stat)) {
                return Self::mend(directory, entry, reader, NewFile { file, partial: Some(partial) });
            }
        }
        let target = NewFile::create(context, directory, above, name, false)?;
        if let Err(error) = target.file.set_len(reader.size()) {
            remove_partial(above, &target);
            return Err(Trouble::of("set the size of")(error));
        }
        Ok(Self::under_way(directory, entry, reader, target, Way::Write))
    }

    fn mend(
        directory: &Arc<TargetDirectory>,
        entry: &Entry,
        reader: FileReader,
        target: NewFile,
    ) -> Attempt<Begun> {
        let stat = EntryStat::of(&target.file).map_err(Trouble::of("look at"))?;
        let resized = stat.size != reader.size();
        if resized {
            target.file.set_len(reader.size()).map_err(Trouble::of("set the size of"))?;
        }
        let allocation = Allocation::of(&stat, &reader);
        let outcome = Outcome { differs: resized, ..Outcome::default() };
        match Self::under_way(directory, entry, reader, target, Way::Mend) {
            Begun::Large(large) => {
                let result = Mutex::new(Ok(outcome));
                Ok(Begun::Large(Box::new(Self { allocation, result, ..*large })))
            }
            ended @ Begun::Ended(_) => Ok(ended),
        }
    }

    pub(super) fn reader(&self) -> &FileReader {
        &self.reader
    }

    /// A piece of it is under way.
    pub(super) fn begin_piece(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Works on a piece; [`Large::done`] follows.
    pub(super) fn work(&self, context: &Context<'_>, piece: &Piece) {
        if self.has_failed.load(Ordering::Relaxed) {
            return;
        }
        let content = Content {
            reader: &self.reader,
            file: &self.target.file,
            allocation: self.allocation,
            monitor: context.monitor,
        };
        let worked = context.go_on().map_err(Trouble::from).and_then(|()| match self.way {
            Way::Write => content.write(piece),
            Way::Mend => content.compare(piece, true, true),
            Way::Verify => content.compare(piece, false, false),
        });
        match worked {
            Ok(outcome) => self.add(context, outcome),
            Err(trouble) => self.fail(trouble),
        }
        context.monitor.advance(piece.length());
    }

    fn add(&self, context: &Context<'_>, outcome: Outcome) {
        context.counters.written.fetch_add(outcome.written, Ordering::Relaxed);
        context.counters.compared.fetch_add(outcome.compared, Ordering::Relaxed);
        let outcome = Outcome { written: 0, compared: 0, ..outcome };
        if let Ok(result) = self.result.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            result.add(outcome);
        }
    }

    /// Notes why it can't be completed.
    pub(super) fn fail(&self, trouble: Trouble) {
        self.has_failed.store(true, Ordering::Relaxed);
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() {
            *result = Err(trouble);
        }
    }

    /// A piece, or the walk through it, is done. The last one finishes it.
    pub(super) fn done(&self, context: &Context<'_>) {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let result = std::mem::replace(&mut *result, Ok(Outcome::default()));
        let ended = result.and_then(|outcome| self.finish(context, sorted(outcome)));
        if let Err(trouble) = &ended {
            self.remove_unfinished(trouble);
        }
        settle(context, &self.directory, &self.entry, self.key, &ended);
        conclude(context, &self.directory, &self.entry, ended);
        self.directory.done(context);
    }

    fn finish(&self, context: &Context<'_>, outcome: Outcome) -> Attempt<Ended> {
        // Unfinished work must not look complete.
        context.go_on()?;
        let above = self.directory.open()?;
        match (self.way, &self.target.partial) {
            (Way::Verify, _) if outcome.differs => Err(Trouble::Refused("it is not what was written to it")),
            (Way::Verify, _) => self.ended(true),
            (Way::Mend, None) if outcome.lost.is_empty() => self.finish_in_place(context, &outcome),
            (Way::Mend, None) => {
                let rest = "in place all else was restored, and there it has what was there before";
                tell_lost(context, &self.directory, self.entry.name.as_bytes(), outcome, rest);
                Ok(Ended::Damaged)
            }
            (Way::Mend | Way::Write, _) => self.finish_new(context, &above, outcome),
        }
    }

    fn finish_in_place(&self, context: &Context<'_>, outcome: &Outcome) -> Attempt<Ended> {
        let handle = Handle::Open(self.target.file.as_fd());
        let (name, stat) = (self.entry.name.as_bytes(), handle.stat()?);
        let wanted = context.wanted(&self.directory, name, &self.entry)?;
        let changes = Changes::plan(handle, &wanted, Before::There(&stat))?;
        let left_out = changes.apply(handle, EntryType::File, &wanted);
        context.note_left_out(&self.directory, name, left_out);
        self.ended(!outcome.differs && changes.is_empty())
    }

    fn finish_new(&self, context: &Context<'_>, above: &OwnedFd, outcome: Outcome) -> Attempt<Ended> {
        self.target.complete(context, &self.directory, above, &self.entry, &self.reader, outcome)
    }

    fn ended(&self, is_unchanged: bool) -> Attempt<Ended> {
        let stat = EntryStat::of(&self.target.file).map_err(Trouble::of("look at"))?;
        Ok(Ended::Done { is_unchanged, identity: stat.identity })
    }

    /// What was interrupted stays, to be continued.
    fn remove_unfinished(&self, trouble: &Trouble) {
        let is_interrupted = matches!(trouble, Trouble::Engine(crate::error::Error::Cancelled));
        if let (false, Ok(above)) = (is_interrupted, self.directory.open()) {
            remove_partial(&above, &self.target);
        }
    }
}

fn remove_partial(above: &OwnedFd, target: &NewFile) {
    if let Some(partial) = &target.partial {
        let _ = unlinkat(above, partial.as_slice(), AtFlags::empty());
    }
}

/// What begins with a large file.
enum Begun {
    Large(Box<Large>),
    Ended(Ended),
}

/// Pieces are done in any order.
fn sorted(mut outcome: Outcome) -> Outcome {
    outcome.lost = crate::extent::joined(outcome.lost);
    outcome
}

/// Opens a file that may be changed in place: a plain one without further names, whose owner may have it open for writing
/// now and later. What can't be opened so is replaced.
fn open_to_mend(above: &OwnedFd, name: &[u8], may_own: impl Fn(&EntryStat) -> bool) -> Option<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_file = |stat: &EntryStat| stat.kind == EntryType::File && stat.links == 1 && may_own(stat);
    // Looked at before: a device may do anything when it is opened.
    EntryStat::at(above, name).ok().filter(is_file)?;
    let file = openat(above, name, flags, Mode::empty()).ok()?;
    EntryStat::of(&file).ok().filter(is_file)?;
    Some(File::from(file))
}
