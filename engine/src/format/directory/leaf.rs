//! The lowest nodes: entries side by side.

use super::Head;
use super::chunk_list::{ChunkIds, ChunkNumbers};
use super::entry::Entry;
use super::name::EntryName;
use crate::format::bytes::Fields;

const LEAF: u8 = 1;

/// From here on a name may end a leaf, in bytes of encoded entries.
const MIN_LEAF_BYTES: usize = 16 << 10;

/// A leaf ends before the entry with which its entries would take more bytes.
pub(crate) const MAX_DIRECTORY_LEAF_BYTES: usize = 64 << 10;

/// Whether a leaf ends after the entry of this name, with which its encoded entries take so many bytes.
pub(crate) fn ends_directory_leaf(entry_bytes: usize, name: &EntryName) -> bool {
    entry_bytes >= MIN_LEAF_BYTES && name.marks_end(0)
}

/// A node of level 0: entries in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectoryLeaf {
    pub(crate) entries: Vec<Entry>,
}

impl DirectoryLeaf {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut chunks = ChunkNumbers::default();
        let mut entries = Vec::with_capacity(self.entries.iter().map(Entry::encoded_len).sum());
        self.entries.iter().for_each(|entry| entry.encode(&mut entries, &mut chunks));
        let mut bytes = Vec::new();
        Head::encode(&mut bytes, LEAF, 0, self.entries.len());
        chunks.encode(&mut bytes);
        bytes.append(&mut entries);
        bytes
    }

    /// `None` if the bytes are not a canonical leaf.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let head = Head::decode(&mut fields, LEAF).filter(|head| head.level == 0)?;
        let mut chunks = ChunkIds::decode(&mut fields)?;
        let total = fields.rest().len();
        (total <= MAX_DIRECTORY_LEAF_BYTES && head.count <= total / Entry::MIN_LEN).then_some(())?;
        let mut entries: Vec<Entry> = Vec::with_capacity(head.count);
        for _ in 0..head.count {
            let taken = total - fields.rest().len();
            let entry = Entry::decode(&mut fields, &mut chunks, EntryName::new)?;
            if let Some(last) = entries.last() {
                let follows = last.name < entry.name && !ends_directory_leaf(taken, &last.name);
                follows.then_some(())?;
            }
            entries.push(entry);
        }
        fields.end()?;
        chunks.end()?;
        Some(Self { entries })
    }
}
