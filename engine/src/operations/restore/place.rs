//! Where a restore may not go, whatever it restores.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::backend::Area;
use crate::error::{Error, Result};

/// Whether a path lies in the repository's directory, whatever name it has there: a bind mount may show all or a part of
/// it elsewhere.
pub(super) fn lies_in(path: &Path, repository: &Path) -> bool {
    let parts = identities(repository);
    path.ancestors().filter_map(identity).any(|ancestor| parts.contains(&ancestor))
}

/// Device and inode of the repository's directory and of those in it.
pub(super) fn identities(repository: &Path) -> Vec<(u64, u64)> {
    let areas = Area::fixed();
    let parts = areas.iter().map(|area| repository.join(area.path()));
    parts.chain([repository.to_owned()]).filter_map(|part| identity(&part)).collect()
}

/// Device and inode of what a path leads to.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|there| (there.dev(), there.ino()))
}

/// The path with links followed; its last part need not exist.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    if let Ok(resolved) = path.canonicalize() {
        return Ok(resolved);
    }
    let absolute = std::path::absolute(path).map_err(Error::io("find", path.display()))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else { return Ok(absolute) };
    let parent = parent.canonicalize().map_err(Error::io("find directory", parent.display()))?;
    Ok(parent.join(name))
}

pub(super) fn refuse(path: &Path, reason: &str, hint: &'static str) -> Error {
    Error::UnusableTarget { path: path.display().to_string(), reason: reason.to_owned(), hint }
}
