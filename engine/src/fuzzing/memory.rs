//! A repository's files in memory, to be read and nothing else.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::backend::{
    Area, Backend, ClaimGuard, ClaimState, Key, Listed, LockGuard, ObjectReader, ObjectWriter,
};
use crate::error::{Error, Result};
use crate::format::{Compression, Header, Timestamp};
use crate::id::RepositoryId;
use crate::store::Store;

/// The repository that everything belongs to.
pub(super) const REPOSITORY: RepositoryId = RepositoryId::from_bytes([1; 16]);

/// What readers may keep: little, so that they read again.
const CACHE_BYTES: u64 = 1 << 20;

/// A backend that has what it was made with.
#[derive(Default)]
pub(super) struct Memory(HashMap<Key, Arc<Vec<u8>>>);

impl Memory {
    pub(super) fn with(mut self, key: Key, bytes: Vec<u8>) -> Self {
        self.0.insert(key, Arc::new(bytes));
        self
    }

    /// A store on these files.
    pub(super) fn into_store(self) -> Arc<Store> {
        let header = Header {
            id: REPOSITORY,
            created: Timestamp { seconds: 0, nanoseconds: 0 },
            chunk_size: 4096,
            compression: Compression::None,
            features: Vec::new(),
        };
        Arc::new(Store::new(Arc::new(self), header, CACHE_BYTES))
    }

    fn get(&self, key: &Key) -> Result<&Arc<Vec<u8>>> {
        let missing = || Error::io("open", key)(std::io::ErrorKind::NotFound.into());
        self.0.get(key).ok_or_else(missing)
    }
}

fn refused<T>(what: impl std::fmt::Display) -> Result<T> {
    Err(Error::io("change", what)(std::io::ErrorKind::ReadOnlyFilesystem.into()))
}

impl Backend for Memory {
    fn read(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.get(key)?;
        match bytes.len() as u64 <= limit {
            true => Ok(bytes.to_vec()),
            false => Err(Error::io("read", key)(std::io::ErrorKind::FileTooLarge.into())),
        }
    }

    fn open(&self, key: &Key) -> Result<Arc<dyn ObjectReader>> {
        Ok(Arc::new(Open { key: key.clone(), bytes: Arc::clone(self.get(key)?) }))
    }

    fn list(&self, area: &Area) -> Result<Vec<Listed>> {
        let own = self.0.iter().filter(|(key, _)| key.area == *area);
        Ok(own.map(|(key, bytes)| Listed { name: key.name.clone(), size: bytes.len() as u64 }).collect())
    }

    fn names(&self, area: &Area) -> Result<Vec<String>> {
        Ok(self.list(area)?.into_iter().map(|listed| listed.name).collect())
    }

    fn areas_below(&self, _: &Area) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn strangers(&self, _: &Area) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn holds(&self, area: &Area, wanted: &dyn Fn(&str) -> bool) -> Result<bool> {
        Ok(self.names(area)?.iter().any(|name| wanted(name)))
    }

    fn put(&self, key: &Key, _: &[u8]) -> Result<()> {
        refused(key)
    }

    fn create(&self, key: &Key, _: &[u8]) -> Result<()> {
        refused(key)
    }

    fn write(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        refused(key)
    }

    fn create_areas(&self, _: &[Area]) -> Result<()> {
        refused("areas")
    }

    fn require_areas(&self, _: &[Area]) -> Result<()> {
        Ok(())
    }

    fn sync_area(&self, area: &Area) -> Result<()> {
        refused(area.path())
    }

    fn sync_object(&self, key: &Key) -> Result<()> {
        refused(key)
    }

    fn move_objects(&self, from: &Area, _: &Area, _: &[String]) -> Result<()> {
        refused(from.path())
    }

    fn remove(&self, key: &Key) -> Result<()> {
        refused(key)
    }

    fn remove_if_dead(&self, key: &Key) -> Result<bool> {
        refused(key)
    }

    fn remove_area(&self, area: &Area) -> Result<()> {
        refused(area.path())
    }

    fn try_lock(&self, name: &str) -> Result<Option<LockGuard>> {
        refused(name)
    }

    fn claim(&self, key: &Key, _: &[u8]) -> Result<Box<dyn ClaimGuard>> {
        refused(key)
    }

    fn claim_state(&self, _: &Key) -> Result<ClaimState> {
        Ok(ClaimState::Gone)
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn directory(&self) -> Option<&Path> {
        None
    }
}

struct Open {
    key: Key,
    bytes: Arc<Vec<u8>>,
}

impl ObjectReader for Open {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
        let bytes =
            bytes.ok_or(std::io::ErrorKind::UnexpectedEof.into()).map_err(Error::io("read", &self.key))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        Ok(self.bytes.len() as u64)
    }
}
