//! Nodes of a map (`docs/format.md`, section 10). Canonical: one content, one encoding.

use super::bytes::Fields;
use super::hash::{ObjectHasher, ObjectType};
use super::header::validate_chunk_size;
use super::node_head::{NodeHead, decode_codes, encode_codes};
use crate::id::ObjectId;

/// Children of a full node, slots of a full leaf.
pub(crate) const FAN_OUT: u64 = 256;

/// No map is higher: 2^64 bytes in chunks of 4 KiB need six levels above the leaves.
const MAX_LEVEL: u8 = 6;

const LEAF: u8 = 1;
const INNER: u8 = 2;
const ROOT: u8 = 3;

/// What a map says of one chunk's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing is there.
    Hole,
    /// Allocated, but all zero: nothing is stored.
    Zeros,
    /// A chunk.
    Chunk(ObjectId),
}

impl Slot {
    /// The two bits that stand for it in a leaf.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Hole => 0,
            Self::Zeros => 1,
            Self::Chunk(_) => 2,
        }
    }

    /// Whether these bytes are what lies there.
    pub(crate) fn matches(self, hasher: &ObjectHasher, bytes: &[u8]) -> bool {
        match self {
            Self::Chunk(id) => hasher.id(ObjectType::Chunk, bytes) == id,
            Self::Hole | Self::Zeros => bytes.iter().all(|&byte| byte == 0),
        }
    }
}

/// A node of level 0: the slots of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) slots: Vec<Slot>,
}

/// A node below another, and the sums over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    pub(crate) id: ObjectId,
    /// Bytes that are not holes.
    pub(crate) data_bytes: u64,
    /// Slots that are chunks.
    pub(crate) chunk_count: u64,
}

/// What an inner node has at one place: a node, or only holes.
pub(crate) type Child = Option<Subtree>;

/// A node of level 1 or higher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) level: u8,
    pub(crate) children: Vec<Child>,
}

/// The root of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// Level of the top node.
    pub(crate) level: u8,
    /// Size of the content in bytes.
    pub(crate) size: u64,
    /// Size of a chunk in bytes.
    pub(crate) chunk_size: u32,
    /// The top node and the sums over all.
    pub(crate) top: Child,
}

fn decode_head(fields: &mut Fields<'_>, kind: u8) -> Option<NodeHead> {
    let fits = |head: &NodeHead| head.level <= MAX_LEVEL && head.count as u64 <= FAN_OUT;
    NodeHead::decode(fields, kind).filter(fits)
}

impl Leaf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.slots.len() * 33);
        NodeHead::encode(&mut bytes, LEAF, 0, self.slots.len());
        encode_codes::<2>(&mut bytes, self.slots.iter().map(|slot| slot.code()));
        for slot in &self.slots {
            if let Slot::Chunk(id) = slot {
                bytes.extend_from_slice(id.as_bytes());
            }
        }
        bytes
    }

    /// `None` if the bytes are not a canonical leaf.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = decode_head(&mut fields, LEAF).filter(|head| head.level == 0)?;
        let codes = decode_codes::<2>(&mut fields, head.count)?;
        let mut slot = |code| match code {
            0 => Some(Slot::Hole),
            1 => Some(Slot::Zeros),
            2 => fields.id().map(Slot::Chunk),
            _ => None,
        };
        let slots: Vec<Slot> = codes.into_iter().map(&mut slot).collect::<Option<_>>()?;
        fields.end()?;
        let some_data = slots.iter().any(|slot| *slot != Slot::Hole);
        some_data.then_some(Self { slots })
    }
}

impl Inner {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.children.len() * 49);
        NodeHead::encode(&mut bytes, INNER, self.level, self.children.len());
        encode_codes::<1>(&mut bytes, self.children.iter().map(|child| child.is_some().into()));
        for child in self.children.iter().flatten() {
            bytes.extend_from_slice(child.id.as_bytes());
            bytes.extend_from_slice(&child.data_bytes.to_le_bytes());
            bytes.extend_from_slice(&child.chunk_count.to_le_bytes());
        }
        bytes
    }

    /// `None` if the bytes are not a canonical inner node.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = decode_head(&mut fields, INNER).filter(|head| head.level > 0)?;
        let codes = decode_codes::<1>(&mut fields, head.count)?;
        let mut child = |code| match code {
            0 => Some(None),
            _ => decode_subtree(&mut fields).map(Some),
        };
        let children: Vec<Child> = codes.into_iter().map(&mut child).collect::<Option<_>>()?;
        fields.end()?;
        children.iter().any(Option::is_some).then_some(Self { level: head.level, children })
    }
}

fn decode_subtree(fields: &mut Fields<'_>) -> Option<Subtree> {
    Some(Subtree { id: fields.id()?, data_bytes: fields.u64()?, chunk_count: fields.u64()? })
}

impl Root {
    /// Level of the top node of a map over so many chunks.
    pub(crate) fn level_for(chunk_count: u64) -> u8 {
        let mut level = 0;
        let mut nodes = chunk_count.div_ceil(FAN_OUT);
        while nodes > 1 {
            nodes = nodes.div_ceil(FAN_OUT);
            level += 1;
        }
        level
    }

    /// Chunks that the size has, the last one perhaps shorter.
    pub(crate) fn chunk_slots(&self) -> u64 {
        self.size.div_ceil(self.chunk_size.into())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(72);
        NodeHead::encode(&mut bytes, ROOT, self.level, self.top.is_some().into());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.chunk_size.to_le_bytes());
        bytes.extend_from_slice(&(FAN_OUT as u32).to_le_bytes());
        let (data_bytes, chunk_count) = self.top.map_or((0, 0), |top| (top.data_bytes, top.chunk_count));
        bytes.extend_from_slice(&data_bytes.to_le_bytes());
        bytes.extend_from_slice(&chunk_count.to_le_bytes());
        if let Some(top) = &self.top {
            bytes.extend_from_slice(top.id.as_bytes());
        }
        bytes
    }

    /// `None` if the bytes are not a canonical root, or its numbers contradict each other.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = decode_head(&mut fields, ROOT).filter(|head| head.count <= 1)?;
        // No file is larger, and sums of offsets and chunk sizes can't overflow.
        let size = fields.u64().filter(|&size| size <= i64::MAX as u64)?;
        let chunk_size = fields.u32().filter(|&size| validate_chunk_size(size).is_ok())?;
        fields.expect((FAN_OUT as u32).to_le_bytes())?;
        let (data_bytes, chunk_count) = (fields.u64()?, fields.u64()?);
        let top = match head.count {
            0 => None,
            _ => Some(Subtree { id: fields.id()?, data_bytes, chunk_count }),
        };
        fields.end()?;
        let root = Self { level: head.level, size, chunk_size, top };
        let slots = root.chunk_slots();
        let sums = data_bytes <= size && chunk_count <= slots && (data_bytes == 0) == top.is_none();
        (sums && head.level == Self::level_for(slots)).then_some(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; 32])
    }

    #[test]
    fn nodes_are_decoded_as_they_were_encoded() {
        let leaf =
            Leaf { slots: vec![Slot::Hole, Slot::Chunk(id(1)), Slot::Zeros, Slot::Hole, Slot::Chunk(id(2))] };
        assert_eq!(Leaf::decode(&leaf.encode()), Some(leaf));
        let subtree = Subtree { id: id(3), data_bytes: 9, chunk_count: 1 };
        let inner = Inner { level: 2, children: vec![None, Some(subtree), None] };
        assert_eq!(Inner::decode(&inner.encode()), Some(inner));
        let root = Root { level: 0, size: 5000, chunk_size: 4096, top: Some(subtree) };
        assert_eq!(Root::decode(&root.encode()), Some(root));
    }

    #[test]
    fn the_height_is_the_least_that_covers_the_size() {
        for (chunks, level) in [(0, 0), (1, 0), (256, 0), (257, 1), (65536, 1), (65537, 2), (1 << 52, 6)] {
            assert_eq!(Root::level_for(chunks), level, "{chunks} chunks");
        }
    }

    #[test]
    fn truncated_and_overlong_nodes_are_refused() {
        let bytes = Leaf { slots: vec![Slot::Chunk(id(1)), Slot::Hole] }.encode();
        for length in 0..bytes.len() {
            assert_eq!(Leaf::decode(&bytes[..length]), None);
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Leaf::decode(&longer), None);
    }

    #[test]
    fn nodes_of_holes_alone_and_stray_bits_are_refused() {
        assert_eq!(Leaf::decode(&Leaf { slots: vec![Slot::Hole; 3] }.encode()), None);
        let mut bytes = Leaf { slots: vec![Slot::Chunk(id(1))] }.encode();
        bytes[8] |= 0b0100;
        assert_eq!(Leaf::decode(&bytes), None);
    }

    #[test]
    fn a_root_of_more_than_a_file_can_have_is_refused() {
        let decoded = |size: u64| {
            let level = Root::level_for(size.div_ceil(4096));
            Root::decode(&Root { level, size, chunk_size: 4096, top: None }.encode())
        };
        assert!(decoded(i64::MAX as u64).is_some());
        for size in [i64::MAX as u64 + 1, u64::MAX - 4096, u64::MAX] {
            assert_eq!(decoded(size), None, "{size}");
        }
    }

    #[test]
    fn a_root_whose_height_or_sums_contradict_its_size_is_refused() {
        let top = Subtree { id: id(3), data_bytes: 4096, chunk_count: 1 };
        let root = Root { level: 0, size: 4096, chunk_size: 4096, top: Some(top) };
        assert!(Root::decode(&root.encode()).is_some());
        let wrong = [
            Root { level: 1, ..root },
            Root { size: 4095, ..root },
            Root { size: u64::MAX, ..root },
            Root { chunk_size: 5000, ..root },
            Root { top: Some(Subtree { chunk_count: 2, ..top }), ..root },
        ];
        for root in wrong {
            assert_eq!(Root::decode(&root.encode()), None, "{root:?}");
        }
    }
}
