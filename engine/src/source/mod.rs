//! What is backed up: image files, block devices, streams of bytes, directory trees.

mod extents;
mod file;
mod file_system;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "paths, and when an entry was listed, so far only for tests")
)]
pub(crate) mod tree;

pub use file::FileSource;
pub use tree::{TreeOptions, TreeSource};

use std::io::Read;
use std::ops::Range;

use crate::error::Result;
use crate::format::FileEvidence;

/// An image that can be read at any place. Used by several threads at once.
pub trait ImageSource: Send + Sync {
    /// What users call it.
    fn name(&self) -> String;

    /// Size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`crate::Error::SourceRead`] names the offset, also where the source ends earlier than its size said.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The first range of data that ends behind `offset`, cut to begin there at the earliest; `None` if only holes follow.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>>;

    /// Tells the system that a range will be read soon.
    fn will_read(&self, range: Range<u64>);

    /// Has the system write back what it holds of the source. Linux sets the time of a file that is written through a mapping
    /// when a page becomes dirty, and not again while it is: what is written to such a page after it was read would show
    /// no other time. Says whether that is so now; if not, the times prove nothing.
    fn write_back(&self) -> bool;

    /// What tells later whether the source is unchanged; `None` where nothing does.
    fn evidence(&self) -> Result<Option<FileEvidence>>;
}

/// What a backup reads.
pub enum Source {
    /// Something that can be read at any place.
    Image(Box<dyn ImageSource>),
    /// Bytes that come once, from the first to the last.
    Stream {
        /// What users call it.
        name: String,
        /// The bytes.
        bytes: Box<dyn Read + Send>,
    },
    /// A directory tree.
    Tree(Box<TreeSource>),
}

impl Source {
    /// What users call it.
    pub fn name(&self) -> String {
        match self {
            Self::Image(image) => image.name(),
            Self::Stream { name, .. } => name.clone(),
            Self::Tree(tree) => tree.name(),
        }
    }
}
