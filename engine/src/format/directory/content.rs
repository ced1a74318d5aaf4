//! What an entry is, and what it has for its type.

use super::MAX_DIRECTORY_LEVEL;
use super::chunk_list::{ChunkIds, ChunkNumbers};
use super::name::SymlinkTarget;
use crate::format::MAX_CHUNK_SIZE;
use crate::format::bytes::Fields;
use crate::format::file_node::{FileSubtree, MAX_FILE_LEVEL};
use crate::id::ObjectId;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EntryContent {
    /// A regular file.
    File(FileData),
    /// A directory; one without entries has no node.
    Directory(Option<DirectoryTop>),
    /// A symbolic link.
    Symlink(SymlinkTarget),
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A character device.
    CharacterDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
}

/// Where the bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileData {
    /// There are none.
    Empty,
    /// In a chunk that other small files may share. The slice ends within 8 MiB.
    Slice {
        /// The chunk.
        chunk: ObjectId,
        /// Where in its content the file begins.
        offset: u32,
        /// Length of the file, not 0.
        length: u32,
    },
    /// In chunks and holes as a map says.
    Map {
        /// Level of the top node.
        level: u8,
        /// The top node; its bytes are the file's size.
        subtree: FileSubtree,
    },
}

/// The top node of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryTop {
    /// Its level.
    pub level: u8,
    /// The node.
    pub id: ObjectId,
    /// Entries of the directory, not 0.
    pub entry_count: u64,
}

const SLICE: u8 = 1;
const MAP: u8 = 2;

impl EntryContent {
    /// The code of the type.
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::File(_) => 1,
            Self::Directory(_) => 2,
            Self::Symlink(_) => 3,
            Self::BlockDevice { .. } => 4,
            Self::CharacterDevice { .. } => 5,
            Self::Fifo => 6,
            Self::Socket => 7,
        }
    }

    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::File(data) => data.encoded_len(),
            Self::Directory(None) => 8,
            Self::Directory(Some(_)) => 8 + 1 + ObjectId::LEN,
            Self::Symlink(target) => 2 + target.as_bytes().len(),
            Self::BlockDevice { .. } | Self::CharacterDevice { .. } => 8,
            Self::Fifo | Self::Socket => 0,
        }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>, chunks: &mut ChunkNumbers) {
        match self {
            Self::File(data) => data.encode(bytes, chunks),
            Self::Directory(top) => encode_directory(top.as_ref(), bytes),
            Self::Symlink(target) => {
                let target = target.as_bytes();
                bytes.extend_from_slice(&u16::try_from(target.len()).unwrap_or(u16::MAX).to_le_bytes());
                bytes.extend_from_slice(target);
            }
            Self::BlockDevice { major, minor } | Self::CharacterDevice { major, minor } => {
                bytes.extend_from_slice(&major.to_le_bytes());
                bytes.extend_from_slice(&minor.to_le_bytes());
            }
            Self::Fifo | Self::Socket => {}
        }
    }

    /// Decodes what the type of this code has.
    pub(super) fn decode(code: u8, fields: &mut Fields<'_>, chunks: &mut ChunkIds<'_>) -> Option<Self> {
        Some(match code {
            1 => Self::File(FileData::decode(fields, chunks)?),
            2 => Self::Directory(decode_directory(fields)?),
            3 => {
                let length = fields.u16()?;
                Self::Symlink(SymlinkTarget::new(fields.bytes(length.into())?)?)
            }
            4 => Self::BlockDevice { major: fields.u32()?, minor: fields.u32()? },
            5 => Self::CharacterDevice { major: fields.u32()?, minor: fields.u32()? },
            6 => Self::Fifo,
            7 => Self::Socket,
            _ => return None,
        })
    }
}

fn encode_directory(top: Option<&DirectoryTop>, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&top.map_or(0, |top| top.entry_count).to_le_bytes());
    if let Some(top) = top {
        bytes.push(top.level);
        bytes.extend_from_slice(top.id.as_bytes());
    }
}

/// What the entry of a directory names; `None` inside if there is no node.
fn decode_directory(fields: &mut Fields<'_>) -> Option<Option<DirectoryTop>> {
    let entry_count = fields.u64()?;
    if entry_count == 0 {
        return Some(None);
    }
    let level = fields.u8().filter(|&level| level <= MAX_DIRECTORY_LEVEL)?;
    Some(Some(DirectoryTop { level, id: fields.id()?, entry_count }))
}

impl FileData {
    /// Size of the file in bytes, less than 2^63.
    pub fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Slice { length, .. } => u64::from(*length),
            Self::Map { subtree, .. } => subtree.bytes,
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Empty => 8,
            Self::Slice { .. } => 8 + 1 + 4 + 4,
            Self::Map { .. } => 8 + 1 + 1 + ObjectId::LEN + 8 + 8,
        }
    }

    fn encode(&self, bytes: &mut Vec<u8>, chunks: &mut ChunkNumbers) {
        bytes.extend_from_slice(&self.size().to_le_bytes());
        match self {
            Self::Empty => {}
            Self::Slice { chunk, offset, .. } => {
                bytes.push(SLICE);
                bytes.extend_from_slice(&chunks.number(*chunk).to_le_bytes());
                bytes.extend_from_slice(&offset.to_le_bytes());
            }
            Self::Map { level, subtree } => {
                bytes.extend_from_slice(&[MAP, *level]);
                bytes.extend_from_slice(subtree.id.as_bytes());
                bytes.extend_from_slice(&subtree.data_bytes.to_le_bytes());
                bytes.extend_from_slice(&subtree.chunk_count.to_le_bytes());
            }
        }
    }

    fn decode(fields: &mut Fields<'_>, chunks: &mut ChunkIds<'_>) -> Option<Self> {
        let size = fields.u64()?;
        if size == 0 {
            return Some(Self::Empty);
        }
        match fields.u8()? {
            SLICE => Self::decode_slice(size, fields, chunks),
            MAP => Self::decode_map(size, fields),
            _ => None,
        }
    }

    fn decode_slice(size: u64, fields: &mut Fields<'_>, chunks: &mut ChunkIds<'_>) -> Option<Self> {
        let chunk = chunks.id(fields.u32()?)?;
        let offset = fields.u32()?;
        let length = u32::try_from(size).ok()?;
        let end = offset.checked_add(length)?;
        (end <= MAX_CHUNK_SIZE).then_some(Self::Slice { chunk, offset, length })
    }

    fn decode_map(size: u64, fields: &mut Fields<'_>) -> Option<Self> {
        let level = fields.u8().filter(|&level| level <= MAX_FILE_LEVEL)?;
        let id = fields.id()?;
        let (data_bytes, chunk_count) = (fields.u64()?, fields.u64()?);
        let subtree = FileSubtree { id, bytes: size, data_bytes, chunk_count }.validated()?;
        Some(Self::Map { level, subtree })
    }
}
