//! Whose entries are here: users and groups of the source are looked up by name, and keep their number where none has it.
//!
//! Where the system can't tell, they keep it as well, and that is said: it may be somebody else's here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::unistd::{Group, User};

use super::problems::Problems;
use crate::revision::TreeReader;
use crate::source::tree::readable;

/// What an ACL begins with.
const ACL_VERSION: [u8; 4] = [2, 0, 0, 0];
/// Tags of its entries that name a user or a group.
const ACL_USER: u16 = 2;
const ACL_GROUP: u16 = 8;
/// Tags of the owning group, and of the mask.
const ACL_GROUP_OBJ: u16 = 4;
const ACL_MASK: u16 = 16;

/// The attributes that are ACLs.
pub(super) const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// XFS shows root a second name of each ACL, through which it is set and removed as well. The numbers of users in it are
/// not looked at.
const ACL_ALIASES: [&[u8]; 2] = [b"trusted.SGI_ACL_FILE", b"trusted.SGI_ACL_DEFAULT"];

/// Whether an attribute is nothing but a file system's own view of an ACL, which is set by its standard name.
pub(super) fn is_acl_alias(name: &[u8]) -> bool {
    ACL_ALIASES.contains(&name)
}

/// Numbers of the source and what they are here.
pub(super) struct Owners<'a> {
    tree: &'a TreeReader,
    numeric: bool,
    /// Only of numbers that the tree has a name for, so there are not many.
    users: Mutex<HashMap<u32, u32>>,
    groups: Mutex<HashMap<u32, u32>>,
    /// Names that could not be looked up, and why the first could not.
    failures: Mutex<Option<(u64, String)>>,
}

/// What the system says of a name: a number, or that nobody has it.
type Found = nix::Result<Option<u32>>;

impl<'a> Owners<'a> {
    pub(super) fn new(tree: &'a TreeReader, numeric: bool) -> Self {
        let (users, groups, failures) = Default::default();
        Self { tree, numeric, users, groups, failures }
    }

    /// The user who is here what `uid` was at the source.
    pub(super) fn user(&self, uid: u32) -> u32 {
        let name = self.tree.user_name(uid).filter(|_| !self.numeric);
        name.map_or(uid, |name| self.known(&self.users, uid, name, user_number))
    }

    /// The group that is here what `gid` was at the source.
    pub(super) fn group(&self, gid: u32) -> u32 {
        let name = self.tree.group_name(gid).filter(|_| !self.numeric);
        name.map_or(gid, |name| self.known(&self.groups, gid, name, group_number))
    }

    /// The value of an attribute as it is to be here: ACLs name users and groups.
    pub(super) fn attribute(&self, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut value = value.to_vec();
        if !self.numeric
            && (name == ACL_ACCESS || name == ACL_DEFAULT)
            && let Some((_, entries)) =
                value.split_first_chunk_mut().filter(|(start, _)| **start == ACL_VERSION)
        {
            let (entries, _) = entries.as_chunks_mut::<8>();
            entries.iter_mut().for_each(|entry| self.acl_entry(entry));
        }
        value
    }

    fn known(
        &self,
        cache: &Mutex<HashMap<u32, u32>>,
        number: u32,
        name: &[u8],
        look_up: fn(&str) -> Found,
    ) -> u32 {
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || match std::str::from_utf8(name).map_or(Ok(None), look_up) {
            Ok(found) => found.unwrap_or(number),
            Err(errno) => {
                self.note_failure(name, errno);
                number
            }
        };
        *cache.entry(number).or_insert_with(find)
    }

    fn note_failure(&self, name: &[u8], errno: Errno) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, _) = failures.get_or_insert_with(|| (0, format!("{}: {}", readable(name), errno.desc())));
        *count += 1;
    }

    /// Tells of names that could not be looked up.
    pub(super) fn tell_failures(&self, problems: &Problems<'_>) {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((count, first)) = failures {
            problems.tell(format!(
                "{count} users or groups could not be looked up, and what is theirs has the number that they had at the \
                 source; the first is {first}"
            ));
        }
    }

    fn acl_entry(&self, entry: &mut [u8; 8]) {
        let [tag_low, tag_high, _, _, id @ ..] = entry;
        let number = u32::from_le_bytes(*id);
        match u16::from_le_bytes([*tag_low, *tag_high]) {
            ACL_USER => *id = self.user(number).to_le_bytes(),
            ACL_GROUP => *id = self.group(number).to_le_bytes(),
            _ => {}
        }
    }
}

/// What an ACL lets the owning group do, as bits of a mode. Of one that can't be understood: nothing.
pub(super) fn group_bits(acl: &[u8]) -> u16 {
    let entries = acl.strip_prefix(&ACL_VERSION).unwrap_or_default();
    let (entries, _) = entries.as_chunks::<8>();
    let permissions = |wanted: u16| {
        entries.iter().find_map(|[tag_low, tag_high, low, high, ..]| {
            let is_it = u16::from_le_bytes([*tag_low, *tag_high]) == wanted;
            is_it.then(|| u16::from_le_bytes([*low, *high]) & 0o7)
        })
    };
    (permissions(ACL_GROUP_OBJ).unwrap_or(0) & permissions(ACL_MASK).unwrap_or(0o7)) << 3
}

/// An error that means that nobody has the name (getpwnam(3)).
fn or_nobody(found: Found) -> Found {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => found,
    }
}

fn user_number(name: &str) -> Found {
    or_nobody(User::from_name(name).map(|user| user.map(|user| user.uid.as_raw())))
}

fn group_number(name: &str) -> Found {
    or_nobody(Group::from_name(name).map(|group| group.map(|group| group.gid.as_raw())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::test_trees::Trees;

    /// A tree in which 4000 is root, and 4001 somebody whom nobody knows.
    fn tree() -> TreeReader {
        let trees = Trees::new();
        let mut root = trees.root(None);
        for names in [&mut root.users, &mut root.groups] {
            names.insert(4000, b"root");
            names.insert(4001, b"nobody-has-this-name");
        }
        TreeReader::open_unpinned(trees.store(), &trees.directory_node(&root.encode())).unwrap()
    }

    #[test]
    fn owners_are_found_by_name_and_else_by_number() {
        let tree = tree();
        let owners = Owners::new(&tree, false);
        for (number, expected) in [(4000, 0), (4001, 4001), (4002, 4002), (0, 0)] {
            assert_eq!((owners.user(number), owners.group(number)), (expected, expected));
        }
        let numeric = Owners::new(&tree, true);
        assert_eq!((numeric.user(4000), numeric.group(4000)), (4000, 4000));
    }

    #[test]
    fn a_name_that_could_not_be_looked_up_is_told_of_once() {
        let tree = tree();
        let owners = Owners::new(&tree, false);
        let look_up = |name: &str| if name == "nobody" { Ok(None) } else { Err(Errno::EIO) };
        for number in [7, 8, 7, 9] {
            let name: &[u8] = if number == 9 { b"nobody" } else { b"somebody" };
            assert_eq!(owners.known(&owners.users, number, name, look_up), number);
        }
        let monitor = crate::monitor::CollectingMonitor::default();
        let problems = Problems::new(&monitor);
        owners.tell_failures(&problems);
        owners.tell_failures(&problems);
        let warnings = monitor.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("2 users") && warnings[0].contains("somebody"), "{warnings:?}");
        assert_eq!(or_nobody(Err(Errno::ESRCH)), Ok(None));
    }

    #[test]
    fn a_group_may_do_what_its_entry_and_the_mask_say() {
        let entry = |(tag, permissions): (u16, u16)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &[0xff; 4]].concat()
        };
        let acl = |entries: &[(u16, u16)]| {
            [&ACL_VERSION[..], &entries.iter().copied().flat_map(entry).collect::<Vec<u8>>()].concat()
        };
        assert_eq!(group_bits(&acl(&[(1, 6), (2, 7), (4, 5), (16, 6), (32, 7)])), 0o040);
        assert_eq!(group_bits(&acl(&[(1, 6), (4, 5), (32, 7)])), 0o050);
        for odd in
            [acl(&[(1, 7), (16, 7)]), vec![], vec![3, 0, 0, 0, 4, 0, 7, 0, 0, 0, 0, 0], vec![2, 0, 0, 0, 4]]
        {
            assert_eq!(group_bits(&odd), 0, "{odd:?}");
        }
    }

    #[test]
    fn users_and_groups_in_acls_are_translated_and_nothing_else() {
        let tree = tree();
        let owners = Owners::new(&tree, false);
        let acl = |ids: [u32; 4]| {
            let entry = |(tag, id): (u16, u32)| [&tag.to_le_bytes()[..], &[6, 0], &id.to_le_bytes()].concat();
            let entries: Vec<u8> = [1, 2, 8, 32].into_iter().zip(ids).flat_map(entry).collect();
            [&ACL_VERSION[..], &entries].concat()
        };
        let before = acl([4000; 4]);
        assert_eq!(owners.attribute(ACL_ACCESS, &before), acl([4000, 0, 0, 4000]));
        assert_eq!(owners.attribute(ACL_DEFAULT, &before), acl([4000, 0, 0, 4000]));
        assert_eq!(owners.attribute(b"user.x", &before), before);
        assert_eq!(Owners::new(&tree, true).attribute(ACL_ACCESS, &before), before);
        for odd in [&b""[..], b"\x02\0\0", b"\x03\0\0\0\x02\0\x06\0\xa0\x0f\0\0", b"\x02\0\0\0\x02"] {
            assert_eq!(owners.attribute(ACL_ACCESS, odd), odd);
        }
    }
}
