//! One open image, shared by all its handles: reads, holes, and the one log line for what can't be read.

use std::sync::Arc;

use treering_engine::{Error, ImageReader, RevisionId, StreamId};

use crate::catalogue::Catalogue;
use crate::errno::Errno;
use crate::reports::{Piece, Reports};

/// An open image. While it lives, gc keeps what it reads.
pub(crate) struct OpenImage {
    reader: ImageReader,
    stream: StreamId,
    revision: RevisionId,
    /// As `stream@revision`.
    name: String,
    catalogue: Arc<Catalogue>,
    reports: Arc<Reports>,
}

impl OpenImage {
    pub(crate) fn new(
        reader: ImageReader,
        stream: StreamId,
        revision: RevisionId,
        name: String,
        catalogue: Arc<Catalogue>,
        reports: Arc<Reports>,
    ) -> Self {
        Self { reader, stream, revision, name, catalogue, reports }
    }

    pub(crate) fn size(&self) -> u64 {
        self.reader.size()
    }

    pub(crate) fn chunk_size(&self) -> u64 {
        // Never 0 in a map that was opened; a division must not depend on that.
        u64::from(self.reader.chunk_size()).max(1)
    }

    /// Fills `buffer` from `offset` on, short only at the end. All of it is verified, or none counts.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let length = buffer.len() as u64;
        let read = self.reader.read_at(offset, buffer).map_err(|error| {
            self.report_range(offset, length, &error);
            self.failure()
        })?;
        if let Some(last) = (read as u64).checked_sub(1) {
            let index = |offset: u64| Piece::Chunk(offset / self.chunk_size());
            self.reports.read_well(self.revision, index(offset)..=index(offset.saturating_add(last)));
        }
        Ok(read)
    }

    /// The first byte from `offset` on that is data, as SEEK_DATA wants it.
    pub(crate) fn seek_data(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.size() {
            return Err(Errno::NoSuchOffset);
        }
        let found = self.reader.next_data(offset).map_err(|error| self.report(offset, &error))?;
        found.ok_or(Errno::NoSuchOffset)
    }

    /// The first byte from `offset` on that is in a hole, as SEEK_HOLE wants it: the end counts as one.
    pub(crate) fn seek_hole(&self, offset: u64) -> Result<u64, Errno> {
        if offset >= self.size() {
            return Err(Errno::NoSuchOffset);
        }
        self.reader.next_hole(offset).map_err(|error| self.report(offset, &error))
    }

    /// Loads a chunk into the engine's cache.
    pub(crate) fn prefetch(&self, chunk_index: u64) {
        self.reader.prefetch(chunk_index);
    }

    /// Reports the chunks of a range that can't be read, each by itself: a request covers many.
    fn report_range(&self, offset: u64, length: u64, error: &Error) {
        let chunk_size = self.chunk_size();
        let end = offset.saturating_add(length).min(self.size());
        let chunks = offset / chunk_size..end.div_ceil(chunk_size);
        if chunks.end.saturating_sub(chunks.start) <= 1 {
            self.report(offset, error);
            return;
        }
        for index in chunks.filter(|index| !self.reports.is_settled(self.revision, Piece::Chunk(*index))) {
            let start = (index * chunk_size).max(offset);
            if let Err(error) = self.reader.read_at(start, &mut [0]) {
                self.report(start, &error);
            }
        }
    }

    /// Logs once that a chunk can't be read.
    fn report(&self, offset: u64, error: &Error) -> Errno {
        let index = offset / self.chunk_size();
        let (name, start) = (&self.name, index * self.chunk_size());
        let line = format_args!("{name}: cannot read the chunk at offset {start}: {error}");
        self.reports.report(self.revision, name, Piece::Chunk(index), line);
        self.failure()
    }

    fn failure(&self) -> Errno {
        self.catalogue.failure(self.stream, self.revision, self.reader.is_pinned())
    }
}
