//! Where files of trees are cut into chunks, and which small files share one (`docs/format.md`, section 11).
//!
//! Pure: bytes, names and sizes in, cuts out. Nothing here reads, hashes content or stores. None of it is part of the
//! format: how a file was cut shows in its map, so another version may cut otherwise. But then it shares nothing with
//! what was stored before, so a change here costs each user one full backup.

mod bundle;
mod content;
mod fixed;
mod in_place;
#[cfg(test)]
mod tests;

pub(crate) use bundle::Bundler;
pub(crate) use content::ContentCutter;
pub(crate) use fixed::FixedCutter;
pub(crate) use in_place::is_changed_in_place;

/// How one file is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cutter {
    /// Where the content says so: what is inserted moves no later cut.
    Content(ContentCutter),
    /// At multiples of the repository's chunk size, as images are cut.
    Fixed(FixedCutter),
}

impl Cutter {
    /// How the file with this name and size in bytes is cut in a repository with this chunk size.
    pub(crate) fn for_file(name: &[u8], size_bytes: u64, chunk_size: u32) -> Self {
        match is_changed_in_place(name, size_bytes) {
            true => Self::Fixed(FixedCutter::new(chunk_size)),
            false => Self::Content(ContentCutter::default()),
        }
    }

    /// The longest chunk in bytes that it cuts, at most 8 MiB: a buffer of that length always has a cut.
    pub(crate) fn longest(&self) -> usize {
        match self {
            Self::Content(cutter) => cutter.longest(),
            Self::Fixed(cutter) => cutter.longest(),
        }
    }

    /// The length of the chunk with which `buffer` begins; `None` if that takes more bytes to tell.
    ///
    /// `buffer` holds what follows the last cut, or the beginning of a data extent, and begins at `offset` in the file.
    /// `is_end` tells that the extent ends with the buffer. The cuts are the same in whatever pieces the extent was
    /// read; a caller has to read on only while the buffer is shorter than [`longest`](Self::longest).
    pub(crate) fn cut(&self, offset: u64, buffer: &[u8], is_end: bool) -> Option<usize> {
        match self {
            Self::Content(cutter) => cutter.cut(buffer, is_end),
            Self::Fixed(cutter) => cutter.cut(offset, buffer.len(), is_end),
        }
    }
}
