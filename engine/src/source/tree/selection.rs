//! What of a tree is left out.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, OFlags, StatxFlags, statx};

use super::directory::{Directory, open_quietly};
use super::excludes::Excludes;
use super::names::Names;
use super::stat::{EntryStat, EntryType, Identity};
use crate::error::Result;

/// The tag of a directory that holds nothing but what can be made again: <https://bford.info/cachedir/>.
const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";
/// How such a tag begins.
const CACHE_SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What of a tree is backed up.
#[derive(Clone, Debug, Default)]
pub struct TreeOptions {
    /// Patterns in the syntax of gitignore, relative to the root of the tree; of those that match, the last decides.
    /// What lies in a directory that is left out can't be taken in again.
    pub excludes: Vec<String>,
    /// Directories of other file systems than the root's are kept empty, and files that are mounted from them left out. A
    /// subvolume counts as one.
    pub one_file_system: bool,
    /// Of directories with a valid `CACHEDIR.TAG`, the root included, only the tag is kept.
    pub exclude_caches: bool,
    /// Directories that are left out whatever else is said, by device and inode: the repository.
    pub never: Vec<(u64, u64)>,
    /// The same by their paths below the root, for those that may not even be looked at: mounts of other users.
    pub never_paths: Vec<PathBuf>,
}

/// The same, ready for questions.
pub(super) struct Selection {
    excludes: Excludes,
    only_device: Option<u64>,
    exclude_caches: bool,
    never: Vec<Identity>,
    never_paths: Vec<PathBuf>,
}

impl Selection {
    /// # Errors
    /// [`crate::Error::BadParameter`] names a pattern that is malformed.
    pub(super) fn new(options: &TreeOptions, root: &EntryStat) -> Result<Self> {
        Ok(Self {
            excludes: Excludes::new(&options.excludes)?,
            only_device: options.one_file_system.then_some(root.identity.device),
            exclude_caches: options.exclude_caches,
            never: options.never.iter().map(|&(device, inode)| Identity { device, inode }).collect(),
            never_paths: options.never_paths.clone(),
        })
    }

    /// Whether paths matter at all.
    pub(super) fn knows_paths(&self) -> bool {
        !self.excludes.is_empty()
    }

    /// Whether an entry is left out because of its path below the root.
    pub(super) fn excludes_path(&self, path: &[u8], is_directory: bool) -> bool {
        self.excludes.matches(path, is_directory)
    }

    /// Whether this directory is never backed up.
    pub(super) fn is_never(&self, identity: Identity) -> bool {
        self.never.contains(&identity)
    }

    /// Whether what can't be looked at is known to be a directory that is never backed up.
    pub(super) fn is_never_at(&self, directory: &Directory, name: &[u8]) -> bool {
        !self.never_paths.is_empty() && {
            let path = directory.relative_path(name);
            self.never_paths.iter().any(|never| never.as_os_str().as_bytes() == path)
        }
    }

    /// Whether something lies on another file system and only the root's counts: of a directory nothing but itself is kept.
    pub(super) fn is_boundary(&self, found: &EntryStat) -> bool {
        self.only_device.is_some_and(|device| device != found.identity.device)
    }

    /// Whether a file is mounted there from another file system. Numbers of devices alone don't tell: on overlayfs those
    /// of files may be others than those of directories.
    pub(super) fn is_mounted_file(&self, directory: impl AsFd, name: &[u8], file: &EntryStat) -> bool {
        self.is_boundary(file) && {
            let mount = |name: &[u8], flags| {
                let found =
                    statx(&directory, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID).ok()?;
                (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
            };
            let mounts = mount(name, AtFlags::SYMLINK_NOFOLLOW).zip(mount(b"", AtFlags::EMPTY_PATH));
            mounts.is_some_and(|(own, above)| own != above)
        }
    }

    /// The names of an open directory that are to be looked at: all, or the tag of a cache.
    pub(super) fn names(&self, directory: impl AsFd, all: Names) -> Names {
        if self.exclude_caches && all.contains(CACHE_TAG) && is_cache(directory) {
            return Names::new([CACHE_TAG]);
        }
        all
    }
}

fn is_cache(directory: impl AsFd) -> bool {
    let Ok(tag) = open_quietly(directory, CACHE_TAG, OFlags::empty()) else { return false };
    let is_file = EntryStat::of(&tag).is_ok_and(|stat| stat.kind == EntryType::File);
    let mut start = [0; CACHE_SIGNATURE.len()];
    is_file
        && matches!(rustix::io::pread(&tag, &mut start, 0), Ok(read) if read == start.len())
        && start == *CACHE_SIGNATURE
}
