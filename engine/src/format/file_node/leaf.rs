//! The lowest nodes: slots of a file.

use super::{FileSubtree, MAX_FILE_SIZE, Sums, add_up, decode_head, ends_early};
use crate::format::MAX_CHUNK_SIZE;
use crate::format::bytes::Fields;
use crate::format::node::Slot;
use crate::format::node_head::{NodeHead, decode_codes, encode_codes};
use crate::id::ObjectId;

const LEAF: u8 = 4;

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSlot {
    pub(crate) content: Slot,
    /// In bytes, not 0.
    pub(crate) length: u64,
}

/// A node of level 0: slots side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileLeaf {
    pub(crate) slots: Vec<FileSlot>,
}

impl FileSlot {
    fn id(&self) -> Option<&ObjectId> {
        match &self.content {
            Slot::Chunk(id) => Some(id),
            Slot::Hole | Slot::Zeros => None,
        }
    }

    fn has_valid_length(&self) -> bool {
        let max = self.id().map_or(MAX_FILE_SIZE, |_| MAX_CHUNK_SIZE.into());
        (1..=max).contains(&self.length)
    }

    /// Whether this slot and the next one would have been one: only chunks stand beside their like.
    fn joins(&self, next: &Self) -> bool {
        self.id().is_none() && self.content == next.content
    }

    fn sums(&self) -> Sums {
        match self.content {
            Slot::Hole => [self.length, 0, 0],
            Slot::Zeros => [self.length, self.length, 0],
            Slot::Chunk(_) => [self.length, self.length, 1],
        }
    }
}

impl FileLeaf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + self.slots.len() * 41);
        NodeHead::encode(&mut bytes, LEAF, 0, self.slots.len());
        encode_codes::<2>(&mut bytes, self.slots.iter().map(|slot| slot.content.code()));
        for slot in &self.slots {
            bytes.extend_from_slice(&slot.length.to_le_bytes());
        }
        for id in self.slots.iter().filter_map(FileSlot::id) {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes
    }

    /// `None` if the bytes are not a canonical leaf.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = decode_head(&mut fields, LEAF).filter(|head| head.level == 0)?;
        let codes = decode_codes::<2>(&mut fields, head.count)?;
        let mut lengths = Fields::new(fields.bytes(8 * head.count)?);
        let mut slot = |code| {
            let content = match code {
                0 => Slot::Hole,
                1 => Slot::Zeros,
                2 => Slot::Chunk(fields.id()?),
                _ => return None,
            };
            Some(FileSlot { content, length: lengths.u64()? })
        };
        let slots = codes.into_iter().map(&mut slot).collect::<Option<_>>()?;
        fields.end()?;
        Some(Self { slots }).filter(Self::is_canonical)
    }

    fn is_canonical(&self) -> bool {
        let slots = &self.slots;
        slots.iter().all(FileSlot::has_valid_length)
            && !slots.windows(2).any(|pair| pair[0].joins(&pair[1]))
            && !ends_early(slots.iter().map(FileSlot::id))
            && self.subtree(ObjectId::from_bytes([0; 32])).is_some()
    }

    /// The leaf, stored as `id`, as what stands above names it; `None` if a file can't be so long.
    pub(crate) fn subtree(&self, id: ObjectId) -> Option<FileSubtree> {
        add_up(id, self.slots.iter().map(FileSlot::sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::canonical::assert_canonical;

    fn chunk(byte: u8, length: u64) -> FileSlot {
        FileSlot { content: Slot::Chunk(ObjectId::from_bytes([byte; 32])), length }
    }

    fn hole(length: u64) -> FileSlot {
        FileSlot { content: Slot::Hole, length }
    }

    fn zeros(length: u64) -> FileSlot {
        FileSlot { content: Slot::Zeros, length }
    }

    fn is_refused(slots: &[FileSlot]) -> bool {
        FileLeaf::decode(&FileLeaf { slots: slots.to_vec() }.encode()).is_none()
    }

    #[test]
    fn leaves_have_one_encoding() {
        for slots in [
            vec![hole(1 << 40), chunk(1, 8 << 20), chunk(1, 1), zeros(4096), hole(1), zeros(2), chunk(2, 3)],
            vec![hole(MAX_FILE_SIZE)],
            vec![zeros(5)],
        ] {
            let leaf = FileLeaf { slots };
            assert_canonical(&leaf, FileLeaf::encode, FileLeaf::decode);
        }
    }

    #[test]
    fn a_leaf_names_the_sums_of_its_slots() {
        let id = ObjectId::from_bytes([9; 32]);
        let leaf = FileLeaf { slots: vec![hole(1000), chunk(1, 100), zeros(10), chunk(2, 1)] };
        let expected = FileSubtree { id, bytes: 1111, data_bytes: 111, chunk_count: 2 };
        assert_eq!(leaf.subtree(id), Some(expected));
    }

    #[test]
    fn neighbours_that_would_be_one_slot_are_refused() {
        assert!(is_refused(&[hole(1), hole(1)]));
        assert!(is_refused(&[chunk(1, 1), zeros(1), zeros(1)]));
        assert!(!is_refused(&[hole(1), zeros(1), hole(1)]));
    }

    #[test]
    fn lengths_that_no_slot_or_file_can_have_are_refused() {
        assert!(is_refused(&[]));
        assert!(is_refused(&[hole(0)]));
        assert!(is_refused(&[chunk(1, 0)]));
        assert!(is_refused(&[chunk(1, (8 << 20) + 1)]));
        assert!(is_refused(&[hole(MAX_FILE_SIZE + 1)]));
        assert!(is_refused(&[hole(MAX_FILE_SIZE), chunk(1, 1)]));
        assert!(is_refused(&[hole(MAX_FILE_SIZE), zeros(MAX_FILE_SIZE), hole(MAX_FILE_SIZE)]));
    }

    #[test]
    fn a_leaf_that_goes_on_behind_its_end_is_refused() {
        let mut slots = vec![chunk(1, 1); 63];
        slots.push(chunk(0x80, 1));
        assert!(!is_refused(&slots));
        slots.push(chunk(1, 1));
        assert!(is_refused(&slots));
        assert!(!is_refused(&[chunk(1, 1); 512]));
        assert!(is_refused(&[chunk(1, 1); 513]));
    }
}
