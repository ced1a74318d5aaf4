//! Which revisions a damage list affects.

use std::collections::{HashMap, HashSet};

use super::MapReader;
use super::map_reader::MapPart;
use crate::error::Result;
use crate::format::{Damage, Kind, Record};
use crate::id::{ObjectId, RevisionId};
use crate::repository::Repository;

impl Repository {
    /// The revisions of these records that reach a bad object, each with the bad objects that it reaches.
    ///
    /// Of a tree the root alone is looked at. Costs nothing while nothing is damaged; else each node is read once, however many revisions and nodes share it.
    pub fn damaged_revisions(
        &self,
        damage: &Damage,
        records: &[Record],
    ) -> Result<HashMap<RevisionId, Vec<ObjectId>>> {
        let bad: HashSet<ObjectId> = damage.objects.iter().map(|object| object.id).collect();
        let mut affected = HashMap::new();
        if bad.is_empty() {
            return Ok(affected);
        }
        let mut memory = HashMap::new();
        for record in records {
            let root = record.content.root();
            let reached = match self.bad_reached(record, &bad, &mut memory) {
                Ok(reached) => reached,
                // A root that can't be read is the worst damage.
                Err(error) if error.is_loss() => vec![root],
                Err(error) => return Err(error),
            };
            if !reached.is_empty() {
                affected.insert(record.id, reached);
            }
        }
        Ok(affected)
    }

    fn bad_reached(
        &self,
        record: &Record,
        bad: &HashSet<ObjectId>,
        memory: &mut Memory,
    ) -> Result<Vec<ObjectId>> {
        let root = record.content.root();
        // Trees are not followed yet.
        if bad.contains(&root) || record.kind() == Kind::Tree {
            return Ok(bad.get(&root).copied().into_iter().collect());
        }
        let map = MapReader::open(self.store(), &root)?;
        let mut path = Path::below(root);
        map.walk(&mut |part| {
            match part {
                MapPart::Node { id, level, .. } => {
                    path.leave(level, memory);
                    if bad.contains(id) {
                        path.note(&[*id]);
                        return Ok(false);
                    }
                    if let Some(known) = memory.get(id) {
                        path.note(known);
                        return Ok(false);
                    }
                    path.enter(*id, level);
                }
                MapPart::Unreadable { id, error, .. } => {
                    // No file handle, say, is no damage of this node.
                    if !error.is_loss() {
                        return Err(error);
                    }
                    path.note(&[*id]);
                }
                MapPart::Chunk { id, .. } if bad.contains(id) => path.note(&[*id]),
                MapPart::Chunk { .. } => {}
            }
            Ok(true)
        })?;
        Ok(path.finish(memory))
    }
}

/// The bad objects below nodes that were read already, sorted.
type Memory = HashMap<ObjectId, Vec<ObjectId>>;

/// The nodes from the root to where a walk is, each with what was found below it so far.
struct Path {
    /// Levels fall from one to the next.
    open: Vec<OpenNode>,
}

struct OpenNode {
    id: ObjectId,
    level: u8,
    found: Vec<ObjectId>,
}

impl Path {
    fn below(root: ObjectId) -> Self {
        // Above all levels, so that nothing but the end leaves it.
        Self { open: vec![OpenNode { id: root, level: u8::MAX, found: Vec::new() }] }
    }

    fn enter(&mut self, id: ObjectId, level: u8) {
        self.open.push(OpenNode { id, level, found: Vec::new() });
    }

    /// Notes bad objects of the node where the walk is.
    fn note(&mut self, bad: &[ObjectId]) {
        if let Some(node) = self.open.last_mut() {
            node.found.extend_from_slice(bad);
        }
    }

    /// Leaves the nodes up to a level, for another of that level: all below them is known now.
    fn leave(&mut self, level: u8, memory: &mut Memory) {
        while let Some(node) = self.open.pop_if(|node| node.level <= level) {
            self.remember(node, memory);
        }
    }

    fn remember(&mut self, mut node: OpenNode, memory: &mut Memory) {
        node.found.sort();
        node.found.dedup();
        self.note(&node.found);
        memory.insert(node.id, node.found);
    }

    /// All that was found below the root.
    fn finish(mut self, memory: &mut Memory) -> Vec<ObjectId> {
        self.leave(u8::MAX - 1, memory);
        let mut found = self.open.pop().map(|root| root.found).unwrap_or_default();
        found.sort();
        found.dedup();
        found
    }
}
