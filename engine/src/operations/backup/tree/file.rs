//! Reads a file piece by piece: holes, preallocated zeros, and data with its cuts.

use std::ops::Range;

use crate::chunker::Cutter;
use crate::source::tree::{Entry as SourceEntry, EntryError, FileExtent, OpenFile};

/// Bytes of a piece: more than the longest chunk by some.
const PIECE_BYTES: usize = 2 << 20;

/// A piece of a file.
pub(super) enum Piece {
    /// So many bytes are not allocated.
    Hole(u64),
    /// So many bytes are allocated, but were never written.
    Zeros(u64),
    /// Whole chunks, and how long each is.
    Data { bytes: Vec<u8>, lengths: Vec<usize> },
}

/// A file that is being read.
pub(super) struct FileReading {
    file: OpenFile,
    cutter: Cutter,
    /// What was not read yet of the extent of data that is read; empty at its end.
    data: Range<u64>,
    /// What was read, and is not cut yet.
    rest: Vec<u8>,
    /// The file is shorter than its stat said.
    is_cut_off: bool,
}

impl FileReading {
    /// Opens a file of a tree that is to go into a repository with this chunk size.
    pub(super) fn open(entry: &SourceEntry, chunk_size: u32) -> Result<Self, EntryError> {
        let file = entry.open()?;
        let cutter = Cutter::for_file(entry.name(), file.stat.size, chunk_size);
        Ok(Self { file, cutter, data: 0..0, rest: Vec::new(), is_cut_off: false })
    }

    /// The size that the open file has.
    pub(super) fn size(&self) -> u64 {
        self.file.stat.size
    }

    /// The next piece; `None` at the end.
    pub(super) fn next_piece(&mut self) -> Result<Option<Piece>, EntryError> {
        if self.rest.is_empty() && self.data.is_empty() {
            let extent = if self.is_cut_off { None } else { self.file.extent_at(self.data.end) };
            match extent {
                None => return Ok(None),
                Some(FileExtent::Hole(range)) => return Ok(Some(Piece::Hole(self.pass(&range)))),
                Some(FileExtent::Zeros(range)) => return Ok(Some(Piece::Zeros(self.pass(&range)))),
                Some(FileExtent::Data(range)) => self.data = range,
            }
        }
        self.read_piece().map(Some)
    }

    /// The file, for what is left to do with it.
    pub(super) fn into_file(self) -> OpenFile {
        self.file
    }

    fn pass(&mut self, range: &Range<u64>) -> u64 {
        self.data = range.end..range.end;
        range.end - range.start
    }

    fn read_piece(&mut self) -> Result<Piece, EntryError> {
        let mut bytes = std::mem::take(&mut self.rest);
        let begin = self.data.start - bytes.len() as u64;
        self.fill(&mut bytes)?;
        let is_end = self.data.is_empty();
        let (mut lengths, mut done) = (Vec::new(), 0);
        while let Some(length) =
            self.cutter.cut(begin + done as u64, bytes.get(done..).unwrap_or_default(), is_end)
        {
            lengths.push(length);
            done += length;
        }
        self.rest = bytes.split_off(done.min(bytes.len()));
        Ok(Piece::Data { bytes, lengths })
    }

    /// Reads on in the extent.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> Result<(), EntryError> {
        let known = bytes.len();
        let room = PIECE_BYTES.max(self.cutter.longest()).saturating_sub(known) as u64;
        let wanted = room.min(self.data.end - self.data.start) as usize;
        bytes.resize(known + wanted, 0);
        let read = self.file.read_at(self.data.start, bytes.get_mut(known..).unwrap_or_default())?;
        bytes.truncate(known + read);
        self.data.start += read as u64;
        if read < wanted {
            self.is_cut_off = true;
            self.data.end = self.data.start;
        }
        Ok(())
    }
}
