//! What changed between two revisions, in proportion to the change and not to the size.

mod image;
mod tree;

pub use image::{ImageDiff, diff_images};
pub use tree::{Change, ChangeKind, LostPlace, TreeDiff, TreeDiffOptions, diff_trees};
