//! Where a mount may go: checks that come before mounting, and what is found on a path.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::attach::detach;
use crate::error::MountError;
use crate::mountinfo::{MountInfo, has_nul, mount_on};

/// Checks a mount point, clears a dead mount of ours on it, and gives its path from the root on.
///
/// # Errors
/// [`MountError::UnusableMountpoint`] says why, and what to do.
pub(crate) fn prepare(mountpoint: &Path, repository: Option<&Path>) -> Result<PathBuf, MountError> {
    let path = resolve(mountpoint)?;
    if let Some(mounted) = mount_on(&path)? {
        clear_if_dead(&path, &mounted)?;
    }
    let metadata = std::fs::metadata(&path).map_err(MountError::io("use", &path))?;
    if !metadata.is_dir() {
        return Err(unusable(&path, "it is not a directory", "name an empty directory"));
    }
    if let Some(repository) = repository {
        refuse_repository(&path, repository)?;
    }
    let mut entries = std::fs::read_dir(&path).map_err(MountError::io("list", &path))?;
    if entries.next().is_some() {
        return Err(unusable(
            &path,
            "it is not empty",
            "what it holds would be hidden: name an empty directory",
        ));
    }
    Ok(path)
}

/// The path from the root on, without symbolic links. Works on a dead mount too, where nothing can be asked.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, MountError> {
    if has_nul(path) {
        return Err(unusable(path, "it holds a NUL byte", "name an empty directory"));
    }
    match std::fs::canonicalize(path) {
        Err(error) if is_dead(&error) => {
            let absolute = std::path::absolute(path).map_err(MountError::io("find", path))?;
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Ok(absolute);
            };
            let parent = std::fs::canonicalize(parent).map_err(MountError::io("find", path))?;
            Ok(parent.join(name))
        }
        other => other.map_err(MountError::io("find", path)),
    }
}

/// A mount of ours whose process has died is in nobody's use: it is taken away. Any other is left alone.
fn clear_if_dead(path: &Path, mounted: &MountInfo) -> Result<(), MountError> {
    // Attributes may still be in the kernel's memory; this is always asked of the process that serves.
    let dead = rustix::fs::statvfs(path).is_err_and(|error| is_dead(&error.into()));
    if !dead {
        // Of another user's mount not even root is told whether its process lives.
        let hint = match mounted.is_ours() {
            true => "end that with 'treering unmount', or name another directory",
            false => "unmount that, or name another directory",
        };
        return Err(unusable(path, "something is mounted there already", hint));
    }
    if !mounted.is_ours() {
        let hint = "it is not ours: unmount it with 'umount -l'";
        return Err(unusable(path, "a mount is there whose process has died", hint));
    }
    log::warn!("clearing the mount on {}, whose process has died", path.display());
    detach(path)
}

fn is_dead(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

/// Refuses the repository itself, what it lies in, and what lies in it.
fn refuse_repository(path: &Path, repository: &Path) -> Result<(), MountError> {
    let repository = std::fs::canonicalize(repository).map_err(MountError::io("find", repository))?;
    let refuse = |reason| Err(unusable(path, reason, "name a directory outside the repository"));
    if same(path, &repository) {
        return refuse("it is the repository");
    }
    if repository.ancestors().any(|above| same(path, above)) {
        return refuse("the repository lies in it and would be hidden");
    }
    if path.ancestors().any(|above| same(above, &repository)) {
        return refuse("it lies in the repository");
    }
    Ok(())
}

/// Whether two paths are one directory, also by way of a bind mount.
fn same(a: &Path, b: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    a == b || matches!((identity(a), identity(b)), (Ok(a), Ok(b)) if a == b)
}

pub(crate) fn unusable(path: &Path, reason: &str, hint: &'static str) -> MountError {
    MountError::UnusableMountpoint { path: path.to_owned(), reason: reason.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(result: Result<PathBuf, MountError>) -> String {
        let error = result.unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    }

    #[test]
    fn the_repository_and_what_is_around_it_or_in_it_are_refused() {
        let base = tempfile::tempdir().unwrap();
        let repository = base.path().join("outer/repository");
        let inside = repository.join("packs");
        std::fs::create_dir_all(&inside).unwrap();
        let check = |path: &Path| reason(prepare(path, Some(&repository)));
        assert!(check(&repository).contains("it is the repository"));
        assert!(check(&repository.join("../repository")).contains("it is the repository"));
        assert!(check(&base.path().join("outer")).contains("would be hidden"));
        assert!(check(&inside).contains("lies in the repository"));
        std::os::unix::fs::symlink(&inside, base.path().join("link")).unwrap();
        assert!(check(&base.path().join("link")).contains("lies in the repository"));
    }

    #[test]
    fn only_an_empty_directory_will_do() {
        let base = tempfile::tempdir().unwrap();
        let file = base.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(reason(prepare(&file, None)).contains("not a directory"));
        assert!(reason(prepare(base.path(), None)).contains("not empty"));
        assert!(prepare(&base.path().join("absent"), None).is_err());
        assert!(reason(prepare(Path::new("/proc"), None)).contains("mounted there already"));
        let empty = base.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        assert_eq!(
            prepare(&empty, Some(base.path().join("file").as_path())).unwrap(),
            resolve(&empty).unwrap()
        );
    }
}
