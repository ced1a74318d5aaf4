//! The repository header: what a repository is and which defaults it has.

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::sealed::SealedKind;
use super::time::Timestamp;
use crate::error::{Corrupt, Error, Result};
use crate::id::RepositoryId;

/// The smallest chunk size of images.
pub(crate) const MIN_CHUNK_SIZE: u32 = 4 << 10;
/// The largest chunk size of images.
pub(crate) const MAX_CHUNK_SIZE: u32 = 8 << 20;

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
    /// The header stands for the repository as a whole.
    const VERSION: u16 = FORMAT_VERSION;
    const KIND: [u8; 4] = *b"REPO";
    const NOUN: &'static str = "repository header";
}

impl Header {
    /// Refuses a stored header that this program can't work with.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(feature) = self.features.first() {
            return Err(Error::Incompatible {
                object: "the repository".to_owned(),
                found: format!("the feature '{feature}'"),
                supported: "repositories without it".to_owned(),
            });
        }
        // No `init` has written such values, so they are no mistake of the caller.
        validate_defaults(self.chunk_size, self.compression)
            .map_err(|error| Corrupt::new("the repository header", error.to_string()).into())
    }
}

/// Refuses defaults that a new repository can't have.
pub(crate) fn validate_defaults(chunk_size: u32, compression: Compression) -> Result<()> {
    validate_chunk_size(chunk_size)?;
    validate_compression(compression)
}

pub(super) fn validate_chunk_size(chunk_size: u32) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{open, seal};

    fn header(chunk_size: u32, compression: Compression) -> Header {
        let id = RepositoryId::from_bytes([1; 16]);
        Header { id, created: Timestamp::now(), chunk_size, compression, features: Vec::new() }
    }

    #[test]
    fn values_that_no_repository_has_are_damage_when_they_are_read() {
        assert!(header(MIN_CHUNK_SIZE, Compression::Zstd(19)).check().is_ok());
        for bad in [header(5000, Compression::None), header(MIN_CHUNK_SIZE, Compression::Zstd(0))] {
            let error = bad.check().unwrap_err();
            assert!(error.is_damage(), "{error}");
            let error = validate_defaults(bad.chunk_size, bad.compression).unwrap_err();
            assert!(matches!(error, Error::BadParameter { .. }), "{error}");
        }
    }

    #[test]
    fn an_unknown_feature_is_incompatible() {
        let header =
            Header { features: vec!["moon".to_owned()], ..header(MIN_CHUNK_SIZE, Compression::None) };
        assert!(matches!(header.check(), Err(Error::Incompatible { .. })));
    }

    #[test]
    fn the_version_of_the_format_is_that_of_the_header() {
        let sealed = seal(&header(MIN_CHUNK_SIZE, Compression::None)).unwrap();
        assert_eq!(sealed[12..14], FORMAT_VERSION.to_le_bytes());
        assert!(open::<Header>("header", &sealed).is_ok());
    }
}
