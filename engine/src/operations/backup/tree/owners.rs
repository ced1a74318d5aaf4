//! The names of the users and groups whose numbers a tree has.

use std::collections::HashSet;

use nix::unistd::{Gid, Group, Uid, User};

use crate::format::{Attributes, Entry, OwnerNames};

/// So many numbers are looked up at most.
const NUMBERS_MAX: usize = 500_000;

/// Names take so many bytes at most: they stand in one object.
const NAME_BYTES_MAX: usize = 2 << 20;

const ACL_ATTRIBUTES: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
/// What an ACL begins with.
const ACL_VERSION: [u8; 4] = [2, 0, 0, 0];
/// Tags of its entries that name a user or a group.
const ACL_USER: u16 = 2;
const ACL_GROUP: u16 = 8;

/// The owners that were met so far.
pub(super) struct Owners {
    users: Names,
    groups: Names,
}

/// Names by their numbers, each looked up once.
struct Names {
    look_up: fn(u32) -> Option<String>,
    seen: HashSet<u32>,
    bytes: usize,
    names: OwnerNames,
}

impl Owners {
    pub(super) fn new() -> Self {
        Self { users: Names::new(user_name), groups: Names::new(group_name) }
    }

    /// Looks up the owners of an entry, and those that its ACLs name.
    pub(super) fn note(&mut self, entry: &Entry) {
        self.users.note(entry.metadata.uid);
        self.groups.note(entry.metadata.gid);
        // Lists that are too long for the entry are left alone: the numbers serve.
        let Attributes::Inline(list) = &entry.attributes else { return };
        for (tag, number) in ACL_ATTRIBUTES.iter().filter_map(|name| list.get(name)).flat_map(entries_of_acl)
        {
            match tag {
                ACL_USER => self.users.note(number),
                ACL_GROUP => self.groups.note(number),
                _ => {}
            }
        }
    }

    /// Users and groups.
    pub(super) fn into_names(self) -> (OwnerNames, OwnerNames) {
        (self.users.names, self.groups.names)
    }
}

impl Names {
    fn new(look_up: fn(u32) -> Option<String>) -> Self {
        Self { look_up, seen: HashSet::new(), bytes: 0, names: OwnerNames::default() }
    }

    fn note(&mut self, number: u32) {
        if self.seen.contains(&number) || self.seen.len() >= NUMBERS_MAX {
            return;
        }
        self.seen.insert(number);
        let Some(name) = (self.look_up)(number) else { return };
        self.bytes += name.len() + 5;
        if self.bytes <= NAME_BYTES_MAX {
            self.names.insert(number, name.as_bytes());
        }
    }
}

/// A number without a name, or whose name can't be found out, keeps to its number.
fn user_name(number: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(number)).ok().flatten().map(|user| user.name).filter(|name| is_whole(name))
}

fn group_name(number: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(number))
        .ok()
        .flatten()
        .map(|group| group.name)
        .filter(|name| is_whole(name))
}

/// What is not UTF-8 comes with other characters in its place, which name nobody.
fn is_whole(name: &str) -> bool {
    !name.contains(char::REPLACEMENT_CHARACTER)
}

/// Tags and numbers of an ACL's entries, as Linux gives them.
fn entries_of_acl(acl: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    let entries = acl.strip_prefix(&ACL_VERSION).unwrap_or_default();
    let (entries, _) = entries.as_chunks::<8>();
    entries
        .iter()
        .map(|&[a, b, _, _, c, d, e, f]| (u16::from_le_bytes([a, b]), u32::from_le_bytes([c, d, e, f])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_and_groups_that_an_acl_names_are_found() {
        let entry = |tag: u8, number: u8| [tag, 0, 7, 0, number, 0, 0, 0];
        let acl = [entry(1, 255), entry(2, 5), entry(8, 6), entry(0x20, 255)].concat();
        let found: Vec<(u16, u32)> = entries_of_acl(&[&ACL_VERSION[..], &acl].concat()).collect();
        assert_eq!(found, [(1, 255), (ACL_USER, 5), (ACL_GROUP, 6), (0x20, 255)]);
        assert_eq!(entries_of_acl(&acl).count(), 0, "of another version");
    }

    #[test]
    fn the_superuser_has_a_name_and_a_number_that_nobody_has_none() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(group_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(3_999_999_999), None);
    }
}
