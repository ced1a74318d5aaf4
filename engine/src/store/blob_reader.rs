//! Reads objects as they are stored, for who stores them elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::pack_reader::read_pack_directory;
use super::{Location, MAX_OBJECT_SIZE, Store};
use crate::error::Result;
use crate::format::{ChecksumContext, ObjectType, decode_blob_into};
use crate::id::{ObjectId, PackId};

/// An object whose content is that of its name.
pub(crate) struct StoredObject {
    pub(crate) content: Vec<u8>,
    /// Its stored form. `None` if its bytes are not those that were written: a decoder may pass over some.
    pub(crate) blob: Option<Vec<u8>>,
}

/// Checksums that are kept at most: some 16 MB, unless one pack has more.
const MAX_CHECKSUMS: usize = 1 << 20;

/// Reads objects with the checksums of their packs.
pub(crate) struct BlobReader<'a> {
    store: &'a Store,
    checksums: Mutex<Checksums>,
}

/// The offsets of a pack's blobs, in order, with their checksums.
type OfPack = Arc<[(u32, [u8; 8])]>;

struct Checksums {
    packs: LruCache<PackId, OfPack>,
    count: usize,
}

impl Store {
    /// Reads and verifies one copy of an object, and says of which type it is.
    pub(crate) fn read_copy(&self, id: &ObjectId, location: &Location) -> Result<(ObjectType, Vec<u8>)> {
        let object_type = self.identify_place(id, location)?;
        let mut content = vec![0; location.plain_len.min(MAX_OBJECT_SIZE) as usize];
        self.read_place(object_type, id, location, &mut content)?;
        Ok((object_type, content))
    }
}

impl<'a> BlobReader<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, checksums: Mutex::new(Checksums { packs: LruCache::unbounded(), count: 0 }) }
    }

    /// Reads an object past the cache.
    pub(crate) fn read(&self, object_type: ObjectType, id: &ObjectId) -> Result<StoredObject> {
        self.store.try_places(id, |location| {
            let blob = self.store.packs.with_blob(location, <[u8]>::to_vec)?;
            let mut content = vec![0; location.plain_len.min(MAX_OBJECT_SIZE) as usize];
            let decoded = decode_blob_into(&blob, &mut content);
            self.store.verify(object_type, id, location, decoded.map(|()| content.as_slice()))?;
            let is_as_written = self.checksum(location) == Some(ChecksumContext::PackBlob.sum(&blob));
            Ok(StoredObject { content, blob: is_as_written.then_some(blob) })
        })
    }

    /// What the pack's directory says; `None` if it can't be read.
    fn checksum(&self, location: &Location) -> Option<[u8; 8]> {
        let known = self.lock().packs.get(&location.pack).cloned();
        let of_pack = known.unwrap_or_else(|| self.load(location));
        let found = of_pack.binary_search_by_key(&location.offset, |(offset, _)| *offset).ok()?;
        of_pack.get(found).map(|(_, checksum)| *checksum)
    }

    fn load(&self, location: &Location) -> OfPack {
        let directory = read_pack_directory(self.store.backend.as_ref(), location.kind, location.pack);
        let entries = directory.unwrap_or_default();
        let of_pack: OfPack = entries.iter().map(|entry| (entry.offset, entry.checksum)).collect();
        let mut kept = self.lock();
        kept.count += of_pack.len();
        // Another thread may have loaded the same.
        let before = kept.packs.put(location.pack, Arc::clone(&of_pack));
        kept.count -= before.map_or(0, |before| before.len());
        while kept.count > MAX_CHECKSUMS && kept.packs.len() > 1 {
            let oldest = kept.packs.pop_lru();
            kept.count -= oldest.map_or(0, |(_, of_pack)| of_pack.len());
        }
        of_pack
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checksums> {
        self.checksums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
