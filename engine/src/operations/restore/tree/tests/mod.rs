//! Restores of trees that are built piece by piece.

mod contents;
mod damage;
mod directories;
mod hostile;

use std::fs;
use std::path::{Path, PathBuf};

use super::{TreeRestoreOptions, TreeRestoreReport, restore_tree};
use crate::error::Result;
use crate::format::{DirectoryTop, Entry, EntryContent, FileData, SymlinkTarget, TreeRoot};
use crate::monitor::{CollectingMonitor, Monitor};
use crate::revision::TreeReader;
use crate::revision::test_trees::{Trees, entry};

/// A repository, a place beside it, and what may not be touched.
struct Scene {
    trees: Trees,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    /// Where nothing has to wait for a disk, if there is such a place.
    fn in_memory() -> Self {
        Self::at(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn at(directory: tempfile::TempDir) -> Self {
        let scene = Self { trees: Trees::new(), directory };
        fs::create_dir(scene.path("outside")).unwrap();
        fs::write(scene.path("outside/precious"), b"precious").unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target")
    }

    /// A tree that says to have very many entries.
    fn open(&self, top: Option<DirectoryTop>) -> TreeReader {
        self.open_with_files(top, 1 << 40)
    }

    fn open_with_files(&self, top: Option<DirectoryTop>, files: u64) -> TreeReader {
        let mut root: TreeRoot = self.trees.root(top);
        root.totals.files = files;
        root.entry.metadata.mode = 0o755;
        let id = self.trees.directory_node(&root.encode());
        TreeReader::open_unpinned(self.trees.store(), &id).unwrap()
    }

    fn restore_with(
        &self,
        tree: &TreeReader,
        options: &TreeRestoreOptions,
        monitor: &dyn Monitor,
    ) -> Result<TreeRestoreReport> {
        restore_tree(tree, "home@x", &self.trees.repository, &self.target(), options, monitor)
    }

    fn restore(&self, entries: &[Entry]) -> TreeRestoreReport {
        let tree = self.open(self.trees.directory(entries));
        let options = TreeRestoreOptions { in_place: true, ..TreeRestoreOptions::default() };
        self.restore_with(&tree, &options, &CollectingMonitor::default()).unwrap()
    }

    /// Fails if anything outside of the target was touched.
    #[track_caller]
    fn assert_nothing_outside(&self) {
        assert_eq!(names(self.directory.path()), ["outside", "target"]);
        assert_eq!(names(&self.path("outside")), ["precious"]);
        assert_eq!(fs::read(self.path("outside/precious")).unwrap(), b"precious");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(directory).unwrap().map(name).collect();
    names.sort();
    names
}

fn empty_file(name: &str) -> Entry {
    entry(name, EntryContent::File(FileData::Empty))
}

fn directory(name: &str, top: Option<DirectoryTop>) -> Entry {
    entry(name, EntryContent::Directory(top))
}

fn symlink(name: &str, target: &Path) -> Entry {
    let target = SymlinkTarget::new(target.as_os_str().as_encoded_bytes()).unwrap();
    entry(name, EntryContent::Symlink(target))
}
