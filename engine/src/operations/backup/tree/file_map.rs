//! Builds the map of one file from left to right (`docs/format.md`, section 11).

use super::tower::{Child, Tower};
use crate::error::{Error, Result};
use crate::format::{FileData, FileInner, FileLeaf, FileSlot, FileSubtree, Slot, ends_file_node};
use crate::store::StoreWriter;

/// The map of a file that grows at its right end.
#[derive(Default)]
pub(super) struct FileMap {
    /// A hole or zeros that may go on.
    pending: Option<FileSlot>,
    leaf: Vec<FileSlot>,
    tower: Tower<FileSubtree>,
}

impl FileMap {
    /// Appends a slot; one without bytes is none.
    pub(super) fn push(&mut self, slot: FileSlot, writer: &mut StoreWriter<'_>) -> Result<()> {
        if slot.length == 0 {
            return Ok(());
        }
        if let Some(pending) = self.pending.as_mut().filter(|pending| pending.content == slot.content) {
            pending.length = pending.length.checked_add(slot.length).ok_or_else(too_long)?;
            return Ok(());
        }
        self.push_pending(writer)?;
        match slot.content {
            Slot::Chunk(_) => self.append(slot, writer),
            Slot::Hole | Slot::Zeros => {
                self.pending = Some(slot);
                Ok(())
            }
        }
    }

    fn push_pending(&mut self, writer: &mut StoreWriter<'_>) -> Result<()> {
        self.pending.take().map_or(Ok(()), |slot| self.append(slot, writer))
    }

    fn append(&mut self, slot: FileSlot, writer: &mut StoreWriter<'_>) -> Result<()> {
        self.leaf.push(slot);
        let id = match &slot.content {
            Slot::Chunk(id) => Some(id),
            Slot::Hole | Slot::Zeros => None,
        };
        match ends_file_node(self.leaf.len(), id) {
            true => self.close_leaf(writer),
            false => Ok(()),
        }
    }

    fn close_leaf(&mut self, writer: &mut StoreWriter<'_>) -> Result<()> {
        let leaf = FileLeaf { slots: std::mem::take(&mut self.leaf) };
        let id = writer.add_node(&leaf.encode())?;
        self.tower.push_leaf(leaf.subtree(id).ok_or_else(too_long)?, writer)
    }

    /// Closes all open nodes: where the file's bytes are.
    pub(super) fn finish(mut self, writer: &mut StoreWriter<'_>) -> Result<FileData> {
        self.push_pending(writer)?;
        if let Some(data) = self.as_slice() {
            return Ok(data);
        }
        if !self.leaf.is_empty() {
            self.close_leaf(writer)?;
        }
        let top = self.tower.finish(writer)?;
        Ok(top.map_or(FileData::Empty, |(level, subtree)| FileData::Map { level, subtree }))
    }

    /// A file that is one chunk needs no node.
    fn as_slice(&self) -> Option<FileData> {
        match *self.leaf.as_slice() {
            [FileSlot { content: Slot::Chunk(chunk), length }] if self.tower.is_empty() => {
                Some(FileData::Slice { chunk, offset: 0, length: u32::try_from(length).ok()? })
            }
            _ => None,
        }
    }
}

impl Child for FileSubtree {
    fn ends_node(&self, _level: u8, count: usize) -> bool {
        ends_file_node(count, Some(&self.id))
    }

    fn store_parent(level: u8, children: Vec<Self>, writer: &mut StoreWriter<'_>) -> Result<Self> {
        let inner = FileInner { level, children };
        let id = writer.add_node(&inner.encode())?;
        inner.subtree(id).ok_or_else(too_long)
    }
}

fn too_long() -> Error {
    Error::NotStorable { object: "map of a file", reason: "the file has 2^63 bytes or more".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::test_maps::{absent, numbers};
    use crate::revision::test_trees::{Trees, canonical_file, data, hole, zeros};

    fn built(trees: &Trees, slots: &[FileSlot]) -> FileData {
        trees.write(|writer| {
            let mut map = FileMap::default();
            slots.iter().for_each(|slot| map.push(*slot, writer).unwrap());
            map.finish(writer).unwrap()
        })
    }

    #[test]
    fn a_map_is_the_canonical_one_whatever_its_length() {
        let trees = Trees::new();
        let mut random = numbers(1);
        for count in [2, 63, 64, 65, 511, 512, 513, 2_000, 40_000] {
            let mut slots: Vec<FileSlot> = Vec::new();
            while slots.len() < count {
                let length = 1 + random(1000);
                let slot = match random(5) {
                    0 => hole(length),
                    1 => zeros(length),
                    _ => data(crate::id::ObjectId::from_bytes(noise(random(u64::MAX))), length),
                };
                // No two holes and no two zeros stand side by side.
                let repeats = !matches!(slot.content, Slot::Chunk(_))
                    && slots.last().is_some_and(|last| last.content == slot.content);
                if !repeats {
                    slots.push(slot);
                }
            }
            let expected = trees.write(|writer| canonical_file(&slots, writer));
            assert_eq!(built(&trees, &slots), expected, "{count} slots");
        }
    }

    fn noise(number: u64) -> [u8; 32] {
        *blake3::hash(&number.to_le_bytes()).as_bytes()
    }

    #[test]
    fn neighbours_that_are_alike_become_one_slot() {
        let trees = Trees::new();
        let chunk = data(absent(1), 10);
        let slots = [hole(1), hole(2), zeros(3), zeros(4), chunk, chunk, hole(0), zeros(5), hole(6), hole(7)];
        let joined = [hole(3), zeros(7), chunk, chunk, zeros(5), hole(13)];
        let expected = trees.write(|writer| canonical_file(&joined, writer));
        assert_eq!(built(&trees, &slots), expected);
    }

    #[test]
    fn a_file_of_one_chunk_is_a_slice_and_one_without_bytes_is_empty() {
        let trees = Trees::new();
        let chunk = absent(1);
        let slice = FileData::Slice { chunk, offset: 0, length: 8 << 20 };
        assert_eq!(built(&trees, &[data(chunk, 8 << 20)]), slice);
        assert_eq!(built(&trees, &[]), FileData::Empty);
        assert!(matches!(built(&trees, &[zeros(5)]), FileData::Map { level: 0, .. }));
    }
}
