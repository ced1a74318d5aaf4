//! Reads blobs from packs by `pread`, and the packs' own directories.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::Location;
use crate::backend::{Backend, Key, ObjectReader};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    FORMAT_VERSION, MAX_PACK_SIZE, PackDirectory, PackEntry, PackKind, PackTrailer, incompatible,
};
use crate::id::PackId;

/// Packs that are kept open: enough for the readers of a few revisions, few enough for the limit of open files.
const OPEN_PACKS: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// Opens packs and keeps the latest ones open.
pub(super) struct PackReaders {
    backend: Arc<dyn Backend>,
    open: Mutex<LruCache<PackId, Arc<dyn ObjectReader>>>,
}

thread_local! {
    static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
}

impl PackReaders {
    pub(super) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, open: Mutex::new(LruCache::new(OPEN_PACKS)) }
    }

    /// Reads a blob into the thread's own buffer and hands it on.
    pub(super) fn with_blob<T>(&self, location: &Location, use_blob: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.with_bytes(location, location.stored_len.into(), use_blob)
    }

    /// Reads `length` bytes from a blob's begin on. More than the longest blob is not read at once: what tables say is not
    /// to be taken at its word.
    pub(super) fn with_bytes<T>(
        &self,
        location: &Location,
        length: u64,
        use_bytes: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let offset = u64::from(location.offset);
        if length > u64::from(super::MAX_OBJECT_SIZE) + 1 || offset + length > MAX_PACK_SIZE {
            return Err(beyond_end());
        }
        let reader = self.open(location)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            let bytes = buffer.get_mut(..length).unwrap_or_default();
            reader.read_at(offset, bytes)?;
            Ok(use_bytes(bytes))
        })
    }

    fn open(&self, location: &Location) -> Result<Arc<dyn ObjectReader>> {
        if let Some(reader) = self.lock().get(&location.pack) {
            return Ok(Arc::clone(reader));
        }
        let key = Key::pack(location.kind, location.pack);
        let reader = match self.backend.open(&key) {
            Err(error) if error.is_not_found() => {
                return Err(Corrupt::new(key.to_string(), "it is gone").into());
            }
            other => other?,
        };
        self.lock().put(location.pack, Arc::clone(&reader));
        Ok(reader)
    }

    /// Closes a pack, so that the next read opens what then has its name.
    pub(super) fn forget(&self, pack: PackId) {
        self.lock().pop(&pack);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<PackId, Arc<dyn ObjectReader>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beyond_end() -> Error {
    Corrupt::new("an index entry", "its place is beyond a pack's end").into()
}

/// Reads and verifies a pack's own directory.
pub(crate) fn read_pack_directory(
    backend: &dyn Backend,
    kind: PackKind,
    pack: PackId,
) -> Result<Vec<PackEntry>> {
    let key = Key::pack(kind, pack);
    read_directory(backend.open(&key)?.as_ref(), &key, pack)
}

/// Reads and verifies the directory of an open pack.
pub(super) fn read_directory(reader: &dyn ObjectReader, key: &Key, pack: PackId) -> Result<Vec<PackEntry>> {
    let size = reader.size()?;
    let corrupt = |expected: &str| Error::from(Corrupt::new(key.to_string(), expected));
    let short = || corrupt("it is truncated");
    let mut trailer = [0; PackTrailer::SIZE];
    let trailer_offset = size.checked_sub(trailer.len() as u64).ok_or_else(short)?;
    reader.read_at(trailer_offset, &mut trailer)?;
    let not_intact = || match PackTrailer::newer_version(pack, &trailer) {
        Some(version) => incompatible(key.to_string(), version, FORMAT_VERSION),
        None => corrupt("its trailer is not intact"),
    };
    let trailer = PackTrailer::decode(pack, size, &trailer).ok_or_else(not_intact)?;
    // Bounded: a trailer that was accepted describes a directory that lies within the pack's size.
    let mut directory = vec![0; usize::try_from(trailer.directory_size()).map_err(|_| short())?];
    reader.read_at(trailer.directory_offset, &mut directory)?;
    PackDirectory::decode(&trailer, &directory).ok_or_else(|| corrupt("its directory is not intact"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::LocalBackend;

    /// Two entries of a hostile table once made each thread keep 2 GiB.
    #[test]
    fn no_more_is_read_at_once_than_the_longest_blob() {
        let directory = tempfile::tempdir().unwrap();
        let packs = PackReaders::new(Arc::new(LocalBackend::new(directory.path().to_owned())));
        let (pack, kind) = (PackId::from_bytes([1; 16]), PackKind::Data);
        let longest = crate::store::MAX_OBJECT_SIZE + 1;
        for (length, is_beyond) in [(longest, false), (longest + 1, true), (u32::MAX, true)] {
            let location = Location { pack, kind, offset: 64, stored_len: length, plain_len: 1 };
            let error = packs.with_bytes(&location, length.into(), |_| ()).unwrap_err();
            assert_eq!(error.to_string().contains("beyond a pack's end"), is_beyond, "{error}");
        }
    }
}
