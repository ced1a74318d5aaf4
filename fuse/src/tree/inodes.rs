//! The entries that the kernel holds, and their numbers.
//!
//! A number is a keyed hash of the parent's number and the leaf that has the entry, and from there on its number in the
//! leaf; or a keyed hash of what hard links have in common. So it needs no table, and who reads files in the order of
//! their numbers, as `cp` and `find` do, reads them in the order in which they are stored. Numbers of entries have the
//! highest bit, by which they are told from all others. What is kept of an entry that the kernel holds is where it is
//! stored: there may be millions.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slots;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use treering_engine::{Entry, EntryContent, EntryPlace, ObjectId};

use super::open::TreeKey;
use crate::inode::Ino;

/// A leaf of a directory of which the kernel holds entries; all of these share it.
#[derive(Debug)]
pub(super) struct LeafOf {
    pub(super) tree: Arc<TreeKey>,
    /// The number of the directory.
    pub(super) parent: Ino,
    leaf: ObjectId,
}

/// What is known of an entry that the kernel holds: where it is.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) of: Arc<LeafOf>,
    pub(super) place: EntryPlace,
}

/// The same, as small as it can be.
struct Slot {
    of: Arc<LeafOf>,
    index: u32,
    /// Saturated, it stays: who counts so far holds it for ever.
    lookup_count: u32,
}

impl Slot {
    fn held(&self) -> Held {
        Held { of: Arc::clone(&self.of), place: EntryPlace { leaf: self.of.leaf, index: self.index } }
    }
}

/// Leaves that were used last: who looks names up in order finds them in few.
const RECENT_LEAVES: usize = 16;

#[derive(Default)]
struct State {
    slots: HashMap<Ino, Slot>,
    recent: Vec<Arc<LeafOf>>,
}

pub(super) struct TreeInodes {
    key: [u8; 32],
    state: Mutex<State>,
}

/// An entry that was found, and where.
pub(crate) struct Found<'a> {
    pub(super) tree: &'a Arc<TreeKey>,
    pub(super) parent: Ino,
    pub(super) place: EntryPlace,
    pub(super) entry: &'a Entry,
}

/// Reads what is stored at the place of another entry, to tell whether a number is taken by it.
type Read<'a> = &'a dyn Fn(&EntryPlace) -> Option<Entry>;

impl TreeInodes {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, state: Mutex::default() }
    }

    pub(super) fn held_count(&self) -> usize {
        self.lock().slots.len()
    }

    pub(super) fn held(&self, ino: Ino) -> Option<Held> {
        self.lock().slots.get(&ino).map(Slot::held)
    }

    /// The number of an entry, whether it is held or not.
    pub(super) fn number(&self, found: &Found<'_>, read: Read<'_>) -> Ino {
        self.number_in(&self.lock().slots, found, read)
    }

    /// Counts a lookup.
    pub(super) fn acquire(&self, found: &Found<'_>, read: Read<'_>) -> Ino {
        let mut state = self.lock();
        let ino = self.number_in(&state.slots, found, read);
        let of = state.leaf_of(found);
        match state.slots.entry(ino) {
            Slots::Occupied(mut slot) => {
                let slot = slot.get_mut();
                slot.lookup_count = slot.lookup_count.saturating_add(1);
            }
            Slots::Vacant(slot) => _ = slot.insert(Slot { of, index: found.place.index, lookup_count: 1 }),
        }
        ino
    }

    /// Takes lookups back; at the last one the entry is forgotten.
    pub(super) fn release(&self, ino: Ino, lookup_count: u64) {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&ino).filter(|slot| slot.lookup_count < u32::MAX) else {
            return;
        };
        slot.lookup_count = slot.lookup_count.saturating_sub(u32::try_from(lookup_count).unwrap_or(u32::MAX));
        if slot.lookup_count == 0 {
            state.slots.remove(&ino);
            state.give_back();
        }
    }

    /// The number that the hash says, or the next one that is the entry's own or free.
    fn number_in(&self, slots: &HashMap<Ino, Slot>, found: &Found<'_>, read: Read<'_>) -> Ino {
        let mut ino = self.hash(found);
        while slots.get(&ino).is_some_and(|slot| !is_own(slot, found, read)) {
            ino = Ino::of_entry(ino.get().wrapping_add(1));
        }
        ino
    }

    fn hash(&self, found: &Found<'_>) -> Ino {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let metadata = &found.entry.metadata;
        let number_in_leaf = if is_linked(found.entry) {
            hasher.update(b"link").update(&found.tree.root.get().to_le_bytes());
            hasher.update(&metadata.mount.to_le_bytes()).update(&metadata.inode.to_le_bytes());
            0
        } else {
            hasher.update(b"leaf").update(&found.parent.get().to_le_bytes());
            hasher.update(found.place.leaf.as_bytes());
            found.place.index
        };
        let mut first = [0; 8];
        hasher.finalize_xof().fill(&mut first);
        Ino::of_entry(u64::from_le_bytes(first).wrapping_add(number_in_leaf.into()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leaf_of(&mut self, found: &Found<'_>) -> Arc<LeafOf> {
        let is_same = |of: &&Arc<LeafOf>| of.leaf == found.place.leaf && of.parent == found.parent;
        if let Some(of) = self.recent.iter().find(is_same) {
            return Arc::clone(of);
        }
        let (tree, parent, leaf) = (Arc::clone(found.tree), found.parent, found.place.leaf);
        let of = Arc::new(LeafOf { tree, parent, leaf });
        if self.recent.len() >= RECENT_LEAVES {
            self.recent.remove(0);
        }
        self.recent.push(Arc::clone(&of));
        of
    }

    /// Gives memory back when most of the entries have been forgotten.
    fn give_back(&mut self) {
        const WORTH_IT: usize = 1 << 16;
        if self.slots.capacity() > WORTH_IT && self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
    }
}

/// Whether the entry of a slot is the one that was found, or another name of the same inode.
fn is_own(slot: &Slot, found: &Found<'_>, read: Read<'_>) -> bool {
    let held = slot.held();
    if held.of.parent == found.parent && held.place == found.place {
        return true;
    }
    if !is_linked(found.entry) || held.of.tree.root != found.tree.root {
        return false;
    }
    // What can't be read just now has the same hash: that it is another one is next to impossible.
    read(&held.place).is_none_or(|other| is_same_inode(&other, found.entry))
}

/// Whether two entries are names of one inode. Names that claim so and differ in anything, as of a file that was changed
/// between them, are files of their own: no name may show what is stored under another.
fn is_same_inode(one: &Entry, other: &Entry) -> bool {
    is_linked(one)
        && is_linked(other)
        && one.metadata == other.metadata
        && one.content == other.content
        && one.attributes == other.attributes
}

/// Whether an entry shares its inode with others: a hostile tree may say so of directories.
fn is_linked(entry: &Entry) -> bool {
    entry.has_other_names && !matches!(entry.content, EntryContent::Directory(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use treering_engine::{EntryName, FileData, Metadata, RevisionId, StreamId, Timestamp};

    fn entry(name: &str, inode: u64, has_other_names: bool) -> Entry {
        let time = Timestamp { seconds: 1, nanoseconds: 2 };
        let metadata =
            Metadata { mode: 0o644, uid: 1, gid: 2, links: 1, mount: 0, inode, mtime: time, ctime: time };
        let name = EntryName::new(name.as_bytes()).unwrap();
        let content = EntryContent::File(FileData::Empty);
        let attributes = treering_engine::Attributes::None;
        Entry { name, metadata, content, attributes, has_other_names, unsettled: false, left_out: false }
    }

    struct World {
        inodes: TreeInodes,
        tree: Arc<TreeKey>,
        entries: Vec<Entry>,
    }

    impl World {
        fn new(entries: Vec<Entry>) -> Self {
            let root = Ino::new(77);
            let tree = Arc::new(TreeKey { stream: StreamId::random(), revision: RevisionId::random(), root });
            Self { inodes: TreeInodes::new([5; 32]), tree, entries }
        }

        fn acquire(&self, parent: u64, index: usize) -> Ino {
            let place = EntryPlace { leaf: ObjectId::from_bytes([parent as u8; 32]), index: index as u32 };
            let entry = &self.entries[index];
            let found = Found { tree: &self.tree, parent: Ino::new(parent), place, entry };
            let read = |place: &EntryPlace| self.entries.get(place.index as usize).cloned();
            assert!(self.inodes.number(&found, &read).is_entry());
            self.inodes.acquire(&found, &read)
        }
    }

    #[test]
    fn names_have_numbers_of_their_own_and_links_share_one() {
        let world = World::new(vec![
            entry("a", 1, false),
            entry("b", 2, false),
            entry("first", 3, true),
            entry("second", 3, true),
            entry("other", 4, true),
        ]);
        let in_one: Vec<Ino> = (0..5).map(|index| world.acquire(1, index)).collect();
        assert_eq!(in_one[2], in_one[3]);
        let distinct: std::collections::BTreeSet<Ino> = in_one.iter().copied().collect();
        assert_eq!(distinct.len(), 4);
        assert_ne!(world.acquire(2, 0), in_one[0], "the same name in another directory is another file");
        assert_eq!(world.acquire(2, 3), in_one[2], "another name, wherever it is, is not");
        assert_eq!(world.inodes.held_count(), 5);
    }

    /// Each name once showed what was stored under the one that was looked up first.
    #[test]
    fn names_that_claim_one_inode_and_differ_are_files_of_their_own() {
        let of_size = |name, length| {
            let chunk = ObjectId::from_bytes([9; 32]);
            let content = EntryContent::File(FileData::Slice { chunk, offset: 0, length });
            Entry { content, ..entry(name, 3, true) }
        };
        let world = World::new(vec![of_size("before", 5), of_size("after", 6), of_size("also-after", 6)]);
        let before = world.acquire(1, 0);
        let after = world.acquire(1, 1);
        assert_ne!(before, after);
        assert_eq!(world.acquire(2, 2), after);
        assert_eq!(world.acquire(1, 0), before);
        assert_eq!(world.inodes.held(after).unwrap().place.index, 1);
    }

    #[test]
    fn numbers_ascend_with_the_places_in_a_leaf() {
        let world = World::new((0..50).map(|index| entry(&format!("{index:02}"), index, false)).collect());
        let numbers: Vec<u64> = (0..50).map(|index| world.acquire(1, index).get()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    }

    #[test]
    fn memory_of_what_was_forgotten_is_given_back() {
        const COUNT: usize = 200_000;
        let world = World::new((0..COUNT as u64).map(|index| entry("a", index, false)).collect());
        let numbers: Vec<Ino> = (0..COUNT).map(|index| world.acquire(1, index)).collect();
        let kept = numbers[COUNT / 2];
        for ino in numbers.into_iter().filter(|ino| *ino != kept) {
            world.inodes.release(ino, 1);
        }
        assert_eq!(world.inodes.held(kept).unwrap().place.index, COUNT as u32 / 2);
        assert!(world.inodes.lock().slots.capacity() < COUNT / 2);
    }

    #[test]
    fn an_entry_is_held_until_all_lookups_are_taken_back() {
        let world = World::new(vec![entry("a", 1, false)]);
        let ino = world.acquire(1, 0);
        assert_eq!(world.acquire(1, 0), ino);
        world.inodes.release(ino, 1);
        assert_eq!(world.inodes.held(ino).unwrap().place.index, 0);
        world.inodes.release(ino, 1);
        assert!(world.inodes.held(ino).is_none());
        world.inodes.release(ino, 7);
        assert_eq!(world.acquire(1, 0), ino);
    }

    #[test]
    fn a_number_that_another_entry_has_is_passed_over() {
        let world = World::new(vec![entry("a", 1, false), entry("b", 2, false)]);
        let ino = world.acquire(1, 0);
        // As if the other had the same hash.
        let mut state = world.inodes.lock();
        let slot = state.slots.remove(&ino).unwrap();
        state.slots.insert(ino, Slot { index: 1, ..slot });
        drop(state);
        assert_eq!(world.acquire(1, 0).get(), ino.get() + 1);
    }
}
