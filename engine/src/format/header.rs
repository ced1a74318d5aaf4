//! The repository header: what a repository is and which defaults it has.

use serde::{Deserialize, Serialize};

use super::sealed::SealedKind;
use super::time::Timestamp;
use crate::error::{Error, Result};
use crate::id::RepositoryId;

/// The smallest chunk size of images.
pub const MIN_CHUNK_SIZE: u32 = 4 << 10;
/// The largest chunk size of images.
pub const MAX_CHUNK_SIZE: u32 = 8 << 20;

/// How new chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Chunks are stored as they are.
    None,
    /// zstd at this level.
    Zstd(i32),
}

/// Version, id and defaults of a repository. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The repository's id.
    pub id: RepositoryId,
    /// When it was made.
    pub created: Timestamp,
    /// Chunk size of images in bytes, a power of two.
    pub chunk_size: u32,
    /// Compression of new chunks.
    pub compression: Compression,
    /// What a program must know to use it. Version 1 has none.
    pub features: Vec<String>,
}

impl SealedKind for Header {
    const KIND: [u8; 4] = *b"REPO";
    const NOUN: &'static str = "repository header";
}

impl Header {
    /// Refuses values that this program can't work with.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(feature) = self.features.first() {
            return Err(Error::Incompatible {
                object: "the repository".to_owned(),
                found: format!("the feature '{feature}'"),
                supported: "repositories without it".to_owned(),
            });
        }
        validate_chunk_size(self.chunk_size)?;
        validate_compression(self.compression)
    }
}

/// Refuses chunk sizes that maps can't have.
pub(crate) fn validate_chunk_size(chunk_size: u32) -> Result<()> {
    let allowed = MIN_CHUNK_SIZE..=MAX_CHUNK_SIZE;
    if chunk_size.is_power_of_two() && allowed.contains(&chunk_size) {
        return Ok(());
    }
    Err(Error::BadParameter {
        what: "chunk size",
        reason: format!("{chunk_size} is not a power of two from 4 KiB to 8 MiB"),
    })
}

fn validate_compression(compression: Compression) -> Result<()> {
    match compression {
        Compression::Zstd(level) if !(1..=19).contains(&level) => Err(Error::BadParameter {
            what: "compression",
            reason: format!("zstd has no level {level} here; use zstd:1 to zstd:19"),
        }),
        _ => Ok(()),
    }
}
