//! Restore: an image to a file or block device, a tree or a part of one to a directory.
//!
//! Nothing is taken for whole that is not: what can't be read from the repository is named, and never stands as zeros
//! under its own name.

mod image;
mod place;
mod ranges;
mod tree;

pub use image::{RestoreReport, partial_file, restore};
pub use tree::{DamagedEntry, TreeRestoreOptions, TreeRestoreReport, restore_tree};

/// How to treat what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Read the target and write only what differs; continues an interrupted restore.
    pub in_place: bool,
    /// Replace what is there.
    pub overwrite: bool,
    /// Read everything back from the target and compare.
    pub verify: bool,
}
