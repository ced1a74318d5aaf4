//! Entries: what a directory says of each of its names.

use super::attributes::Attributes;
use super::chunk_list::{ChunkIds, ChunkNumbers};
use super::content::EntryContent;
use super::encode_short;
use super::name::EntryName;
use crate::format::Timestamp;
use crate::format::bytes::Fields;

const HAS_OTHER_NAMES: u8 = 1;
const UNSETTLED: u8 = 2;
const LEFT_OUT: u8 = 16;

/// What an allocation costs beside its bytes, about.
pub(crate) const ALLOCATION_BYTES: usize = 16;

const MODE_BITS: u16 = 0o7777;
const MAX_NANOSECONDS: u32 = 999_999_999;

/// One name of a directory, and all that is stored of what it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: EntryName,
    /// What every entry has, whatever it is.
    pub metadata: Metadata,
    /// What it is, and where its content lies.
    pub content: EntryContent,
    /// Its extended attributes.
    pub attributes: Attributes,
    /// Other names lead to the same inode (hard links); never so for a directory.
    pub has_other_names: bool,
    /// It must be read again though size, times and inode stand.
    pub unsettled: bool,
    /// Not all that was in it is stored: something was excluded, lay on another file system, or could not be read. Only so
    /// for a directory.
    pub left_out: bool,
}

/// What every entry has, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Permissions, setuid, setgid and sticky: the low 12 bits of `st_mode`; others are not stored.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The number of its links, as the source said.
    pub links: u32,
    /// Ordinal of its file system among those of the tree; 0 is that of the root.
    pub mount: u32,
    /// Its inode number there. With `mount` it is the identity of what has several names.
    pub inode: u64,
    /// Time of modification. Nanoseconds above 999,999,999 are stored as that.
    pub mtime: Timestamp,
    /// Time of status change, likewise.
    pub ctime: Timestamp,
}

impl Entry {
    /// The least that an encoded entry takes, but for its name, in bytes.
    pub(super) const MIN_LEN: usize = 2 + Metadata::LEN + 1;

    /// About how much memory it takes, with all that it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let target = match &self.content {
            EntryContent::Symlink(target) => target.as_bytes().len() + ALLOCATION_BYTES,
            _ => 0,
        };
        let attributes = match &self.attributes {
            Attributes::Inline(list) => list.encoded().len() + ALLOCATION_BYTES,
            _ => 0,
        };
        size_of::<Self>() + self.name.as_bytes().len() + ALLOCATION_BYTES + target + attributes
    }

    /// The length of the encoded entry in bytes.
    pub(crate) fn encoded_len(&self) -> usize {
        let name_len = self.name.as_bytes().len();
        Self::MIN_LEN + name_len + self.content.encoded_len() + self.attributes.encoded_len()
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>, chunks: &mut ChunkNumbers) {
        bytes.extend_from_slice(&[self.content.code(), self.flags()]);
        self.metadata.encode(bytes);
        encode_short(bytes, self.name.as_bytes());
        self.content.encode(bytes, chunks);
        self.attributes.encode(bytes, chunks);
    }

    /// Decodes an entry whose name `to_name` takes.
    pub(super) fn decode(
        fields: &mut Fields<'_>,
        chunks: &mut ChunkIds<'_>,
        to_name: impl Fn(&[u8]) -> Option<EntryName>,
    ) -> Option<Self> {
        let (code, flags) = (fields.u8()?, fields.u8()?);
        let metadata = Metadata::decode(fields)?;
        let name = to_name(fields.short_bytes()?)?;
        let content = EntryContent::decode(code, fields, chunks)?;
        let attributes =
            Attributes::decode(flags & !(HAS_OTHER_NAMES | UNSETTLED | LEFT_OUT), fields, chunks)?;
        let has_other_names = flags & HAS_OTHER_NAMES != 0;
        let unsettled = flags & UNSETTLED != 0;
        let left_out = flags & LEFT_OUT != 0;
        let is_directory = matches!(content, EntryContent::Directory(_));
        let fits = if is_directory { !has_other_names } else { !left_out };
        let entry = Self { name, metadata, content, attributes, has_other_names, unsettled, left_out };
        fits.then_some(entry)
    }

    fn flags(&self) -> u8 {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        flag(self.has_other_names, HAS_OTHER_NAMES)
            | flag(self.unsettled, UNSETTLED)
            | flag(self.left_out, LEFT_OUT)
            | self.attributes.flag()
    }
}

impl Metadata {
    const LEN: usize = 2 + 4 * 4 + 8 + 12 + 12;

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(self.mode & MODE_BITS).to_le_bytes());
        for number in [self.uid, self.gid, self.links, self.mount] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.inode.to_le_bytes());
        for time in [self.mtime, self.ctime] {
            bytes.extend_from_slice(&time.seconds.to_le_bytes());
            bytes.extend_from_slice(&time.nanoseconds.min(MAX_NANOSECONDS).to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            mode: fields.u16().filter(|mode| mode & !MODE_BITS == 0)?,
            uid: fields.u32()?,
            gid: fields.u32()?,
            links: fields.u32()?,
            mount: fields.u32()?,
            inode: fields.u64()?,
            mtime: decode_time(fields)?,
            ctime: decode_time(fields)?,
        })
    }
}

fn decode_time(fields: &mut Fields<'_>) -> Option<Timestamp> {
    let seconds = fields.i64()?;
    let nanoseconds = fields.u32().filter(|&nanoseconds| nanoseconds <= MAX_NANOSECONDS)?;
    Some(Timestamp { seconds, nanoseconds })
}
