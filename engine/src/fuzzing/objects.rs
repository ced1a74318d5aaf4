//! Objects of a fuzzer's making, in packs that no table names.

use std::collections::HashSet;
use std::sync::Arc;

use super::input::Input;
use super::memory::{Memory, REPOSITORY};
use crate::backend::Key;
use crate::format::{
    ChecksumContext, ObjectHasher, ObjectType, PackDirectory, PackEntry, PackHeader, PackKind,
};
use crate::id::{ObjectId, PackId};
use crate::store::Store;

/// Objects by their numbers, in the order in which they were added.
pub(super) struct Objects {
    hasher: ObjectHasher,
    added: Vec<(ObjectType, ObjectId, Vec<u8>)>,
}

impl Objects {
    pub(super) fn new() -> Self {
        Self { hasher: ObjectHasher::new(b""), added: Vec::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.added.len()
    }

    /// Adds an object, and says what it is named.
    pub(super) fn add(&mut self, object_type: ObjectType, content: Vec<u8>) -> ObjectId {
        let id = self.hasher.id(object_type, &content);
        self.added.push((object_type, id, content));
        id
    }

    /// Adds a chunk of up to 64 KiB whose bytes are all the same.
    pub(super) fn add_chunk(&mut self, input: &mut Input<'_>) -> ObjectId {
        let (length, byte) = (input.u16(), input.u8());
        self.add(ObjectType::Chunk, vec![byte; length.into()])
    }

    /// The name of one that was added, of whatever type, by the next byte; or one that nothing has.
    pub(super) fn pick(&self, input: &mut Input<'_>) -> ObjectId {
        let number = input.u8();
        match self.added.get(usize::from(number)) {
            Some((_, id, _)) => *id,
            None => ObjectId::from_bytes([number; ObjectId::LEN]),
        }
    }

    /// The length of the content of what has this name.
    pub(super) fn length_of(&self, id: &ObjectId) -> u64 {
        self.added.iter().find(|(_, other, _)| other == id).map_or(1, |(_, _, content)| content.len() as u64)
    }

    /// A store that has all of them.
    pub(super) fn into_store(self) -> Arc<Store> {
        let packs = PackKind::ALL.into_iter().fold(Memory::default(), |memory, kind| {
            let pack = PackId::from_bytes([kind.code(); 16]);
            let own = self.added.iter().filter(|(object_type, _, _)| PackKind::of(*object_type) == kind);
            memory.with(Key::pack(kind, pack), pack_of(kind, pack, own))
        });
        packs.into_store()
    }
}

/// A pack of these objects, each once.
fn pack_of<'a>(
    kind: PackKind,
    pack: PackId,
    objects: impl Iterator<Item = &'a (ObjectType, ObjectId, Vec<u8>)>,
) -> Vec<u8> {
    let mut bytes = PackHeader { kind, pack, repository: REPOSITORY }.encode().to_vec();
    let (mut entries, mut known) = (Vec::new(), HashSet::new());
    for (object_type, id, content) in objects.filter(|(_, id, _)| known.insert(*id)) {
        let blob = [&[0], content.as_slice()].concat();
        entries.push(PackEntry {
            id: *id,
            object_type: *object_type,
            offset: bytes.len() as u32,
            stored_len: blob.len() as u32,
            plain_len: content.len() as u32,
            checksum: ChecksumContext::PackBlob.sum(&blob),
        });
        bytes.extend(blob);
    }
    bytes.extend(PackDirectory::encode(pack, bytes.len() as u64, &entries).unwrap_or_default());
    bytes
}
