//! An entry of a tree, and what can be read of it.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Advice, Mode, OFlags, fadvise, openat, readlinkat};
use rustix::io::Errno;

use super::attributes::{self, Attribute};
use super::directory::{Directory, is_in_place_of, open_quietly};
use super::problem::{Cause, EntryError};
use super::stat::{EntryStat, EntryType};
use crate::format::Timestamp;
use crate::source::extents;
use crate::source::file_system::tells_changes;

/// Below which size a file is read without asking what of it is preallocated.
const SMALL_BYTES: u64 = 64 << 10;
/// From which size on the system is told that a file is read from front to back.
const SEQUENTIAL_FROM_BYTES: u64 = 1 << 20;

/// An entry as it was listed. It can be sent to another thread and opened there.
#[derive(Clone)]
pub(crate) struct Entry {
    directory: Arc<Directory>,
    name: Box<[u8]>,
    /// What it looked like.
    pub(crate) stat: EntryStat,
    /// A moment before it was looked at: a change in the clock tick of that moment may not show in its times.
    pub(crate) seen: Timestamp,
}

impl Entry {
    pub(super) fn new(directory: &Arc<Directory>, name: &[u8], stat: EntryStat, seen: Timestamp) -> Self {
        Self { directory: Arc::clone(directory), name: name.into(), stat, seen }
    }

    /// Its name in its directory; empty for the root.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its path below the root; empty for the root.
    pub(crate) fn path(&self) -> Vec<u8> {
        self.directory.relative_path(&self.name)
    }

    /// Tells that something went wrong with it: `action` is what was tried, as a verb.
    pub(crate) fn error(&self, action: &'static str, cause: impl Into<Cause>) -> EntryError {
        self.directory.error(&self.name, action, cause.into())
    }

    /// Opens a file for reading. What is opened may be newer than what was listed, but is never anything but a file:
    /// the stat to record is that of the open file.
    ///
    /// # Errors
    /// [`Cause::Vanished`] or [`Cause::Replaced`] where the name has gone to something else.
    pub(crate) fn open(&self) -> Result<OpenFile, EntryError> {
        self.try_open().map_err(|cause| self.error("open", cause))
    }

    fn try_open(&self) -> Result<OpenFile, Cause> {
        let descriptor = open_quietly(&self.directory.open()?, self.name_to_open(), OFlags::empty())
            // What a socket, or a device without driver, says.
            .map_err(|errno| if errno == Errno::NXIO { Cause::Replaced } else { errno.into() })?;
        let opened = EntryStat::of(&descriptor)?;
        if opened.kind != EntryType::File {
            return Err(Cause::Replaced);
        }
        let clean_at = self.directory.write_backs().ensure(opened.identity.device, &descriptor);
        // What is written through a mapping from now on shows in other times than these.
        let stat = EntryStat::of(&descriptor)?;
        if stat.size >= SEQUENTIAL_FROM_BYTES {
            // Only a hint to the system.
            let _ = fadvise(&descriptor, 0, None, Advice::Sequential);
        }
        Ok(OpenFile { entry: self.clone(), file: File::from(descriptor), stat, clean_at })
    }

    /// Takes hold of an entry of any type without opening it, for its link target and attributes. These belong to the
    /// stat of what is held, which may be newer than what was listed, but is of the same type; a directory is the same.
    ///
    /// # Errors
    /// [`Cause::Vanished`] or [`Cause::Replaced`] where the name has gone to something else.
    pub(crate) fn hold(&self) -> Result<HeldEntry, EntryError> {
        self.try_hold().map_err(|cause| self.error("open", cause))
    }

    /// Whether size, times and inode of what lies on its file system tell that it was not changed.
    pub(crate) fn is_believed(&self) -> bool {
        self.hold().is_ok_and(|held| tells_changes(&held.descriptor))
    }

    fn try_hold(&self) -> Result<HeldEntry, Cause> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = openat(&self.directory.open()?, self.name_to_open(), flags, Mode::empty())?;
        let seen = Timestamp::now();
        let stat = EntryStat::of(&descriptor)?;
        if !is_in_place_of(&self.stat, &stat) {
            return Err(Cause::Replaced);
        }
        Ok(HeldEntry { entry: self.clone(), descriptor, stat, seen })
    }

    /// The root stands for itself in its own directory.
    fn name_to_open(&self) -> &[u8] {
        if self.name.is_empty() { b"." } else { &self.name }
    }
}

/// An entry that stays the same whatever happens to its name.
pub(crate) struct HeldEntry {
    entry: Entry,
    descriptor: OwnedFd,
    /// What it looks like.
    pub(crate) stat: EntryStat,
    /// A moment before it was looked at.
    pub(crate) seen: Timestamp,
}

impl HeldEntry {
    /// Where a symlink leads.
    pub(crate) fn link_target(&self) -> Result<Vec<u8>, EntryError> {
        match readlinkat(&self.descriptor, "", Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(error) => Err(self.entry.error("read", error)),
        }
    }

    /// Its extended attributes, those that this process may read, sorted by name.
    pub(crate) fn attributes(&self) -> Result<Vec<Attribute>, EntryError> {
        attributes::of_held(&self.descriptor)
            .map_err(|cause| self.entry.error("read extended attributes of", cause))
    }
}

/// A range of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileExtent {
    /// Bytes that must be read.
    Data(Range<u64>),
    /// Allocated, but never written: zeros.
    Zeros(Range<u64>),
    /// Not allocated.
    Hole(Range<u64>),
}

/// A file of a tree, open for reading. Used by several threads at once.
pub(crate) struct OpenFile {
    entry: Entry,
    file: File,
    /// What it looked like when it was opened.
    pub(crate) stat: EntryStat,
    /// A moment before that: of what was written through mappings up to then, the system held nothing back any more. `None` if
    /// that is not known.
    pub(crate) clean_at: Option<Timestamp>,
}

impl OpenFile {
    /// The extent at `offset`, cut to begin there; `None` at the end of the file as its stat says.
    ///
    /// A file that has all of its bytes allocated has no holes: what the system calls one then is preallocated.
    pub(crate) fn extent_at(&self, offset: u64) -> Option<FileExtent> {
        let (size, is_sparse) = (self.stat.size, self.stat.is_sparse());
        if offset >= size {
            return None;
        }
        if size < SMALL_BYTES && !is_sparse {
            return Some(FileExtent::Data(offset..size));
        }
        let data = extents::next_data(&self.file, offset, size).unwrap_or(size..size);
        Some(match (data.start > offset, is_sparse) {
            (false, _) => FileExtent::Data(data),
            (true, true) => FileExtent::Hole(offset..data.start),
            (true, false) => FileExtent::Zeros(offset..data.start),
        })
    }

    /// Reads from `offset` on until the buffer is full or the file ends, and tells how many bytes that were.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, EntryError> {
        extents::read_at(&self.file, offset, buffer)
            .map_err(|(_, error)| self.entry.error("read", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    /// What it looks like now: if that differs from [`Self::stat`], it changed while it was read.
    pub(crate) fn stat_now(&self) -> Result<EntryStat, EntryError> {
        EntryStat::of(self.file.as_fd()).map_err(|error| self.entry.error("look at", error))
    }

    /// Its extended attributes, those that this process may read, sorted by name.
    pub(crate) fn attributes(&self) -> Result<Vec<Attribute>, EntryError> {
        attributes::of_open(&self.file)
            .map_err(|cause| self.entry.error("read extended attributes of", cause))
    }

    /// Tells that something went wrong with it.
    pub(crate) fn error(&self, action: &'static str, cause: impl Into<Cause>) -> EntryError {
        self.entry.error(action, cause)
    }
}
