//! The root of a tree: who its owners' numbers are, how much it holds, and the root directory's own entry.

use std::collections::BTreeMap;

use super::chunk_list::{ChunkIds, ChunkNumbers};
use super::content::{DirectoryTop, EntryContent};
use super::entry::Entry;
use super::name::EntryName;
use super::{Head, encode_short};
use crate::format::bytes::Fields;

const ROOT: u8 = 3;

/// The root of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeRoot {
    /// Names of the users that own entries or that ACLs name.
    pub(crate) users: OwnerNames,
    /// Names of the groups, likewise.
    pub(crate) groups: OwnerNames,
    pub(crate) totals: TreeTotals,
    /// Whoever wrote it could see extended attributes of all namespaces; else there may be more than are stored.
    pub(crate) sees_all_attributes: bool,
    /// The root directory, its name [`EntryName::of_root`].
    pub(crate) entry: Entry,
}

/// What a tree holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeTotals {
    /// Entries that are files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Entries that are neither.
    pub others: u64,
    /// Sizes of the files, of one with several names once; 2^64 - 1 if they are more.
    pub bytes: u64,
}

/// Names of users or groups by their numbers. A name has 1 to 255 bytes, none of them 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerNames(BTreeMap<u32, Box<[u8]>>);

impl OwnerNames {
    /// Notes the name of a number, unless it is none that can be stored.
    pub(crate) fn insert(&mut self, number: u32, name: &[u8]) {
        if is_owner_name(name) {
            self.0.insert(number, name.into());
        }
    }

    /// The name of a number.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        self.0.get(&number).map(AsRef::as_ref)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (number, name) in &self.0 {
            bytes.extend_from_slice(&number.to_le_bytes());
            encode_short(bytes, name);
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let mut names = BTreeMap::new();
        for _ in 0..fields.u32()? {
            let number = fields.u32()?;
            let name = fields.short_bytes().filter(|name| is_owner_name(name))?;
            let ascends = names.last_key_value().is_none_or(|(&last, _)| last < number);
            ascends.then(|| names.insert(number, name.into()))?;
        }
        Some(Self(names))
    }
}

fn is_owner_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len()) && !name.contains(&0)
}

impl TreeTotals {
    /// Files, directories and others together; `None` if no number of 64 bits counts them.
    pub fn entries(&self) -> Option<u64> {
        self.files.checked_add(self.directories)?.checked_add(self.others)
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        for total in [self.files, self.directories, self.others, self.bytes] {
            bytes.extend_from_slice(&total.to_le_bytes());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (files, directories, others) = (fields.u64()?, fields.u64()?, fields.u64()?);
        Some(Self { files, directories, others, bytes: fields.u64()? })
    }

    /// Whether a tree whose root directory has this top node can hold so much.
    fn fit(&self, top: Option<&DirectoryTop>) -> bool {
        let Some(below) = self.entries().and_then(|entries| entries.checked_sub(1)) else { return false };
        let in_root = top.map_or(0, |top| top.entry_count);
        // What lies below lies in the root directory, or in a directory that does.
        let reachable = in_root <= below && (in_root > 0 || below == 0);
        reachable && self.directories > 0 && (self.files > 0 || self.bytes == 0)
    }
}

impl TreeRoot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (mut chunks, mut entry) = (ChunkNumbers::default(), Vec::new());
        self.entry.encode(&mut entry, &mut chunks);
        let mut bytes = Vec::new();
        Head::encode(&mut bytes, ROOT, 0, 1);
        self.users.encode(&mut bytes);
        self.groups.encode(&mut bytes);
        self.totals.encode(&mut bytes);
        bytes.push(self.sees_all_attributes.into());
        chunks.encode(&mut bytes);
        bytes.append(&mut entry);
        bytes
    }

    /// `None` if the bytes are not a canonical root, or its numbers contradict each other.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        Head::decode(&mut fields, ROOT).filter(|head| head.level == 0 && head.count == 1)?;
        let (users, groups) = (OwnerNames::decode(&mut fields)?, OwnerNames::decode(&mut fields)?);
        let totals = TreeTotals::decode(&mut fields)?;
        let sees_all_attributes = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let mut chunks = ChunkIds::decode(&mut fields)?;
        let to_name = |name: &[u8]| name.is_empty().then(EntryName::of_root);
        let entry = Entry::decode(&mut fields, &mut chunks, to_name)?;
        fields.end()?;
        chunks.end()?;
        let EntryContent::Directory(top) = &entry.content else { return None };
        totals.fit(top.as_ref()).then_some(Self { users, groups, totals, sees_all_attributes, entry })
    }
}
