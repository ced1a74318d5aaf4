//! One entry that is no directory: made, linked to another name, kept or replaced.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, makedev, mknodat, openat, readlinkat, renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::context::Context;
use super::directory::TargetDirectory;
use super::file::restore_small;
use super::linking::{First, meet, settle};
use super::metadata::{Before, Changes, Handle};
use super::partial;
use super::problems::{Attempt, Skipped, Trouble, shown};
use super::trust::{claim, may_stay};
use super::verify::verify_entry;
use crate::format::{Entry, EntryContent};
use crate::source::tree::{EntryStat, EntryType, Identity};

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is as it should be, and was before.
    Done { is_unchanged: bool, identity: Identity },
    /// It is damaged in the repository, which was told.
    Damaged,
    /// It was left out, which was told.
    LeftOut,
}

impl Ended {
    /// It was written, and nobody will ask which inode it has.
    pub(super) const WRITTEN: Self =
        Self::Done { is_unchanged: false, identity: Identity { device: 0, inode: 0 } };
}

/// Restores an entry, or reads it back, and tells what became of it.
pub(super) fn process(context: &Context<'_>, directory: &TargetDirectory, above: &OwnedFd, entry: &Entry) {
    let ended = match context.verifies() {
        true => verify_entry(context, directory, above, entry),
        false => restore_entry(context, directory, above, entry),
    };
    conclude(context, directory, entry, ended);
    if let EntryContent::File(data) = &entry.content {
        context.monitor.advance(data.size());
    }
}

/// Tells and counts what became of an entry.
pub(super) fn conclude(
    context: &Context<'_>,
    directory: &TargetDirectory,
    entry: &Entry,
    ended: Attempt<Ended>,
) {
    match ended {
        Ok(Ended::Done { is_unchanged, .. }) => context.count(entry, is_unchanged),
        Ok(Ended::Damaged | Ended::LeftOut) => {}
        Err(trouble) => context.fail(directory, entry.name.as_bytes(), trouble),
    }
}

fn restore_entry(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
) -> Attempt<Ended> {
    match meet(context, directory, above, entry) {
        First::Done(ended) => ended,
        First::Make(unsettled) => {
            let ended = match &entry.content {
                EntryContent::File(data) => restore_small(context, directory, above, entry, data),
                _ => restore_special(context, directory, above, entry),
            };
            settle(directory, entry, unsettled, &ended);
            ended
        }
    }
}

/// What has a name in a directory of the target.
pub(super) fn stat_at(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    name: &[u8],
) -> Attempt<Option<EntryStat>> {
    if directory.traits.is_new {
        return Ok(None);
    }
    match EntryStat::at(above, name) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Trouble::of("look at")(errno)),
        Ok(_) if !context.replaces() => Err(Trouble::Refused("it exists")),
        Ok(stat) => Ok(Some(stat)),
    }
}

/// Restores what is neither a file nor a directory.
fn restore_special(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
) -> Attempt<Ended> {
    let name = entry.name.as_bytes();
    let there = stat_at(context, directory, above, name)?;
    if let Some(stat) = &there {
        if context.options.in_place && is_same(above, name, stat, &entry.content) {
            let held = hold(above, name)?;
            if let Some(ended) = keep_special(context, directory, entry, &held)? {
                return Ok(ended);
            }
        }
        if stat.kind == EntryType::Directory {
            directory.clear_way(context, above, name)?;
        }
    }
    let partial = there.map(|_| directory.partial_name(context, name)).transpose()?;
    let is_at = partial.as_deref().unwrap_or(name);
    match make_anew(above, is_at, partial.is_some(), || make(above, is_at, &entry.content))? {
        Err(Errno::PERM | Errno::ACCESS) if is_device(&entry.content) => {
            return Ok(leave_out(context, directory, name));
        }
        made => made.map_err(Trouble::of("create"))?,
    }
    let finished = finish_special(context, directory, above, entry, partial.as_deref());
    if finished.is_err() {
        let _ = unlinkat(above, is_at, AtFlags::empty());
    }
    finished
}

/// Tells of a device that may not be made.
pub(super) fn leave_out(context: &Context<'_>, directory: &TargetDirectory, name: &[u8]) -> Ended {
    context.problems.skip(Skipped::Device, || shown(&context.path_in_target(directory, name)));
    Ended::LeftOut
}

/// Makes something under a name; where the name is our own, what an interrupted run has left there goes first.
pub(super) fn make_anew(
    above: &OwnedFd,
    name: &[u8],
    is_own: bool,
    make: impl Fn() -> Result<(), Errno>,
) -> Attempt<Result<(), Errno>> {
    match make() {
        Err(Errno::EXIST) if is_own => {
            partial::remove_left(above, name)?;
            Ok(make())
        }
        made => Ok(made),
    }
}

fn keep_special(
    context: &Context<'_>,
    directory: &TargetDirectory,
    entry: &Entry,
    held: &OwnedFd,
) -> Attempt<Option<Ended>> {
    let (name, handle) = (entry.name.as_bytes(), Handle::Held(held.as_fd()));
    let stat = handle.stat()?;
    if stat.kind != type_of(&entry.content) {
        return Ok(None);
    }
    let wanted = context.wanted(entry)?;
    let changes = Changes::plan(handle, &wanted, Before::There(&stat))?;
    if !may_stay(context, entry, &stat, &wanted, &changes) || !claim(context, &stat) {
        return Ok(None);
    }
    context.set(directory, name, (handle, stat.kind), &wanted, &changes);
    Ok(Some(Ended::Done { is_unchanged: changes.is_empty(), identity: stat.identity }))
}

fn finish_special(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    partial: Option<&[u8]>,
) -> Attempt<Ended> {
    let name = entry.name.as_bytes();
    let held = hold(above, partial.unwrap_or(name))?;
    let handle = Handle::Held(held.as_fd());
    let stat = handle.stat()?;
    // Nobody may have put something else there, least of all a name of something elsewhere.
    if stat.links != 1 || !is_same(above, partial.unwrap_or(name), &stat, &entry.content) {
        return Err(Trouble::Refused("it can't be made here, or was replaced at once"));
    }
    let wanted = context.wanted(entry)?;
    let changes = Changes::plan(handle, &wanted, directory.before(false))?;
    context.set(directory, name, (handle, stat.kind), &wanted, &changes);
    if let Some(partial) = partial {
        renameat(above, partial, above, name).map_err(Trouble::of("rename to"))?;
    }
    Ok(Ended::Done { is_unchanged: false, identity: stat.identity })
}

fn make(above: &OwnedFd, name: &[u8], content: &EntryContent) -> Result<(), Errno> {
    let node = |kind, device| mknodat(above, name, kind, Mode::RUSR | Mode::WUSR, device);
    match content {
        EntryContent::Symlink(target) => symlinkat(target.as_bytes(), above, name),
        EntryContent::BlockDevice { major, minor } => node(FileType::BlockDevice, makedev(*major, *minor)),
        EntryContent::CharacterDevice { major, minor } => {
            node(FileType::CharacterDevice, makedev(*major, *minor))
        }
        EntryContent::Fifo => node(FileType::Fifo, 0),
        EntryContent::Socket => node(FileType::Socket, 0),
        EntryContent::File(_) | EntryContent::Directory(_) => Err(Errno::INVAL),
    }
}

/// Whether what is there is the same but for its metadata.
pub(super) fn is_same(above: &OwnedFd, name: &[u8], stat: &EntryStat, content: &EntryContent) -> bool {
    stat.kind == type_of(content)
        && match content {
            EntryContent::Symlink(target) => {
                readlinkat(above, name, Vec::new()).is_ok_and(|found| found.as_bytes() == target.as_bytes())
            }
            EntryContent::BlockDevice { major, minor } | EntryContent::CharacterDevice { major, minor } => {
                stat.device_number == (*major, *minor)
            }
            _ => true,
        }
}

pub(super) fn type_of(content: &EntryContent) -> EntryType {
    match content {
        EntryContent::File(_) => EntryType::File,
        EntryContent::Directory(_) => EntryType::Directory,
        EntryContent::Symlink(_) => EntryType::Symlink,
        EntryContent::BlockDevice { .. } => EntryType::BlockDevice,
        EntryContent::CharacterDevice { .. } => EntryType::CharacterDevice,
        EntryContent::Fifo => EntryType::Fifo,
        EntryContent::Socket => EntryType::Socket,
    }
}

pub(super) fn is_device(content: &EntryContent) -> bool {
    matches!(content, EntryContent::BlockDevice { .. } | EntryContent::CharacterDevice { .. })
}

/// Takes hold of something without opening it.
fn hold(above: &OwnedFd, name: &[u8]) -> Attempt<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(above, name, flags, Mode::empty()).map_err(Trouble::of("open"))
}
