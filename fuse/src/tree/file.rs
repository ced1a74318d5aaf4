//! An open file of a tree.

use std::ops::Range;
use std::sync::Arc;

use treering_engine::{Error, FileData, FileReader};

use super::OpenTree;
use crate::errno::Errno;
use crate::inode::Ino;
use crate::reports::Piece;

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
        let end = offset.saturating_add(buffer.len() as u64).min(self.reader.size());
        match self.reader.read_at(offset, buffer) {
            Ok(length) => {
                self.tree.read_well(Piece::Content(self.ino), offset..end);
                Ok(length)
            }
            Err(error) => Err(self.report(offset..end, &error)),
        }
    }

    fn report(&self, part: Range<u64>, error: &Error) -> Errno {
        self.tree.report(Piece::Content(self.ino), part, error)
    }

    /// What says where data and holes are lies somewhere behind.
    fn report_from(&self, offset: u64, error: &Error) -> Errno {
        self.report(offset..self.reader.size(), error)
    }

    /// What reads it, for who loads chunks ahead.
    pub(crate) fn reader(&self) -> &FileReader {
        &self.reader
    }

    /// The first byte from `offset` on that is data, as SEEK_DATA wants it.
    pub(crate) fn seek_data(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.reader.size() {
            return Err(Errno::NoSuchOffset);
        }
        let found = self.reader.next_data(offset).map_err(|error| self.report_from(offset, &error))?;
        found.ok_or(Errno::NoSuchOffset)
    }

    /// The first byte from `offset` on that is in a hole, as SEEK_HOLE wants it: the end counts as one.
    pub(crate) fn seek_hole(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.reader.size() {
            return Err(Errno::NoSuchOffset);
        }
        self.reader.next_hole(offset).map_err(|error| self.report_from(offset, &error))
    }
}
