//! Entries with several names: the first that is met is made, the others become links to it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::format::{Entry, EntryContent};
use crate::source::tree::{Directory, Identity};

/// So many are remembered at most, in about a hundred MiB. Names of further ones become files of their own.
const KNOWN_MAX: usize = 1_000_000;

/// What was made under the first name.
pub(super) struct Made {
    pub(super) place: Arc<Directory>,
    pub(super) name: Box<[u8]>,
    pub(super) identity: Identity,
}

/// How a name is met.
pub(super) enum Meeting {
    /// It is the first: whoever met it makes it, and must [settle](HardLinks::settle) it.
    First(Key),
    /// An earlier name was made.
    Later(Arc<Made>),
    /// The earlier name could not be made.
    Failed,
    /// There is no room to remember it.
    Untracked,
}

/// What makes two entries names of the same: identity at the source, and all that a name says of it. So a number that was
/// used again, or a hostile repository, makes no link between things that differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

enum State {
    Pending,
    Made(Arc<Made>),
    Failed,
}

struct Known {
    state: State,
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
    pub(super) fn meet(&self, entry: &Entry) -> Meeting {
        let key = key_of(entry);
        let mut known = self.known();
        if !known.contains_key(&key) {
            if known.len() >= KNOWN_MAX {
                return Meeting::Untracked;
            }
            let left = entry.metadata.links.max(2) - 1;
            known.insert(key, Known { state: State::Pending, left });
            return Meeting::First(key);
        }
        while let Some(Known { state: State::Pending, .. }) = known.get(&key) {
            known = self.settled.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        // Gone, if its last name was taken meanwhile.
        let Some(found) = known.get_mut(&key) else { return Meeting::Untracked };
        found.left = found.left.saturating_sub(1);
        let meeting = match &found.state {
            State::Made(made) => Meeting::Later(Arc::clone(made)),
            State::Pending | State::Failed => Meeting::Failed,
        };
        if found.left == 0 {
            known.remove(&key);
        }
        meeting
    }

    /// Tells what became of the first name.
    pub(super) fn settle(&self, key: Key, made: Option<Made>) {
        if let Some(found) = self.known().get_mut(&key) {
            found.state = made.map_or(State::Failed, |made| State::Made(Arc::new(made)));
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

fn key_of(entry: &Entry) -> Key {
    let metadata = &entry.metadata;
    let mut hasher = blake3::Hasher::new();
    let (kind, size) = match &entry.content {
        EntryContent::File(data) => (1u8, data.size()),
        EntryContent::Directory(_) => (2, 0),
        EntryContent::Symlink(target) => {
            hasher.update(target.as_bytes());
            (3, target.as_bytes().len() as u64)
        }
        EntryContent::BlockDevice { major, minor } => (4, u64::from(*major) << 32 | u64::from(*minor)),
        EntryContent::CharacterDevice { major, minor } => (5, u64::from(*major) << 32 | u64::from(*minor)),
        EntryContent::Fifo => (6, 0),
        EntryContent::Socket => (7, 0),
    };
    hasher.update(&[kind]);
    hasher.update(&metadata.mode.to_le_bytes());
    for number in [metadata.mount, metadata.uid, metadata.gid] {
        hasher.update(&number.to_le_bytes());
    }
    for number in [metadata.inode, size] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [metadata.mtime, metadata.ctime] {
        hasher.update(&time.seconds.to_le_bytes());
        hasher.update(&time.nanoseconds.to_le_bytes());
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    Key(key)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::format::{FileData, Metadata};
    use crate::revision::test_trees::entry;
    use crate::source::tree::EntryStat;

    fn name(name: &str, links: u32) -> Entry {
        let entry = entry(name, EntryContent::File(FileData::Empty));
        Entry { metadata: Metadata { links, ..entry.metadata }, has_other_names: true, ..entry }
    }

    fn made() -> Made {
        let descriptor = OwnedFd::from(std::fs::File::open("/").unwrap());
        let stat = EntryStat::of(&descriptor).unwrap();
        let place = Directory::root(b"/", descriptor, &stat);
        Made { place, name: b"a"[..].into(), identity: Identity { device: 1, inode: 2 } }
    }

    #[test]
    fn the_first_name_is_made_and_the_others_link_to_it_until_all_were_met() {
        let links = HardLinks::default();
        let Meeting::First(key) = links.meet(&name("a", 3)) else { panic!("not the first") };
        links.settle(key, Some(made()));
        for other in ["b", "c"] {
            let Meeting::Later(found) = links.meet(&name(other, 3)) else { panic!("{other}") };
            assert_eq!((&*found.name, found.identity.inode), (&b"a"[..], 2));
        }
        assert!(links.known().is_empty(), "nothing is left to remember");
        let Meeting::First(key) = links.meet(&name("d", 2)) else { panic!("not the first") };
        links.settle(key, None);
        assert!(matches!(links.meet(&name("e", 2)), Meeting::Failed));
    }

    #[test]
    fn a_later_name_waits_for_the_first() {
        let links = HardLinks::default();
        let Meeting::First(key) = links.meet(&name("a", 2)) else { panic!("not the first") };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| matches!(links.meet(&name("b", 2)), Meeting::Later(_)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            links.settle(key, Some(made()));
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn what_differs_in_anything_is_not_the_same() {
        let links = HardLinks::default();
        let first = name("a", 9);
        let with = |metadata: Metadata| Entry { metadata, ..first.clone() };
        let metadata = first.metadata;
        let fifo = Entry { content: EntryContent::Fifo, ..first.clone() };
        let others = [
            first.clone(),
            with(Metadata { inode: 8, ..metadata }),
            with(Metadata { mount: 1, ..metadata }),
            with(Metadata { mode: 0o600, ..metadata }),
            with(Metadata { ctime: crate::format::Timestamp { seconds: 5, nanoseconds: 0 }, ..metadata }),
            fifo,
        ];
        for other in others {
            assert!(matches!(links.meet(&other), Meeting::First(_)), "{other:?}");
        }
    }

    #[test]
    fn what_is_there_is_claimed_once() {
        let links = HardLinks::default();
        let identity = Identity { device: 1, inode: 2 };
        assert!(links.claim(identity) && !links.claim(identity));
    }
}
