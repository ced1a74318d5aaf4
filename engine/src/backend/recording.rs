//! A disk that notes what is asked of it, so that tests see the order of writes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile, SystemDisk};

/// What was done, in its order. Paths are relative to the repository; files that are being written are `incoming`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// The bytes of a file were made durable.
    SyncFile,
    /// A file got its name in this directory.
    Name(PathBuf),
    /// The names in this directory were made durable.
    SyncDirectory(PathBuf),
}

/// The disk of this machine, with a list of the calls that matter for what is durable.
#[derive(Clone)]
pub(crate) struct RecordingDisk {
    root: PathBuf,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl RecordingDisk {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), calls: Arc::default() }
    }

    /// Takes what was noted so far.
    pub(crate) fn take(&self) -> Vec<Call> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn note(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
}

struct RecordedFile(Box<dyn DiskFile>, RecordingDisk);

impl DiskFile for RecordedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.note(Call::SyncFile);
        self.0.sync()
    }

    fn file(&self) -> io::Result<std::fs::File> {
        self.0.file()
    }
}

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RecordedFile(SystemDisk.create(path)?, self.clone())))
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        self.note(Call::Name(self.relative(to.parent().unwrap())));
        SystemDisk.rename(from, to, replace)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_directory(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_directory(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.note(Call::SyncFile);
        SystemDisk.sync_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.note(Call::SyncDirectory(self.relative(path)));
        SystemDisk.sync_directory(path)
    }
}
