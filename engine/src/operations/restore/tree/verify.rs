//! Reads back what was restored: types, links and every byte. Owners and times are what the system said it has set.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Advice, fadvise};

use super::access::open_file;
use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::{Ended, is_device, is_same};
use super::file::{compare_all, tell_lost};
use super::hard_links::Meeting;
use super::linking::settle;
use super::problems::{Attempt, Skipped, Trouble};
use crate::format::{Entry, EntryContent};
use crate::source::tree::EntryStat;

pub(super) const DIFFERS: Trouble = Trouble::Refused("it is not what was written to it");

/// What is told of parts that could be read when they were restored, and no more.
pub(super) const NOT_COMPARED: &str = "what was restored there could not be compared";

/// Reads an entry back that is no directory, and no large file.
pub(super) fn verify_entry(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
) -> Attempt<Ended> {
    let name = entry.name.as_bytes();
    // It could not be made, which was told, and whatever was in its place is.
    let is_left_out = is_device(&entry.content) && context.problems.has_skipped(Skipped::Device);
    let stat = match EntryStat::at(above, name) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) if is_left_out => return Ok(Ended::LeftOut),
        Err(errno) => return Err(Trouble::of("read back")(errno)),
    };
    if !is_same(above, name, &stat, &entry.content) {
        return if is_left_out { Ok(Ended::LeftOut) } else { Err(DIFFERS) };
    }
    if verify_links(context, directory, entry, &stat)? == ReadBack::UnderOtherName {
        return Ok(Ended::Done { is_unchanged: true, identity: stat.identity });
    }
    if let EntryContent::File(data) = &entry.content {
        let reader = context.tree.open_file(data);
        let file = open_uncached(above, name)?;
        let stat = EntryStat::of(&file).map_err(Trouble::of("read back"))?;
        if stat.size != reader.size() {
            return Err(DIFFERS);
        }
        let outcome = compare_all(context, &file, &reader, &stat, false)?;
        if outcome.differs {
            return Err(DIFFERS);
        }
        if !outcome.lost.is_empty() {
            tell_lost(context, directory, name, outcome, NOT_COMPARED);
            return Ok(Ended::Damaged);
        }
    }
    Ok(Ended::Done { is_unchanged: true, identity: stat.identity })
}

/// Whether the content of a file is to be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBack {
    Wanted,
    /// It is that of another name, under which it is read and told of.
    UnderOtherName,
}

/// Whether all names of one lead to one.
pub(super) fn verify_links(
    context: &Context<'_>,
    directory: &TargetDirectory,
    entry: &Entry,
    stat: &EntryStat,
) -> Attempt<ReadBack> {
    if !entry.has_other_names {
        return Ok(ReadBack::Wanted);
    }
    match context.links.meet(entry) {
        Meeting::First(unsettled) => {
            let ended = Ok(Ended::Done { is_unchanged: true, identity: stat.identity });
            settle(directory, entry, Some(unsettled), &ended);
            Ok(ReadBack::Wanted)
        }
        Meeting::Later(_, made) if made.identity != stat.identity => {
            Err(Trouble::Refused("it is no hard link of its other name"))
        }
        Meeting::Later(..) => Ok(ReadBack::UnderOtherName),
        Meeting::Damaged | Meeting::LeftOut | Meeting::Untracked => Ok(ReadBack::Wanted),
    }
}

/// Opens a file so that what is read comes from the medium, as far as the system lets go of what it has in memory.
pub(super) fn open_uncached(above: &OwnedFd, name: &[u8]) -> Attempt<File> {
    let file = open_file(above, name).map_err(Trouble::of("read back"))?;
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    Ok(File::from(file))
}
