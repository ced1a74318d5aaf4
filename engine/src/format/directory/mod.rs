//! Directories of trees (`docs/format.md`, section 12). Canonical: one directory, one encoding.
//!
//! Who uses these types sees ids; that nodes list the ids of chunks once and entries name them by number is known
//! here alone.

mod attributes;
mod chunk_list;
mod content;
mod entry;
mod entry_type;
mod inner;
mod leaf;
mod name;
mod root;
#[cfg(test)]
mod tests;

pub use attributes::{AttributeList, Attributes};
pub use content::{DirectoryTop, EntryContent, FileData};
pub(crate) use entry::ALLOCATION_BYTES;
pub use entry::{Entry, Metadata};
pub use entry_type::EntryType;
pub(crate) use inner::{DirectoryInner, DirectorySubtree, ends_directory_inner};
pub(crate) use leaf::{DirectoryLeaf, MAX_DIRECTORY_LEAF_BYTES, ends_directory_leaf};
pub use name::{EntryName, SymlinkTarget};
pub use root::TreeTotals;
pub(crate) use root::{OwnerNames, TreeRoot};

use super::bytes::Fields;

/// No directory's nodes are higher: each level but the top has 64 times fewer than the one below.
pub(crate) const MAX_DIRECTORY_LEVEL: u8 = 7;

const VERSION: u8 = 1;

/// The eight bytes that a node begins with, but for its kind.
struct Head {
    level: u8,
    count: usize,
}

impl Head {
    fn encode(bytes: &mut Vec<u8>, kind: u8, level: u8, count: usize) {
        bytes.extend_from_slice(&[kind, VERSION, level, 0]);
        bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    }

    /// `None` unless it is of this kind, and not empty. The count is not bounded yet.
    fn decode(fields: &mut Fields<'_>, kind: u8) -> Option<Self> {
        fields.expect([kind, VERSION])?;
        let level = fields.u8().filter(|&level| level <= MAX_DIRECTORY_LEVEL)?;
        fields.expect([0])?;
        let count = fields.u32().filter(|&count| count > 0)?;
        Some(Self { level, count: usize::try_from(count).ok()? })
    }
}

/// Appends bytes after a byte that says how many they are: 255 at most, as all that is encoded so is held to.
fn encode_short(bytes: &mut Vec<u8>, short: &[u8]) {
    bytes.push(u8::try_from(short.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(short);
}
