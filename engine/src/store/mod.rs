//! Objects by their names: verified reads, packs, the index, the cache.
//!
//! Invariant: no byte leaves this module that was not verified against its object's id after it was read.

mod blob_reader;
mod cache;
mod condemned;
mod fresh;
mod index;
mod locks;
mod nodes;
mod pack_check;
mod pack_reader;
mod pack_writer;
mod run;
mod writer;

pub(crate) use blob_reader::BlobReader;
pub(crate) use condemned::{
    put_condemned, put_dropped, read_condemned, read_dropped, read_dropped_strictly, remove_condemned,
};
pub(crate) use index::{
    AllContents, Cursor, Index, LiveSet, Location, Mark, PackSum, PackUse, TableContents,
};
pub(crate) use locks::{LockName, Locks};
pub(crate) use run::Wanted;
pub(crate) use writer::{Presence, StoreWriter, Stored};

use std::sync::Arc;

use cache::{Cache, Cached};
use nodes::not_a;
use pack_reader::PackReaders;

use crate::backend::Backend;
use crate::error::{Corrupt, Error, Result};
use crate::format::{Header, MAX_CHUNK_SIZE, ObjectHasher, ObjectType, decode_blob_into};
use crate::id::ObjectId;

/// Reads objects of one repository. Shared by all readers of a process.
pub(crate) struct Store {
    backend: Arc<dyn Backend>,
    header: Header,
    hasher: ObjectHasher,
    locks: Arc<Locks>,
    index: Arc<Index>,
    packs: PackReaders,
    cache: Cache,
}

/// No object is longer than the longest chunk.
const MAX_OBJECT_SIZE: u32 = MAX_CHUNK_SIZE;

impl Store {
    /// A store on an open repository; `cache_bytes` bounds what it keeps in memory.
    pub(crate) fn new(backend: Arc<dyn Backend>, header: Header, cache_bytes: u64) -> Self {
        let locks = Arc::new(Locks::new(Arc::clone(&backend)));
        let index = Arc::new(Index::new(Arc::clone(&backend), Arc::clone(&locks), header.id));
        Self {
            packs: PackReaders::new(Arc::clone(&backend)),
            hasher: ObjectHasher::new(b""),
            cache: Cache::new(cache_bytes),
            backend,
            header,
            locks,
            index,
        }
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub(crate) fn hasher(&self) -> &ObjectHasher {
        &self.hasher
    }

    pub(crate) fn locks(&self) -> &Locks {
        &self.locks
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// A chunk's content, through the cache.
    pub(crate) fn chunk(&self, id: &ObjectId) -> Result<Arc<Vec<u8>>> {
        let cached = self.cache.get_or_load(id, || {
            let content = self.read_object(ObjectType::Chunk, id)?;
            Ok(Cached::Chunk(Arc::new(content)))
        })?;
        match cached {
            Cached::Chunk(content) => Ok(content),
            _ => Err(not_a(ObjectType::Chunk, id, "chunk")),
        }
    }

    /// A chunk's content if the cache has it.
    pub(crate) fn cached_chunk(&self, id: &ObjectId) -> Option<Arc<Vec<u8>>> {
        match self.cache.get(id) {
            Some(Cached::Chunk(content)) => Some(content),
            _ => None,
        }
    }

    /// Fills `content` with an object that is exactly as long; past the cache.
    pub(crate) fn read_into(&self, object_type: ObjectType, id: &ObjectId, content: &mut [u8]) -> Result<()> {
        self.try_places(id, |location| {
            if location.plain_len as usize != content.len() {
                return Err(Corrupt::new(describe(object_type, id), "its length is another").into());
            }
            self.read_place(object_type, id, location, content)
        })
    }

    /// Reads an object past the cache.
    pub(crate) fn read_object(&self, object_type: ObjectType, id: &ObjectId) -> Result<Vec<u8>> {
        self.try_places(id, |location| {
            let mut content = vec![0; location.plain_len.min(MAX_OBJECT_SIZE) as usize];
            self.read_place(object_type, id, location, &mut content)?;
            Ok(content)
        })
    }

    /// Reads and verifies one copy of an object.
    fn read_place(
        &self,
        object_type: ObjectType,
        id: &ObjectId,
        location: &Location,
        content: &mut [u8],
    ) -> Result<()> {
        let decoded = self.packs.with_blob(location, |blob| decode_blob_into(blob, content))?;
        self.verify(object_type, id, location, decoded.map(|()| &*content))
    }

    /// Fails unless a copy of an object was decoded to the content of its name.
    fn verify(
        &self,
        object_type: ObjectType,
        id: &ObjectId,
        location: &Location,
        decoded: Option<&[u8]>,
    ) -> Result<()> {
        if decoded.is_some_and(|content| self.hasher.id(object_type, content) == *id) {
            return Ok(());
        }
        let expected = format!("its copy in pack {} does not have the content of its name", location.pack);
        Err(Corrupt::new(describe(object_type, id), expected).into())
    }

    /// Verifies one copy of an object, and says of which type it is: index tables do not.
    pub(crate) fn identify_place(&self, id: &ObjectId, location: &Location) -> Result<ObjectType> {
        let mut content = vec![0; location.plain_len.min(MAX_OBJECT_SIZE) as usize];
        let mut failure = None;
        for object_type in location.kind.object_types() {
            match self.read_place(*object_type, id, location, &mut content) {
                Ok(()) => return Ok(*object_type),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::missing(id)))
    }

    /// Tries the known places of an object, the newest first; then those that are known when the tables are listed anew;
    /// at last those that the packs themselves tell, as a table may be wrong though its checksums are right, or be lost.
    fn try_places<T>(&self, id: &ObjectId, mut read: impl FnMut(&Location) -> Result<T>) -> Result<T> {
        let mut failure = None;
        let mut tried: Vec<Location> = Vec::new();
        for step in 0..4 {
            let locations = match step {
                0 => self.index.locate(id)?,
                1 => self.index.locate_again(id)?,
                2 => self.places_in_packs(id, &tried),
                _ => self.places_in_unnamed_packs(id, &tried)?,
            };
            for location in locations {
                match read(&location) {
                    Ok(value) => return Ok(value),
                    Err(error) => {
                        // What is open may have been replaced by a good copy meanwhile.
                        self.packs.forget(location.pack);
                        failure = Some(error);
                        tried.push(location);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::missing(id)))
    }

    /// Other places of an object than those that were tried, in packs that no table names.
    fn places_in_unnamed_packs(&self, id: &ObjectId, tried: &[Location]) -> Result<Vec<Location>> {
        let mut places = self.index.locate_in_unnamed_packs(id)?;
        places.retain(|place| !tried.contains(place));
        Ok(places)
    }

    /// Other places of an object than those that were tried, in the same packs, as these say themselves.
    fn places_in_packs(&self, id: &ObjectId, tried: &[Location]) -> Vec<Location> {
        let mut packs: Vec<_> = tried.iter().map(|location| (location.pack, location.kind)).collect();
        packs.sort_by_key(|(pack, _)| *pack);
        packs.dedup();
        let mut places = Vec::new();
        for (pack, kind) in packs {
            // Why it can't be read was found before.
            let entries =
                pack_reader::read_pack_directory(self.backend.as_ref(), kind, pack).unwrap_or_default();
            let own = entries.iter().filter(|entry| entry.id == *id);
            places.extend(own.map(|entry| Location::in_pack(kind, pack, entry)));
        }
        places.retain(|place| !tried.contains(place));
        places
    }
}

fn describe(object_type: ObjectType, id: &ObjectId) -> String {
    format!("{} {id}", object_type.noun())
}
