//! Files of the target: new ones, and those that are there and may be right already.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use super::super::ranges::Stretch;
use super::access::open_file;
use super::content::{Allocation, Content, Outcome, pieces};
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::{Ended, stat_at};
use super::metadata::{Before, Changes, Handle};
use super::partial;
use super::problems::{Attempt, Trouble};
use super::rest::keep_rest;
use super::trust::{claim, may_stay};
use crate::format::{Entry, FileData};
use crate::revision::FileReader;
use crate::source::tree::{EntryStat, EntryType};

/// A file that is being written. It has its name already, or another one until it is complete.
pub(super) struct NewFile {
    pub(super) file: File,
    /// Where it lies until it is complete.
    pub(super) partial: Option<Vec<u8>>,
    /// An earlier run has made it.
    pub(super) is_continued: bool,
}

/// Restores a small file.
pub(super) fn restore_small(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    data: &FileData,
) -> Attempt<Ended> {
    let reader = context.tree.open_file(data);
    let name = entry.name.as_bytes();
    if let Some(stat) = stat_at(context, directory, above, name)?
        && let Some(ended) = keep_or_clear(context, directory, above, entry, &reader, &stat)?
    {
        return Ok(ended);
    }
    let new = NewFile::create(context, directory, above, name, directory.traits.is_new)?;
    let written = write_all(context, &new.file, &reader);
    new.finish(context, directory, above, entry, &reader, written)
}

/// Keeps a file that is right, or makes way for another one.
pub(super) fn keep_or_clear(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    reader: &FileReader,
    stat: &EntryStat,
) -> Attempt<Option<Ended>> {
    match stat.kind {
        EntryType::File if context.options.in_place => keep(context, directory, above, entry, reader),
        EntryType::Directory => directory.clear_way(context, above, entry.name.as_bytes()).map(|()| None),
        _ => Ok(None),
    }
}

/// Keeps a file whose content is right, and sets what of its metadata is not. `None` if it has to be written.
fn keep(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    reader: &FileReader,
) -> Attempt<Option<Ended>> {
    let name = entry.name.as_bytes();
    // What can't be read is written anew.
    let Ok(descriptor) = open_file(above, name) else { return Ok(None) };
    let file = File::from(descriptor);
    let stat = EntryStat::of(&file).map_err(Trouble::of("look at"))?;
    if stat.kind != EntryType::File || stat.size != reader.size() {
        return Ok(None);
    }
    let (handle, wanted) = (Handle::Open(file.as_fd()), context.wanted(entry)?);
    let changes = Changes::plan(handle, &wanted, Before::There(&stat))?;
    if !may_stay(context, entry, &stat, &wanted, &changes) {
        return Ok(None);
    }
    let outcome = compare_all(context, &file, reader, &stat, true)?;
    if outcome.differs {
        return Ok(None);
    }
    if !outcome.lost.is_empty() {
        tell_lost(context, directory, name, outcome, "it is left as it was");
        return Ok(Some(Ended::Damaged));
    }
    if !claim(context, &stat) {
        return Ok(None);
    }
    context.set(directory, name, (handle, EntryType::File), &wanted, &changes);
    Ok(Some(Ended::Done { is_unchanged: changes.is_empty(), identity: stat.identity }))
}

/// Compares all of a file with what is there, up to the first difference.
pub(super) fn compare_all(
    context: &Context<'_>,
    file: &File,
    reader: &FileReader,
    stat: &EntryStat,
    holes: bool,
) -> Attempt<Outcome> {
    let allocation = Allocation::of(stat, reader);
    let stretch = &Stretch::default();
    let content = Content { reader, file, allocation, stretch, monitor: context.monitor, arms: None };
    let mut outcome = Outcome::default();
    for piece in pieces(reader) {
        context.go_on()?;
        outcome.add(content.compare(&piece?, false, holes)?);
        if outcome.differs {
            break;
        }
    }
    context.counters.compared.fetch_add(outcome.compared, Ordering::Relaxed);
    Ok(outcome)
}

fn write_all(context: &Context<'_>, file: &File, reader: &FileReader) -> Attempt<Outcome> {
    let allocation = Allocation::default();
    let stretch = &Stretch::default();
    let content = Content { reader, file, allocation, stretch, monitor: context.monitor, arms: None };
    if !reader.is_slice() && reader.size() > 0 {
        file.set_len(reader.size()).map_err(Trouble::of("set the size of"))?;
    }
    let mut outcome = Outcome::default();
    for piece in pieces(reader) {
        outcome.add(content.write(&piece?)?);
    }
    Ok(outcome)
}

/// Tells which parts of a file have no intact copy, and what became of the rest.
pub(super) fn tell_lost(
    context: &Context<'_>,
    directory: &TargetDirectory,
    name: &[u8],
    outcome: Outcome,
    rest: &str,
) {
    let detail = format!("{rest} ({})", outcome.detail);
    context.problems.tell_damage(context.path_in_revision(directory, name), outcome.lost, detail);
}

impl NewFile {
    /// Makes a file that is ours alone: under its own name with `direct`, else under one that it has until it is complete.
    pub(super) fn create(
        context: &Context<'_>,
        directory: &TargetDirectory,
        above: &OwnedFd,
        name: &[u8],
        direct: bool,
    ) -> Attempt<Self> {
        if direct {
            let file = partial::create_new(above, name).map_err(Trouble::of("create"))?;
            return Ok(Self { file, partial: None, is_continued: false });
        }
        let partial = directory.partial_name(context, name)?;
        let file = partial::create(above, &partial)?;
        Ok(Self { file, partial: Some(partial), is_continued: false })
    }

    /// Gives it what the entry has, and its name, after all of it was written as `written` tells.
    pub(super) fn finish(
        self,
        context: &Context<'_>,
        directory: &TargetDirectory,
        above: &OwnedFd,
        entry: &Entry,
        reader: &FileReader,
        written: Attempt<Outcome>,
    ) -> Attempt<Ended> {
        let finished = written.and_then(|outcome| {
            context.counters.written.fetch_add(outcome.written, Ordering::Relaxed);
            self.complete(context, directory, above, entry, reader, outcome)
        });
        if finished.is_err() {
            // Half a file is none, and why is told.
            self.remove(above, entry.name.as_bytes());
        }
        finished
    }

    /// Removes it from where it lies, be that `name`.
    pub(super) fn remove(&self, above: &OwnedFd, name: &[u8]) {
        partial::remove(above, self.partial.as_deref().unwrap_or(name), &self.file);
    }

    /// The same of what was written piece by piece; on an error it stays where it is.
    pub(super) fn complete(
        &self,
        context: &Context<'_>,
        directory: &TargetDirectory,
        above: &OwnedFd,
        entry: &Entry,
        reader: &FileReader,
        outcome: Outcome,
    ) -> Attempt<Ended> {
        match outcome.lost.is_empty() {
            true => self.publish(context, directory, above, entry),
            false => keep_rest(context, directory, above, entry, self, (reader, outcome)),
        }
    }

    fn publish(
        &self,
        context: &Context<'_>,
        directory: &TargetDirectory,
        above: &OwnedFd,
        entry: &Entry,
    ) -> Attempt<Ended> {
        self.set_metadata(context, directory, entry)?;
        // Only links need it.
        let stat = || EntryStat::of(&self.file).map_err(Trouble::of("look at"));
        let ended = match entry.has_other_names {
            true => Ended::Done { is_unchanged: false, identity: stat()?.identity },
            false => Ended::WRITTEN,
        };
        if let Some(partial) = &self.partial {
            partial::publish(above, partial, &self.file, entry.name.as_bytes())?;
        }
        Ok(ended)
    }

    pub(super) fn set_metadata(
        &self,
        context: &Context<'_>,
        directory: &TargetDirectory,
        entry: &Entry,
    ) -> Attempt<()> {
        let wanted = context.wanted(entry)?;
        let handle = Handle::Open(self.file.as_fd());
        let changes = Changes::plan(handle, &wanted, directory.before(self.is_continued))?;
        context.set(directory, entry.name.as_bytes(), (handle, EntryType::File), &wanted, &changes);
        Ok(())
    }
}
