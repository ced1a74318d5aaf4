//! Directories of all sorts come back as they were stored, and what no directory is, is refused.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::format::Timestamp;
use crate::format::canonical::assert_canonical;
use crate::format::file_node::FileSubtree;
use crate::id::ObjectId;

fn id(byte: u8) -> ObjectId {
    ObjectId::from_bytes([byte; 32])
}

fn name(name: impl AsRef<[u8]>) -> EntryName {
    EntryName::new(name.as_ref()).unwrap()
}

fn entry(name: EntryName, content: EntryContent) -> Entry {
    let time = Timestamp { seconds: -1, nanoseconds: 999_999_999 };
    let metadata =
        Metadata { mode: 0o7777, uid: 1, gid: 2, links: 3, mount: 4, inode: 5, mtime: time, ctime: time };
    let attributes = Attributes::None;
    Entry { name, metadata, content, attributes, has_other_names: false, unsettled: false, left_out: false }
}

fn slice(text: &str, chunk: u8) -> Entry {
    entry(name(text), EntryContent::File(FileData::Slice { chunk: id(chunk), offset: 0, length: 1 }))
}

fn leaf(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    DirectoryLeaf { entries: entries.into_iter().collect() }.encode()
}

fn is_refused(content: EntryContent) -> bool {
    DirectoryLeaf::decode(&leaf([entry(name("x"), content)])).is_none()
}

/// Replaces bytes of a leaf with one entry that uses no chunks.
fn patched(content: EntryContent, offset: usize, bytes: &[u8]) -> Option<DirectoryLeaf> {
    const ENTRY: usize = 8 + 4;
    let mut all = leaf([entry(name("x"), content)]);
    all[ENTRY + offset..ENTRY + offset + bytes.len()].copy_from_slice(bytes);
    DirectoryLeaf::decode(&all)
}

#[test]
fn names_out_of_order_twice_or_forbidden_are_refused() {
    let leaf_of = |names: &[&str]| {
        DirectoryLeaf::decode(&leaf(names.iter().map(|text| entry(name(text), EntryContent::Fifo))))
    };
    assert!(leaf_of(&["a", "b"]).is_some());
    assert_eq!(leaf_of(&["b", "a"]), None);
    assert_eq!(leaf_of(&["a", "a"]), None);
    assert_eq!(leaf_of(&[]), None);
    const NAME: usize = 53;
    assert!(patched(EntryContent::Fifo, NAME, b"y").is_some());
    for byte in [b"/", b".", b"\0"] {
        assert_eq!(patched(EntryContent::Fifo, NAME, byte), None);
    }
    assert_eq!(DirectoryLeaf::decode(&leaf([entry(EntryName::of_root(), EntryContent::Fifo)])), None);
}

#[test]
fn codes_flags_and_times_that_do_not_exist_are_refused() {
    let refused = |offset: usize, bytes: &[u8]| patched(EntryContent::Fifo, offset, bytes).is_none();
    assert!(!refused(0, &[7]));
    assert!(refused(0, &[0]));
    assert!(refused(0, &[8]));
    assert!(!refused(1, &[3]));
    for flags in [4, 8, 12, 16, 0x80] {
        assert!(refused(1, &[flags]), "flags {flags}");
    }
    assert!(refused(2, &0o10000u16.to_le_bytes()));
    for nanoseconds in [36, 48] {
        assert!(!refused(nanoseconds, &999_999_999u32.to_le_bytes()));
        assert!(refused(nanoseconds, &1_000_000_000u32.to_le_bytes()));
    }
}

#[test]
fn a_directory_with_other_names_is_refused() {
    for (content, refused) in [(EntryContent::Directory(None), true), (EntryContent::Socket, false)] {
        let entry = Entry { has_other_names: true, ..entry(name("x"), content) };
        assert_eq!(DirectoryLeaf::decode(&leaf([entry])).is_none(), refused);
    }
}

#[test]
fn files_that_can_not_be_are_refused() {
    let slice = |offset, length| EntryContent::File(FileData::Slice { chunk: id(1), offset, length });
    assert!(!is_refused(slice((8 << 20) - 1, 1)));
    assert!(is_refused(slice(8 << 20, 1)));
    assert!(is_refused(slice(u32::MAX, u32::MAX)));
    assert!(is_refused(slice(0, 0)));
    let map = |level, bytes, data_bytes, chunk_count| {
        let subtree = FileSubtree { id: id(1), bytes, data_bytes, chunk_count };
        EntryContent::File(FileData::Map { level, subtree })
    };
    assert!(!is_refused(map(11, i64::MAX as u64, 0, 0)));
    assert!(is_refused(map(12, 1, 0, 0)));
    assert!(is_refused(map(0, 1 << 63, 0, 0)));
    assert!(is_refused(map(0, 0, 0, 0)));
    assert!(is_refused(map(0, 1, 2, 0)));
    assert!(is_refused(map(0, 2, 1, 2)));
}

#[test]
fn directories_that_can_not_be_are_refused() {
    let directory =
        |level, entry_count| EntryContent::Directory(Some(DirectoryTop { level, id: id(1), entry_count }));
    assert!(!is_refused(directory(7, u64::MAX)));
    assert!(is_refused(directory(8, 1)));
    assert!(is_refused(directory(0, 0)));
}

#[test]
fn chunk_ids_that_are_unused_doubled_or_out_of_order_are_refused() {
    let entries = [slice("a", 1), slice("b", 2), slice("c", 1)];
    let bytes = leaf(entries.clone());
    assert_eq!(DirectoryLeaf::decode(&bytes), Some(DirectoryLeaf { entries: entries.to_vec() }));
    let list = |ids: &[u8], numbers: [u8; 3]| {
        let mut listed = bytes[..8].to_vec();
        listed.extend_from_slice(&(ids.len() as u32).to_le_bytes());
        ids.iter().for_each(|&byte| listed.extend_from_slice(id(byte).as_bytes()));
        for (entry, number) in bytes[8 + 4 + 2 * 32..].chunks_exact(71).zip(numbers) {
            let mut entry = entry.to_vec();
            entry[63] = number;
            listed.extend(entry);
        }
        DirectoryLeaf::decode(&listed)
    };
    assert!(list(&[1, 2], [0, 1, 0]).is_some());
    assert_eq!(list(&[1, 2, 3], [0, 1, 0]), None, "unused");
    assert_eq!(list(&[2, 1], [1, 0, 1]), None, "out of order");
    assert_eq!(list(&[1, 2, 1], [0, 1, 2]), None, "twice");
    assert_eq!(list(&[1, 2], [0, 1, 2]), None, "beyond the list");
    assert_eq!(list(&[], [0, 0, 0]), None, "no list");
}

#[test]
fn counts_that_the_bytes_do_not_hold_are_refused_before_memory_is_taken_for_them() {
    let bytes = leaf([slice("a", 1)]);
    for offset in [4, 8] {
        let mut absurd = bytes.clone();
        absurd[offset..offset + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(DirectoryLeaf::decode(&absurd), None);
    }
    let mut root = tree_root(TreeTotals { directories: 1, ..TreeTotals::default() }, None).encode();
    assert!(TreeRoot::decode(&root).is_some());
    root[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(TreeRoot::decode(&root), None);
}

#[test]
fn lists_of_attributes_stand_in_the_entry_only_up_to_the_limit() {
    for (length, refused) in [(2048 - 8, false), (2048 - 8 + 1, true)] {
        let list = AttributeList::new(vec![(b"a", &vec![1; length])]).unwrap();
        let entry = Entry { attributes: Attributes::Inline(list), ..entry(name("x"), EntryContent::Fifo) };
        assert_eq!(DirectoryLeaf::decode(&leaf([entry])).is_none(), refused);
    }
}

/// Cuts entries into leaves by the rule.
fn cut(entries: impl IntoIterator<Item = Entry>) -> Vec<DirectoryLeaf> {
    let mut leaves = Vec::new();
    let mut open = Vec::new();
    let mut taken = 0;
    for entry in entries {
        if taken + entry.encoded_len() > MAX_DIRECTORY_LEAF_BYTES {
            leaves.push(DirectoryLeaf { entries: std::mem::take(&mut open) });
            taken = 0;
        }
        taken += entry.encoded_len();
        let ends = ends_directory_leaf(taken, &entry.name);
        open.push(entry);
        if ends {
            leaves.push(DirectoryLeaf { entries: std::mem::take(&mut open) });
            taken = 0;
        }
    }
    leaves.extend((!open.is_empty()).then_some(DirectoryLeaf { entries: open }));
    leaves
}

#[test]
fn leaves_that_are_cut_by_the_rule_are_taken_and_longer_ones_refused() {
    let entries = (0..4000).map(|number| slice(&format!("{number:05}"), (number / 100) as u8));
    let leaves = cut(entries);
    assert!(leaves.len() > 5);
    for leaf in &leaves {
        assert_eq!(DirectoryLeaf::decode(&leaf.encode()).as_ref(), Some(leaf));
    }
    for pair in leaves.windows(2) {
        let mut entries = pair[0].entries.clone();
        entries.push(pair[1].entries[0].clone());
        assert_eq!(DirectoryLeaf::decode(&leaf(entries)), None);
    }
}

#[test]
fn a_leaf_without_a_marked_name_ends_before_64_kib() {
    let names = (0..).map(|number| name(format!("{number:05}"))).filter(|name| !name.marks_end(0));
    let leaves = cut(names.take(2000).map(|name| entry(name, EntryContent::Fifo)));
    let len = entry(name("00000"), EntryContent::Fifo).encoded_len();
    assert_eq!(leaves[0].entries.len(), MAX_DIRECTORY_LEAF_BYTES / len);
    assert_eq!(DirectoryLeaf::decode(&leaves[0].encode()).as_ref(), Some(&leaves[0]));
    let longer = leaves[0].entries.iter().chain(&leaves[1].entries[..1]).cloned();
    assert_eq!(DirectoryLeaf::decode(&leaf(longer)), None);
}

fn child(last_name: EntryName, entry_count: u64) -> DirectorySubtree {
    DirectorySubtree { id: id(1), entry_count, last_name }
}

fn inner(level: u8, children: &[DirectorySubtree]) -> Option<DirectoryInner> {
    DirectoryInner::decode(&DirectoryInner { level, children: children.to_vec() }.encode())
}

#[test]
fn inner_nodes_that_can_not_be_are_refused() {
    let (a, b) = (child(name("a"), 1), child(name("b"), 2));
    assert_eq!(inner(1, &[a.clone(), b.clone()]).unwrap().entry_count(), Some(3));
    assert!(inner(7, std::slice::from_ref(&a)).is_some());
    assert_eq!(inner(0, std::slice::from_ref(&a)), None);
    assert_eq!(inner(8, std::slice::from_ref(&a)), None);
    assert_eq!(inner(1, &[]), None);
    assert_eq!(inner(1, &[b.clone(), a.clone()]), None);
    assert_eq!(inner(1, &[a.clone(), a.clone()]), None);
    assert_eq!(inner(1, &[child(name("a"), 0)]), None);
    assert_eq!(inner(1, &[a, child(name("b"), u64::MAX)]), None);
    assert_eq!(inner(1, &[child(EntryName::of_root(), 1), b]), None);
}

#[test]
fn inner_nodes_that_go_on_behind_their_end_are_refused() {
    for level in [1, 2, 7] {
        let numbered = |marked: bool| {
            let names = (0..).map(|number| name(format!("{number:06}")));
            names.filter(move |name| name.marks_end(level) == marked).map(|name| child(name, 1))
        };
        let end = numbered(true).nth(5).unwrap();
        let mut children: Vec<_> =
            numbered(false).take_while(|child| child.last_name < end.last_name).collect();
        children.drain(..children.len() - 63);
        children.push(end);
        assert!(inner(level, &children).is_some());
        children.push(child(name("x"), 1));
        assert_eq!(inner(level, &children), None, "level {level}");
        let children: Vec<_> = numbered(false).take(513).collect();
        assert!(inner(level, &children[..512]).is_some());
        assert_eq!(inner(level, &children), None, "level {level}");
    }
}

fn tree_root(totals: TreeTotals, top: Option<DirectoryTop>) -> TreeRoot {
    let entry = entry(EntryName::of_root(), EntryContent::Directory(top));
    let (users, groups) = (OwnerNames::default(), OwnerNames::default());
    TreeRoot { users, groups, totals, sees_all_attributes: false, entry }
}

#[test]
fn roots_whose_totals_contradict_are_refused() {
    let totals = TreeTotals { files: 2, directories: 2, others: 1, bytes: 100 };
    let decoded = |totals, entry_count| {
        let top = DirectoryTop { level: 0, id: id(1), entry_count };
        TreeRoot::decode(&tree_root(totals, (entry_count > 0).then_some(top)).encode())
    };
    assert!(decoded(totals, 1).is_some() && decoded(totals, 4).is_some());
    assert_eq!(decoded(totals, 5), None);
    assert_eq!(decoded(totals, 0), None);
    assert_eq!(decoded(TreeTotals { files: 0, ..totals }, 1), None);
    assert_eq!(decoded(TreeTotals { directories: 0, ..totals }, 1), None);
    assert_eq!(decoded(TreeTotals { others: u64::MAX, ..totals }, 1), None);
    assert_eq!(decoded(TreeTotals::default(), 0), None);
    assert!(decoded(TreeTotals { directories: 1, ..TreeTotals::default() }, 0).is_some());
}

#[test]
fn a_root_that_is_no_nameless_directory_is_refused() {
    let root = tree_root(TreeTotals { directories: 1, ..TreeTotals::default() }, None);
    let other = |entry| TreeRoot::decode(&TreeRoot { entry, ..root.clone() }.encode());
    assert!(other(root.entry.clone()).is_some());
    assert_eq!(other(entry(name("x"), EntryContent::Directory(None))), None);
    assert_eq!(other(entry(EntryName::of_root(), EntryContent::Fifo)), None);
}

#[test]
fn owners_whose_names_can_not_be_stored_stay_numbers() {
    let mut names = OwnerNames::default();
    for (number, name) in [(3, &b""[..]), (2, b"a\0"), (1, &[b'x'; 256]), (7, b"root"), (5, b"\xff")] {
        names.insert(number, name);
    }
    let known: Vec<_> = (0..9).filter_map(|number| names.get(number)).collect();
    assert_eq!(known, [&b"\xff"[..], b"root"]);
    let root = tree_root(TreeTotals { directories: 1, ..TreeTotals::default() }, None);
    assert_canonical(&TreeRoot { users: names, ..root }, TreeRoot::encode, TreeRoot::decode);
}

#[test]
fn numbers_that_do_not_fit_are_stored_as_what_can_be_read_again() {
    let mut odd = entry(name("x"), EntryContent::Fifo);
    odd.metadata.mode = 0o100_644;
    odd.metadata.mtime.nanoseconds = u32::MAX;
    let decoded = DirectoryLeaf::decode(&leaf([odd])).unwrap().entries.remove(0).metadata;
    assert_eq!((decoded.mode, decoded.mtime.nanoseconds), (0o644, 999_999_999));
}

fn any_id() -> impl Strategy<Value = ObjectId> {
    // Few, so that entries share them.
    (0u8..6).prop_map(id)
}

fn any_file() -> impl Strategy<Value = FileData> {
    let max = 8u32 << 20;
    let slice = (any_id(), 0..max).prop_flat_map(move |(chunk, offset)| {
        (1..=max - offset).prop_map(move |length| FileData::Slice { chunk, offset, length })
    });
    let sums = (1..1u64 << 63).prop_flat_map(|bytes| (Just(bytes), 0..=bytes));
    let sums = sums.prop_flat_map(|(bytes, data_bytes)| (Just(bytes), Just(data_bytes), 0..=data_bytes));
    let map = (0u8..12, any_id(), sums).prop_map(|(level, id, (bytes, data_bytes, chunk_count))| {
        FileData::Map { level, subtree: FileSubtree { id, bytes, data_bytes, chunk_count } }
    });
    prop_oneof![Just(FileData::Empty), slice, map]
}

fn any_content() -> impl Strategy<Value = EntryContent> {
    let top = (0u8..8, any_id(), 1..u64::MAX);
    let top = top.prop_map(|(level, id, entry_count)| DirectoryTop { level, id, entry_count });
    let target = vec(1u8.., 1..200).prop_map(|target| SymlinkTarget::new(&target).unwrap());
    prop_oneof![
        5 => any_file().prop_map(EntryContent::File),
        2 => proptest::option::of(top).prop_map(EntryContent::Directory),
        1 => target.prop_map(EntryContent::Symlink),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| EntryContent::BlockDevice { major, minor }),
        1 => any::<(u32, u32)>().prop_map(|(major, minor)| EntryContent::CharacterDevice { major, minor }),
        1 => Just(EntryContent::Fifo),
        1 => Just(EntryContent::Socket),
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let list = btree_map(vec(1u8.., 1..20), vec(any::<u8>(), 0..100), 1..5).prop_map(|list| {
        let pairs = list.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        Attributes::Inline(AttributeList::new(pairs.collect()).unwrap())
    });
    prop_oneof![4 => Just(Attributes::None), 1 => list, 1 => any_id().prop_map(Attributes::Chunk)]
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let time = (any::<i64>(), 0..1_000_000_000u32)
        .prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds });
    let numbers = any::<(u32, u32, u32, u32, u64)>();
    (0..0o10000u16, numbers, time.clone(), time).prop_map(|(mode, numbers, mtime, ctime)| {
        let (uid, gid, links, mount, inode) = numbers;
        Metadata { mode, uid, gid, links, mount, inode, mtime, ctime }
    })
}

fn any_directory() -> impl Strategy<Value = Vec<Entry>> {
    let name = vec(any::<u8>(), 1..30).prop_filter_map("no name", |name| EntryName::new(&name));
    let rest = (any_metadata(), any_content(), any_attributes(), any::<(bool, bool, bool)>());
    btree_map(name, rest, 1..200).prop_map(|entries: BTreeMap<_, _>| {
        let entry = |(name, (metadata, content, attributes, (linked, unsettled, left_out)))| {
            let is_directory = matches!(content, EntryContent::Directory(_));
            let has_other_names = linked && !is_directory;
            let left_out = left_out && is_directory;
            Entry { name, metadata, content, attributes, has_other_names, unsettled, left_out }
        };
        entries.into_iter().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn directories_come_back_as_they_were_stored(entries in any_directory(), bit: proptest::sample::Index) {
        for leaf in cut(entries) {
            let mut bytes = leaf.encode();
            let entry_bytes: usize = leaf.entries.iter().map(Entry::encoded_len).sum();
            let id_count = u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize;
            prop_assert_eq!(bytes.len(), 12 + 32 * id_count + entry_bytes);
            prop_assert_eq!(DirectoryLeaf::decode(&bytes), Some(leaf));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(other) = DirectoryLeaf::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
            }
        }
    }
}
