//! Large files, piece by piece on all cores.
//!
//! A new one lies under another name until it is complete, and is continued there after an interruption. One that is
//! there is mended in place, so that only what differs is written.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use super::super::ranges::Stretch;
use super::content::{Allocation, Arms, Content, Outcome, Piece};
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::{Ended, conclude, stat_at};
use super::file::{NewFile, keep_or_clear, tell_lost};
use super::hard_links::Unsettled;
use super::linking::{First, meet, settle};
use super::metadata::{Before, Changes, Handle};
use super::partial;
use super::problems::{Attempt, Trouble};
use super::trust::{is_plain, may_mend};
use super::verify::{DIFFERS, NOT_COMPARED, ReadBack, open_uncached, verify_links};
use crate::format::{Entry, EntryContent, FileData};
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
    stretch: Stretch,
    arms: Option<Arms>,
    /// Those who wait for it.
    unsettled: Mutex<Option<Unsettled>>,
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
        let (unsettled, begun) = match directory.open() {
            Ok(above) => Self::open(context, directory, &above, entry, data),
            Err(trouble) => (None, Err(trouble)),
        };
        match begun {
            Ok(Begun::Large(large)) => Some(Arc::new(*large)),
            Ok(Begun::Ended(ended)) => {
                context.monitor.advance(data.size());
                let ended = Ok(ended);
                settle(directory, entry, unsettled, &ended);
                conclude(context, directory, entry, ended);
                None
            }
            Err(trouble) => {
                let ended = Err(trouble);
                settle(directory, entry, unsettled, &ended);
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
    ) -> (Option<Unsettled>, Attempt<Begun>) {
        if context.verifies() {
            return (None, Self::open_to_verify(context, directory, above, entry, data));
        }
        match meet(context, directory, above, entry) {
            First::Done(ended) => (None, ended.map(Begun::Ended)),
            First::Make(unsettled) => match Self::open_to_write(context, directory, above, entry, data) {
                Ok(Begun::Large(large)) => {
                    let unsettled = Mutex::new(unsettled);
                    (None, Ok(Begun::Large(Box::new(Self { unsettled, ..*large }))))
                }
                ended => (unsettled, ended),
            },
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
            stretch: Stretch::default(),
            arms: None,
            unsettled: Mutex::default(),
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
            return Err(DIFFERS);
        }
        if verify_links(context, directory, entry, &stat)? == ReadBack::UnderOtherName {
            return Ok(Begun::Ended(Ended::Done { is_unchanged: true, identity: stat.identity }));
        }
        let target = NewFile { file, partial: None, is_continued: false };
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
                && let Some(target) = open_to_mend(context, above, entry, name)?
            {
                return Self::mend(context, directory, entry, reader, target);
            }
            if let Some(ended) = keep_or_clear(context, directory, above, entry, &reader, &stat)? {
                return Ok(Begun::Ended(ended));
            }
        }
        if context.options.in_place && !directory.traits.is_new {
            let partial = directory.partial_name(context, name)?;
            if let Some(target) = open_to_continue(context, above, entry, partial)? {
                return Self::mend(context, directory, entry, reader, target);
            }
        }
        let target = NewFile::create(context, directory, above, name, false)?;
        if let Err(error) = target.file.set_len(reader.size()) {
            target.remove(above, name);
            return Err(Trouble::of("set the size of")(error));
        }
        Ok(Self::under_way(directory, entry, reader, target, Way::Write))
    }

    fn mend(
        context: &Context<'_>,
        directory: &Arc<TargetDirectory>,
        entry: &Entry,
        reader: FileReader,
        target: NewFile,
    ) -> Attempt<Begun> {
        let look = || EntryStat::of(&target.file).map_err(Trouble::of("look at"));
        let mut stat = look()?;
        let arms = Arms::of(&stat, context.owners.group(entry.metadata.gid));
        let resized = stat.size != reader.size();
        if resized {
            arms.take(&target.file)?;
            target.file.set_len(reader.size()).map_err(Trouble::of("set the size of"))?;
            // Blocks behind the end count no more.
            stat = look()?;
        }
        let allocation = Allocation::of(&stat, &reader);
        let outcome = Outcome { differs: resized, ..Outcome::default() };
        match Self::under_way(directory, entry, reader, target, Way::Mend) {
            Begun::Large(large) => {
                let (result, arms) = (Mutex::new(Ok(outcome)), Some(arms));
                Ok(Begun::Large(Box::new(Self { allocation, arms, result, ..*large })))
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
        let content = self.content(context);
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

    fn content<'a>(&'a self, context: &'a Context<'_>) -> Content<'a> {
        Content {
            reader: &self.reader,
            file: &self.target.file,
            allocation: self.allocation,
            stretch: &self.stretch,
            monitor: context.monitor,
            arms: self.arms.as_ref(),
        }
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
        let unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).take();
        settle(&self.directory, &self.entry, unsettled, &ended);
        conclude(context, &self.directory, &self.entry, ended);
        self.directory.done(context);
    }

    fn finish(&self, context: &Context<'_>, outcome: Outcome) -> Attempt<Ended> {
        // Unfinished work must not look complete.
        context.go_on()?;
        let above = self.directory.open()?;
        if self.way == Way::Mend {
            self.content(context).fill_long_zeros()?;
        }
        match (self.way, &self.target.partial) {
            (Way::Verify, _) if outcome.differs => Err(DIFFERS),
            (Way::Verify, _) if outcome.lost.is_empty() => self.ended(true),
            (Way::Verify, _) => {
                tell_lost(context, &self.directory, self.entry.name.as_bytes(), outcome, NOT_COMPARED);
                Ok(Ended::Damaged)
            }
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
        let wanted = context.wanted(&self.entry)?;
        let changes = Changes::plan(handle, &wanted, Before::There(&stat))?;
        context.set(&self.directory, name, (handle, EntryType::File), &wanted, &changes);
        self.ended(!outcome.differs && changes.is_empty())
    }

    fn finish_new(&self, context: &Context<'_>, above: &OwnedFd, outcome: Outcome) -> Attempt<Ended> {
        if self.target.is_continued {
            // What an earlier run wrote there need not be of this revision.
            outcome.lost.iter().try_for_each(|range| self.content(context).punch(range))?;
        }
        self.target.complete(context, &self.directory, above, &self.entry, &self.reader, outcome)
    }

    fn ended(&self, is_unchanged: bool) -> Attempt<Ended> {
        let stat = EntryStat::of(&self.target.file).map_err(Trouble::of("look at"))?;
        Ok(Ended::Done { is_unchanged, identity: stat.identity })
    }

    /// What was interrupted stays, to be continued.
    fn remove_unfinished(&self, trouble: &Trouble) {
        let is_interrupted = matches!(trouble, Trouble::Engine(crate::error::Error::Cancelled));
        if self.target.partial.is_some()
            && !is_interrupted
            && let Ok(above) = self.directory.open()
        {
            self.target.remove(&above, self.entry.name.as_bytes());
        }
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

/// Whether an entry is restored piece by piece.
pub(super) fn is_large(entry: &Entry) -> bool {
    matches!(&entry.content, EntryContent::File(data) if data.size() > LARGE)
}

/// Opens a file that is there to be changed in place, if it may be. What another process has locked is left to that.
fn open_to_mend(
    context: &Context<'_>,
    above: &OwnedFd,
    entry: &Entry,
    name: &[u8],
) -> Attempt<Option<NewFile>> {
    let Some((file, stat)) = open_plain(above, name) else { return Ok(None) };
    if !partial::lock(&file) || !allows_mending(context, entry, &file, &stat)? {
        return Ok(None);
    }
    Ok(Some(NewFile { file, partial: None, is_continued: false }))
}

/// Opens what an interrupted run has left of an entry, if it is ours and can be gone on with.
fn open_to_continue(
    context: &Context<'_>,
    above: &OwnedFd,
    entry: &Entry,
    partial: Vec<u8>,
) -> Attempt<Option<NewFile>> {
    let Some((file, stat)) = open_plain(above, &partial) else { return Ok(None) };
    partial::take(above, &partial, &file)?;
    if !context.is_own(&stat) || !allows_mending(context, entry, &file, &stat)? {
        return Ok(None);
    }
    Ok(Some(NewFile { file, partial: Some(partial), is_continued: true }))
}

fn allows_mending(context: &Context<'_>, entry: &Entry, file: &File, stat: &EntryStat) -> Attempt<bool> {
    let wanted = context.wanted(entry)?;
    let changes = Changes::plan(Handle::Open(file.as_fd()), &wanted, Before::There(stat))?;
    Ok(may_mend(context, stat, &wanted, &changes))
}

/// Opens a plain file without further names. What can't be opened so is replaced.
fn open_plain(above: &OwnedFd, name: &[u8]) -> Option<(File, EntryStat)> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Looked at before: a device may do anything when it is opened.
    EntryStat::at(above, name).ok().filter(is_plain)?;
    let file = openat(above, name, flags, Mode::empty()).ok()?;
    let stat = EntryStat::of(&file).ok().filter(is_plain)?;
    Some((File::from(file), stat))
}
