//! The entries that the kernel holds, and their numbers.
//!
//! A number is a keyed hash of the parent's number and the name, or of what hard links have in common, so it needs no
//! table; numbers of entries have the highest bit, by which they are told from all others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use treering_engine::{DirectoryTop, Entry, EntryContent};

use super::open::TreeKey;
use crate::inode::Ino;

/// What is known of an entry that the kernel holds.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) tree: Arc<TreeKey>,
    /// The directory in which it was found first.
    pub(super) parent: Ino,
    pub(super) name: Box<[u8]>,
    /// Of a directory, its top node, if it has one.
    pub(super) directory: Option<Option<DirectoryTop>>,
    /// Of one with several names, all of it: the kernel may let go of the directory in which it was found.
    pub(super) linked: Option<Box<Entry>>,
}

/// The same, as small as it can be: there may be a million.
struct Slot {
    tree: Arc<TreeKey>,
    parent: Ino,
    name: Box<[u8]>,
    lookup_count: u64,
    more: More,
}

enum More {
    Nothing,
    Directory(Box<Option<DirectoryTop>>),
    Linked(Box<Entry>),
}

pub(super) struct TreeInodes {
    key: [u8; 32],
    slots: Mutex<HashMap<Ino, Slot>>,
}

impl TreeInodes {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key, slots: Mutex::default() }
    }

    pub(super) fn held_count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn held(&self, ino: Ino) -> Option<Held> {
        let slots = self.lock();
        let slot = slots.get(&ino)?;
        let (directory, linked) = match &slot.more {
            More::Nothing => (None, None),
            More::Directory(top) => (Some(**top), None),
            More::Linked(entry) => (None, Some(entry.clone())),
        };
        let (tree, name) = (Arc::clone(&slot.tree), slot.name.clone());
        Some(Held { tree, parent: slot.parent, name, directory, linked })
    }

    /// The number of an entry, whether it is held or not.
    pub(super) fn number(&self, tree: &TreeKey, parent: Ino, entry: &Entry) -> Ino {
        self.place(&self.lock(), tree, parent, entry)
    }

    /// Counts a lookup.
    pub(super) fn acquire(&self, tree: &Arc<TreeKey>, parent: Ino, entry: &Entry) -> Ino {
        let mut slots = self.lock();
        let ino = self.place(&slots, tree, parent, entry);
        let slot = slots.entry(ino).or_insert_with(|| Slot {
            tree: Arc::clone(tree),
            parent,
            name: entry.name.as_bytes().into(),
            lookup_count: 0,
            more: match &entry.content {
                EntryContent::Directory(top) => More::Directory(Box::new(*top)),
                _ if entry.has_other_names => More::Linked(Box::new(entry.clone())),
                _ => More::Nothing,
            },
        });
        slot.lookup_count += 1;
        ino
    }

    /// Takes lookups back; at the last one the entry is forgotten.
    pub(super) fn release(&self, ino: Ino, lookup_count: u64) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(&ino) else { return };
        slot.lookup_count = slot.lookup_count.saturating_sub(lookup_count);
        if slot.lookup_count == 0 {
            slots.remove(&ino);
        }
    }

    /// The slot of an entry: the one that its hash says, or the next one that is its own or free.
    fn place(&self, slots: &HashMap<Ino, Slot>, tree: &TreeKey, parent: Ino, entry: &Entry) -> Ino {
        let is_own = |slot: &Slot| match &slot.more {
            More::Linked(known) => {
                is_linked(entry)
                    && slot.tree.root == tree.root
                    && (known.metadata.mount, known.metadata.inode)
                        == (entry.metadata.mount, entry.metadata.inode)
            }
            _ => !is_linked(entry) && slot.parent == parent && *slot.name == *entry.name.as_bytes(),
        };
        let mut ino = self.hash(tree, parent, entry);
        while slots.get(&ino).is_some_and(|slot| !is_own(slot)) {
            ino = Ino::of_entry(ino.get().wrapping_add(1));
        }
        ino
    }

    fn hash(&self, tree: &TreeKey, parent: Ino, entry: &Entry) -> Ino {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        if is_linked(entry) {
            hasher.update(b"link").update(&tree.root.get().to_le_bytes());
            hasher.update(&entry.metadata.mount.to_le_bytes()).update(&entry.metadata.inode.to_le_bytes());
        } else {
            hasher.update(b"name").update(&parent.get().to_le_bytes()).update(entry.name.as_bytes());
        }
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        Ino::of_entry(u64::from_le_bytes(number))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ino, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an entry shares its inode with others: a hostile tree may say so of directories.
fn is_linked(entry: &Entry) -> bool {
    entry.has_other_names && !matches!(entry.content, EntryContent::Directory(_))
}
