//! Nodes of maps, files and directories: what is named by its content has one encoding.

use super::is_canonical;
use crate::format::{
    AttributeList, DirectoryInner, DirectoryLeaf, FileInner, FileLeaf, Inner, Leaf, Root, TreeRoot,
};
use crate::id::ObjectId;

/// The root of an image's map.
pub fn map_root(bytes: &[u8]) -> bool {
    is_canonical(bytes, Root::decode, Root::encode)
}

/// An inner node of an image's map.
pub fn map_inner(bytes: &[u8]) -> bool {
    is_canonical(bytes, Inner::decode, Inner::encode)
}

/// A leaf of an image's map.
pub fn map_leaf(bytes: &[u8]) -> bool {
    is_canonical(bytes, Leaf::decode, Leaf::encode)
}

/// An inner node of a file's map.
pub fn file_inner(bytes: &[u8]) -> bool {
    if let Some(inner) = FileInner::decode(bytes) {
        assert!(inner.subtree(ObjectId::from_bytes([0; 32])).is_some(), "its sums are those of no file");
    }
    is_canonical(bytes, FileInner::decode, FileInner::encode)
}

/// A leaf of a file's map.
pub fn file_leaf(bytes: &[u8]) -> bool {
    if let Some(leaf) = FileLeaf::decode(bytes) {
        assert!(leaf.subtree(ObjectId::from_bytes([0; 32])).is_some(), "its sums are those of no file");
    }
    is_canonical(bytes, FileLeaf::decode, FileLeaf::encode)
}

/// An inner node of a directory.
pub fn directory_inner(bytes: &[u8]) -> bool {
    is_canonical(bytes, DirectoryInner::decode, DirectoryInner::encode)
}

/// A leaf of a directory.
pub fn directory_leaf(bytes: &[u8]) -> bool {
    if let Some(leaf) = DirectoryLeaf::decode(bytes) {
        assert!(leaf.entries.iter().all(|entry| entry.memory_bytes() > 0));
        assert!(leaf.entries.iter().map(|entry| entry.encoded_len()).sum::<usize>() <= bytes.len());
    }
    is_canonical(bytes, DirectoryLeaf::decode, DirectoryLeaf::encode)
}

/// The root of a tree.
pub fn tree_root(bytes: &[u8]) -> bool {
    is_canonical(bytes, TreeRoot::decode, TreeRoot::encode)
}

/// Extended attributes: too many for an entry, and so the content of a chunk.
pub fn attributes(bytes: &[u8]) -> bool {
    if let Some(list) = AttributeList::from_chunk(bytes) {
        assert!(AttributeList::new(list.iter().collect()).as_ref() == Some(&list));
        assert!(list.iter().all(|(name, value)| list.get(name) == Some(value)));
    }
    is_canonical(bytes, AttributeList::from_chunk, |list| list.encoded().to_vec())
}
