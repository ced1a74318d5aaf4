//! Chunks on their way from a worker to the writer.

use crate::error::Result;
use crate::format::{BlobEncoder, Compression, ObjectType};
use crate::id::ObjectId;
use crate::store::StoreWriter;

/// A chunk to store.
pub(super) struct NewChunk {
    pub(super) id: ObjectId,
    pub(super) plain_len: u32,
    pub(super) blob: Vec<u8>,
}

/// Compresses chunks; each thread has one.
#[derive(Default)]
pub(super) struct ChunkEncoder {
    /// Made when it is first wanted.
    encoder: Option<BlobEncoder>,
}

impl ChunkEncoder {
    /// The chunk of this content, to be stored as `id`.
    pub(super) fn encode(
        &mut self,
        compression: Compression,
        id: ObjectId,
        content: &[u8],
    ) -> Result<NewChunk> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => self.encoder.insert(BlobEncoder::new(compression)?),
        };
        let plain_len = u32::try_from(content.len()).unwrap_or(u32::MAX);
        Ok(NewChunk { id, plain_len, blob: encoder.encode(content) })
    }
}

/// What came out of storing chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added {
    /// Chunks that this run had not stored yet.
    pub(super) count: u64,
    /// Their bytes before compression.
    pub(super) bytes: u64,
}

/// Stores chunks, but for those that this run has stored already.
pub(super) fn store_chunks(new: Vec<NewChunk>, writer: &mut StoreWriter<'_>) -> Result<Added> {
    let mut added = Added::default();
    for chunk in new {
        if writer.add(ObjectType::Chunk, chunk.id, chunk.plain_len, &chunk.blob)? {
            added.count += 1;
            added.bytes += u64::from(chunk.plain_len);
        }
    }
    Ok(added)
}

/// Whether all bytes are zero. Data is left at its first block that is not.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let zero_block = |block: &[u8]| block.iter().fold(0, |any, &byte| any | byte) == 0;
    bytes.chunks(256).all(zero_block)
}
