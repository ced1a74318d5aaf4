//! Opening directories of the target, also those that their owner may not work in, and files that he may not read.
//!
//! To open something and to open it up are two things: only who will work in a directory opens it up, and who changes
//! nothing of it in the end gives it back as it was.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, RawDir, chmod, fchmod, openat};
use rustix::io::{Errno, Result};

use super::metadata::Handle;
use crate::source::tree::{EntryStat, EntryType, open_quietly};

/// How directories are opened: never through a symlink.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What others than the owner may do.
pub(super) const OTHERS: u16 = 0o077;

/// What is to be done in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Names are listed, and what they lead to is read.
    Look,
    /// Names come and go.
    Change,
}

/// A directory that is open.
pub(super) struct OpenDirectory {
    pub(super) descriptor: OwnedFd,
    /// The mode that it had before it was opened up, if it was.
    pub(super) mode_before: Option<u16>,
}

impl OpenDirectory {
    /// Opens a directory by its name. It is opened up only if it can't be opened otherwise.
    pub(super) fn open(above: impl AsFd, name: &[u8]) -> Result<Self> {
        match openat(&above, name, DIRECTORY, Mode::empty()) {
            Ok(descriptor) => Ok(Self { descriptor, mode_before: None }),
            Err(Errno::ACCESS) => Self::open_shut(above, name),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a directory that its owner may not list.
    fn open_shut(above: impl AsFd, name: &[u8]) -> Result<Self> {
        let held = openat(above, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
        let (descriptor, mode) = open_held(&held, Work::Look.bits(), OFlags::DIRECTORY)?;
        Ok(Self { descriptor, mode_before: Some(mode) })
    }

    /// A few of its names. Nobody else may use the descriptor meanwhile.
    pub(super) fn first_names(&self) -> Result<Vec<Vec<u8>>> {
        let mut buffer = Vec::with_capacity(4096);
        let mut listing = RawDir::new(&self.descriptor, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = listing.next() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
            if names.len() > 1 {
                break;
            }
        }
        Ok(names)
    }

    /// Lets its owner do some work in it. Where that is forbidden, what is tried in it says so.
    pub(super) fn open_up(&mut self, work: Work) {
        if rustix::process::geteuid().is_root() {
            return;
        }
        let Ok(EntryStat { mode, .. }) = EntryStat::of(&self.descriptor) else { return };
        let opened_up = mode | work.bits();
        if opened_up != mode && fchmod(&self.descriptor, mode_of(opened_up)).is_ok() {
            self.mode_before.get_or_insert(mode);
        }
    }

    /// Keeps out at once whom the revision keeps out: what is restored in it may rely on that. Says whether anybody was.
    pub(super) fn narrow(&mut self, wanted: u16) -> bool {
        let Ok(EntryStat { mode, .. }) = EntryStat::of(&self.descriptor) else { return false };
        let narrow = |mode: u16| mode & (wanted | !OTHERS);
        let is_narrowed = narrow(mode) != mode && fchmod(&self.descriptor, mode_of(narrow(mode))).is_ok();
        if is_narrowed {
            self.mode_before = self.mode_before.map(narrow);
        }
        is_narrowed
    }

    /// Gives it the mode again that it had.
    pub(super) fn give_back(&self) {
        if let Some(mode) = self.mode_before {
            give_back(&self.descriptor, mode);
        }
    }
}

/// Opens a file for reading, also one that its owner may not read, which then is as it was before.
pub(super) fn open_file(above: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    match open_quietly(above, name, OFlags::empty()) {
        Err(Errno::ACCESS) => {}
        opened => return opened,
    }
    let held = openat(above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if EntryStat::of(&held)?.kind != EntryType::File {
        return Err(Errno::ACCESS);
    }
    let (file, mode) = open_held(&held, 0o400, OFlags::empty())?;
    give_back(&file, mode);
    Ok(file)
}

/// Opens up what is held, and opens it. Returns the mode that it had before.
fn open_held(held: &OwnedFd, bits: u16, flags: OFlags) -> Result<(OwnedFd, u16)> {
    let mode = EntryStat::of(held)?.mode;
    let path = Handle::Held(held.as_fd()).path();
    // Who may not change its mode may not open it, and that is what was asked for.
    chmod(&path, mode_of(mode | bits)).map_err(|_| Errno::ACCESS)?;
    match openat(CWD, &path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Ok(descriptor) => Ok((descriptor, mode)),
        Err(errno) => {
            let _ = chmod(&path, mode_of(mode));
            Err(errno)
        }
    }
}

/// Gives a directory or file the mode again that it had before it was opened up.
pub(super) fn give_back(opened: impl AsFd, mode: u16) {
    // Who could open it up can do that as well, unless it was taken away meanwhile.
    let _ = fchmod(opened, mode_of(mode));
}

impl Work {
    fn bits(self) -> u16 {
        match self {
            Self::Look => 0o500,
            Self::Change => 0o700,
        }
    }
}

fn mode_of(mode: u16) -> Mode {
    Mode::from_raw_mode(mode.into())
}
