//! What the system tells about an entry without opening it.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Stat, fstat, major, minor, statat};
use rustix::io;

use crate::format::{FileEvidence, Timestamp};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What makes an entry the same one under another name, as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// The file system, as `st_dev`.
    pub(crate) device: u64,
    /// The inode in it.
    pub(crate) inode: u64,
}

/// The metadata of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryStat {
    /// What it is.
    pub(crate) kind: EntryType,
    /// The low 12 bits of `st_mode`: permissions, setuid, setgid, sticky.
    pub(crate) mode: u16,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Number of names.
    pub(crate) links: u32,
    /// File system and inode.
    pub(crate) identity: Identity,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Bytes that are allocated, in units of 512.
    pub(crate) blocks: u64,
    /// Time of modification.
    pub(crate) mtime: Timestamp,
    /// Time of status change.
    pub(crate) ctime: Timestamp,
    /// Major and minor number, of a device.
    pub(crate) device_number: (u32, u32),
}

impl EntryStat {
    /// Looks at a name in a directory: no symlink is followed, nothing is mounted.
    pub(crate) fn at(directory: impl AsFd, name: &[u8]) -> io::Result<Self> {
        Self::new(&statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)?)
    }

    /// Looks at what is open.
    pub(crate) fn of(descriptor: impl AsFd) -> io::Result<Self> {
        Self::new(&fstat(descriptor)?)
    }

    fn new(stat: &Stat) -> io::Result<Self> {
        Ok(Self {
            kind: EntryType::new(stat.st_mode).ok_or(io::Errno::NOTSUP)?,
            mode: (stat.st_mode & 0o7777) as u16,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            identity: Identity { device: stat.st_dev, inode: stat.st_ino },
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            mtime: Timestamp::from_stat(stat.st_mtime, stat.st_mtime_nsec),
            ctime: Timestamp::from_stat(stat.st_ctime, stat.st_ctime_nsec),
            device_number: (major(stat.st_rdev), minor(stat.st_rdev)),
        })
    }

    /// What tells later whether a file is unchanged; whether that can be relied upon is for the caller to judge.
    pub(crate) fn evidence(&self) -> FileEvidence {
        let Self { size, mtime, ctime, identity, .. } = *self;
        FileEvidence { size, mtime, ctime, inode: identity.inode, unsettled: false }
    }

    /// Whether a file has fewer bytes allocated than its size. If not, what looks like a hole was preallocated.
    pub(crate) fn is_sparse(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }
}

impl EntryType {
    fn new(mode: u32) -> Option<Self> {
        Some(match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::CharacterDevice => Self::CharacterDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::Unknown => return None,
        })
    }
}
