//! Builds the nodes of one directory from its entries, in the order of their names (`docs/format.md`, section 12).

use super::tower::{Child, Tower};
use crate::error::{Error, Result};
use crate::format::{
    DirectoryInner, DirectoryLeaf, DirectorySubtree, DirectoryTop, Entry, MAX_DIRECTORY_LEAF_BYTES,
    ends_directory_inner, ends_directory_leaf,
};
use crate::store::StoreWriter;

/// The nodes of a directory that grow at their right end.
#[derive(Default)]
pub(super) struct DirectoryBuilder {
    leaf: Vec<Entry>,
    /// Bytes of the leaf's entries as they will be stored.
    leaf_bytes: usize,
    entry_count: u64,
    tower: Tower<DirectorySubtree>,
}

impl DirectoryBuilder {
    /// Appends an entry, whose name must be above the last one's.
    pub(super) fn push(&mut self, entry: Entry, writer: &mut StoreWriter<'_>) -> Result<()> {
        let entry_bytes = entry.encoded_len();
        if !self.leaf.is_empty() && self.leaf_bytes + entry_bytes > MAX_DIRECTORY_LEAF_BYTES {
            self.close_leaf(writer)?;
        }
        self.leaf_bytes += entry_bytes;
        self.entry_count += 1;
        let ends = ends_directory_leaf(self.leaf_bytes, &entry.name);
        self.leaf.push(entry);
        if ends { self.close_leaf(writer) } else { Ok(()) }
    }

    fn close_leaf(&mut self, writer: &mut StoreWriter<'_>) -> Result<()> {
        self.leaf_bytes = 0;
        let leaf = DirectoryLeaf { entries: std::mem::take(&mut self.leaf) };
        let Some(last) = leaf.entries.last() else { return Ok(()) };
        let (last_name, entry_count) = (last.name.clone(), leaf.entries.len() as u64);
        let id = writer.add_directory(&leaf.encode())?;
        self.tower.push_leaf(DirectorySubtree { id, entry_count, last_name }, writer)
    }

    /// Closes all open nodes: the top, or `None` if the directory is empty.
    pub(super) fn finish(mut self, writer: &mut StoreWriter<'_>) -> Result<Option<DirectoryTop>> {
        self.close_leaf(writer)?;
        let top = self.tower.finish(writer)?;
        let entry_count = self.entry_count;
        Ok(top.map(|(level, node)| DirectoryTop { level, id: node.id, entry_count }))
    }
}

impl Child for DirectorySubtree {
    fn ends_node(&self, level: u8, count: usize) -> bool {
        ends_directory_inner(level, count, &self.last_name)
    }

    fn store_parent(level: u8, children: Vec<Self>, writer: &mut StoreWriter<'_>) -> Result<Self> {
        let last_name = children.last().map(|child| child.last_name.clone());
        let inner = DirectoryInner { level, children };
        let (Some(last_name), Some(entry_count)) = (last_name, inner.entry_count()) else {
            let reason = "it has more entries than a number counts".to_owned();
            return Err(Error::NotStorable { object: "directory", reason });
        };
        let id = writer.add_directory(&inner.encode())?;
        Ok(Self { id, entry_count, last_name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{AttributeList, Attributes};
    use crate::revision::test_trees::{Trees, canonical_directory, numbered};

    fn built(trees: &Trees, entries: &[Entry]) -> Option<DirectoryTop> {
        trees.write(|writer| {
            let mut builder = DirectoryBuilder::default();
            entries.iter().for_each(|entry| builder.push(entry.clone(), writer).unwrap());
            builder.finish(writer).unwrap()
        })
    }

    #[test]
    fn a_directory_is_the_canonical_one_whatever_its_length() {
        let trees = Trees::new();
        for count in [0, 1, 2, 200, 300, 1_000, 30_000] {
            let mut entries = numbered(0..count);
            // Leaves also end because they are full.
            for entry in entries.iter_mut().step_by(3).take(1_000) {
                let list = AttributeList::new(vec![(b"user.a", &[7; 1900])]);
                entry.attributes = Attributes::Inline(list.unwrap());
            }
            let expected = trees.write(|writer| canonical_directory(&entries, writer));
            assert_eq!(built(&trees, &entries), expected, "{count} entries");
        }
    }
}
