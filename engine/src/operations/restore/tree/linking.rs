//! Names of what has several: the first that is met is made, and the others become links to it.
//!
//! Where no link can be made, or the first name could not be, a name becomes a file of its own, and those that come later
//! link to that one.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, linkat, renameat, unlinkat};
use rustix::io::Errno;

use super::context::Context;
use super::directory::TargetDirectory;
use super::entry::{Ended, leave_out, make_anew, stat_at};
use super::hard_links::{First as FirstName, Made, Meeting, Unsettled};
use super::problems::{Attempt, Trouble};
use crate::format::Entry;
use crate::source::tree::{EntryStat, EntryType};

/// How an entry is met that may have other names.
pub(super) enum First {
    /// It must be made; where others wait for it, what became of it is [settled](settle).
    Make(Option<Unsettled>),
    /// It is a link now, or can't be one.
    Done(Attempt<Ended>),
}

/// Looks whether another name of the same was met, and links to it.
pub(super) fn meet(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
) -> First {
    if !entry.has_other_names {
        return First::Make(None);
    }
    let untracked = |unsettled| {
        context.counters.untracked.fetch_add(1, Ordering::Relaxed);
        First::Make(unsettled)
    };
    let name = entry.name.as_bytes();
    match context.links.meet(entry) {
        Meeting::First(unsettled) => First::Make(Some(unsettled)),
        Meeting::Later(key, made) => match link(context, directory, above, entry, &made) {
            Ok(Some(ended)) => First::Done(Ok(ended)),
            Ok(None) => untracked(Some(context.links.begin_again(key))),
            Err(trouble) => First::Done(Err(trouble)),
        },
        Meeting::Damaged => First::Done(Ok(tell_damaged(context, directory, name))),
        Meeting::LeftOut => First::Done(Ok(leave_out(context, directory, name))),
        Meeting::Untracked => untracked(None),
    }
}

fn tell_damaged(context: &Context<'_>, directory: &TargetDirectory, name: &[u8]) -> Ended {
    let detail = "it is a hard link of another damaged name".to_owned();
    context.problems.tell_damage(context.path_in_revision(directory, name), Vec::new(), detail);
    Ended::Damaged
}

/// Tells those who wait for it what became of the first name.
pub(super) fn settle(
    directory: &TargetDirectory,
    entry: &Entry,
    unsettled: Option<Unsettled>,
    ended: &Attempt<Ended>,
) {
    let Some(unsettled) = unsettled else { return };
    let first = match ended {
        Ok(Ended::Done { identity, .. }) => FirstName::Made(Arc::new(Made {
            place: Arc::clone(&directory.place),
            name: entry.name.as_bytes().into(),
            identity: *identity,
        })),
        Ok(Ended::Damaged) => FirstName::Damaged,
        Ok(Ended::LeftOut) => FirstName::LeftOut,
        Err(_) => FirstName::Failed,
    };
    unsettled.settle(first);
}

/// Makes an entry a further name of what was made; `None` if there can be no such link.
fn link(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    entry: &Entry,
    made: &Made,
) -> Attempt<Option<Ended>> {
    let name = entry.name.as_bytes();
    let done = |is_unchanged| Ok(Some(Ended::Done { is_unchanged, identity: made.identity }));
    let there = stat_at(context, directory, above, name)?;
    if let Some(stat) = &there {
        if stat.identity == made.identity {
            return done(true);
        }
        if stat.kind == EntryType::Directory {
            directory.clear_way(context, above, name)?;
        }
    }
    let first = made.place.open().map_err(|_| Trouble::Refused("its other name is gone"))?;
    let partial = there.map(|_| directory.partial_name(context, name)).transpose()?;
    let to = partial.as_deref().unwrap_or(name);
    let link = || linkat(&first, &*made.name, above, to, AtFlags::empty());
    match make_anew(above, to, partial.is_some(), link)? {
        Err(errno) if is_no_place_for_it(errno) => return Ok(None),
        made => made.map_err(Trouble::of("make a hard link of"))?,
    }
    let linked = EntryStat::at(above, to).map_err(Trouble::of("look at"))?;
    if linked.identity != made.identity {
        let _ = unlinkat(above, to, AtFlags::empty());
        return Err(Trouble::Refused("its other name was replaced while it was restored"));
    }
    if let Some(partial) = &partial {
        renameat(above, partial.as_slice(), above, name).map_err(Trouble::of("rename to"))?;
    }
    done(false)
}

/// Whether a link fails so because it lies on another file system, has as many names as there can be, or because the file
/// system or this user may have none.
fn is_no_place_for_it(errno: Errno) -> bool {
    matches!(errno, Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_link_can_help_is_made_anew() {
        for errno in [Errno::XDEV, Errno::MLINK, Errno::PERM, Errno::OPNOTSUPP] {
            assert!(is_no_place_for_it(errno), "{errno}");
        }
        for errno in [Errno::NOSPC, Errno::ACCESS, Errno::EXIST, Errno::NOENT, Errno::IO] {
            assert!(!is_no_place_for_it(errno), "{errno}");
        }
    }
}
