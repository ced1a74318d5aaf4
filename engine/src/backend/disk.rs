//! The few calls that change a file system. Everything the local backend writes goes through them, so that a
//! model of a disk can stand in their place and crash after any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file that is being written, front to back.
pub(crate) trait DiskFile: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes durable. After a failure the file counts as lost.
    fn sync(&mut self) -> io::Result<()>;

    /// The file itself, to lock it.
    fn file(&self) -> io::Result<File>;
}

/// What a repository's directory lies on.
pub(crate) trait Disk: Send + Sync {
    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Renames a file within the file system; `replace` says whether the new name may exist.
    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory; one that exists is no error.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory, which must be empty.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the bytes of a file durable that is written already.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
pub(crate) struct SystemDisk;

struct SystemFile(File);

impl DiskFile for SystemFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn file(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).read(true).create_new(true).open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        match replace {
            true => fs::rename(from, to),
            false => rename_new(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Renames a file to a name that must not exist, in the safest way that the file system has.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    try_in_turn(&[rename_exclusively, link_and_unlink, look_and_rename], from, to)
}

type Way = fn(&Path, &Path) -> io::Result<()>;

/// The first way that the file system supports.
fn try_in_turn(ways: &[Way], from: &Path, to: &Path) -> io::Result<()> {
    let mut failure = io::ErrorKind::Unsupported.into();
    for way in ways {
        match way(from, to) {
            Err(error) if is_unsupported(&error) => failure = error,
            other => return other,
        }
    }
    Err(failure)
}

fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // The last is what `link` says on file systems without hard links.
    let unsupported = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM];
    unsupported.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// NFS and most file systems of FUSE don't know the flag.
fn rename_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    let here = rustix::fs::CWD;
    Ok(rustix::fs::renameat_with(here, from, here, to, rustix::fs::RenameFlags::NOREPLACE)?)
}

fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

/// Right as long as nobody else creates the same name meanwhile (`docs/format.md`, section 2).
fn look_and_rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_flags(_from: &Path, _to: &Path) -> io::Result<()> {
        Err(rustix::io::Errno::INVAL.into())
    }

    fn no_links(_from: &Path, _to: &Path) -> io::Result<()> {
        Err(rustix::io::Errno::PERM.into())
    }

    #[test]
    fn every_way_gives_a_new_name_and_spares_what_has_it_already() {
        let ways: [&[Way]; 4] = [
            &[rename_exclusively],
            &[no_flags, link_and_unlink],
            &[no_flags, no_links, look_and_rename],
            &[rename_exclusively, link_and_unlink, look_and_rename],
        ];
        for ways in ways {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            fs::write(path("old"), "old").unwrap();
            std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
            fs::write(path("from"), "new").unwrap();
            for taken in ["old", "link"] {
                let error = try_in_turn(ways, &path("from"), &path(taken)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            }
            assert_eq!(fs::read(path("old")).unwrap(), b"old");
            try_in_turn(ways, &path("from"), &path("to")).unwrap();
            assert_eq!(fs::read(path("to")).unwrap(), b"new");
            assert!(!path("from").exists());
        }
    }

    #[test]
    fn another_failure_is_no_reason_to_try_a_weaker_way() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "").unwrap();
        let full: Way = |_, _| Err(io::ErrorKind::StorageFull.into());
        assert!(try_in_turn(&[full, look_and_rename], &from, &to).is_err());
        assert!(try_in_turn(&[no_flags, no_links], &from, &to).is_err(), "no way is a failure");
        assert!(from.exists() && !to.exists());
    }
}
