//! Entries with several names: the first one that the walk meets is read, the others take what it has.
//!
//! The planning thread meets names, the assembling one settles and takes them, in the same order. Entries whose names
//! were all taken are forgotten; beyond a number of entries that wait for names, further ones are read at each name.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::{Entry, EntryName, Timestamp};

/// So many entries are remembered at most, in tens of MiB.
const KNOWN_MAX: usize = 100_000;

/// What makes an entry the same one under another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    /// Ordinal of the file system in the tree.
    pub(super) mount: u32,
    /// The number there.
    pub(super) number: u64,
}

/// How a name is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meeting {
    /// It is the first of its inode.
    First,
    /// An earlier name has been met.
    Later,
    /// There is no room to remember it.
    Untracked,
}

/// The inodes that have further names.
#[derive(Default)]
pub(super) struct HardLinks {
    known: Mutex<HashMap<Inode, Known>>,
}

struct Known {
    /// What the first name has, once that was read.
    entry: Option<Entry>,
    /// Names that were not taken yet.
    left: u32,
}

impl HardLinks {
    /// Meets a name of an inode that has so many.
    pub(super) fn meet(&self, inode: Inode, links: u32) -> Meeting {
        let mut known = self.known();
        if known.contains_key(&inode) {
            return Meeting::Later;
        }
        if known.len() >= KNOWN_MAX {
            return Meeting::Untracked;
        }
        known.insert(inode, Known { entry: None, left: links });
        Meeting::First
    }

    /// Notes what a name of an inode has; `None` if it could not be read. What was read may be another inode: the name may
    /// have been given away after it was met. Then the next name is read.
    pub(super) fn settle(&self, inode: Inode, entry: Option<&Entry>) {
        let mut known = self.known();
        if let Some(found) = known.get_mut(&inode) {
            found.entry = entry.filter(|entry| is_of(entry, inode)).cloned();
            count_down(&mut known, inode);
        }
    }

    /// What the inode has, under another name, if it still has the time of status change that this name showed: numbers
    /// of inodes are used again.
    pub(super) fn take(&self, inode: Inode, name: &EntryName, ctime: Timestamp) -> Option<Entry> {
        let mut known = self.known();
        let entry = known.get(&inode)?.entry.as_ref()?;
        let is_same = entry.metadata.ctime == ctime;
        let entry = is_same.then(|| Entry { name: name.clone(), ..entry.clone() })?;
        count_down(&mut known, inode);
        Some(entry)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Inode, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(entry: &Entry, inode: Inode) -> bool {
    (entry.metadata.mount, entry.metadata.inode) == (inode.mount, inode.number)
}

fn count_down(known: &mut HashMap<Inode, Known>, inode: Inode) {
    if let Some(found) = known.get_mut(&inode) {
        found.left = found.left.saturating_sub(1);
        if found.left == 0 {
            known.remove(&inode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EntryContent, FileData};
    use crate::revision::test_trees::entry;

    const INODE: Inode = Inode { mount: 0, number: 7 };

    fn first() -> Entry {
        entry("first", EntryContent::File(FileData::Empty))
    }

    fn name(name: &str) -> EntryName {
        EntryName::new(name.as_bytes()).unwrap()
    }

    /// The first name was given to another file between being listed and being read, whose time of status change was the
    /// same: the other names once got that file's content.
    #[test]
    fn what_was_read_of_another_inode_is_not_taken() {
        let links = HardLinks::default();
        links.meet(INODE, 3);
        let mut other = first();
        other.metadata.inode += 1;
        links.settle(INODE, Some(&other));
        assert_eq!(links.take(INODE, &name("second"), other.metadata.ctime), None);
        links.settle(INODE, Some(&first()));
        assert!(links.take(INODE, &name("third"), first().metadata.ctime).is_some());
    }

    #[test]
    fn later_names_get_what_the_first_has_and_the_last_is_forgotten() {
        let links = HardLinks::default();
        assert_eq!(links.meet(INODE, 3), Meeting::First);
        assert_eq!(links.meet(INODE, 3), Meeting::Later);
        let ctime = first().metadata.ctime;
        assert_eq!(links.take(INODE, &name("too early"), ctime), None);
        links.settle(INODE, Some(&first()));
        let second = links.take(INODE, &name("second"), ctime).unwrap();
        assert_eq!(second, Entry { name: name("second"), ..first() });
        assert_eq!(links.meet(INODE, 3), Meeting::Later);
        assert!(links.take(INODE, &name("third"), ctime).is_some());
        assert_eq!(links.meet(INODE, 3), Meeting::First, "all names were seen");
    }

    #[test]
    fn a_number_that_was_used_again_is_not_taken_for_the_same_file() {
        let links = HardLinks::default();
        links.meet(INODE, 2);
        links.settle(INODE, Some(&first()));
        let other = Timestamp { seconds: 99, nanoseconds: 0 };
        assert_eq!(links.take(INODE, &name("second"), other), None);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_tracked() {
        let links = HardLinks::default();
        for number in 0..KNOWN_MAX as u64 {
            assert_eq!(links.meet(Inode { mount: 0, number }, 2), Meeting::First);
        }
        assert_eq!(links.meet(Inode { mount: 1, number: 0 }, 2), Meeting::Untracked);
        links.settle(Inode { mount: 0, number: 1 }, None);
        links.settle(Inode { mount: 0, number: 1 }, None);
        assert_eq!(links.meet(Inode { mount: 1, number: 0 }, 2), Meeting::First);
    }
}
