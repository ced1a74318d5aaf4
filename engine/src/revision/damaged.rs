//! Which revisions a damage list affects.

use std::collections::{HashMap, HashSet};

use super::map_reader::MapPart;
use super::{MapReader, TreePart, TreeReader};
use crate::error::{Error, Result};
use crate::format::{Damage, Kind, Record};
use crate::id::{ObjectId, RevisionId};
use crate::repository::Repository;

impl Repository {
    /// The revisions of these records that reach a bad object, each with the bad objects that it reaches.
    ///
    /// Costs nothing while nothing is damaged; else each node is read once, however many revisions and nodes share it.
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
        if bad.contains(&root) {
            return Ok(vec![root]);
        }
        let mut path = Path { bad, memory, open: Vec::new() };
        path.enter(root, 0);
        match record.kind() {
            Kind::Image => self.follow_map(&root, &mut path)?,
            Kind::Tree => self.follow_tree(&root, &mut path)?,
        }
        Ok(path.finish())
    }

    fn follow_map(&self, root: &ObjectId, path: &mut Path<'_>) -> Result<()> {
        let map = MapReader::open(self.store(), root)?;
        let height = usize::from(map.root().level) + 1;
        map.walk(&mut |part| {
            match part {
                MapPart::Node { id, level, .. } => return Ok(path.reach(id, height - usize::from(level))),
                // Of what was reached last.
                MapPart::Unreadable { id, error, .. } => path.note_unreadable(id, error)?,
                MapPart::Chunk { id, .. } => path.note_if_bad(id),
            }
            Ok(true)
        })
    }

    fn follow_tree(&self, root: &ObjectId, path: &mut Path<'_>) -> Result<()> {
        let tree = TreeReader::open_unpinned(self.store(), root)?;
        tree.walk(&mut |part| {
            match part {
                TreePart::Node { depth: 0, .. } => {}
                TreePart::Node { id, depth, .. } => return Ok(path.reach(id, depth)),
                TreePart::Unreadable { id, depth, error, .. } => {
                    path.leave(depth + 1);
                    path.note_unreadable(id, error)?;
                }
                TreePart::Chunk { id, depth, .. } => {
                    path.leave(depth);
                    path.note_if_bad(id);
                }
            }
            Ok(true)
        })
    }
}

/// What was found below nodes that were read already.
type Memory = HashMap<ObjectId, Found>;

/// What is bad below a node, without what nodes below it remember: directories lie in each other as deep as they like.
#[derive(Default)]
struct Found {
    /// Bad objects that it names, or itself.
    bad: Vec<ObjectId>,
    /// Nodes that it names, and below which something is bad.
    nodes: Vec<ObjectId>,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.bad.is_empty() && self.nodes.is_empty()
    }

    /// All bad objects, sorted.
    fn all(mut self, memory: &Memory) -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        while let Some(node) = self.nodes.pop() {
            if let Some(found) = memory.get(&node).filter(|_| seen.insert(node)) {
                self.bad.extend_from_slice(&found.bad);
                self.nodes.extend_from_slice(&found.nodes);
            }
        }
        self.bad.sort();
        self.bad.dedup();
        self.bad
    }
}

/// The nodes from the root to where a walk is, each with what was found below it so far.
struct Path<'a> {
    bad: &'a HashSet<ObjectId>,
    memory: &'a mut Memory,
    /// Each deeper than the one before.
    open: Vec<OpenNode>,
}

struct OpenNode {
    id: ObjectId,
    depth: usize,
    found: Found,
}

impl Path<'_> {
    /// Comes upon a node; whether what lies below it is not known yet.
    fn reach(&mut self, id: &ObjectId, depth: usize) -> bool {
        self.leave(depth);
        if self.bad.contains(id) {
            self.note(*id);
        } else if let Some(known) = self.memory.get(id) {
            if !known.is_empty() {
                self.note_node(*id);
            }
        } else {
            self.enter(*id, depth);
            return true;
        }
        false
    }

    fn enter(&mut self, id: ObjectId, depth: usize) {
        self.open.push(OpenNode { id, depth, found: Found::default() });
    }

    fn note_if_bad(&mut self, id: &ObjectId) {
        if self.bad.contains(id) {
            self.note(*id);
        }
    }

    /// Notes a node that is damaged, on the list or not. No file handle, say, is no damage of it.
    fn note_unreadable(&mut self, id: &ObjectId, error: Error) -> Result<()> {
        match error.is_loss() {
            true => self.note(*id),
            false => return Err(error),
        }
        Ok(())
    }

    /// Notes a bad object of the node where the walk is.
    fn note(&mut self, bad: ObjectId) {
        if let Some(node) = self.open.last_mut() {
            node.found.bad.push(bad);
        }
    }

    fn note_node(&mut self, id: ObjectId) {
        if let Some(node) = self.open.last_mut() {
            node.found.nodes.push(id);
        }
    }

    /// Leaves the nodes down from a depth, for another of that depth: all below them is known now.
    fn leave(&mut self, depth: usize) {
        while let Some(mut node) = self.open.pop_if(|node| node.depth >= depth) {
            for ids in [&mut node.found.bad, &mut node.found.nodes] {
                ids.sort();
                ids.dedup();
            }
            if !node.found.is_empty() {
                self.note_node(node.id);
            }
            self.memory.insert(node.id, node.found);
        }
    }

    /// All that was found below the root.
    fn finish(mut self) -> Vec<ObjectId> {
        self.leave(1);
        self.open.pop().map(|root| root.found.all(self.memory)).unwrap_or_default()
    }
}
