//! Removing what the revision does not have: never through a symlink, a mount point, or into the repository.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::access::{OpenDirectory, Work, give_back};
use super::context::Context;
use super::directory::{REPOSITORY, TargetDirectory, is_mount_point};
use super::problems::{Attempt, Trouble, shown};
use crate::error::Result;
use crate::source::tree::{Directory, EntryStat, EntryType, Names};

/// Makes way for something that is no directory: what is empty goes, and what is not only where extra entries go.
pub(super) fn clear_way(
    context: &Context<'_>,
    directory: &TargetDirectory,
    above: &OwnedFd,
    name: &[u8],
) -> Attempt<()> {
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(errno) => return Err(Trouble::of("remove")(errno)),
    }
    if !context.options.delete || directory.traits.is_foreign {
        return Err(Trouble::Refused("a directory that is not empty is in the way; --delete removes it"));
    }
    if directory.is_partly_stored() {
        return Err(Trouble::Refused(
            "a directory that is not empty is in the way, and nothing is removed where a backup left something out",
        ));
    }
    remove(context, &directory.place, above, name)?;
    match EntryStat::at(above, name) {
        Err(Errno::NOENT) => Ok(()),
        _ => Err(Trouble::Refused("a directory that can't be removed is in the way")),
    }
}

/// The names of a directory. Those that are open are shared, and so is how far they were listed.
pub(super) fn list(descriptor: &OwnedFd) -> Attempt<Names> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = openat(descriptor, ".", flags, Mode::empty()).map_err(Trouble::of("open"))?;
    let (names, outcome) = Names::read(own);
    outcome.map_err(Trouble::of("list"))?;
    Ok(names)
}

/// A directory that is being emptied.
struct Level {
    place: Arc<Directory>,
    name: Vec<u8>,
    names: Names,
    next: usize,
    /// The mode that it had before it was opened up, if it was.
    mode_before: Option<u16>,
}

/// Removes what has a name, with all below it. What can't be removed is told and stays, with the directories above it.
pub(super) fn remove(
    context: &Context<'_>,
    place: &Arc<Directory>,
    above: &OwnedFd,
    name: &[u8],
) -> Result<()> {
    let mut levels: Vec<Level> = Vec::new();
    let told = |place: &Directory, name: &[u8], outcome: Attempt<()>| match outcome {
        Ok(()) => {
            context.counters.removed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(Trouble::Engine(error)) => Err(error),
        Err(trouble) => {
            tell(context, &place.path(name), trouble);
            Ok(())
        }
    };
    match Level::remove_or_enter(context, place, above, name) {
        Ok(Some(level)) => levels.push(level),
        Ok(None) => return told(place, name, Ok(())),
        Err(trouble) => return told(place, name, Err(trouble)),
    }
    while let Some(level) = levels.last_mut() {
        context.go_on()?;
        let next = level.names.part(level.next, 1).next().map(<[u8]>::to_vec);
        level.next += 1;
        let descriptor = level.open();
        match (next, descriptor) {
            (Some(name), Ok(descriptor)) => {
                let place = Arc::clone(&level.place);
                match Level::remove_or_enter(context, &place, &descriptor, &name) {
                    Ok(Some(level)) => levels.push(level),
                    Ok(None) => told(&place, &name, Ok(()))?,
                    Err(trouble) => told(&place, &name, Err(trouble))?,
                }
            }
            (Some(_), Err(trouble)) => {
                level.next = usize::MAX;
                told(&level.place, b"", Err(trouble))?;
            }
            (None, _) => {
                let Some(emptied) = levels.pop() else { break };
                emptied.place.keep_parent_open();
                let (above_place, opened) = match levels.last() {
                    Some(level) => (&level.place, level.open()),
                    None => (place, place.open().map_err(|_| Trouble::Refused(MOVED))),
                };
                let removed = opened.and_then(|above| remove_emptied(&above, &emptied.name));
                match removed {
                    // Why was told already.
                    Ok(false) => emptied.give_back(),
                    Ok(true) => told(above_place, &emptied.name, Ok(()))?,
                    Err(trouble) => told(above_place, &emptied.name, Err(trouble))?,
                }
            }
        }
    }
    Ok(())
}

const MOVED: &str = "it was moved or replaced while it was removed";

fn tell(context: &Context<'_>, path: &[u8], trouble: Trouble) {
    let path = shown(path);
    let reason = match trouble {
        Trouble::System { errno, .. } => std::io::Error::from(errno).to_string(),
        Trouble::Refused(reason) => reason.to_owned(),
        Trouble::Engine(error) => error.to_string(),
    };
    context.problems.tell(format!("cannot remove {path}: {reason}"));
}

/// Says whether it is gone; not if something could not be removed from it.
fn remove_emptied(above: &OwnedFd, name: &[u8]) -> Attempt<bool> {
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(Trouble::of("remove")(errno)),
    }
}

impl Level {
    /// Removes what is no directory, and opens what is one.
    fn remove_or_enter(
        context: &Context<'_>,
        place: &Arc<Directory>,
        above: &OwnedFd,
        name: &[u8],
    ) -> Attempt<Option<Self>> {
        let stat = match EntryStat::at(above, name) {
            Err(Errno::NOENT) => return Ok(None),
            stat => stat.map_err(Trouble::of("look at"))?,
        };
        if stat.kind != EntryType::Directory {
            unlinkat(above, name, AtFlags::empty()).map_err(Trouble::of("remove"))?;
            return Ok(None);
        }
        if is_mount_point(above, name).map_err(Trouble::of("open"))? {
            return Err(Trouble::Refused("it is a mount point or a subvolume"));
        }
        if context.is_forbidden(&stat) {
            return Err(REPOSITORY);
        }
        let mut opened = OpenDirectory::open(above, name).map_err(Trouble::of("open"))?;
        let stat = EntryStat::of(&opened.descriptor).map_err(Trouble::of("look at"))?;
        if context.is_forbidden(&stat) {
            opened.give_back();
            return Err(REPOSITORY);
        }
        opened.open_up(Work::Change);
        let names = match list(&opened.descriptor) {
            Ok(names) => names,
            Err(trouble) => {
                opened.give_back();
                return Err(trouble);
            }
        };
        let OpenDirectory { descriptor, mode_before } = opened;
        let place = place.open_child(name, stat.identity, &Arc::new(descriptor));
        Ok(Some(Self { place, name: name.to_vec(), names, next: 0, mode_before }))
    }

    /// Leaves it as it was, when something in it had to stay.
    fn give_back(&self) {
        if let (Some(mode), Ok(descriptor)) = (self.mode_before, self.place.open()) {
            give_back(&descriptor, mode);
        }
    }

    fn open(&self) -> Attempt<Arc<OwnedFd>> {
        self.place.open().map_err(|_| Trouble::Refused(MOVED))
    }
}
