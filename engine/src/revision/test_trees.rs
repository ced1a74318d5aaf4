//! Trees for tests: plain canonical ones to compare with, and nodes of any kind, also such as no backup would store.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use super::TreeReader;
use crate::backend::Key;
use crate::format::{
    Attributes, Content, Counters, DirectoryInner, DirectoryLeaf, DirectorySubtree, DirectoryTop, Entry,
    EntryContent, EntryName, FileData, FileInner, FileLeaf, FileSlot, FileSubtree, Kind,
    MAX_DIRECTORY_LEAF_BYTES, Metadata, Method, ObjectType, OwnerNames, Record, Slot, Timestamp, TreeContent,
    TreeRoot, TreeTotals, ends_directory_inner, ends_directory_leaf, ends_file_node, seal,
};
use crate::id::{ObjectId, RevisionId};
use crate::repository::{CreateOptions, Repository, Stream};
use crate::store::{Store, StoreWriter};

/// A repository for what lies in trees.
pub(crate) struct Trees {
    temporary: TempDir,
    pub(crate) repository: Repository,
}

impl Trees {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("repository");
        let repository = Repository::create(&path, &CreateOptions::default()).unwrap();
        Self { temporary, repository }
    }

    /// The pack that an object lies in, and where its blob begins there.
    pub(crate) fn place(&self, id: &ObjectId) -> (PathBuf, u64) {
        let place = self.store().index().locate_in_tables(id).unwrap()[0];
        let pack = Key::pack(place.kind, place.pack).to_string();
        (self.temporary.path().join("repository").join(pack), place.offset.into())
    }

    /// The repository as another process finds it.
    pub(crate) fn reopened(&self) -> Repository {
        Repository::open(&self.temporary.path().join("repository"), 1 << 20).unwrap()
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.repository.store()
    }

    /// Lets `write` store objects.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut StoreWriter<'_>) -> T) -> T {
        let mut writer = StoreWriter::new(self.store(), HashSet::new(), false).unwrap();
        let result = write(&mut writer);
        writer.finish().unwrap();
        result
    }

    /// Stores one node of a file.
    pub(crate) fn file_node(&self, content: &[u8]) -> ObjectId {
        self.write(|writer| writer.add_node(content).unwrap())
    }

    /// Stores one node of a directory.
    pub(crate) fn directory_node(&self, content: &[u8]) -> ObjectId {
        self.write(|writer| writer.add_directory(content).unwrap())
    }

    /// Stores chunks.
    pub(crate) fn chunks(&self, contents: &[Vec<u8>]) -> Vec<ObjectId> {
        let store = |writer: &mut StoreWriter<'_>, content: &Vec<u8>| {
            let id = self.store().hasher().id(ObjectType::Chunk, content);
            let blob = [&[0], content.as_slice()].concat();
            writer.add(ObjectType::Chunk, id, content.len() as u32, &blob).unwrap();
            id
        };
        self.write(|writer| contents.iter().map(|content| store(writer, content)).collect())
    }

    pub(crate) fn chunk(&self, content: &[u8]) -> ObjectId {
        self.chunks(&[content.to_vec()])[0]
    }

    /// Stores a leaf of a directory as it is, and gives what an inner node would say of it.
    pub(crate) fn leaf(&self, entries: &[Entry]) -> DirectorySubtree {
        self.write(|writer| add_leaf(entries, writer))
    }

    /// Stores a directory.
    pub(crate) fn directory(&self, entries: &[Entry]) -> Option<DirectoryTop> {
        self.write(|writer| canonical_directory(entries, writer))
    }

    /// Stores the map of a file.
    pub(crate) fn file(&self, slots: &[FileSlot]) -> FileData {
        self.write(|writer| canonical_file(slots, writer))
    }

    /// Opens a tree with this root directory; its totals are made up.
    pub(crate) fn open(&self, top: Option<DirectoryTop>) -> TreeReader {
        let root = self.root(top);
        TreeReader::open_unpinned(self.store(), &self.directory_node(&root.encode())).unwrap()
    }

    pub(crate) fn root(&self, top: Option<DirectoryTop>) -> TreeRoot {
        let files = top.map_or(0, |top| top.entry_count);
        let mut root = entry("x", EntryContent::Directory(top));
        root.name = EntryName::of_root();
        let (mut users, mut groups) = (OwnerNames::default(), OwnerNames::default());
        users.insert(1000, b"alice");
        groups.insert(100, b"users");
        TreeRoot {
            users,
            groups,
            totals: TreeTotals { files, directories: 1, others: 0, bytes: files },
            sees_all_attributes: false,
            entry: root,
        }
    }

    /// Commits a revision of a tree to a stream.
    pub(crate) fn commit(&self, stream: &Stream, sequence: u64, root: &TreeRoot) -> Record {
        let content = TreeContent {
            root: self.directory_node(&root.encode()),
            entries: root.totals.entries().unwrap(),
            bytes: root.totals.bytes,
        };
        commit(&self.repository, stream, sequence, Content::Tree(content))
    }

    pub(crate) fn stream(&self) -> Stream {
        self.repository.stream_for_backup("home", Kind::Tree, "/home", false).unwrap()
    }
}

/// Stores a record, whatever it says.
pub(crate) fn commit(repository: &Repository, stream: &Stream, sequence: u64, content: Content) -> Record {
    let now = Timestamp::now();
    let record = Record {
        stream: stream.id,
        sequence,
        id: RevisionId::random(),
        name: now.to_revision_name(),
        snapshot_time: None,
        start: now,
        end: now,
        host: "host".to_owned(),
        program: "test".to_owned(),
        source: "/home".to_owned(),
        source_snapshot: None,
        evidence: None,
        parent: None,
        method: Method::Read,
        hints: None,
        counters: Counters::default(),
        warnings: Vec::new(),
        content,
    };
    let key = Key::record(stream.id, &record.key());
    repository.backend().create(&key, &seal(&record).unwrap()).unwrap();
    record
}

/// An entry of this name.
pub(crate) fn entry(name: impl AsRef<[u8]>, content: EntryContent) -> Entry {
    let time = Timestamp { seconds: 1, nanoseconds: 2 };
    Entry {
        name: EntryName::new(name.as_ref()).unwrap(),
        metadata: Metadata {
            mode: 0o644,
            uid: 1000,
            gid: 100,
            links: 1,
            mount: 0,
            inode: 7,
            mtime: time,
            ctime: time,
        },
        content,
        attributes: Attributes::None,
        has_other_names: false,
        unsettled: false,
        left_out: false,
    }
}

/// Empty files with numbers for names, in order.
pub(crate) fn numbered(numbers: impl Iterator<Item = u64>) -> Vec<Entry> {
    numbers.map(|number| entry(format!("{number:06}"), EntryContent::File(FileData::Empty))).collect()
}

fn add_leaf(entries: &[Entry], writer: &mut StoreWriter<'_>) -> DirectorySubtree {
    DirectorySubtree {
        id: writer.add_directory(&DirectoryLeaf { entries: entries.to_vec() }.encode()).unwrap(),
        entry_count: entries.len() as u64,
        last_name: entries.last().unwrap().name.clone(),
    }
}

/// A directory as section 12 of `docs/format.md` defines it, level by level.
pub(crate) fn canonical_directory(entries: &[Entry], writer: &mut StoreWriter<'_>) -> Option<DirectoryTop> {
    let (mut nodes, mut leaf, mut taken): (Vec<DirectorySubtree>, Vec<Entry>, usize) = Default::default();
    for entry in entries {
        let length = entry.encoded_len();
        if taken + length > MAX_DIRECTORY_LEAF_BYTES {
            nodes.push(add_leaf(&leaf, writer));
            (leaf, taken) = Default::default();
        }
        taken += length;
        leaf.push(entry.clone());
        if ends_directory_leaf(taken, &entry.name) {
            nodes.push(add_leaf(&leaf, writer));
            (leaf, taken) = Default::default();
        }
    }
    if !leaf.is_empty() {
        nodes.push(add_leaf(&leaf, writer));
    }
    let mut level = 0;
    while nodes.len() > 1 {
        level += 1;
        let (mut above, mut children) = (Vec::new(), Vec::new());
        let last = nodes.len() - 1;
        for (index, node) in nodes.into_iter().enumerate() {
            let name = node.last_name.clone();
            children.push(node);
            if index == last || ends_directory_inner(level, children.len(), &name) {
                let inner = DirectoryInner { level, children: std::mem::take(&mut children) };
                let id = writer.add_directory(&inner.encode()).unwrap();
                let entry_count = inner.entry_count().unwrap();
                above.push(DirectorySubtree { id, entry_count, last_name: name });
            }
        }
        nodes = above;
    }
    nodes.first().map(|top| DirectoryTop { level, id: top.id, entry_count: top.entry_count })
}

/// The map of a file as section 11 of `docs/format.md` defines it, level by level.
pub(crate) fn canonical_file(slots: &[FileSlot], writer: &mut StoreWriter<'_>) -> FileData {
    let slot_id = |slot: &FileSlot| match slot.content {
        Slot::Chunk(id) => Some(id),
        _ => None,
    };
    let mut nodes = Vec::new();
    for slots in cut(slots, slot_id) {
        let leaf = FileLeaf { slots };
        nodes.push(leaf.subtree(writer.add_node(&leaf.encode()).unwrap()).unwrap());
    }
    let mut level = 0;
    while nodes.len() > 1 {
        level += 1;
        let mut above: Vec<FileSubtree> = Vec::new();
        for children in cut(&nodes, |child: &FileSubtree| Some(child.id)) {
            let inner = FileInner { level, children };
            above.push(inner.subtree(writer.add_node(&inner.encode()).unwrap()).unwrap());
        }
        nodes = above;
    }
    nodes.first().map_or(FileData::Empty, |top| FileData::Map { level, subtree: *top })
}

fn cut<T: Copy>(parts: &[T], id: impl Fn(&T) -> Option<ObjectId>) -> Vec<Vec<T>> {
    let (mut nodes, mut node) = (Vec::new(), Vec::new());
    for part in parts {
        node.push(*part);
        if ends_file_node(node.len(), id(part).as_ref()) {
            nodes.push(std::mem::take(&mut node));
        }
    }
    if !node.is_empty() {
        nodes.push(node);
    }
    nodes
}

pub(crate) fn hole(length: u64) -> FileSlot {
    FileSlot { content: Slot::Hole, length }
}

pub(crate) fn zeros(length: u64) -> FileSlot {
    FileSlot { content: Slot::Zeros, length }
}

pub(crate) fn data(id: ObjectId, length: u64) -> FileSlot {
    FileSlot { content: Slot::Chunk(id), length }
}
