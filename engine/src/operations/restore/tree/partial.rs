//! The names that files have until they are complete, each for one process at a time.
//!
//! Who has such a file open has a lock on it, and gives it its name only while the other name still leads to it. So two
//! restores that meet in a directory never publish, continue or remove what the other one is writing.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::problems::{Attempt, Trouble};
use crate::source::tree::{EntryStat, EntryType};

const BUSY: Trouble = Trouble::Refused("another restore is writing it; wait for that one");
const TAKEN: Trouble = Trouble::Refused("its unfinished file was moved or replaced while it was written");

/// Makes a new file, ours alone, under a name that must be free.
pub(super) fn create_new(above: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(above, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Makes a new file under a name of our own. What an interrupted run has left there goes first.
pub(super) fn create(above: &OwnedFd, partial: &[u8]) -> Attempt<File> {
    let created = match create_new(above, partial) {
        Err(Errno::EXIST) => {
            remove_left(above, partial)?;
            create_new(above, partial)
        }
        created => created,
    };
    let file = match created {
        Err(Errno::EXIST) => return Err(BUSY),
        created => created.map_err(Trouble::of("create"))?,
    };
    take(above, partial, &file)?;
    Ok(file)
}

/// Takes what is open under a name of our own for this process.
pub(super) fn take(above: &OwnedFd, partial: &[u8], file: &File) -> Attempt<()> {
    match lock(file) && leads_to(above, partial, file)? {
        true => Ok(()),
        false => Err(BUSY),
    }
}

/// Whether nobody else has a file locked. Not every file system has locks.
pub(super) fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
}

/// Removes what an interrupted run has left under a name of our own, unless another process is writing it.
pub(super) fn remove_left(above: &OwnedFd, partial: &[u8]) -> Attempt<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_file = EntryStat::at(above, partial).is_ok_and(|stat| stat.kind == EntryType::File);
    // What can't be opened is not being written by us.
    let opened = is_file.then(|| openat(above, partial, flags, Mode::empty()).ok().map(File::from)).flatten();
    if let Some(file) = &opened {
        take(above, partial, file)?;
    }
    match unlinkat(above, partial, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Trouble::of("remove the unfinished")(errno)),
    }
}

/// Whether a name still leads to a file.
fn leads_to(above: &OwnedFd, name: &[u8], file: impl AsFd) -> Attempt<bool> {
    let own = EntryStat::of(file).map_err(Trouble::of("look at"))?;
    Ok(EntryStat::at(above, name).is_ok_and(|stat| stat.identity == own.identity))
}

/// Gives what was written under a name of our own its name, whatever has that.
pub(super) fn publish(above: &OwnedFd, partial: &[u8], file: &File, name: &[u8]) -> Attempt<()> {
    check(above, partial, file)?;
    renameat(above, partial, above, name).map_err(Trouble::of("rename to"))
}

/// Fails unless a name still leads to the file that was written under it.
pub(super) fn check(above: &OwnedFd, partial: &[u8], file: &File) -> Attempt<()> {
    if leads_to(above, partial, file)? { Ok(()) } else { Err(TAKEN) }
}

/// Removes an unfinished file, if the name is still its own.
pub(super) fn remove(above: &OwnedFd, partial: &[u8], file: &File) {
    if leads_to(above, partial, file).unwrap_or(false) {
        let _ = unlinkat(above, partial, AtFlags::empty());
    }
}
