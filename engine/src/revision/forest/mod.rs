//! Several trees that are looked at together, directory by directory.
//!
//! Revisions of one stream hold mostly the same nodes. What several trees have in common in one place is read and looked
//! at once for all of them, and who asks for differences alone does not come to see it. Whatever the trees, what is held of
//! them is a few hundred bytes for each distinct state of a directory on the way down, and of their entries so many MiB:
//! where more states stand side by side than these hold, their leaves are read piece by piece.

mod held_leaf;
mod numbers;
mod sides;
mod sweep;
#[cfg(test)]
mod tests;
mod walk;

pub use numbers::TreeNumbers;
pub(crate) use sides::{both_sides, differing_directories, on_each_side};
pub(crate) use sweep::Variant;
pub(crate) use walk::{Met, SharedDirectory, TreesWalk, directories_of};
