//! Reads the image of a revision at any place, verified.

use std::ops::Range;
use std::sync::Arc;

use super::MapReader;
use super::chunk_parts::ChunkParts;
use super::map_reader::Sought;
use crate::error::{Corrupt, Result};
use crate::format::{ImageContent, ObjectHasher, Record, Slot};
#[cfg(any(test, feature = "fuzzing"))]
use crate::id::ObjectId;
use crate::repository::{Claimed, Repository};
use crate::store::Store;

/// An open image. Cheap to clone, and shared between threads; while one lives, gc keeps what it reads.
#[derive(Clone)]
pub struct ImageReader {
    store: Arc<Store>,
    map: MapReader,
    pin: Option<Arc<Claimed>>,
}

impl ImageReader {
    pub(super) fn open(repository: &Repository, record: &Record, content: &ImageContent) -> Result<Self> {
        let pin = repository.pin_revision("reader", record)?.map(Arc::new);
        let store = Arc::clone(repository.store());
        let map = MapReader::open(&store, &content.root)?;
        require_size(record, content, &map)?;
        Ok(Self { store, map, pin })
    }

    /// Opens an image that nobody can take away.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn open_unpinned(store: &Arc<Store>, root: &ObjectId) -> Result<Self> {
        Ok(Self { store: Arc::clone(store), map: MapReader::open(store, root)?, pin: None })
    }

    /// Whether gc keeps what it reads also when the revision is forgotten.
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.map.root().size
    }

    /// Bytes that are not holes.
    pub fn data_bytes(&self) -> u64 {
        self.map.root().top.map_or(0, |top| top.data_bytes)
    }

    /// Chunk size in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.map.root().chunk_size
    }

    pub(crate) fn hasher(&self) -> &ObjectHasher {
        self.store.hasher()
    }

    pub(crate) fn map(&self) -> &MapReader {
        &self.map
    }

    /// Fills `buffer` from `offset` on, and returns how many bytes there were before the end.
    ///
    /// # Errors
    /// The first chunk that has no intact copy; nothing in `buffer` counts then.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let length = self.size().saturating_sub(offset).min(buffer.len() as u64) as usize;
        let Some(mut rest) = buffer.get_mut(..length).filter(|rest| !rest.is_empty()) else { return Ok(0) };
        let chunk_size = u64::from(self.chunk_size());
        let end = offset + length as u64;
        let first = offset / chunk_size;
        let slots = self.map.slots(first..end.div_ceil(chunk_size))?;
        let mut parts = ChunkParts::new(&self.store);
        for (index, slot) in (first..).zip(slots) {
            let chunk_start = index * chunk_size;
            let from = offset.max(chunk_start);
            let part = (chunk_start + chunk_size).min(end) - from;
            let (target, after) = rest.split_at_mut(part as usize);
            rest = after;
            match slot {
                Slot::Hole | Slot::Zeros => target.fill(0),
                Slot::Chunk(id) => {
                    let chunk_len = self.map.chunk_len(index) as usize;
                    parts.add(id, chunk_len, (from - chunk_start) as usize, target)?;
                }
            }
        }
        parts.finish()?;
        Ok(length)
    }

    /// Loads a chunk into the cache, so that a later read finds it. Failures are left to that read.
    pub fn prefetch(&self, chunk_index: u64) {
        if let Ok(Slot::Chunk(id)) = self.map.slot(chunk_index) {
            let _ = self.store.chunk(&id);
        }
    }

    /// The first byte from `offset` on that is data; `None` if there are only holes up to the end. Where the map is
    /// damaged nobody knows: it counts as data, and reading it fails.
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        let found = self.map.next(offset / u64::from(self.chunk_size()), Sought::Data)?;
        Ok(self.byte_of(found, offset))
    }

    /// The first byte from `offset` on that is a hole; the end of the image counts as one.
    pub fn next_hole(&self, offset: u64) -> Result<u64> {
        let found = self.map.next(offset / u64::from(self.chunk_size()), Sought::Hole)?;
        Ok(self.byte_of(found, offset).unwrap_or_else(|| self.size().max(offset)))
    }

    fn byte_of(&self, slot: Option<u64>, offset: u64) -> Option<u64> {
        let byte = slot? * u64::from(self.chunk_size());
        Some(byte.max(offset)).filter(|&byte| byte < self.size())
    }

    /// The ranges of data, in order, neighbours joined; ranges where the map is damaged are among them.
    pub fn data_ranges(&self) -> impl Iterator<Item = Result<Range<u64>>> + '_ {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let next = self.next_data(offset).and_then(|start| match start {
                Some(start) => self.next_hole(start).map(|end| Some(start..end)),
                None => Ok(None),
            });
            match next {
                Ok(Some(range)) => {
                    offset = range.end;
                    Some(Ok(range))
                }
                Ok(None) => None,
                Err(error) => {
                    offset = u64::MAX;
                    Some(Err(error))
                }
            }
        })
    }
}

/// Fails unless a record says of its image what the map says.
pub(crate) fn require_size(record: &Record, content: &ImageContent, map: &MapReader) -> Result<()> {
    let root = map.root();
    let data_bytes = root.top.map_or(0, |top| top.data_bytes);
    match (root.size, data_bytes) == (content.size, content.data_bytes) {
        true => Ok(()),
        false => {
            let object = format!("the record of {}", record.name);
            Err(Corrupt::new(object, "its size is not that of its map").into())
        }
    }
}
