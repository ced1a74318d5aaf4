//! What requests are answered with, on our own types.

use std::time::{Duration, SystemTime};

use crate::inode::Ino;
use crate::namespace::FileKind;

/// How long a name, or the attributes of something that changes, may be kept without asking again.
pub const NAME_LIFETIME: Duration = Duration::from_secs(1);
/// How long what never changes may be kept: for ever, in a number that every kernel understands.
pub const UNLIMITED: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// To whom the files belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's id.
    pub uid: u32,
    /// The group's id.
    pub gid: u32,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The inode number.
    pub ino: Ino,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Size in bytes.
    pub size: u64,
    /// Space in units of 512 bytes: for an image, the bytes that are not holes.
    pub blocks: u64,
    /// When its content last changed; of an image, the revision's time.
    pub modified: SystemTime,
    /// When anything of it last changed.
    pub changed: SystemTime,
    /// The bits of permission, setuid, setgid and sticky.
    pub mode: u16,
    /// How many names it has.
    pub links: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// To whom it belongs.
    pub owner: Owner,
    /// How long this may be kept.
    pub lifetime: Duration,
}

impl Attributes {
    /// Those of a directory of which nothing but its number matters.
    pub(crate) fn of_directory(ino: Ino) -> Self {
        let never = SystemTime::UNIX_EPOCH;
        Self {
            ino,
            kind: FileKind::Directory,
            size: 0,
            blocks: 0,
            modified: never,
            changed: never,
            mode: 0,
            links: 1,
            device: (0, 0),
            owner: Owner { uid: 0, gid: 0 },
            lifetime: Duration::ZERO,
        }
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry<'a> {
    /// The inode number.
    pub ino: Ino,
    /// Where to go on after this entry.
    pub next_offset: u64,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Its name: any bytes but 0 and the slash.
    pub name: &'a [u8],
}

/// Whether a reply has room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// The entry was taken.
    Left,
    /// The entry was not taken, and no other will be.
    Full,
}
