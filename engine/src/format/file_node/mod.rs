//! Nodes of the maps of trees' files (`docs/format.md`, section 11). Canonical: one content, one encoding.

mod inner;
mod leaf;

pub(crate) use inner::FileInner;
pub(crate) use leaf::{FileLeaf, FileSlot};

use super::bytes::Fields;
use super::node_head::NodeHead;
use crate::id::ObjectId;

/// No map of a file is higher: a file has fewer than 2^63 slots, and a level 64 times fewer nodes than the one below.
pub(crate) const MAX_FILE_LEVEL: u8 = 11;

/// No file is longer, in bytes.
pub(crate) const MAX_FILE_SIZE: u64 = i64::MAX as u64;

/// From this slot or child on an id may end a node.
const MIN_COUNT: usize = 64;

/// Slots or children of the largest node.
const MAX_COUNT: usize = 512;

/// Whether a node ends after its slot or child number `count`, counted from 1. Holes and zeros have no id.
pub(crate) fn ends_file_node(count: usize, id: Option<&ObjectId>) -> bool {
    let marked = || id.is_some_and(|id| id.as_bytes()[0].trailing_zeros() >= 7);
    count >= MAX_COUNT || (count >= MIN_COUNT && marked())
}

/// Whether a node with these ids would have ended before the last of them.
fn ends_early<'a>(ids: impl ExactSizeIterator<Item = Option<&'a ObjectId>>) -> bool {
    let before_last = ids.len().saturating_sub(1);
    (1..).zip(ids).take(before_last).any(|(count, id)| ends_file_node(count, id))
}

fn decode_head(fields: &mut Fields<'_>, kind: u8) -> Option<NodeHead> {
    let fits = |head: &NodeHead| head.level <= MAX_FILE_LEVEL && (1..=MAX_COUNT).contains(&head.count);
    NodeHead::decode(fields, kind).filter(fits)
}

/// A node below another or below an entry, and the sums over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileSubtree {
    /// The node.
    pub id: ObjectId,
    /// Lengths of its slots, more than 0 and less than 2^63.
    pub bytes: u64,
    /// Bytes that are not holes.
    pub data_bytes: u64,
    /// Slots that are chunks.
    pub chunk_count: u64,
}

impl FileSubtree {
    /// `None` if the sums contradict each other: all data are bytes, and no chunk is empty.
    pub(super) fn validated(self) -> Option<Self> {
        let Self { bytes, data_bytes, chunk_count, .. } = self;
        let holds = (1..=MAX_FILE_SIZE).contains(&bytes) && data_bytes <= bytes && chunk_count <= data_bytes;
        holds.then_some(self)
    }

    fn sums(&self) -> Sums {
        [self.bytes, self.data_bytes, self.chunk_count]
    }
}

/// Bytes, data bytes and chunks.
type Sums = [u64; 3];

/// A node with the sums of its parts; `None` if they are more than a file can have.
fn add_up(id: ObjectId, mut parts: impl Iterator<Item = Sums>) -> Option<FileSubtree> {
    let add =
        |[a, b, c]: Sums, [x, y, z]: Sums| Some([a.checked_add(x)?, b.checked_add(y)?, c.checked_add(z)?]);
    let [bytes, data_bytes, chunk_count] = parts.try_fold([0; 3], add)?;
    FileSubtree { id, bytes, data_bytes, chunk_count }.validated()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_ends_at_a_marked_id_from_the_64th_on_or_as_the_512th() {
        let id =
            |first: u8| ObjectId::from_bytes([[first].as_slice(), &[1; 31]].concat().try_into().unwrap());
        for marked in [0, 0x80] {
            assert!(!ends_file_node(63, Some(&id(marked))));
            assert!(ends_file_node(64, Some(&id(marked))));
        }
        for other in [1, 0x40, 0xc0, 0xff] {
            assert!(!ends_file_node(511, Some(&id(other))));
            assert!(ends_file_node(512, Some(&id(other))));
        }
        assert!(!ends_file_node(511, None));
        assert!(ends_file_node(512, None));
    }
}
