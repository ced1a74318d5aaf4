//! Verifies a pack from itself alone: what frames its blobs, then as many of these as are asked for.

use std::sync::Arc;

use super::pack_reader::{read_directory, read_pack_directory};
use super::{Location, MAX_OBJECT_SIZE, Store, describe};
use crate::backend::{Key, ObjectReader};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    ChecksumContext, FORMAT_VERSION, ObjectHasher, PackEntry, PackHeader, PackKind, decode_blob_into,
    incompatible,
};
use crate::id::{ObjectId, PackId, RepositoryId};

/// A pack whose header, directory and trailer are intact. Its blobs are still to be verified.
pub(crate) struct PackCheck<'a> {
    hasher: &'a ObjectHasher,
    reader: Arc<dyn ObjectReader>,
    pack: PackId,
    blob: Vec<u8>,
    content: Vec<u8>,
}

impl Store {
    /// Opens a pack, verifies what frames its blobs, and says which there are.
    pub(crate) fn check_pack(&self, kind: PackKind, pack: PackId) -> Result<(PackCheck<'_>, Vec<PackEntry>)> {
        let key = Key::pack(kind, pack);
        let reader = self.backend.open(&key)?;
        let entries = read_directory(reader.as_ref(), &key, pack)?;
        let mut header = [0; PackHeader::SIZE];
        reader.read_at(0, &mut header)?;
        if let Some(version) = PackHeader::newer_version(&header) {
            return Err(incompatible(key.to_string(), version, FORMAT_VERSION));
        }
        if PackHeader::decode(&header) != Some(PackHeader { kind, pack, repository: self.header.id }) {
            return Err(Corrupt::new(key.to_string(), "its header is not intact").into());
        }
        let check = PackCheck { hasher: &self.hasher, reader, pack, blob: Vec::new(), content: Vec::new() };
        Ok((check, entries))
    }

    /// The repository that a pack was written for, as its header says; `None` if that can't be read.
    pub(crate) fn repository_of_pack(&self, kind: PackKind, pack: PackId) -> Result<Option<RepositoryId>> {
        let mut header = [0; PackHeader::SIZE];
        match self.backend.open(&Key::pack(kind, pack)).and_then(|reader| reader.read_at(0, &mut header)) {
            Ok(()) => Ok(PackHeader::decode(&header).map(|header| header.repository)),
            Err(error) if error.is_loss() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The directory of a pack, if it can be read, whatever the pack's header is like.
    pub(crate) fn directory_of_pack(
        &self,
        kind: PackKind,
        pack: PackId,
    ) -> Result<Option<Vec<(ObjectId, Location)>>> {
        let place = |entry: &PackEntry| (entry.id, Location::in_pack(kind, pack, entry));
        match read_pack_directory(self.backend.as_ref(), kind, pack) {
            Ok(entries) => Ok(Some(entries.iter().map(place).collect())),
            Err(error) if error.is_loss() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl PackCheck<'_> {
    /// Size of the pack's file.
    pub(crate) fn size(&self) -> Result<u64> {
        self.reader.size()
    }

    /// Reads a blob once, and verifies its checksum and that its content is that of the object's name.
    pub(crate) fn verify(&mut self, entry: &PackEntry) -> Result<()> {
        // Bounded: no directory is accepted that has longer blobs.
        self.blob.resize(entry.stored_len as usize, 0);
        self.reader.read_at(entry.offset.into(), &mut self.blob)?;
        if ChecksumContext::PackBlob.sum(&self.blob) != entry.checksum {
            return Err(self.not_intact(entry, "its checksum"));
        }
        self.content.resize(entry.plain_len.min(MAX_OBJECT_SIZE) as usize, 0);
        let decoded = decode_blob_into(&self.blob, &mut self.content);
        match decoded.is_some() && self.hasher.id(entry.object_type, &self.content) == entry.id {
            true => Ok(()),
            false => Err(self.not_intact(entry, "the content of its name")),
        }
    }

    /// The blob that was verified last, as it is stored.
    pub(crate) fn blob(&self) -> &[u8] {
        &self.blob
    }

    fn not_intact(&self, entry: &PackEntry, what: &str) -> Error {
        let expected = format!("its copy in pack {} does not have {what}", self.pack);
        Corrupt::new(describe(entry.object_type, &entry.id), expected).into()
    }
}
