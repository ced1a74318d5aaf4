//! Entries with several names: the first that is met is made, the others become links to it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::format::{Attributes, Entry, EntryContent, FileData};
use crate::source::tree::{Directory, Identity};

/// So many are remembered at most, in a bit more than a hundred MiB: some 40 bytes of each in the table, 100 of what was
/// made, and as much again of directories that are kept for it and of what was found right. Names of further ones become
/// files of their own.
const KNOWN_MAX: usize = 500_000;

/// What was made under the first name.
pub(super) struct Made {
    pub(super) place: Arc<Directory>,
    pub(super) name: Box<[u8]>,
    pub(super) identity: Identity,
}

/// How a name is met.
pub(super) enum Meeting {
    /// It is the first: whoever met it makes it, and [settles](Unsettled::settle) it.
    First(Unsettled),
    /// An earlier name was made.
    Later(Key, Arc<Made>),
    /// The earlier name has no intact copy.
    Damaged,
    /// The earlier name may not be made.
    LeftOut,
    /// There is no room to remember it.
    Untracked,
}

/// A first name that is being made, and that others wait for. Dropped, as by a panic, it counts as failed.
pub(super) struct Unsettled {
    links: Arc<HardLinks>,
    /// `None` once it is settled.
    key: Option<Key>,
}

/// What became of the first name.
pub(super) enum First {
    Made(Arc<Made>),
    /// For a reason that need not hold for the next one.
    Failed,
    Damaged,
    LeftOut,
}

/// What makes two entries names of the same: identity at the source, and all that a name says of it. So a number that was
/// used again, or a hostile repository, makes no link between things that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

struct Known {
    /// `None` while it is being made.
    first: Option<First>,
    /// Names that were not met yet.
    left: u32,
}

/// The entries that have further names.
#[derive(Default)]
pub(super) struct HardLinks {
    known: Mutex<HashMap<Key, Known>>,
    settled: Condvar,
    /// What was there already with several names, and was found to be right.
    kept: Mutex<HashSet<Identity>>,
}

impl HardLinks {
    /// Meets a name; waits while the first one is being made. Names must be met in an order in which whoever makes the
    /// first one does not wait for who meets a later one.
    pub(super) fn meet(self: &Arc<Self>, entry: &Entry) -> Meeting {
        let key = key_of(entry);
        let mut known = self.known();
        if !known.contains_key(&key) {
            if known.len() >= KNOWN_MAX {
                return Meeting::Untracked;
            }
            let left = entry.metadata.links.max(2) - 1;
            known.insert(key, Known { first: None, left });
            return Meeting::First(self.unsettled(key));
        }
        while let Some(Known { first: None, .. }) = known.get(&key) {
            known = self.settled.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        // Gone, if its last name was taken meanwhile.
        let Some(found) = known.get_mut(&key) else { return Meeting::Untracked };
        found.left = found.left.saturating_sub(1);
        let is_last = found.left == 0;
        let meeting = match &found.first {
            Some(First::Made(made)) => Meeting::Later(key, Arc::clone(made)),
            Some(First::Damaged) => Meeting::Damaged,
            Some(First::LeftOut) => Meeting::LeftOut,
            Some(First::Failed) | None => {
                found.first = None;
                Meeting::First(self.unsettled(key))
            }
        };
        if is_last {
            known.remove(&key);
        }
        meeting
    }

    /// Makes what was met [later](Meeting::Later) a first name: no link to what was made can be made there.
    pub(super) fn begin_again(self: &Arc<Self>, key: Key) -> Unsettled {
        if let Some(found) = self.known().get_mut(&key) {
            found.first = None;
        }
        self.unsettled(key)
    }

    fn unsettled(self: &Arc<Self>, key: Key) -> Unsettled {
        Unsettled { links: Arc::clone(self), key: Some(key) }
    }

    fn settle(&self, key: Key, first: First) {
        if let Some(found) = self.known().get_mut(&key) {
            found.first = Some(first);
        }
        self.settled.notify_all();
    }

    /// Claims what is there under several names for one entry; `false` if another has it already.
    pub(super) fn claim(&self, identity: Identity) -> bool {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.len() < KNOWN_MAX && kept.insert(identity)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsettled {
    /// Tells those who wait what became of the first name.
    pub(super) fn settle(mut self, first: First) {
        self.end(first);
    }

    fn end(&mut self, first: First) {
        if let Some(key) = self.key.take() {
            self.links.settle(key, first);
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.end(First::Failed);
    }
}

fn key_of(entry: &Entry) -> Key {
    let metadata = &entry.metadata;
    let mut hasher = blake3::Hasher::new();
    add_content(&mut hasher, &entry.content);
    add_attributes(&mut hasher, &entry.attributes);
    hasher.update(&metadata.mode.to_le_bytes());
    for number in [metadata.mount, metadata.uid, metadata.gid] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&metadata.inode.to_le_bytes());
    for time in [metadata.mtime, metadata.ctime] {
        hasher.update(&time.seconds.to_le_bytes());
        hasher.update(&time.nanoseconds.to_le_bytes());
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    Key(key)
}

/// What it is, each kind in a form of its own.
fn add_content(hasher: &mut blake3::Hasher, content: &EntryContent) {
    match content {
        EntryContent::File(FileData::Empty) => hasher.update(&[0]),
        EntryContent::File(FileData::Slice { chunk, offset, length }) => {
            let place = [offset.to_le_bytes(), length.to_le_bytes()].concat();
            hasher.update(&[1]).update(chunk.as_bytes()).update(&place)
        }
        EntryContent::File(FileData::Map { level, subtree }) => {
            hasher.update(&[2, *level]).update(subtree.id.as_bytes()).update(&subtree.bytes.to_le_bytes())
        }
        EntryContent::Directory(_) => hasher.update(&[3]),
        EntryContent::Symlink(target) => {
            hasher.update(&[4]).update(&target.as_bytes().len().to_le_bytes()).update(target.as_bytes())
        }
        EntryContent::BlockDevice { major, minor } => {
            hasher.update(&[5]).update(&major.to_le_bytes()).update(&minor.to_le_bytes())
        }
        EntryContent::CharacterDevice { major, minor } => {
            hasher.update(&[6]).update(&major.to_le_bytes()).update(&minor.to_le_bytes())
        }
        EntryContent::Fifo => hasher.update(&[7]),
        EntryContent::Socket => hasher.update(&[8]),
    };
}

fn add_attributes(hasher: &mut blake3::Hasher, attributes: &Attributes) {
    match attributes {
        Attributes::None => hasher.update(&[0]),
        Attributes::Inline(list) => {
            hasher.update(&[1]);
            for part in list.iter().flat_map(|(name, value)| [name, value]) {
                hasher.update(&part.len().to_le_bytes()).update(part);
            }
            hasher
        }
        Attributes::Chunk(id) => hasher.update(&[2]).update(id.as_bytes()),
    };
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::format::Metadata;
    use crate::id::ObjectId;
    use crate::revision::test_trees::entry;
    use crate::source::tree::EntryStat;

    fn name(name: &str, links: u32) -> Entry {
        let entry = entry(name, EntryContent::File(FileData::Empty));
        Entry { metadata: Metadata { links, ..entry.metadata }, has_other_names: true, ..entry }
    }

    fn made() -> First {
        let descriptor = OwnedFd::from(std::fs::File::open("/").unwrap());
        let stat = EntryStat::of(&descriptor).unwrap();
        let place = Directory::root(b"/", descriptor, &stat);
        let identity = Identity { device: 1, inode: 2 };
        First::Made(Arc::new(Made { place, name: b"a"[..].into(), identity }))
    }

    #[test]
    fn the_first_name_is_made_and_the_others_link_to_it_until_all_were_met() {
        let links = Arc::new(HardLinks::default());
        let Meeting::First(key) = links.meet(&name("a", 3)) else { panic!("not the first") };
        key.settle(made());
        for other in ["b", "c"] {
            let Meeting::Later(_, found) = links.meet(&name(other, 3)) else { panic!("{other}") };
            assert_eq!((&*found.name, found.identity.inode), (&b"a"[..], 2));
        }
        assert!(links.known().is_empty(), "nothing is left to remember");
    }

    #[test]
    fn what_failed_under_the_first_name_is_tried_under_the_next() {
        let links = Arc::new(HardLinks::default());
        for name_of_one in ["a", "b"] {
            let Meeting::First(key) = links.meet(&name(name_of_one, 4)) else { panic!("{name_of_one}") };
            key.settle(First::Failed);
        }
        let Meeting::First(key) = links.meet(&name("c", 4)) else { panic!("not the first") };
        key.settle(made());
        assert!(matches!(links.meet(&name("d", 4)), Meeting::Later(..)));
        assert!(links.known().is_empty(), "nothing is left to remember");
    }

    #[test]
    fn what_holds_for_all_names_is_not_tried_again() {
        let links = Arc::new(HardLinks::default());
        let Meeting::First(key) = links.meet(&name("a", 3)) else { panic!("not the first") };
        key.settle(First::Damaged);
        assert!(matches!(links.meet(&name("b", 3)), Meeting::Damaged));
        let links = Arc::new(HardLinks::default());
        let Meeting::First(key) = links.meet(&name("a", 3)) else { panic!("not the first") };
        key.settle(First::LeftOut);
        assert!(matches!(links.meet(&name("b", 3)), Meeting::LeftOut));
    }

    #[test]
    fn where_no_link_can_be_made_others_wait_for_what_is_made_instead() {
        let links = Arc::new(HardLinks::default());
        let Meeting::First(key) = links.meet(&name("a", 9)) else { panic!("not the first") };
        key.settle(made());
        let Meeting::Later(key, _) = links.meet(&name("b", 9)) else { panic!("no later one") };
        let key = links.begin_again(key);
        let First::Made(other) = made() else { panic!("not made") };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| match links.meet(&name("c", 9)) {
                Meeting::Later(_, found) => found,
                _ => panic!("no later one"),
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            key.settle(First::Made(Arc::clone(&other)));
            assert!(Arc::ptr_eq(&waiting.join().unwrap(), &other));
        });
    }

    #[test]
    fn a_later_name_waits_for_the_first() {
        let links = Arc::new(HardLinks::default());
        let Meeting::First(key) = links.meet(&name("a", 2)) else { panic!("not the first") };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(links.meet(&name("b", 2)), Meeting::Later(..)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            key.settle(made());
            assert!(waiting.join().unwrap());
        });
    }

    /// A thread that panicked once left those waiting for ever who met a later name.
    #[test]
    fn a_first_name_that_is_never_settled_counts_as_failed() {
        let links = Arc::new(HardLinks::default());
        let Meeting::First(first) = links.meet(&name("a", 3)) else { panic!("not the first") };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(links.meet(&name("b", 3)), Meeting::First(_)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            let panicked = std::thread::Builder::new().spawn_scoped(scope, move || {
                let _first = first;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(panicked.unwrap().join().is_err());
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn what_differs_in_anything_is_not_the_same() {
        let links = Arc::new(HardLinks::default());
        let first = name("a", 9);
        let with = |metadata: Metadata| Entry { metadata, ..first.clone() };
        let metadata = first.metadata;
        let fifo = Entry { content: EntryContent::Fifo, ..first.clone() };
        let chunk = ObjectId::from_bytes([1; 32]);
        let slice = |offset| {
            let data = FileData::Slice { chunk, offset, length: 5 };
            Entry { content: EntryContent::File(data), ..first.clone() }
        };
        let attributes = Entry { attributes: Attributes::Chunk(chunk), ..first.clone() };
        let others = [
            first.clone(),
            with(Metadata { inode: 8, ..metadata }),
            with(Metadata { mount: 1, ..metadata }),
            with(Metadata { mode: 0o600, ..metadata }),
            with(Metadata { ctime: crate::format::Timestamp { seconds: 5, nanoseconds: 0 }, ..metadata }),
            fifo,
            slice(0),
            slice(1),
            attributes,
        ];
        for other in others {
            assert!(matches!(links.meet(&other), Meeting::First(_)), "{other:?}");
        }
    }

    #[test]
    fn what_is_there_is_claimed_once() {
        let links = Arc::new(HardLinks::default());
        let identity = Identity { device: 1, inode: 2 };
        assert!(links.claim(identity) && !links.claim(identity));
    }
}
