//! Names of objects and checksums (`docs/format.md`, section 6).

use std::sync::LazyLock;

use crate::id::ObjectId;

/// What an object is. Each type has its own hash context, so that no two types ever share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectType {
    /// A piece of an image or file.
    Chunk = 1,
    /// A piece of a map.
    Node = 2,
    /// A piece of a directory, or the root of a tree.
    Directory = 3,
}

impl ObjectType {
    /// The code that is stored.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The type that a stored code stands for.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Chunk),
            2 => Some(Self::Node),
            3 => Some(Self::Directory),
            _ => None,
        }
    }

    /// A word for people.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Node => "node",
            Self::Directory => "directory",
        }
    }
}

/// Names objects: holds the hash keys of one repository.
#[derive(Clone)]
pub(crate) struct ObjectHasher {
    chunk_key: [u8; 32],
    node_key: [u8; 32],
    directory_key: [u8; 32],
}

impl ObjectHasher {
    /// The hasher of a repository with this secret; empty where nothing is encrypted.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self {
            chunk_key: blake3::derive_key("treering v1 data chunk", secret),
            node_key: blake3::derive_key("treering v1 map node", secret),
            directory_key: blake3::derive_key("treering v1 directory node", secret),
        }
    }

    /// The name of an object with this content.
    pub(crate) fn id(&self, object_type: ObjectType, content: &[u8]) -> ObjectId {
        let key = match object_type {
            ObjectType::Chunk => &self.chunk_key,
            ObjectType::Node => &self.node_key,
            ObjectType::Directory => &self.directory_key,
        };
        ObjectId::from_bytes(*blake3::keyed_hash(key, content).as_bytes())
    }
}

/// What a checksum protects.
#[derive(Clone, Copy)]
pub(crate) enum ChecksumContext {
    SealedObject,
    PackHeader,
    PackBlob,
    PackDirectory,
    IndexBlock,
}

static CHECKSUM_KEYS: LazyLock<[[u8; 32]; 5]> = LazyLock::new(|| {
    [
        "treering v1 sealed object",
        "treering v1 pack header",
        "treering v1 pack blob",
        "treering v1 pack directory",
        "treering v1 index block",
    ]
    .map(|context| blake3::derive_key(context, b""))
});

impl ChecksumContext {
    fn key(self) -> &'static [u8; 32] {
        let [sealed, header, blob, directory, block] = &*CHECKSUM_KEYS;
        match self {
            Self::SealedObject => sealed,
            Self::PackHeader => header,
            Self::PackBlob => blob,
            Self::PackDirectory => directory,
            Self::IndexBlock => block,
        }
    }

    /// The checksum of `bytes`, cut to `N` bytes (at most 32).
    pub(crate) fn sum<const N: usize>(self, bytes: &[u8]) -> [u8; N] {
        cut(blake3::keyed_hash(self.key(), bytes))
    }

    /// The checksum of several pieces, as if they were one.
    pub(crate) fn sum_of_parts<const N: usize>(self, parts: &[&[u8]]) -> [u8; N] {
        let mut hasher = blake3::Hasher::new_keyed(self.key());
        for part in parts {
            hasher.update(part);
        }
        cut(hasher.finalize())
    }
}

fn cut<const N: usize>(hash: blake3::Hash) -> [u8; N] {
    let bytes = hash.as_bytes();
    std::array::from_fn(|index| bytes.get(index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_secrets_give_other_names_to_one_content() {
        let plain = ObjectHasher::new(b"");
        let secret = ObjectHasher::new(b"secret");
        let chunk = plain.id(ObjectType::Chunk, b"content");
        let node = plain.id(ObjectType::Node, b"content");
        let directory = plain.id(ObjectType::Directory, b"content");
        assert!(chunk != node && node != directory && directory != chunk);
        assert_ne!(chunk, secret.id(ObjectType::Chunk, b"content"));
    }

    #[test]
    fn parts_have_the_checksum_of_the_whole() {
        let context = ChecksumContext::PackDirectory;
        let whole: [u8; 16] = context.sum(b"one two");
        assert_eq!(whole, context.sum_of_parts::<16>(&[b"one", b" two"]));
    }
}
