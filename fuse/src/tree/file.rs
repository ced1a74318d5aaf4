//! An open file of a tree.

use std::sync::Arc;

use treering_engine::{FileData, FileReader};

use super::OpenTree;
use crate::errno::Errno;
use crate::inode::Ino;

/// An open file. While it lives, gc keeps what it reads.
pub(crate) struct OpenEntry {
    tree: Arc<OpenTree>,
    reader: FileReader,
    ino: Ino,
}

impl OpenEntry {
    pub(super) fn new(tree: Arc<OpenTree>, data: &FileData, ino: Ino) -> Self {
        let reader = tree.reader.open_file(data);
        Self { tree, reader, ino }
    }

    /// Fills `buffer` from `offset` on, short only at the end. All of it is verified, or none counts.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let read = self.reader.read_at(offset, buffer).map_err(|error| self.tree.report(self.ino, &error))?;
        self.tree.read_well(self.ino);
        Ok(read)
    }

    /// The first byte from `offset` on that is data, as SEEK_DATA wants it.
    pub(crate) fn seek_data(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.reader.size() {
            return Err(Errno::NoSuchOffset);
        }
        let found = self.reader.next_data(offset).map_err(|error| self.tree.report(self.ino, &error))?;
        found.ok_or(Errno::NoSuchOffset)
    }

    /// The first byte from `offset` on that is in a hole, as SEEK_HOLE wants it: the end counts as one.
    pub(crate) fn seek_hole(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.reader.size() {
            return Err(Errno::NoSuchOffset);
        }
        self.reader.next_hole(offset).map_err(|error| self.tree.report(self.ino, &error))
    }
}
