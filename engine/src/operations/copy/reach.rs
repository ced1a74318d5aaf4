//! What a revision reaches, but for what another one reaches that the target has whole.
//!
//! That the target knows a node tells nothing of what lies below it: a copy that was cut off may have published the node
//! before its chunks. So a walk turns back only at nodes of a revision that is committed there, which it goes through side
//! by side with the other, and at nodes that it has been at before; all else is looked up.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::transfer::{Stop, Transfer};
use crate::error::Result;
use crate::format::{Attributes, Entry, EntryContent, FileData, Kind, ObjectType, Slot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::revision::{
    MapPart, MapReader, Met, TreePart, TreeReader, TreesWalk, both_sides, differing_directories,
    on_each_side, span_of, walk_file,
};
use crate::store::{Index, Store};

/// Places of a base that are looked at before it is relied upon.
const SAMPLED: usize = 64;

/// The number of the tree that is sent, beside that of its base.
const SENT: u32 = 1;

/// A revision to be sent.
pub(super) struct Reach<'a> {
    /// The source's.
    pub(super) store: &'a Arc<Store>,
    pub(super) kind: Kind,
    pub(super) root: ObjectId,
    /// The root of a revision that the target has whole.
    pub(super) base: Option<ObjectId>,
    pub(super) monitor: &'a dyn Monitor,
}

/// Whether a revision that is committed in the target is there as it was, as far as that is told without reading it: no
/// pack is missing, and tables name a sample of what the revision reaches.
pub(super) fn is_whole(store: &Arc<Store>, kind: Kind, root: &ObjectId, there: &Index) -> Result<bool> {
    if there.has_losses() || !there.still_contains(root)? {
        return Ok(false);
    }
    let sampled = match kind {
        Kind::Image => MapReader::open(store, root).and_then(|map| map.random_objects(SAMPLED)),
        Kind::Tree => TreeReader::open_unpinned(store, root).and_then(|tree| tree.random_objects(SAMPLED)),
    };
    // Where the source's own copy can't be read it is no help.
    let Ok(sampled) = sampled else { return Ok(false) };
    sampled.iter().try_fold(true, |all, id| Ok(all && there.still_contains(id)?))
}

impl Reach<'_> {
    /// Sends all that the target lacks.
    pub(super) fn send(&self, transfer: &mut Transfer<'_>) -> Result<(), Stop> {
        if self.base == Some(self.root) {
            return Ok(());
        }
        match self.kind {
            Kind::Image => self.walk_image(transfer)?,
            Kind::Tree => self.walk_tree(transfer)?,
        }
        transfer.send_batch()
    }

    fn walk_image(&self, transfer: &mut Transfer<'_>) -> Result<(), Stop> {
        let map = MapReader::open(self.store, &self.root)?;
        let base = self.base.and_then(|root| MapReader::open(self.store, &root).ok());
        transfer.take_node(ObjectType::Node, &self.root)?;
        map.walk(&mut |part| match part {
            MapPart::Node { id, level, first_slot } => {
                let index = first_slot / span_of(level);
                match base.as_ref().is_some_and(|base| has_node(base, level, index, id)) {
                    true => Ok(false),
                    false => transfer.take_node(ObjectType::Node, id),
                }
            }
            MapPart::Unreadable { error, .. } => Err(error.into()),
            MapPart::Chunk { id, slot } => {
                if !base.as_ref().is_some_and(|base| has_chunk(base, slot, id)) {
                    transfer.take_chunk(id, map.chunk_len(slot).into())?;
                }
                Ok(true)
            }
        })
    }

    fn walk_tree(&self, transfer: &mut Transfer<'_>) -> Result<(), Stop> {
        let tree = TreeReader::open_unpinned(self.store, &self.root)?;
        let base = self.base.and_then(|root| TreeReader::open_unpinned(self.store, &root).ok());
        transfer.take_node(ObjectType::Directory, &self.root)?;
        let roots = [base.as_ref().map(TreeReader::root), Some(tree.root())];
        self.take_entry(roots, transfer)?;
        let noted = RefCell::new(Vec::new());
        let mut walk = TreesWalk::new(self.store, self.monitor).passing_by(both_sides()).noting(SENT, &noted);
        walk.run(b"", differing_directories(roots), &mut |met| {
            take_directories(&noted, transfer)?;
            match met {
                Met::Entries { variants, .. } => self.take_entry(on_each_side(variants), transfer),
                Met::Lost { trees, error, .. } if trees.contains(SENT) => Err(error.into()),
                Met::Lost { .. } => Ok(false),
            }
        })?;
        take_directories(&noted, transfer)
    }

    /// Takes what an entry names itself, but for what that of the base names as well; whether to go on below it.
    fn take_entry(
        &self,
        [base, sent]: [Option<&Entry>; 2],
        transfer: &mut Transfer<'_>,
    ) -> Result<bool, Stop> {
        let Some(entry) = sent else { return Ok(false) };
        if let Attributes::Chunk(id) = &entry.attributes
            && base.is_none_or(|base| base.attributes != entry.attributes)
        {
            transfer.take_chunk(id, 0)?;
        }
        match &entry.content {
            EntryContent::File(data) => {
                let before = base.and_then(|base| match &base.content {
                    EntryContent::File(data) => Some(data),
                    _ => None,
                });
                if before != Some(data) {
                    self.take_file(before, data, transfer)?;
                }
                Ok(false)
            }
            EntryContent::Directory(Some(top)) => Ok(!transfer.has_seen_node(&top.id)),
            _ => Ok(false),
        }
    }

    fn take_file(
        &self,
        before: Option<&FileData>,
        data: &FileData,
        transfer: &mut Transfer<'_>,
    ) -> Result<(), Stop> {
        let known = before.map(|before| self.nodes_of(before)).unwrap_or_default();
        walk_file(self.store, data, &mut |part| match part {
            TreePart::Node { id, .. } if known.contains(id) => Ok(false),
            TreePart::Node { id, object_type, .. } => transfer.take_node(object_type, id),
            TreePart::Unreadable { error, .. } => Err(error.into()),
            TreePart::Chunk { id, length, .. } => transfer.take_chunk(id, length).map(|()| true),
        })
    }

    /// The nodes of a file's map, of which its leaves are not read.
    fn nodes_of(&self, data: &FileData) -> HashSet<ObjectId> {
        let FileData::Map { level, .. } = data else { return HashSet::new() };
        let (height, mut nodes) = (usize::from(*level), HashSet::new());
        let walked: Result<()> = walk_file(self.store, data, &mut |part| {
            if let TreePart::Node { id, depth, .. } = part {
                nodes.insert(*id);
                return Ok(depth < height);
            }
            // What can't be read is not known to be there, and what follows need not be.
            Ok(false)
        });
        walked.map(|()| nodes).unwrap_or_default()
    }
}

/// Takes the nodes of directories that the walk has come by.
fn take_directories(noted: &RefCell<Vec<ObjectId>>, transfer: &mut Transfer<'_>) -> Result<(), Stop> {
    let nodes = std::mem::take(&mut *noted.borrow_mut());
    nodes.iter().try_for_each(|id| transfer.take_node(ObjectType::Directory, id).map(|_| ()))
}

/// Whether a map has a node in a place. Where it can't be read it is no help.
fn has_node(map: &MapReader, level: u8, index: u64, id: &ObjectId) -> bool {
    map.subtree(level, index).is_ok_and(|there| there.is_some_and(|there| there.id == *id))
}

fn has_chunk(map: &MapReader, slot: u64, id: &ObjectId) -> bool {
    map.slot(slot).is_ok_and(|there| there == Slot::Chunk(*id))
}
