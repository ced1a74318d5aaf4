//! Inode numbers: a keyed hash of what the inode is, and a table of those that the kernel holds.
//!
//! Invariant: while the kernel holds an inode, its number means the same node, and no other has that number. What
//! the kernel has let go of takes no memory; its number is the same when it is asked for again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use treering_engine::RepositoryId;

use crate::answers::Attributes;
use crate::namespace::Node;

/// An inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);

    /// Takes a number that the kernel gave back.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of an entry of a tree that is the only name of its inode. Those of entries have the highest bit.
    pub(crate) const fn of_only_name(number: u64) -> Self {
        Self((number | ENTRY_BIT) & !LINK_BIT)
    }

    /// The number of entries of a tree that share an inode: these have the next bit as well.
    pub(crate) const fn of_links(number: u64) -> Self {
        Self(number | ENTRY_BIT | LINK_BIT)
    }

    pub(crate) const fn is_entry(self) -> bool {
        self.0 & ENTRY_BIT != 0
    }
}

const ENTRY_BIT: u64 = 1 << 63;
const LINK_BIT: u64 = 1 << 62;

/// What is told of an image without opening it: all of it is immutable.
#[derive(Debug)]
pub(crate) struct ImageInfo {
    pub(crate) size: u64,
    pub(crate) data_bytes: u64,
    pub(crate) modified: SystemTime,
}

/// What is told of a revision that the kernel holds, without opening it.
#[derive(Debug)]
pub(crate) enum RevisionInfo {
    Image(ImageInfo),
    Tree(RootInfo),
}

/// What is told of the root of a tree without opening it.
#[derive(Debug)]
pub(crate) struct RootInfo {
    pub(crate) attributes: Attributes,
    /// Whether it has extended attributes; `ls` asks each directory for them.
    pub(crate) is_extended: bool,
}

struct Held {
    node: Node,
    lookup_count: u64,
    info: Option<Arc<RevisionInfo>>,
}

pub(crate) struct InodeTable {
    key: [u8; 32],
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: HashMap<Ino, Held>,
    numbers: HashMap<Node, Ino>,
}

impl InodeTable {
    /// The key is the repository's id, so that numbers stay from one mount to the next.
    pub(crate) fn new(repository: RepositoryId) -> Self {
        let key = blake3::derive_key("treering 2026 inode numbers", repository.as_bytes());
        Self { key, state: Mutex::default() }
    }

    /// What the numbers of entries of trees are made with.
    pub(crate) fn key(&self) -> [u8; 32] {
        self.key
    }

    /// The number of a node, whether it is held or not.
    pub(crate) fn number(&self, node: &Node) -> Ino {
        self.number_in(&self.lock(), node)
    }

    /// Counts one more lookup of a node, and gives its number. What is told of a revision is kept with it.
    pub(crate) fn acquire(&self, node: &Node, info: Option<Arc<RevisionInfo>>) -> Ino {
        let mut state = self.lock();
        let ino = self.number_in(&state, node);
        if *node == Node::Root {
            return ino;
        }
        let held =
            state.held.entry(ino).or_insert_with(|| Held { node: node.clone(), lookup_count: 0, info: None });
        held.lookup_count += 1;
        held.info = held.info.take().or(info);
        state.numbers.entry(node.clone()).or_insert(ino);
        ino
    }

    /// Takes lookups back; at the last one the inode is forgotten.
    pub(crate) fn release(&self, ino: Ino, lookup_count: u64) {
        let mut state = self.lock();
        let Some(held) = state.held.get_mut(&ino) else { return };
        held.lookup_count = held.lookup_count.saturating_sub(lookup_count);
        if held.lookup_count == 0
            && let Some(gone) = state.held.remove(&ino)
        {
            state.numbers.remove(&gone.node);
        }
    }

    /// What a number means that the kernel holds.
    pub(crate) fn node(&self, ino: Ino) -> Option<Node> {
        match ino {
            Ino::ROOT => Some(Node::Root),
            ino => self.lock().held.get(&ino).map(|held| held.node.clone()),
        }
    }

    /// What is known of a revision that the kernel holds.
    pub(crate) fn info(&self, node: &Node) -> Option<Arc<RevisionInfo>> {
        let state = self.lock();
        state.held.get(state.numbers.get(node)?)?.info.clone()
    }

    /// How many inodes the kernel holds.
    pub(crate) fn held_count(&self) -> usize {
        self.lock().held.len()
    }

    fn number_in(&self, state: &State, node: &Node) -> Ino {
        if *node == Node::Root {
            return Ino::ROOT;
        }
        // A held node keeps its number, also when that which stood in its way has gone.
        match state.numbers.get(node) {
            Some(ino) => *ino,
            None => probe(self.hash(node), |ino| state.held.contains_key(&ino)),
        }
    }

    fn hash(&self, node: &Node) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let kind: u8 = match node {
            Node::Root => 0,
            Node::Stream(_) => 1,
            Node::Latest(_) => 2,
            Node::Image(..) => 3,
            Node::ById(_) => 4,
            Node::IdLink(..) => 5,
            Node::ByTag(_) => 6,
            Node::Tag(..) => 7,
            Node::TagLink(..) => 8,
            Node::Tree(..) => 9,
        };
        hasher.update(&[kind]);
        if let Some(stream) = node.stream() {
            hasher.update(stream.as_bytes());
        }
        if let Node::Image(_, id) | Node::Tree(_, id) | Node::IdLink(_, id) | Node::TagLink(_, _, id) = node {
            hasher.update(id.as_bytes());
        }
        if let Node::Tag(_, tag) | Node::TagLink(_, tag, _) = node {
            hasher.update(tag.as_bytes());
        }
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number) & !ENTRY_BIT
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first number from `start` on that is free; 0 and that of the root are not.
fn probe(start: u64, taken: impl Fn(Ino) -> bool) -> Ino {
    let mut ino = Ino(start);
    while ino.0 <= Ino::ROOT.0 || ino.is_entry() || taken(ino) {
        // The numbers with the highest bit are those of entries.
        ino = Ino(ino.0.wrapping_add(1) & !ENTRY_BIT);
    }
    ino
}

#[cfg(test)]
mod tests {
    use super::*;
    use treering_engine::{RevisionId, StreamId};

    #[test]
    fn numbers_are_the_same_in_every_mount_of_a_repository() {
        let repository = RepositoryId::random();
        let node = Node::Image(StreamId::random(), RevisionId::random());
        let first = InodeTable::new(repository).number(&node);
        assert_eq!(InodeTable::new(repository).number(&node), first);
        assert_ne!(InodeTable::new(RepositoryId::random()).number(&node), first);
    }

    #[test]
    fn an_inode_is_held_until_all_lookups_are_taken_back() {
        let table = InodeTable::new(RepositoryId::random());
        let node = Node::Stream(StreamId::random());
        let ino = table.acquire(&node, None);
        assert_eq!(table.acquire(&node, None), ino);
        table.release(ino, 1);
        assert_eq!(table.node(ino), Some(node.clone()));
        table.release(ino, 1);
        assert_eq!(table.node(ino), None);
        assert_eq!(table.held_count(), 0);
        assert!(table.lock().numbers.is_empty());
        assert_eq!(table.number(&node), ino);
    }

    #[test]
    fn the_root_is_always_there() {
        let table = InodeTable::new(RepositoryId::random());
        assert_eq!(table.acquire(&Node::Root, None), Ino::ROOT);
        table.release(Ino::ROOT, 100);
        assert_eq!(table.node(Ino::ROOT), Some(Node::Root));
    }

    #[test]
    fn a_number_that_is_taken_is_passed_over() {
        assert_eq!(probe(5, |ino| (5..8).contains(&ino.0)), Ino(8));
        assert_eq!(probe(ENTRY_BIT - 1, |ino| ino.0 == ENTRY_BIT - 1), Ino(2));
        assert_eq!(probe(0, |_| false), Ino(2));
    }

    #[test]
    fn a_node_beside_its_hash_keeps_its_number_when_the_other_goes() {
        let table = InodeTable::new(RepositoryId::random());
        let (node, other) = (Node::Stream(StreamId::random()), Node::Stream(StreamId::random()));
        let place = probe(table.hash(&node), |_| false);
        // As if the other had the same hash.
        table.lock().held.insert(place, Held { node: other.clone(), lookup_count: 1, info: None });
        table.lock().numbers.insert(other, place);
        let beside = table.acquire(&node, None);
        assert_eq!(beside.0, place.0 + 1);
        table.release(place, 1);
        assert_eq!(table.number(&node), beside);
        assert_eq!(table.node(beside), Some(node));
    }
}
