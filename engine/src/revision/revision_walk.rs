//! Visits every object that a revision reaches, whatever its kind.

use std::sync::Arc;

use super::{MapPart, MapReader, TreePart, TreeReader};
use crate::error::{Error, Result};
use crate::format::{Kind, ObjectType};
use crate::id::ObjectId;
use crate::store::Store;

/// What [`walk_revision`] comes upon.
pub(crate) enum RevisionPart<'a> {
    /// A node that is about to be read, the root first.
    Node { id: &'a ObjectId, object_type: ObjectType },
    /// A node that could not be read: all below it is unknown, or the rest of it.
    Unreadable { id: &'a ObjectId, object_type: ObjectType, error: Error },
    /// A chunk, and how many bytes it gives here.
    Chunk { id: &'a ObjectId, length: u64 },
}

/// What is told of each part; says of a node whether to go on below it.
type Visit<'v> = &'v mut dyn FnMut(RevisionPart<'_>) -> Result<bool>;

/// Calls `visit` for the root of a revision and all objects below it, each before what it names, and as often as it is
/// named: what a caller does not want to see twice it must prune. Fails with nothing but what `visit` fails with.
pub(crate) fn walk_revision(store: &Arc<Store>, kind: Kind, root: &ObjectId, visit: Visit<'_>) -> Result<()> {
    match kind {
        Kind::Image => walk_image(store, root, visit),
        Kind::Tree => walk_tree(store, root, visit),
    }
}

fn walk_image(store: &Arc<Store>, root: &ObjectId, visit: Visit<'_>) -> Result<()> {
    let object_type = ObjectType::Node;
    // The walk through a map begins below its root.
    if !visit(RevisionPart::Node { id: root, object_type })? {
        return Ok(());
    }
    let map = match MapReader::open(store, root) {
        Ok(map) => map,
        Err(error) => return visit(RevisionPart::Unreadable { id: root, object_type, error }).map(|_| ()),
    };
    map.walk(&mut |part| match part {
        MapPart::Node { id, .. } => visit(RevisionPart::Node { id, object_type }),
        MapPart::Unreadable { id, error, .. } => visit(RevisionPart::Unreadable { id, object_type, error }),
        MapPart::Chunk { id, slot } => visit(RevisionPart::Chunk { id, length: map.chunk_len(slot).into() }),
    })
}

fn walk_tree(store: &Arc<Store>, root: &ObjectId, visit: Visit<'_>) -> Result<()> {
    let tree = match TreeReader::open_unpinned(store, root) {
        Ok(tree) => tree,
        Err(error) => {
            let object_type = ObjectType::Directory;
            return visit(RevisionPart::Unreadable { id: root, object_type, error }).map(|_| ());
        }
    };
    tree.walk(&mut |part| match part {
        TreePart::Node { id, object_type, .. } => visit(RevisionPart::Node { id, object_type }),
        TreePart::Unreadable { id, object_type, error, .. } => {
            visit(RevisionPart::Unreadable { id, object_type, error })
        }
        TreePart::Chunk { id, length, .. } => visit(RevisionPart::Chunk { id, length }),
    })
}
