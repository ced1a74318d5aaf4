//! One example of each object of trees, byte by byte, as in `golden.rs`: a small tree whose ids and sums are real.

use super::canonical::assert_canonical;
use super::golden::{TIME, check, check_sealed, record};
use super::*;
use crate::id::ObjectId;

fn hasher() -> ObjectHasher {
    ObjectHasher::new(b"")
}

fn chunk_id(content: &[u8]) -> ObjectId {
    hasher().id(ObjectType::Chunk, content)
}

fn node_id(bytes: &[u8]) -> ObjectId {
    hasher().id(ObjectType::Node, bytes)
}

fn directory_id(bytes: &[u8]) -> ObjectId {
    hasher().id(ObjectType::Directory, bytes)
}

fn check_node<T: PartialEq + std::fmt::Debug>(
    name: &str,
    value: &T,
    encode: fn(&T) -> Vec<u8>,
    decode: fn(&[u8]) -> Option<T>,
) {
    check(name, &encode(value));
    assert_canonical(value, encode, decode);
}

fn entry(name: &[u8], inode: u64, content: EntryContent) -> Entry {
    let metadata =
        Metadata { mode: 0o644, uid: 1000, gid: 100, links: 1, mount: 0, inode, mtime: TIME, ctime: TIME };
    Entry {
        name: EntryName::new(name).unwrap(),
        metadata,
        content,
        attributes: Attributes::None,
        has_other_names: false,
        unsettled: false,
        left_out: false,
    }
}

/// A file of a hole, a chunk, zeros and another chunk.
fn sparse_leaf() -> FileLeaf {
    let chunk =
        |content: &[u8]| FileSlot { content: Slot::Chunk(chunk_id(content)), length: content.len() as u64 };
    FileLeaf {
        slots: vec![
            FileSlot { content: Slot::Hole, length: 1 << 30 },
            chunk(&[1; 4096]),
            FileSlot { content: Slot::Zeros, length: 8192 },
            chunk(b"the end"),
        ],
    }
}

/// The nodes above 1,000 chunks of one byte each.
fn long_file() -> FileInner {
    let ids = (0..1000u32).map(|number| chunk_id(&number.to_le_bytes()[..1]));
    let mut inner = FileInner { level: 1, children: Vec::new() };
    let mut leaf = FileLeaf { slots: Vec::new() };
    for id in ids {
        leaf.slots.push(FileSlot { content: Slot::Chunk(id), length: 1 });
        if ends_file_node(leaf.slots.len(), Some(&id)) {
            inner.children.push(leaf.subtree(node_id(&leaf.encode())).unwrap());
            leaf.slots.clear();
        }
    }
    inner.children.push(leaf.subtree(node_id(&leaf.encode())).unwrap());
    inner
}

#[test]
fn nodes_of_files_are_as_specified() {
    check_node("file-leaf", &sparse_leaf(), FileLeaf::encode, FileLeaf::decode);
    let inner = long_file();
    assert!(inner.children.len() > 1);
    check_node("file-inner", &inner, FileInner::encode, FileInner::decode);
}

/// A directory with one entry of each type.
fn leaf() -> DirectoryLeaf {
    let small = chunk_id(b"hello, worldfoo");
    let slice = |offset, length| EntryContent::File(FileData::Slice { chunk: small, offset, length });
    let sparse = sparse_leaf();
    let subtree = sparse.subtree(node_id(&sparse.encode())).unwrap();
    let long_value = vec![b'x'; 4000];
    let long_list = AttributeList::new(vec![(b"user.long", &long_value)]).unwrap();
    let short_list = AttributeList::new(vec![(b"user.b", b""), (b"user.a", b"value")]).unwrap();
    let target = SymlinkTarget::new(b"../hello").unwrap();
    let mut entries = vec![
        entry(b"block", 10, EntryContent::BlockDevice { major: 8, minor: 1 }),
        entry(b"character", 11, EntryContent::CharacterDevice { major: 1, minor: 3 }),
        entry(b"empty", 12, EntryContent::File(FileData::Empty)),
        entry(b"fifo", 13, EntryContent::Fifo),
        entry(b"foo", 14, slice(12, 3)),
        entry(b"hello", 15, slice(0, 12)),
        entry(b"link", 16, EntryContent::Symlink(target)),
        entry(b"none", 17, EntryContent::Directory(None)),
        entry(b"other-hello", 15, slice(0, 12)),
        entry(b"socket", 18, EntryContent::Socket),
        entry(b"sparse", 19, EntryContent::File(FileData::Map { level: 0, subtree })),
        entry(b"\xff", 20, EntryContent::File(FileData::Empty)),
    ];
    entries[2].attributes = Attributes::Inline(short_list);
    entries[4].attributes = Attributes::Chunk(chunk_id(long_list.encoded()));
    entries[7].metadata = Metadata { mode: 0o1777, links: 2, mount: 1, ..entries[7].metadata };
    for twin in [5, 8] {
        entries[twin].metadata.links = 2;
        entries[twin].has_other_names = true;
    }
    entries[7].left_out = true;
    entries[11].unsettled = true;
    DirectoryLeaf { entries }
}

fn root() -> TreeRoot {
    let leaf = leaf();
    let top =
        DirectoryTop { level: 0, id: directory_id(&leaf.encode()), entry_count: leaf.entries.len() as u64 };
    let mut entry = entry(b"x", 2, EntryContent::Directory(Some(top)));
    entry.name = EntryName::of_root();
    entry.metadata = Metadata { mode: 0o755, uid: 0, gid: 0, links: 3, ..entry.metadata };
    let (mut users, mut groups) = (OwnerNames::default(), OwnerNames::default());
    for (number, name) in [(1000, b"alice".as_slice()), (0, b"root")] {
        users.insert(number, name);
    }
    groups.insert(100, b"users");
    groups.insert(0, b"root");
    let sparse = (1 << 30) + 4096 + 8192 + 7;
    let totals = TreeTotals { files: 6, directories: 2, others: 5, bytes: 12 + 3 + sparse };
    TreeRoot { users, groups, totals, sees_all_attributes: true, entry }
}

/// The node above 2,000 empty files.
fn large_directory() -> DirectoryInner {
    let mut inner = DirectoryInner { level: 1, children: Vec::new() };
    let (mut leaf, mut taken) = (DirectoryLeaf { entries: Vec::new() }, 0);
    let mut close = |leaf: &mut DirectoryLeaf| {
        let bytes = leaf.encode();
        assert_eq!(DirectoryLeaf::decode(&bytes).as_ref(), Some(&*leaf));
        let last_name = leaf.entries.last().unwrap().name.clone();
        let entry_count = leaf.entries.len() as u64;
        inner.children.push(DirectorySubtree { id: directory_id(&bytes), entry_count, last_name });
        leaf.entries.clear();
    };
    for number in 0..2000 {
        let entry = entry(format!("{number:04}").as_bytes(), number, EntryContent::File(FileData::Empty));
        taken += entry.encoded_len();
        assert!(taken <= MAX_DIRECTORY_LEAF_BYTES);
        let ends = ends_directory_leaf(taken, &entry.name);
        leaf.entries.push(entry);
        if ends {
            close(&mut leaf);
            taken = 0;
        }
    }
    close(&mut leaf);
    let ends = |(count, child): (usize, &DirectorySubtree)| ends_directory_inner(1, count, &child.last_name);
    assert!(!(1..).zip(&inner.children).any(ends));
    inner
}

#[test]
fn nodes_of_directories_are_as_specified() {
    check_node("directory-leaf", &leaf(), DirectoryLeaf::encode, DirectoryLeaf::decode);
    let inner = large_directory();
    assert!(inner.children.len() > 2);
    assert_eq!(inner.entry_count(), Some(2000));
    check_node("directory-inner", &inner, DirectoryInner::encode, DirectoryInner::decode);
    check_node("tree-root", &root(), TreeRoot::encode, TreeRoot::decode);
}

#[test]
fn the_record_of_a_tree_is_as_specified() {
    let root = root();
    let content = TreeContent {
        root: directory_id(&root.encode()),
        entries: root.totals.entries().unwrap(),
        bytes: root.totals.bytes,
    };
    let record = record(Content::Tree(content));
    assert_eq!(record.kind(), Kind::Tree);
    check_sealed("record-tree", &record);
}

#[test]
fn a_long_list_of_attributes_is_as_specified() {
    let value = vec![b'x'; 2048];
    let list = AttributeList::new(vec![(b"user.long", &value), (b"security.capability", &[1; 20])]).unwrap();
    check("attributes", list.encoded());
    assert_eq!(AttributeList::from_chunk(list.encoded()), Some(list));
}
