//! The mount of Treering: every revision of a repository as a file or directory, served read-only through FUSE.
//!
//! ```text
//! MOUNTPOINT/STREAM/latest.img -> NAME.img          the newest revision
//! MOUNTPOINT/STREAM/NAME.img                        a revision as a sparse file
//! MOUNTPOINT/STREAM/by-id/ID.img -> ../NAME.img
//! MOUNTPOINT/STREAM/by-tag/TAG/NAME.img -> ../../NAME.img
//! MOUNTPOINT/STREAM/NAME/                           a revision of a tree, likewise without .img
//! ```
//!
//! # Layers
//! Pure: `namespace` (which names exist), `inode` (their numbers), `readahead` (who reads sequentially), `errno`.
//! On the engine's public readers: `catalogue` (what the repository lists now), `image`, `images`, `reports`, `handle`, `tree` (what
//! lies below the directory of a tree), and [`FileSystem`], which is everything that the mount does, without a kernel. On the system: `mountinfo`,
//! `mountpoint`, `attach`. On `fuser`: `adapter` and `session`, and no other file.
//!
//! # What is promised
//! Every byte is verified before it is served; what is damaged gives EIO for its range alone. Mounting opens nothing, and
//! names are listed without opening records. An open file stays readable whatever is added or forgotten.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod adapter;
mod answers;
mod attach;
mod catalogue;
mod errno;
mod error;
mod fs;
mod handle;
mod image;
mod images;
mod inode;
mod mountinfo;
mod mountpoint;
mod names;
mod namespace;
mod readahead;
mod reports;
mod session;
mod tree;

pub use answers::{Attributes, DirectoryEntry, NAME_LIFETIME, Owner, Room, UNLIMITED};
pub use errno::Errno;
pub use error::MountError;
pub use fs::FileSystem;
pub use handle::HandleId;
pub use inode::Ino;
pub use mountinfo::mountpoints;
pub use namespace::FileKind;
pub use session::{Detacher, Mount, MountOptions, mount, unmount};
