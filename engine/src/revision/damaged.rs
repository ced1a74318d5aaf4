//! Which revisions a damage list affects.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{MapPart, MapReader, TreePart, TreeReader};
use crate::error::{Error, Result};
use crate::format::{Damage, Kind, Record};
use crate::id::{ObjectId, RevisionId};
use crate::recent::Recent;
use crate::repository::Repository;

impl Repository {
    /// The revisions of these records that reach a bad object, or a node that can't be read.
    ///
    /// Costs nothing while nothing is damaged; else nearly every node is read once, however many revisions share it.
    pub fn damaged_revisions(&self, damage: &Damage, records: &[Record]) -> Result<HashSet<RevisionId>> {
        let mut damaged = HashSet::new();
        if damage.objects.is_empty() {
            return Ok(damaged);
        }
        let mut search = BadSearch::new(self, damage);
        for record in records {
            if !search.reached_from(record.kind(), &record.root())?.is_empty() {
                damaged.insert(record.id);
            }
        }
        Ok(damaged)
    }
}

/// Below a node no more bad objects are remembered. If there are more, it is read again for the next revision: of a
/// few hundred thousand bad objects at most, few nodes have so many.
const FEW_MAX: usize = 8;

/// Finds the bad objects that revisions reach, one revision after another, in bounded memory.
pub(crate) struct BadSearch<'a> {
    repository: &'a Repository,
    /// The bad objects, and nodes that turned out to be unreadable.
    bad: Vec<ObjectId>,
    /// Their places in that list.
    places: HashMap<ObjectId, u32>,
    nodes: Recent<Below>,
    /// Revisions that were searched.
    searched: u64,
}

/// The bad objects below a node that was read.
enum Below {
    Few(Box<[u32]>),
    /// This search of a revision has found them all; the next one must look again.
    Many {
        search: u64,
    },
}

impl<'a> BadSearch<'a> {
    /// A search for the objects of a damage list.
    pub(crate) fn new(repository: &'a Repository, damage: &Damage) -> Self {
        let mut search = Self {
            repository,
            bad: Vec::new(),
            places: HashMap::new(),
            nodes: Recent::default(),
            searched: 0,
        };
        damage.objects.iter().for_each(|object| _ = search.place_of(object.id));
        search
    }

    /// The bad objects that a revision of this kind reaches from its root. A root that can't be read is the worst of
    /// them.
    pub(crate) fn reached_from(&mut self, kind: Kind, root: &ObjectId) -> Result<Vec<ObjectId>> {
        if self.places.contains_key(root) {
            return Ok(vec![*root]);
        }
        self.searched += 1;
        let mut walk = Walk { search: self, open: Vec::new(), reached: BTreeSet::new() };
        let walked = match kind {
            Kind::Image => walk.follow_map(root),
            Kind::Tree => walk.follow_tree(root),
        };
        match walked {
            Ok(()) => {
                let reached = walk.finish();
                Ok(reached.into_iter().filter_map(|place| self.bad.get(place as usize).copied()).collect())
            }
            Err(error) if error.is_loss() => Ok(vec![*root]),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing bad lies below a node, as far as that is remembered of revisions that were searched.
    pub(crate) fn has_none_below(&self, node: &ObjectId) -> bool {
        matches!(self.nodes.get(node), Some(Below::Few(found)) if found.is_empty())
    }

    /// Whether an object is bad, or a node that turned out to be unreadable.
    pub(crate) fn is_bad(&self, id: &ObjectId) -> bool {
        self.places.contains_key(id)
    }

    /// The place of a bad object in the list, in which it is put if need be.
    fn place_of(&mut self, id: ObjectId) -> u32 {
        *self.places.entry(id).or_insert_with(|| {
            self.bad.push(id);
            (self.bad.len() - 1) as u32
        })
    }
}

/// The walk through one revision.
struct Walk<'s, 'a> {
    search: &'s mut BadSearch<'a>,
    /// The nodes from the top to where the walk is, each deeper than the one before.
    open: Vec<OpenNode>,
    reached: BTreeSet<u32>,
}

struct OpenNode {
    id: ObjectId,
    depth: usize,
    /// What was found below it so far; `None` if that is more than is remembered.
    few: Option<Vec<u32>>,
}

impl OpenNode {
    fn add(&mut self, found: Option<&[u32]>) {
        let both = self.few.take().zip(found);
        let few = both.map(|(mut few, found)| {
            few.extend_from_slice(found);
            few.sort_unstable();
            few.dedup();
            few
        });
        self.few = few.filter(|few| few.len() <= FEW_MAX);
    }
}

impl Walk<'_, '_> {
    /// Walks through a map; fails with a loss only if its root can't be read.
    fn follow_map(&mut self, root: &ObjectId) -> Result<()> {
        let map = MapReader::open(self.search.repository.store(), root)?;
        let height = usize::from(map.root().level) + 1;
        map.walk(&mut |part| {
            match part {
                MapPart::Node { id, level, .. } => return Ok(self.enter(id, height - usize::from(level))),
                // Of what was entered last.
                MapPart::Unreadable { id, error, .. } => self.note_unreadable(id, error)?,
                MapPart::Chunk { id, .. } => self.note_if_bad(id),
            }
            Ok(true)
        })
    }

    /// Walks through a tree; fails with a loss only if its root can't be read.
    fn follow_tree(&mut self, root: &ObjectId) -> Result<()> {
        let tree = TreeReader::open_unpinned(self.search.repository.store(), root)?;
        tree.walk(&mut |part| {
            match part {
                TreePart::Node { depth: 0, .. } => {}
                TreePart::Node { id, depth, .. } => return Ok(self.enter(id, depth)),
                TreePart::Unreadable { id, depth, error, .. } => {
                    self.leave(depth + 1);
                    self.note_unreadable(id, error)?;
                }
                TreePart::Chunk { id, depth, .. } => {
                    self.leave(depth);
                    self.note_if_bad(id);
                }
            }
            Ok(true)
        })
    }

    /// Comes upon a node; whether the walk is to go on below it.
    fn enter(&mut self, id: &ObjectId, depth: usize) -> bool {
        self.leave(depth);
        if self.knows(id) {
            return false;
        }
        self.open.push(OpenNode { id: *id, depth, few: Some(Vec::new()) });
        true
    }

    /// Notes a node that is damaged, on the list or not. No file handle, say, is no damage of it.
    fn note_unreadable(&mut self, id: &ObjectId, error: Error) -> Result<()> {
        if !error.is_loss() {
            return Err(error);
        }
        let place = self.search.place_of(*id);
        self.note(Some(&[place]));
        Ok(())
    }

    fn note_if_bad(&mut self, id: &ObjectId) {
        if let Some(place) = self.search.places.get(id).copied() {
            self.note(Some(&[place]));
        }
    }

    /// Whether all below a node is known; it is noted then.
    fn knows(&mut self, id: &ObjectId) -> bool {
        if let Some(place) = self.search.places.get(id).copied() {
            self.note(Some(&[place]));
            return true;
        }
        match self.search.nodes.get(id) {
            Some(Below::Few(found)) => {
                let found = found.clone();
                self.note(Some(&found));
                true
            }
            Some(Below::Many { search }) if *search == self.search.searched => {
                self.note(None);
                true
            }
            _ => false,
        }
    }

    /// Notes bad objects below the node where the walk is; `None` for many, which were reached before.
    fn note(&mut self, found: Option<&[u32]>) {
        self.reached.extend(found.unwrap_or_default());
        if let Some(node) = self.open.last_mut() {
            node.add(found);
        }
    }

    /// Leaves the nodes down from a depth, for another of that depth: all below them is known now.
    fn leave(&mut self, depth: usize) {
        while let Some(node) = self.open.pop_if(|node| node.depth >= depth) {
            self.note(node.few.as_deref());
            let below = match node.few {
                Some(few) => Below::Few(few.into_boxed_slice()),
                None => Below::Many { search: self.search.searched },
            };
            self.search.nodes.insert(&node.id, below);
        }
    }

    /// All that was found.
    fn finish(mut self) -> BTreeSet<u32> {
        self.leave(0);
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{BadObject, FAN_OUT, Slot, Timestamp};
    use crate::revision::test_maps::{CHUNK, Maps, absent, canonical_root, chunk, numbers};

    /// Chunks of a lower number are bad.
    const BAD: u64 = 300;

    fn damage() -> Damage {
        let bad = |number| BadObject {
            id: absent(number),
            type_code: 1,
            found: Timestamp::now(),
            reason: String::new(),
        };
        Damage { objects: (0..BAD).map(bad).collect() }
    }

    /// The slots of a leaf with so many bad chunks.
    fn leaf(bad: u64) -> impl Iterator<Item = Slot> {
        (0..FAN_OUT).map(move |slot| chunk(if slot < bad { slot } else { BAD + slot }))
    }

    /// What is remembered of a node for one revision must hold for the others, wherever they have it.
    #[test]
    fn every_bad_chunk_is_found_in_every_revision_whatever_they_share() {
        let maps = Maps::new();
        let mut random = numbers(5);
        let damage = damage();
        let mut search = BadSearch::new(maps.repository(), &damage);
        let few = FEW_MAX as u64;
        let kinds = [0, 1, few, few + 1, FAN_OUT];
        // Of so many leaves some lie below one inner node, and some below several.
        for leaves in [1, 1, 2, 3, 5, 1, 300, 520, 7, 520] {
            // As a rule there is not each kind of leaf.
            let kinds: Vec<u64> = (0..2).map(|_| kinds[random(5) as usize]).collect();
            let slots: Vec<Slot> = (0..leaves).flat_map(|_| leaf(kinds[random(2) as usize])).collect();
            let size = slots.len() as u64 * u64::from(CHUNK);
            let root = maps.write(|writer| canonical_root(size, &slots, writer));
            let found = search.reached_from(Kind::Image, &maps.node(&root.encode())).unwrap();
            let expected: BTreeSet<ObjectId> =
                (0..BAD).filter(|&bad| slots.contains(&chunk(bad))).map(absent).collect();
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{kinds:?}");
        }
    }
}
