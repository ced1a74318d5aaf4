//! Writes one pack: header, blobs, directory, trailer.

use crate::backend::{Backend, Key, ObjectWriter};
use crate::error::{Error, Result};
use crate::format::{
    ChecksumContext, MAX_PACK_SIZE, ObjectType, PackDirectory, PackEntry, PackHeader, PackKind,
};
use crate::id::{ObjectId, PackId, RepositoryId};

/// A pack is closed when it has reached this size: small enough to be rewritten by gc, large enough that an image
/// of terabytes has some ten thousand files.
pub(super) const PACK_SIZE: u64 = 32 << 20;

/// A pack that is being written. Dropped unfinished, it leaves nothing.
pub(super) struct PackWriter {
    kind: PackKind,
    pack: PackId,
    writer: Box<dyn ObjectWriter>,
    size: u64,
    entries: Vec<PackEntry>,
    /// Blobs that were not handed to the system yet: small ones go together.
    buffer: Vec<u8>,
}

/// A pack that is complete, but not yet durable or visible.
pub(super) struct CompletePack {
    pub(super) kind: PackKind,
    pub(super) pack: PackId,
    pub(super) size: u64,
    pub(super) entries: Vec<PackEntry>,
    pub(super) writer: Box<dyn ObjectWriter>,
}

const BUFFER_SIZE: usize = 1 << 20;

impl PackWriter {
    pub(super) fn create(backend: &dyn Backend, repository: RepositoryId, kind: PackKind) -> Result<Self> {
        let pack = PackId::random();
        let mut writer = Self {
            kind,
            pack,
            writer: backend.write(&Key::pack(kind, pack))?,
            size: 0,
            entries: Vec::new(),
            buffer: Vec::new(),
        };
        writer.push(&PackHeader { kind, pack, repository }.encode())?;
        Ok(writer)
    }

    /// Appends a blob.
    pub(super) fn add(
        &mut self,
        object_type: ObjectType,
        id: ObjectId,
        plain_len: u32,
        blob: &[u8],
    ) -> Result<PackEntry> {
        let too_large =
            || Error::NotStorable { object: "pack", reason: "it would grow beyond 2 GiB".to_owned() };
        let (Ok(offset), Ok(stored_len)) = (u32::try_from(self.size), u32::try_from(blob.len())) else {
            return Err(too_large());
        };
        if self.size + blob.len() as u64 > MAX_PACK_SIZE / 2 {
            return Err(too_large());
        }
        let checksum = ChecksumContext::PackBlob.sum(blob);
        let entry = PackEntry { id, object_type, offset, stored_len, plain_len, checksum };
        self.push(blob)?;
        self.entries.push(entry);
        Ok(entry)
    }

    /// Whether it is time to close it.
    pub(super) fn is_full(&self) -> bool {
        // With the directory: thousands of tiny blobs must not make it larger than what it lists.
        self.size + (self.entries.len() * PackEntry::SIZE) as u64 >= PACK_SIZE
    }

    pub(super) fn pack(&self) -> PackId {
        self.pack
    }

    /// Appends the directory.
    pub(super) fn complete(mut self) -> Result<CompletePack> {
        let tail = PackDirectory::encode(self.pack, self.size, &self.entries);
        let tail = tail.ok_or_else(|| Error::NotStorable {
            object: "pack",
            reason: "it has too many entries".to_owned(),
        })?;
        self.push(&tail)?;
        self.flush()?;
        Ok(CompletePack {
            kind: self.kind,
            pack: self.pack,
            size: self.size,
            entries: self.entries,
            writer: self.writer,
        })
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.size += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
