//! Nodes of maps, files and directories, decoded, through the cache.

use std::sync::Arc;

use super::cache::Cached;
use super::{MAX_OBJECT_SIZE, Store, describe};
use crate::error::{Corrupt, Error, Result};
use crate::format::{
    DirectoryInner, DirectoryLeaf, FORMAT_VERSION, FileInner, FileLeaf, Inner, Leaf, ObjectType, Root,
    TreeRoot, incompatible, newer_node_version,
};
use crate::id::ObjectId;

const NODE: ObjectType = ObjectType::Node;
const DIRECTORY: ObjectType = ObjectType::Directory;

impl Store {
    /// A leaf of an image's map.
    pub(crate) fn leaf(&self, id: &ObjectId) -> Result<Arc<Leaf>> {
        let decode = |bytes: &[u8]| Some(Cached::Leaf(Arc::new(Leaf::decode(bytes)?)));
        match self.node(NODE, id, "leaf", decode)? {
            Cached::Leaf(leaf) => Ok(leaf),
            _ => Err(not_a(NODE, id, "leaf")),
        }
    }

    /// An inner node of an image's map.
    pub(crate) fn inner(&self, id: &ObjectId) -> Result<Arc<Inner>> {
        let decode = |bytes: &[u8]| Some(Cached::Inner(Arc::new(Inner::decode(bytes)?)));
        match self.node(NODE, id, "inner node", decode)? {
            Cached::Inner(inner) => Ok(inner),
            _ => Err(not_a(NODE, id, "inner node")),
        }
    }

    /// The root of an image's map. Not kept: who opens it has it.
    pub(crate) fn root(&self, id: &ObjectId) -> Result<Root> {
        let bytes = self.read_object(NODE, id)?;
        Root::decode(&bytes).ok_or_else(|| refused(&bytes, NODE, id, "map root"))
    }

    /// A leaf of a file's map.
    pub(crate) fn file_leaf(&self, id: &ObjectId) -> Result<Arc<FileLeaf>> {
        let decode = |bytes: &[u8]| Some(Cached::FileLeaf(Arc::new(FileLeaf::decode(bytes)?)));
        match self.node(NODE, id, "leaf of a file", decode)? {
            Cached::FileLeaf(leaf) => Ok(leaf),
            _ => Err(not_a(NODE, id, "leaf of a file")),
        }
    }

    /// An inner node of a file's map.
    pub(crate) fn file_inner(&self, id: &ObjectId) -> Result<Arc<FileInner>> {
        let decode = |bytes: &[u8]| Some(Cached::FileInner(Arc::new(FileInner::decode(bytes)?)));
        match self.node(NODE, id, "inner node of a file", decode)? {
            Cached::FileInner(inner) => Ok(inner),
            _ => Err(not_a(NODE, id, "inner node of a file")),
        }
    }

    /// A leaf of a directory.
    pub(crate) fn directory_leaf(&self, id: &ObjectId) -> Result<Arc<DirectoryLeaf>> {
        let decode = |bytes: &[u8]| Some(Cached::DirectoryLeaf(Arc::new(DirectoryLeaf::decode(bytes)?)));
        match self.node(DIRECTORY, id, "leaf", decode)? {
            Cached::DirectoryLeaf(leaf) => Ok(leaf),
            _ => Err(not_a(DIRECTORY, id, "leaf")),
        }
    }

    /// An inner node of a directory.
    pub(crate) fn directory_inner(&self, id: &ObjectId) -> Result<Arc<DirectoryInner>> {
        let decode = |bytes: &[u8]| Some(Cached::DirectoryInner(Arc::new(DirectoryInner::decode(bytes)?)));
        match self.node(DIRECTORY, id, "inner node", decode)? {
            Cached::DirectoryInner(inner) => Ok(inner),
            _ => Err(not_a(DIRECTORY, id, "inner node")),
        }
    }

    /// The root of a tree. Not kept: who opens it has it.
    pub(crate) fn tree_root(&self, id: &ObjectId) -> Result<TreeRoot> {
        let bytes = self.read_object(DIRECTORY, id)?;
        TreeRoot::decode(&bytes).ok_or_else(|| refused(&bytes, DIRECTORY, id, "root of a tree"))
    }

    /// Whether a node or directory can be read, so that something new may rely on it.
    pub(crate) fn has_intact(&self, object_type: ObjectType, id: &ObjectId) -> bool {
        let is_readable = self.cache.get(id).is_some() || self.read_object(object_type, id).is_ok();
        // A copy that only a pack knows is for reading alone: gc may take it.
        is_readable && (!self.index.asks_unnamed_packs() || self.has_published(object_type, id))
    }

    /// Whether a copy that tables name is intact.
    fn has_published(&self, object_type: ObjectType, id: &ObjectId) -> bool {
        let places = self.index.published_places(id).unwrap_or_default();
        places.iter().any(|place| {
            let mut content = vec![0; place.plain_len.min(MAX_OBJECT_SIZE) as usize];
            self.read_place(object_type, id, place, &mut content).is_ok()
        })
    }

    /// What the cache has, which may be a node of another kind, or else what `decode` makes of the object.
    fn node(
        &self,
        object_type: ObjectType,
        id: &ObjectId,
        noun: &str,
        decode: impl FnOnce(&[u8]) -> Option<Cached>,
    ) -> Result<Cached> {
        self.cache.get_or_load(id, || {
            let bytes = self.read_object(object_type, id)?;
            decode(&bytes).ok_or_else(|| refused(&bytes, object_type, id, noun))
        })
    }
}

/// Why a node that has the content of its name can't be used.
fn refused(content: &[u8], object_type: ObjectType, id: &ObjectId, noun: &str) -> Error {
    match newer_node_version(content) {
        Some(version) => incompatible(describe(object_type, id), version, FORMAT_VERSION),
        None => not_a(object_type, id, noun),
    }
}

pub(super) fn not_a(object_type: ObjectType, id: &ObjectId, noun: &str) -> Error {
    Corrupt::new(describe(object_type, id), format!("it is not a {noun}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Leaf;
    use crate::revision::test_maps::{Maps, chunk};
    use crate::revision::test_trees::Trees;

    /// They were once taken for damage.
    #[test]
    fn nodes_of_a_newer_version_are_refused_by_name_and_number() {
        let is_refused = |error: Error, id: ObjectId| {
            assert!(matches!(error, Error::Incompatible { .. }), "{error}");
            let told = error.to_string();
            assert!(told.contains(&id.to_string()) && told.contains("format version 2"), "{told}");
        };
        let mut leaf = Leaf { slots: vec![chunk(1)] }.encode();
        leaf[1] = 2;
        let maps = Maps::new();
        let id = maps.node(&leaf);
        is_refused(maps.store().leaf(&id).unwrap_err(), id);
        is_refused(maps.store().inner(&id).unwrap_err(), id);
        is_refused(maps.store().root(&id).unwrap_err(), id);
        is_refused(maps.store().file_leaf(&id).unwrap_err(), id);
        is_refused(maps.store().file_inner(&id).unwrap_err(), id);
        let trees = Trees::new();
        let id = trees.directory_node(&leaf);
        is_refused(trees.store().directory_leaf(&id).unwrap_err(), id);
        is_refused(trees.store().directory_inner(&id).unwrap_err(), id);
        is_refused(trees.store().tree_root(&id).unwrap_err(), id);
    }
}
