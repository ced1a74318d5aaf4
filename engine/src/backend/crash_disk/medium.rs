//! What a medium holds: of each name and each file what is durable, and what came since.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileNumber(pub(super) usize);

/// One change. Paths are relative to the disk's directory.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create { path: PathBuf, file: FileNumber },
    Write { file: FileNumber, bytes: Vec<u8> },
    Sync { file: FileNumber, is_synced: bool },
    SyncNamed { path: PathBuf, is_synced: bool },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    CreateDirectory { path: PathBuf },
    SyncDirectory { path: PathBuf },
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(FileNumber),
    Directory,
}

/// A name in a directory.
#[derive(Clone, Debug)]
pub(super) struct Name {
    /// What it has stood for since the directory was last synced, the durable state first, the newest last; `None` is no
    /// such name. A power cut leaves any of them.
    pub(super) states: Vec<Option<Node>>,
    /// How many states it had before the durable one.
    past: usize,
}

impl Name {
    fn durable(node: Node) -> Self {
        Self { states: vec![Some(node)], past: 0 }
    }

    fn absent() -> Self {
        Self { states: vec![None], past: 0 }
    }

    fn newest(&self) -> Option<Node> {
        self.states.last().copied().flatten()
    }

    /// Returns the number of the new state, counted from its first.
    fn set(&mut self, node: Option<Node>) -> usize {
        self.states.push(node);
        self.past + self.states.len() - 1
    }

    fn sync(&mut self) {
        self.past += self.states.len() - 1;
        self.states.drain(..self.states.len() - 1);
    }

    /// Whether a state, by its place among those that may be left, comes before one that has this number.
    pub(super) fn is_before(&self, state: usize, number: usize) -> bool {
        self.past + state < number
    }

    /// The place of the state of a number that is not past.
    pub(super) fn place_of(&self, number: usize) -> usize {
        number - self.past
    }
}

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// So many of them are durable.
    pub(super) durable_len: usize,
    /// Whether a sync failed: then no later one makes anything durable (assumption 5).
    is_lost: bool,
}

/// A rename from one directory to another: the states that it gave to both names, by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) from: (PathBuf, usize),
    pub(super) to: (PathBuf, usize),
}

type Names = BTreeMap<OsString, Name>;

/// All names and files of a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Medium {
    /// By path; the root's is empty.
    directories: BTreeMap<PathBuf, Names>,
    files: Vec<Content>,
    moves: Vec<Move>,
}

impl Medium {
    /// What lies in a directory; all of it counts as durable.
    pub(super) fn of_directory(root: &Path) -> Self {
        let mut medium = Self::default();
        medium.take_directory(root, Path::new(""));
        medium
    }

    fn take_directory(&mut self, root: &Path, below: &Path) {
        let mut names = Names::new();
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            let node = if entry.file_type().unwrap().is_dir() {
                self.take_directory(root, &path);
                Node::Directory
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                self.files.push(Content { durable_len: bytes.len(), bytes, is_lost: false });
                Node::File(FileNumber(self.files.len() - 1))
            };
            names.insert(entry.file_name(), Name::durable(node));
        }
        self.directories.insert(below.to_owned(), names);
    }

    pub(super) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// All names, each by its path.
    pub(super) fn names(&self) -> impl Iterator<Item = (PathBuf, &Name)> {
        self.directories.iter().flat_map(|(directory, names)| {
            names.iter().map(move |(name, states)| (directory.join(name), states))
        })
    }

    /// The renames between directories, the first one first.
    pub(super) fn moves(&self) -> &[Move] {
        &self.moves
    }

    pub(super) fn content(&self, file: FileNumber) -> &Content {
        &self.files[file.0]
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { path, file } => {
                assert_eq!(file.0, self.files.len(), "files have the numbers in which they came");
                self.files.push(Content::default());
                self.set(path, Some(Node::File(*file)));
            }
            Change::Write { file, bytes } => self.files[file.0].bytes.extend_from_slice(bytes),
            Change::Sync { file, is_synced } => self.sync_file(*file, *is_synced),
            Change::SyncNamed { path, is_synced } => {
                if let Some(Node::File(file)) = self.name(path).newest() {
                    self.sync_file(file, *is_synced);
                }
            }
            Change::Rename { from, to } => {
                let node = self.name(from).newest();
                let (removed, named) = (self.set(from, None), self.set(to, node));
                if from.parent() != to.parent() {
                    self.moves.push(Move { from: (from.clone(), removed), to: (to.clone(), named) });
                }
            }
            Change::Remove { path } => {
                self.set(path, None);
            }
            Change::CreateDirectory { path } => {
                // One that was removed comes back with what its own removals may leave: more than a real one could.
                self.directories.entry(path.clone()).or_default();
                self.set(path, Some(Node::Directory));
            }
            Change::SyncDirectory { path } => {
                let names = self.directories.get_mut(path).unwrap();
                names.values_mut().for_each(Name::sync);
            }
        }
    }

    fn sync_file(&mut self, file: FileNumber, is_synced: bool) {
        let content = &mut self.files[file.0];
        content.is_lost |= !is_synced;
        if !content.is_lost {
            content.durable_len = content.bytes.len();
        }
    }

    fn set(&mut self, path: &Path, node: Option<Node>) -> usize {
        self.name(path).set(node)
    }

    fn name(&mut self, path: &Path) -> &mut Name {
        let names = self.directories.get_mut(path.parent().unwrap()).unwrap();
        names.entry(path.file_name().unwrap().to_owned()).or_insert_with(Name::absent)
    }
}
