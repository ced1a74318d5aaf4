//! What entries can be.

use std::fmt;

use super::content::EntryContent;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryType {
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
    /// A socket's name.
    Socket,
}

impl EntryType {
    /// The type as scripts read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::BlockDevice => "block-device",
            Self::CharacterDevice => "character-device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

impl fmt::Display for EntryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&EntryContent> for EntryType {
    fn from(content: &EntryContent) -> Self {
        match content {
            EntryContent::File(_) => Self::File,
            EntryContent::Directory(_) => Self::Directory,
            EntryContent::Symlink(_) => Self::Symlink,
            EntryContent::BlockDevice { .. } => Self::BlockDevice,
            EntryContent::CharacterDevice { .. } => Self::CharacterDevice,
            EntryContent::Fifo => Self::Fifo,
            EntryContent::Socket => Self::Socket,
        }
    }
}
