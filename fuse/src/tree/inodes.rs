//! The entries that the kernel holds, and their numbers.
//!
//! A number is a keyed hash of the parent's number and the leaf that has the entry, and from there on its number in the
//! leaf; or, of an entry with hard links, a keyed hash of all that is stored of it but its name. So it needs no table and
//! depends on nothing that the kernel holds, and who reads files in the order of their numbers, as `cp` and `find` do,
//! reads them in the order in which they are stored. (Where two hashes are the same by chance, the second one that is held
//! has the next number.) What is kept of an entry that the kernel holds is where it is stored: there may be millions.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slots;
use std::hash::{Hash, Hasher};
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
    pub(super) fn number(&self, found: &Found<'_>) -> Ino {
        let hashed = self.hash(found);
        number_in(&self.lock().slots, found, hashed)
    }

    /// Counts a lookup.
    pub(super) fn acquire(&self, found: &Found<'_>) -> Ino {
        let hashed = self.hash(found);
        let mut state = self.lock();
        let ino = number_in(&state.slots, found, hashed);
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

    /// The number of an entry if no other one has that by chance.
    fn hash(&self, found: &Found<'_>) -> Ino {
        let mut hasher = KeyedHasher(blake3::Hasher::new_keyed(&self.key));
        if is_linked(found.entry) {
            let Entry { metadata, content, attributes, .. } = found.entry;
            (b"link", found.tree.root, metadata, content, attributes).hash(&mut hasher);
            Ino::of_links(hasher.finish())
        } else {
            (b"leaf", found.parent, found.place.leaf.as_bytes()).hash(&mut hasher);
            Ino::of_only_name(hasher.finish().wrapping_add(found.place.index.into()))
        }
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

/// A hash that nobody can foresee who does not know the key.
struct KeyedHasher(blake3::Hasher);

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}

/// The number that the hash gave, or of an only name the next one that no other name has. Names of one inode have the same
/// hash, and what is stored of them is the same: names that claim one inode and differ in anything, as of a file that was
/// changed between them, are files of their own.
fn number_in(slots: &HashMap<Ino, Slot>, found: &Found<'_>, hashed: Ino) -> Ino {
    if is_linked(found.entry) {
        return hashed;
    }
    let is_free = |ino: &Ino| slots.get(ino).is_none_or(|slot| is_at(slot, found));
    let mut ino = hashed;
    while !is_free(&ino) {
        ino = Ino::of_only_name(ino.get().wrapping_add(1));
    }
    ino
}

fn is_at(slot: &Slot, found: &Found<'_>) -> bool {
    let held = slot.held();
    held.of.parent == found.parent && held.place == found.place
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
            let number = self.inodes.number(&found);
            assert!(number.is_entry());
            assert_eq!(self.inodes.acquire(&found), number);
            number
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

    /// The second of two such names once had the number of the first one, if that was not held just then.
    #[test]
    fn the_number_of_a_name_does_not_depend_on_what_is_held() {
        let claims = |name: &str, second| {
            let mut entry = entry(name, 3, true);
            entry.metadata.mtime.seconds = second;
            entry
        };
        let world = World::new((0..200).map(|second| claims("x", second)).collect());
        let numbers: Vec<Ino> = (0..200).map(|index| world.acquire(1, index)).collect();
        numbers.iter().for_each(|ino| world.inodes.release(*ino, 1));
        assert_eq!(world.inodes.held_count(), 0);
        for (index, number) in numbers.iter().enumerate().rev() {
            assert_eq!(world.acquire(1, index), *number);
        }
        assert_eq!(world.inodes.held_count(), 200);
    }

    #[test]
    fn whatever_is_stored_of_a_link_but_its_name_tells_it_from_others() {
        let first = entry("a", 3, true);
        let changed = |change: &dyn Fn(&mut Entry)| {
            let mut entry = first.clone();
            change(&mut entry);
            entry
        };
        let later = Timestamp { seconds: 1, nanoseconds: 3 };
        let list = treering_engine::AttributeList::new(vec![(b"user.a", b"b")]).unwrap();
        let entries = vec![
            first.clone(),
            changed(&|entry| entry.metadata.mode = 0o600),
            changed(&|entry| entry.metadata.uid = 9),
            changed(&|entry| entry.metadata.gid = 9),
            changed(&|entry| entry.metadata.links = 9),
            changed(&|entry| entry.metadata.mount = 9),
            changed(&|entry| entry.metadata.inode = 9),
            changed(&|entry| entry.metadata.mtime = later),
            changed(&|entry| entry.metadata.ctime = later),
            changed(&|entry| entry.content = EntryContent::Fifo),
            changed(&|entry| entry.attributes = treering_engine::Attributes::Inline(list.clone())),
            changed(&|entry| entry.unsettled = true),
        ];
        let world = World::new(entries);
        let numbers: Vec<Ino> = (0..12).map(|index| world.acquire(1, index)).collect();
        let distinct: std::collections::BTreeSet<Ino> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), 11);
        assert_eq!(numbers[11], numbers[0], "how it will be backed up next is not told");
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
