//! What is counted while a tree is put together.

use std::collections::HashSet;

use crate::format::{Attributes, Entry, EntryContent, FileData, TreeTotals};
use crate::id::ObjectId;

/// So many chunks that entries share are told apart at most; beyond that some are counted twice.
const SHARED_MAX: usize = 1_000_000;

/// The sums over a tree.
#[derive(Default)]
pub(super) struct Sums {
    /// What the root of the tree says.
    pub(super) totals: TreeTotals,
    /// Bytes of files that are not holes, of each inode once.
    pub(super) data_bytes: u64,
    /// Chunks that hold data, of each inode once.
    pub(super) chunks: u64,
    /// Bytes that were read of files.
    pub(super) bytes_read: u64,
    /// Chunks that were stored, and their bytes before compression.
    pub(super) chunks_new: u64,
    pub(super) bytes_new: u64,
    shared: HashSet<ObjectId>,
}

impl Sums {
    /// Counts an entry; its bytes only if it is the first of its inode.
    pub(super) fn count(&mut self, entry: &Entry, is_first: bool) {
        match &entry.content {
            EntryContent::File(data) => {
                self.totals.files += 1;
                if is_first {
                    self.totals.bytes = self.totals.bytes.saturating_add(data.size());
                    self.count_data(data);
                }
            }
            EntryContent::Directory(_) => self.totals.directories += 1,
            _ => self.totals.others += 1,
        }
        if let Attributes::Chunk(id) = &entry.attributes {
            self.count_shared(*id);
        }
    }

    fn count_data(&mut self, data: &FileData) {
        match data {
            FileData::Empty => {}
            FileData::Slice { chunk, length, .. } => {
                self.data_bytes = self.data_bytes.saturating_add((*length).into());
                self.count_shared(*chunk);
            }
            FileData::Map { subtree, .. } => {
                self.data_bytes = self.data_bytes.saturating_add(subtree.data_bytes);
                self.chunks = self.chunks.saturating_add(subtree.chunk_count);
            }
        }
    }

    fn count_shared(&mut self, id: ObjectId) {
        let is_new = self.shared.len() >= SHARED_MAX || self.shared.insert(id);
        self.chunks = self.chunks.saturating_add(is_new.into());
    }
}
