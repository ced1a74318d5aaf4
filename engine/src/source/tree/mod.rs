//! Directory trees: their walk, and what can be read of their entries.
//!
//! Everything is reached by descriptors of directories, each opened by its name in its parent, so that no symlink below
//! the root is ever followed and nothing outside the tree is read, whatever is moved while the walk goes on. What goes
//! wrong with one entry is a value that names its path ([`EntryError`]), and the walk goes on.
//!
//! [`TreeSource::walk`] gives [`Step`]s, depth first, in the order of the names' bytes. Nothing but directories is opened
//! by it: [`Entry::open`] reads a file, [`Entry::hold`] takes hold of anything for its link target and attributes. What
//! is opened tells its own stat, which may be newer than the one in the listing and is the one to record.

mod ahead;
mod attributes;
mod directory;
mod entry;
mod excludes;
mod names;
mod piece;
mod problem;
mod selection;
mod stat;
mod walk;
mod write_back;

pub(crate) use attributes::{Attribute, of_held, of_open, sees_all_attributes};
pub(crate) use directory::{Directory, open_quietly};
pub(crate) use entry::{Entry, FileExtent, HeldEntry, OpenFile};
pub(crate) use names::Names;
pub(crate) use problem::{Cause, EntryError, readable};
pub use selection::TreeOptions;
pub(crate) use stat::{EntryStat, EntryType, Identity};
pub(crate) use walk::{Step, Walk};

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use self::ahead::Ahead;
use self::directory::open_unnoticed;
use self::piece::Task;
use self::selection::Selection;
use crate::error::{Error, Result};
use crate::format::Timestamp;

/// A directory tree that can be walked once or more.
pub struct TreeSource {
    path: PathBuf,
    options: TreeOptions,
    root: Entry,
    directory: Arc<Directory>,
}

impl TreeSource {
    /// Opens a tree by its root. A symlink is followed here, and nowhere below.
    ///
    /// # Errors
    /// [`Error::UnusableSource`] for anything but a directory that can be read, and for one that is never backed up or
    /// lies in such a one; [`Error::BadParameter`] for a malformed pattern.
    pub fn open(path: &Path, options: TreeOptions) -> Result<Self> {
        let (directory, root) = open_root(CWD, path, path)?;
        // Patterns that are malformed are told now and not in the middle of something.
        Selection::new(&options, &root.stat)?;
        let lies_in_never = directory.open().is_ok_and(|open| lies_in(&open, &options.never));
        if lies_in_never {
            let reason = "it is, or lies in, what is never backed up: the repository".to_owned();
            return Err(Error::UnusableSource { path: path.display().to_string(), reason });
        }
        Ok(Self { path: path.to_owned(), options, root, directory })
    }

    /// What users call it.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The root directory's own entry. Its name is empty.
    pub(crate) fn root(&self) -> &Entry {
        &self.root
    }

    /// Walks the tree from its root on, which is looked at anew.
    ///
    /// # Errors
    /// [`Error::UnusableSource`] if the root can't be read any more.
    pub(crate) fn walk(&self) -> Result<Walk> {
        let open = self.directory.open().map_err(|cause| unusable(&self.path, &cause))?;
        // A descriptor of its own: how far a directory was listed belongs to the descriptor.
        let (directory, root) = open_root(open, Path::new("."), &self.path)?;
        let selection = Selection::new(&self.options, &root.stat)?;
        Ok(Walk::new(Ahead::start(selection), root, Task::root(&directory)))
    }
}

/// Opens the root of a tree that the user calls `name`.
fn open_root(directory: impl AsFd, path: &Path, name: &Path) -> Result<(Arc<Directory>, Entry)> {
    let failed = |errno| unusable(name, &Cause::System(errno));
    let descriptor = open_unnoticed(directory, path, OFlags::DIRECTORY).map_err(failed)?;
    let seen = Timestamp::now();
    let stat = EntryStat::of(&descriptor).map_err(failed)?;
    let directory = Directory::root(name.as_os_str().as_bytes(), descriptor, &stat);
    let root = Entry::new(&directory, b"", stat, seen);
    Ok((directory, root))
}

fn unusable(path: &Path, cause: &Cause) -> Error {
    Error::UnusableSource { path: path.display().to_string(), reason: cause.to_string() }
}

/// Whether an open directory is one of those, or lies in one.
fn lies_in(directory: &OwnedFd, those: &[(u64, u64)]) -> bool {
    let open = |below: &OwnedFd, name: &str| {
        let opened = openat(below, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let identity = EntryStat::of(&opened).ok()?.identity;
        Some((opened, identity))
    };
    // Above the root of all there is that root again.
    let above =
        |(below, own): &(OwnedFd, Identity)| open(below, "..").filter(|(_, identity)| identity != own);
    std::iter::successors(open(directory, "."), above)
        .any(|(_, identity)| those.contains(&(identity.device, identity.inode)))
}

#[cfg(test)]
mod tests;
