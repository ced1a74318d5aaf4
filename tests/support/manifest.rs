//! All that a tree holds, as facts that can be kept and compared: of a directory as the system tells it, and of a revision
//! as `TreeReader` reads it, without restore or mount.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use treering_engine::{
    DirectoryTop, Entry, EntryContent, FileData, FileExtent, Record, Repository, Result, TreeReader,
};

use super::oracle::{attributes, data_extents};

/// What an entry holds besides its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Size, what is allocated, and the hash of that.
    File(u64, Vec<(u64, u64)>, blake3::Hash),
    Directory,
    Symlink(Vec<u8>),
    /// Anything else by its name, and its number if it is a device.
    Node(&'static str, u64),
}

/// All that is to be known of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) held: Held,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) links: u64,
    pub(crate) inode: u64,
    pub(crate) mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
    pub(crate) attributes: BTreeMap<String, Vec<u8>>,
}

/// The entries of a tree by their paths; the root's is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) entries: BTreeMap<Vec<u8>, Facts>,
}

impl Manifest {
    /// What a directory holds, but for what is left out: told by path, and whether that is a directory.
    pub(crate) fn of_directory(root: &Path, is_left_out: &dyn Fn(&[u8], bool) -> bool) -> Self {
        let mut manifest = Self::default();
        let mut todo = vec![Vec::new()];
        while let Some(path) = todo.pop() {
            let full = at(root, &path);
            let metadata = fs::symlink_metadata(&full).unwrap();
            if !path.is_empty() && is_left_out(&path, metadata.is_dir()) {
                continue;
            }
            if metadata.is_dir() {
                let names = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name());
                todo.extend(names.map(|name| below(&path, name.as_bytes())));
            }
            manifest.entries.insert(path, Facts::of_path(&full, &metadata));
        }
        manifest
    }

    /// What a revision holds.
    ///
    /// # Errors
    /// The first thing that can't be read.
    pub(crate) fn of_revision(tree: &TreeReader) -> Result<Self> {
        let mut manifest = Self::default();
        manifest.entries.insert(Vec::new(), Facts::of_entry(tree, tree.root())?);
        let mut todo = vec![(Vec::new(), top_of(tree.root()))];
        while let Some((path, top)) = todo.pop() {
            for entry in tree.entries(top.as_ref(), None) {
                let entry = entry?;
                let path = below(&path, entry.name.as_bytes());
                let facts = Facts::of_entry(tree, &entry)?;
                if facts.held == Held::Directory {
                    todo.push((path.clone(), top_of(&entry)));
                }
                assert!(manifest.entries.insert(path, facts).is_none(), "a name comes twice");
            }
        }
        Ok(manifest)
    }

    /// What is different between the two, a line each.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let paths =
            self.entries.keys().chain(other.entries.keys().filter(|path| !self.entries.contains_key(*path)));
        let differing = paths.filter(|path| self.entries.get(*path) != other.entries.get(*path));
        let line = |path: &Vec<u8>| {
            let [one, two] =
                [self, other].map(|of| of.entries.get(path).map_or("nothing".to_owned(), Facts::to_line));
            format!("{}: {one}\n    / {two}", String::from_utf8_lossy(path))
        };
        differing.map(line).collect()
    }

    /// Fails with what is different, if anything is.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        let found = self.differences(other);
        assert!(found.is_empty(), "{what}: {} differences:\n{}", found.len(), found.join("\n"));
    }
}

impl Facts {
    fn of_path(path: &Path, metadata: &Metadata) -> Self {
        Self {
            held: held(path, metadata),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            links: metadata.nlink(),
            inode: metadata.ino(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
            attributes: attributes(path),
        }
    }

    fn of_entry(tree: &TreeReader, entry: &Entry) -> Result<Self> {
        let stored = &entry.metadata;
        let list = tree.attributes(entry)?;
        let pairs = list.iter().flat_map(|list| list.iter());
        Ok(Self {
            held: held_by(tree, entry)?,
            mode: stored.mode.into(),
            owner: (stored.uid, stored.gid),
            links: stored.links.into(),
            inode: stored.inode,
            mtime: (stored.mtime.seconds, stored.mtime.nanoseconds.into()),
            ctime: (stored.ctime.seconds, stored.ctime.nanoseconds.into()),
            attributes: pairs
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
                .collect(),
        })
    }

    fn to_line(&self) -> String {
        let lengths: Vec<_> = self.attributes.iter().map(|(name, value)| (name, value.len())).collect();
        let Self { held, mode, owner, links, inode, mtime, ctime, .. } = self;
        format!("{held:?} {mode:o} {owner:?} {links} links, inode {inode}, {mtime:?}, {ctime:?}, {lengths:?}")
    }
}

fn held(path: &Path, metadata: &Metadata) -> Held {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Held::Directory;
    } else if kind.is_symlink() {
        return Held::Symlink(fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
    } else if !kind.is_file() {
        let device = if kind.is_block_device() || kind.is_char_device() { metadata.rdev() } else { 0 };
        let names = [
            (kind.is_fifo(), "fifo"),
            (kind.is_socket(), "socket"),
            (kind.is_block_device(), "block device"),
            (kind.is_char_device(), "character device"),
        ];
        return Held::Node(names.iter().find(|(is_it, _)| *is_it).unwrap().1, device);
    }
    let file = File::open(path).unwrap();
    // What takes as much room as its size has no holes.
    let is_sparse = metadata.blocks() * 512 < metadata.size();
    let whole = || Vec::from_iter((metadata.size() > 0).then_some((0, metadata.size())));
    let extents = if is_sparse { data_extents(&file) } else { whole() };
    let hash = hash_of(&extents, &mut |offset, buffer| {
        file.read_exact_at(buffer, offset).unwrap();
        Ok(())
    });
    Held::File(metadata.size(), extents, hash.unwrap())
}

fn held_by(tree: &TreeReader, entry: &Entry) -> Result<Held> {
    Ok(match &entry.content {
        EntryContent::File(data) => held_by_file(tree, data)?,
        EntryContent::Directory(_) => Held::Directory,
        EntryContent::Symlink(target) => Held::Symlink(target.as_bytes().to_vec()),
        EntryContent::Fifo => Held::Node("fifo", 0),
        EntryContent::Socket => Held::Node("socket", 0),
        EntryContent::BlockDevice { major, minor } => {
            Held::Node("block device", rustix::fs::makedev(*major, *minor))
        }
        EntryContent::CharacterDevice { major, minor } => {
            Held::Node("character device", rustix::fs::makedev(*major, *minor))
        }
    })
}

fn held_by_file(tree: &TreeReader, data: &FileData) -> Result<Held> {
    let reader = tree.open_file(data);
    let mut extents: Vec<(u64, u64)> = Vec::new();
    for extent in reader.extents(0) {
        let (range, kind) = extent?;
        match extents.last_mut() {
            _ if kind == FileExtent::Hole => {}
            Some((_, end)) if *end == range.start => *end = range.end,
            _ => extents.push((range.start, range.end)),
        }
    }
    let hash = hash_of(&extents, &mut |offset, buffer| {
        let read = reader.read_at(offset, buffer)?;
        assert_eq!(read, buffer.len(), "a read that is too short");
        Ok(())
    });
    Ok(Held::File(reader.size(), extents, hash?))
}

/// The hash of what lies in these ranges.
fn hash_of(
    extents: &[(u64, u64)],
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0xee; 256 << 10];
    for &(start, end) in extents {
        let mut at = start;
        while at < end {
            let length = (end - at).min(buffer.len() as u64);
            let piece = &mut buffer[..length as usize];
            read(at, piece)?;
            hasher.update(piece);
            at += length;
        }
    }
    Ok(hasher.finalize())
}

/// The newest revision of a stream, read from its medium anew.
pub(crate) fn newest(repository: &Path, stream: &str) -> (Record, TreeReader) {
    let (repository, mut records) = records(repository, stream);
    let record = records.pop().unwrap();
    let tree = repository.open_tree(&record).unwrap();
    (record, tree)
}

/// A repository, opened anew, and the records of a stream, the oldest first.
pub(crate) fn records(repository: &Path, stream: &str) -> (Repository, Vec<Record>) {
    let repository = Repository::open(repository, 8 << 20).unwrap();
    let stream = repository.stream(stream).unwrap();
    let keys = repository.revisions(&stream).unwrap();
    let records = keys.iter().map(|key| repository.record(&stream, key).unwrap()).collect();
    (repository, records)
}

/// The top of a directory's entries.
pub(crate) fn top_of(entry: &Entry) -> Option<DirectoryTop> {
    match &entry.content {
        EntryContent::Directory(top) => *top,
        _ => None,
    }
}

/// The path of a name in a directory.
pub(crate) fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Where a path of a tree lies.
pub(crate) fn at(root: &Path, path: &[u8]) -> std::path::PathBuf {
    if path.is_empty() { root.to_owned() } else { root.join(OsStr::from_bytes(path)) }
}
