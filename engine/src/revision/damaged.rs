//! Which revisions a damage list affects.

use std::collections::{HashMap, HashSet};

use super::MapReader;
use super::map_reader::MapPart;
use crate::error::Result;
use crate::format::{Content, Damage, Record};
use crate::id::{ObjectId, RevisionId};
use crate::repository::Repository;

impl Repository {
    /// The revisions of these records that reach a bad object, each with the bad objects that it reaches.
    ///
    /// Costs nothing while nothing is damaged; else each node that the revisions share is read once.
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
            let Content::Image(content) = &record.content;
            let reached = match self.bad_below_root(&content.root, &bad, &mut memory) {
                Ok(reached) => reached,
                // A root that can't be read is the worst damage.
                Err(error) if error.is_damage() || error.is_not_found() => vec![content.root],
                Err(error) => return Err(error),
            };
            if !reached.is_empty() {
                affected.insert(record.id, reached);
            }
        }
        Ok(affected)
    }

    fn bad_below_root(
        &self,
        root: &ObjectId,
        bad: &HashSet<ObjectId>,
        memory: &mut Memory,
    ) -> Result<Vec<ObjectId>> {
        if bad.contains(root) {
            return Ok(vec![*root]);
        }
        let map = MapReader::open(self.store(), root)?;
        let mut reached = HashSet::new();
        // The leaf that chunks are coming from.
        let mut leaf: Option<ObjectId> = None;
        map.walk(&mut |part| {
            match part {
                MapPart::Node { id, level, .. } => {
                    if bad.contains(id) {
                        reached.insert(*id);
                        return Ok(false);
                    }
                    if level == 0 {
                        if let Some(known) = memory.get(id) {
                            reached.extend(known.iter().copied());
                            return Ok(false);
                        }
                        memory.insert(*id, Vec::new());
                        leaf = Some(*id);
                    }
                }
                MapPart::Unreadable { id, level, .. } => {
                    reached.insert(*id);
                    if level == 0
                        && let Some(known) = memory.get_mut(id)
                    {
                        known.push(*id);
                    }
                }
                MapPart::Chunk { id, .. } => {
                    if bad.contains(id) {
                        reached.insert(*id);
                        if let Some(known) = leaf.and_then(|leaf| memory.get_mut(&leaf)) {
                            known.push(*id);
                        }
                    }
                }
            }
            Ok(true)
        })?;
        let mut reached: Vec<ObjectId> = reached.into_iter().collect();
        reached.sort();
        Ok(reached)
    }
}

/// The bad objects below leaves that were read already.
type Memory = HashMap<ObjectId, Vec<ObjectId>>;
