//! Header, directory and trailer of a pack (`docs/format.md`, section 8).

use super::bytes::Fields;
use super::hash::{ChecksumContext, ObjectType};
use super::header::MAX_CHUNK_SIZE;
use super::version::newer_magic;
use crate::id::{ObjectId, PackId, RepositoryId};

const HEADER_MAGIC: [u8; 8] = *b"TRPACK\0\x01";
const TRAILER_MAGIC: [u8; 8] = *b"TRPKEND\x01";

/// No pack is larger, so offsets fit in 32 bits with room.
pub(crate) const MAX_PACK_SIZE: u64 = 2 << 30;

/// No pack has more entries, so that a directory can be read whole.
pub(crate) const MAX_PACK_ENTRIES: u32 = 1 << 20;

/// What lies in a pack. Data and metadata are kept apart, so that listing, gc and diff never touch data packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum PackKind {
    Data = 1,
    Metadata = 2,
}

impl PackKind {
    pub(crate) const ALL: [Self; 2] = [Self::Data, Self::Metadata];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Data),
            2 => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The types of the objects in such packs.
    pub(crate) fn object_types(self) -> &'static [ObjectType] {
        match self {
            Self::Data => &[ObjectType::Chunk],
            Self::Metadata => &[ObjectType::Node, ObjectType::Directory],
        }
    }

    /// The kind of pack that objects of this type go to.
    pub(crate) fn of(object_type: ObjectType) -> Self {
        match object_type {
            ObjectType::Chunk => Self::Data,
            ObjectType::Node | ObjectType::Directory => Self::Metadata,
        }
    }
}

/// The first bytes of a pack: which pack of which repository it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackHeader {
    pub(crate) kind: PackKind,
    pub(crate) pack: PackId,
    pub(crate) repository: RepositoryId,
}

impl PackHeader {
    pub(crate) const SIZE: usize = 64;

    pub(crate) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8] = self.kind.code();
        bytes[16..32].copy_from_slice(self.pack.as_bytes());
        bytes[32..48].copy_from_slice(self.repository.as_bytes());
        let sum: [u8; 16] = ChecksumContext::PackHeader.sum(&bytes[..48]);
        bytes[48..].copy_from_slice(&sum);
        bytes
    }

    /// The version of a header whose checksum is right, if it is newer than what is known here.
    pub(crate) fn newer_version(bytes: &[u8]) -> Option<u8> {
        let (body, sum) = bytes.split_last_chunk::<16>()?;
        let is_intact = ChecksumContext::PackHeader.sum::<16>(body) == *sum;
        newer_magic(HEADER_MAGIC, body).filter(|_| is_intact)
    }

    /// `None` if any byte is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        fields.expect(HEADER_MAGIC)?;
        let kind = PackKind::from_code(fields.u8()?)?;
        fields.expect([0; 7])?;
        let pack = PackId::from_bytes(fields.array()?);
        let repository = RepositoryId::from_bytes(fields.array()?);
        let sum: [u8; 16] = fields.array()?;
        fields.end()?;
        let expected = ChecksumContext::PackHeader.sum(bytes.get(..48)?);
        (sum == expected).then_some(Self { kind, pack, repository })
    }
}

/// One object of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) id: ObjectId,
    pub(crate) object_type: ObjectType,
    /// Where its blob begins in the pack.
    pub(crate) offset: u32,
    /// Length of its blob.
    pub(crate) stored_len: u32,
    /// Length of its plain content.
    pub(crate) plain_len: u32,
    /// Checksum of its blob.
    pub(crate) checksum: [u8; 8],
}

impl PackEntry {
    pub(crate) const SIZE: usize = 56;

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.stored_len.to_le_bytes());
        bytes.extend_from_slice(&self.plain_len.to_le_bytes());
        bytes.extend_from_slice(&[self.object_type.code(), 0, 0, 0]);
        bytes.extend_from_slice(&self.checksum);
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let id = ObjectId::from_bytes(fields.array()?);
        let (offset, stored_len, plain_len) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let object_type = ObjectType::from_code(fields.u8()?)?;
        fields.expect([0; 3])?;
        let checksum = fields.array()?;
        Some(Self { id, object_type, offset, stored_len, plain_len, checksum })
    }

    /// Where the blob ends in the pack.
    pub(crate) fn end(&self) -> Option<u32> {
        self.offset.checked_add(self.stored_len)
    }
}

/// The last bytes of a pack: where its directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackTrailer {
    pub(crate) directory_offset: u64,
    pub(crate) entry_count: u32,
    directory_checksum: [u8; 16],
}

impl PackTrailer {
    pub(crate) const SIZE: usize = 64;

    fn encode(&self, pack: PackId) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.directory_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.entry_count.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.directory_checksum);
        bytes[32..40].copy_from_slice(&TRAILER_MAGIC);
        let sum = Self::checksum(pack, &bytes[..48]);
        bytes[48..].copy_from_slice(&sum);
        bytes
    }

    /// The version of a trailer whose checksum is right, if it is newer than what is known here.
    pub(crate) fn newer_version(pack: PackId, bytes: &[u8]) -> Option<u8> {
        let (body, sum) = bytes.split_last_chunk::<16>()?;
        let is_intact = Self::checksum(pack, body) == *sum;
        newer_magic(TRAILER_MAGIC, body.get(32..)?).filter(|_| is_intact)
    }

    /// `None` if any byte is wrong, or if the directory would not fill a pack of `pack_size` bytes to its end.
    pub(crate) fn decode(pack: PackId, pack_size: u64, bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let directory_offset = fields.u64()?;
        let entry_count = fields.u32()?;
        fields.expect([0; 4])?;
        let directory_checksum = fields.array()?;
        fields.expect(TRAILER_MAGIC)?;
        fields.expect([0; 8])?;
        let sum: [u8; 16] = fields.array()?;
        fields.end()?;
        let trailer = Self { directory_offset, entry_count, directory_checksum };
        let end = directory_offset.checked_add(trailer.directory_size())?;
        let bounded = entry_count <= MAX_PACK_ENTRIES;
        let fills = bounded && end.checked_add(Self::SIZE as u64)? == pack_size && pack_size <= MAX_PACK_SIZE;
        (sum == Self::checksum(pack, bytes.get(..48)?) && fills).then_some(trailer)
    }

    /// Size of the directory in bytes.
    pub(crate) fn directory_size(&self) -> u64 {
        u64::from(self.entry_count) * PackEntry::SIZE as u64
    }

    fn checksum(pack: PackId, bytes: &[u8]) -> [u8; 16] {
        ChecksumContext::PackDirectory.sum_of_parts(&[pack.as_bytes(), bytes])
    }
}

/// All objects of a pack, in the order of their blobs.
pub(crate) struct PackDirectory;

impl PackDirectory {
    /// Directory and trailer of a pack whose blobs end where the directory begins.
    pub(crate) fn encode(pack: PackId, directory_offset: u64, entries: &[PackEntry]) -> Option<Vec<u8>> {
        let size = entries.len() * PackEntry::SIZE;
        let mut bytes = Vec::with_capacity(size + PackTrailer::SIZE);
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        let trailer = PackTrailer {
            directory_offset,
            entry_count: u32::try_from(entries.len()).ok()?,
            directory_checksum: ChecksumContext::PackDirectory.sum(&bytes),
        };
        bytes.extend_from_slice(&trailer.encode(pack));
        Some(bytes)
    }

    /// Verifies a directory. `None` if its checksum is wrong, or if blobs overlap, leave gaps, or pass its offset.
    pub(crate) fn decode(trailer: &PackTrailer, bytes: &[u8]) -> Option<Vec<PackEntry>> {
        let intact = ChecksumContext::PackDirectory.sum(bytes) == trailer.directory_checksum;
        if !intact || bytes.len() as u64 != trailer.directory_size() {
            return None;
        }
        let mut fields = Fields::new(bytes);
        let mut entries = Vec::with_capacity(bytes.len() / PackEntry::SIZE);
        let mut end = PackHeader::SIZE as u32;
        while fields.end().is_none() {
            let fits = |entry: &PackEntry| entry.offset == end && entry.stored_len <= MAX_CHUNK_SIZE + 1;
            let entry = PackEntry::decode(&mut fields).filter(fits)?;
            end = entry.end()?;
            entries.push(entry);
        }
        (u64::from(end) == trailer.directory_offset).then_some(entries)
    }
}
