//! Nodes above the leaves: what lies below, and up to which name.

use super::name::EntryName;
use super::{Head, encode_short};
use crate::format::bytes::Fields;
use crate::id::ObjectId;

const INNER: u8 = 2;

/// From this child on a name may end a node.
const MIN_COUNT: usize = 64;

/// Children of the largest node.
const MAX_COUNT: usize = 512;

/// Whether a node of this level ends after its child number `count`, counted from 1, whose last name this is.
pub(crate) fn ends_directory_inner(level: u8, count: usize, last_name: &EntryName) -> bool {
    count >= MAX_COUNT || (count >= MIN_COUNT && last_name.marks_end(level))
}

/// A node of level 1 or higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryInner {
    pub(crate) level: u8,
    pub(crate) children: Vec<DirectorySubtree>,
}

/// A node below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectorySubtree {
    pub(crate) id: ObjectId,
    /// Entries below it, not 0.
    pub(crate) entry_count: u64,
    /// The last name below it.
    pub(crate) last_name: EntryName,
}

impl DirectoryInner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.children.len() * 64);
        Head::encode(&mut bytes, INNER, self.level, self.children.len());
        for child in &self.children {
            bytes.extend_from_slice(child.id.as_bytes());
            bytes.extend_from_slice(&child.entry_count.to_le_bytes());
            encode_short(&mut bytes, child.last_name.as_bytes());
        }
        bytes
    }

    /// `None` if the bytes are not a canonical inner node.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let fits = |head: &Head| head.level > 0 && head.count <= MAX_COUNT;
        let head = Head::decode(&mut fields, INNER).filter(fits)?;
        let children = (0..head.count).map(|_| decode_child(&mut fields)).collect::<Option<_>>()?;
        fields.end()?;
        Some(Self { level: head.level, children }).filter(Self::is_canonical)
    }

    fn is_canonical(&self) -> bool {
        let follows = |(count, pair): (usize, &[DirectorySubtree])| {
            let (child, next) = (&pair[0], &pair[1]);
            child.last_name < next.last_name && !ends_directory_inner(self.level, count, &child.last_name)
        };
        (1..).zip(self.children.windows(2)).all(follows) && self.entry_count().is_some()
    }

    /// Entries below the node; `None` if no number of 64 bits counts them.
    pub(crate) fn entry_count(&self) -> Option<u64> {
        self.children.iter().try_fold(0u64, |sum, child| sum.checked_add(child.entry_count))
    }
}

fn decode_child(fields: &mut Fields<'_>) -> Option<DirectorySubtree> {
    Some(DirectorySubtree {
        id: fields.id()?,
        entry_count: fields.u64().filter(|&count| count > 0)?,
        last_name: EntryName::new(fields.short_bytes()?)?,
    })
}
