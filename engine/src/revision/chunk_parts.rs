//! Fills a reader's buffer from chunks, part by part.

use crate::error::{Corrupt, Result};
use crate::id::ObjectId;
use crate::store::{Store, Wanted};

/// Chunks that are gathered at most before they are read, so that tiny ones take no more memory than large ones.
const MAX_WANTED: usize = 1024;

/// The parts of one read. Whole chunks are gathered, and read together from where they lie together.
pub(super) struct ChunkParts<'a, 'b> {
    store: &'a Store,
    whole: Vec<Wanted<'b>>,
}

impl<'a, 'b> ChunkParts<'a, 'b> {
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, whole: Vec::new() }
    }

    /// Fills `target` with the content of a chunk of this length from `from` on, when [`ChunkParts::finish`] is called
    /// at the latest.
    ///
    /// # Errors
    /// Damage, also if the chunk has another length.
    pub(super) fn add(
        &mut self,
        id: ObjectId,
        chunk_len: usize,
        from: usize,
        target: &'b mut [u8],
    ) -> Result<()> {
        let chunk = match self.store.cached_chunk(&id) {
            Some(chunk) => chunk,
            // Straight to the reader: who reads all of a chunk does not come back for it.
            None if target.len() == chunk_len => {
                self.whole.push(Wanted { id, content: target });
                return if self.whole.len() < MAX_WANTED { Ok(()) } else { self.read() };
            }
            None => self.store.chunk(&id)?,
        };
        if chunk.len() != chunk_len {
            return Err(Corrupt::new(format!("chunk {id}"), "its length is not that of its place").into());
        }
        copy_part(&id, &chunk, from, target)
    }

    /// Fills what is not filled yet.
    pub(super) fn finish(mut self) -> Result<()> {
        self.read()
    }

    fn read(&mut self) -> Result<()> {
        self.store.read_chunks(&mut self.whole)?;
        self.whole.clear();
        Ok(())
    }
}

/// Copies a part of a chunk, which must lie in it.
pub(super) fn copy_part(id: &ObjectId, chunk: &[u8], from: usize, target: &mut [u8]) -> Result<()> {
    let part = from.checked_add(target.len()).and_then(|end| chunk.get(from..end));
    let part = part.ok_or_else(|| Corrupt::new(format!("chunk {id}"), "it is shorter than what is in it"))?;
    target.copy_from_slice(part);
    Ok(())
}
