//! Readers of a tree whose nodes are of a fuzzer's making: well formed, and wrong in whatever they say of each other.

use super::input::Input;
use super::objects::Objects;
use crate::error::Error;
use crate::format::{
    AttributeList, Attributes, DirectoryInner, DirectoryLeaf, DirectorySubtree, DirectoryTop, Entry,
    EntryContent, EntryName, FileData, FileInner, FileLeaf, FileSlot, FileSubtree, Metadata, ObjectType,
    OwnerNames, Slot, SymlinkTarget, Timestamp, TreeRoot, TreeTotals,
};
use crate::id::ObjectId;
use crate::revision::{FileReader, TreeReader};

/// As many objects as there may be.
const OBJECTS_MAX: usize = 64;

/// As many parts of a tree as are visited: a hostile one has no end.
const PARTS_MAX: usize = 2_000;

/// Entries that are looked at closely.
const ENTRIES_MAX: usize = 200;

/// A tree of objects as the bytes describe them: first each object below the root, then the root.
pub fn tree(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut objects = Objects::new();
    while objects.count() < OBJECTS_MAX {
        match input.u8() % 8 {
            0 => break,
            1 => objects.add_chunk(&mut input),
            2 => add_file_leaf(&mut objects, &mut input),
            3 => add_file_inner(&mut objects, &mut input),
            4 | 5 => add_directory_leaf(&mut objects, &mut input),
            6 => add_directory_inner(&mut objects, &mut input),
            _ => add_bytes(&mut objects, &mut input),
        };
    }
    let root = root(&objects, &mut input);
    let id = objects.add(ObjectType::Directory, root.encode());
    let store = objects.into_store();
    let Ok(tree) = TreeReader::open_unpinned(&store, &id) else { return false };
    visit(&tree);
    look_around(&tree)
}

fn add_file_leaf(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let count = input.u8() % 8 + 1;
    let mut slots = Vec::new();
    for _ in 0..count {
        let (kind, id) = (input.u8() % 4, objects.pick(input));
        slots.push(match kind {
            0 => FileSlot { content: Slot::Hole, length: number(input) },
            1 => FileSlot { content: Slot::Zeros, length: number(input) },
            2 => FileSlot { content: Slot::Chunk(id), length: number(input) },
            _ => FileSlot { content: Slot::Chunk(id), length: objects.length_of(&id) },
        });
    }
    objects.add(ObjectType::Node, FileLeaf { slots }.encode())
}

fn add_file_inner(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let (level, count) = (input.u8() % 12, input.u8() % 8 + 1);
    let children = (0..count).map(|_| file_subtree(objects, input)).collect();
    objects.add(ObjectType::Node, FileInner { level, children }.encode())
}

fn file_subtree(objects: &Objects, input: &mut Input<'_>) -> FileSubtree {
    let (id, bytes) = (objects.pick(input), number(input));
    let data_bytes = if input.u8().is_multiple_of(4) { number(input) } else { bytes };
    FileSubtree { id, bytes, data_bytes, chunk_count: u64::from(input.u8()) }
}

fn add_directory_leaf(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let count = input.u8() % 8 + 1;
    let mut entries: Vec<Entry> = (0..count).filter_map(|_| entry(objects, input)).collect();
    // In most leaves as it must be.
    if !input.u8().is_multiple_of(8) {
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        entries.dedup_by(|one, other| one.name == other.name);
    }
    objects.add(ObjectType::Directory, DirectoryLeaf { entries }.encode())
}

fn add_directory_inner(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let (level, count) = (input.u8() % 8, input.u8() % 8 + 1);
    let child = |input: &mut Input<'_>| {
        let (id, entry_count) = (objects.pick(input), number(input));
        Some(DirectorySubtree { id, entry_count, last_name: name(input)? })
    };
    let children = (0..count).filter_map(|_| child(input)).collect();
    objects.add(ObjectType::Directory, DirectoryInner { level, children }.encode())
}

fn add_bytes(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let (object_type, length) = (ObjectType::from_code(input.u8() % 4), input.u8());
    objects.add(object_type.unwrap_or(ObjectType::Directory), input.bytes(length.into()).to_vec())
}

fn name(input: &mut Input<'_>) -> Option<EntryName> {
    let length = input.u8() % 8;
    EntryName::new(input.bytes(length.into()))
}

fn entry(objects: &Objects, input: &mut Input<'_>) -> Option<Entry> {
    let name = name(input)?;
    let (content, flags) = (content(objects, input)?, input.u8());
    Some(Entry {
        name,
        metadata: metadata(input.u8().into()),
        content,
        attributes: attributes(objects, input),
        has_other_names: flags & 1 != 0,
        unsettled: flags & 2 != 0,
        left_out: flags & 4 != 0,
    })
}

fn content(objects: &Objects, input: &mut Input<'_>) -> Option<EntryContent> {
    Some(match input.u8() % 8 {
        0 => EntryContent::File(FileData::Empty),
        1 | 2 => {
            let (chunk, offset, length) = (objects.pick(input), input.u16().into(), input.u16().into());
            EntryContent::File(FileData::Slice { chunk, offset, length })
        }
        3 | 4 => {
            let level = input.u8() % 12;
            EntryContent::File(FileData::Map { level, subtree: file_subtree(objects, input) })
        }
        5 | 6 => EntryContent::Directory(top(objects, input)),
        _ => {
            let length = input.u8();
            EntryContent::Symlink(SymlinkTarget::new(input.bytes(length.into()))?)
        }
    })
}

fn top(objects: &Objects, input: &mut Input<'_>) -> Option<DirectoryTop> {
    let top = DirectoryTop { level: input.u8() % 8, id: objects.pick(input), entry_count: number(input) };
    (top.entry_count > 0).then_some(top)
}

fn attributes(objects: &Objects, input: &mut Input<'_>) -> Attributes {
    match input.u8() % 8 {
        1 => Attributes::Chunk(objects.pick(input)),
        2 => {
            let value = input.bytes(8);
            AttributeList::new(vec![(b"user.a", value)]).map_or(Attributes::None, Attributes::Inline)
        }
        _ => Attributes::None,
    }
}

fn metadata(inode: u64) -> Metadata {
    let time = Timestamp { seconds: 1, nanoseconds: 2 };
    Metadata { mode: 0o644, uid: 0, gid: 0, links: 1, mount: 0, inode, mtime: time, ctime: time }
}

/// A number of any magnitude, small ones in few bytes.
fn number(input: &mut Input<'_>) -> u64 {
    match input.u8() % 4 {
        0 | 1 => input.u8().into(),
        2 => input.u32().into(),
        _ => input.u64(),
    }
}

fn root(objects: &Objects, input: &mut Input<'_>) -> TreeRoot {
    let top = top(objects, input);
    let in_root = top.map_or(0, |top| top.entry_count);
    let totals = TreeTotals { files: in_root, directories: 1, others: 0, bytes: number(input).min(in_root) };
    let entry = Entry {
        name: EntryName::of_root(),
        metadata: metadata(1),
        content: EntryContent::Directory(top),
        attributes: attributes(objects, input),
        has_other_names: false,
        unsettled: false,
        left_out: false,
    };
    TreeRoot {
        users: OwnerNames::default(),
        groups: OwnerNames::default(),
        totals,
        sees_all_attributes: true,
        entry,
    }
}

/// Goes through all objects.
fn visit(tree: &TreeReader) {
    let mut parts = 0;
    let visited = tree.walk(&mut |_| {
        parts += 1;
        Ok::<_, Error>(parts < PARTS_MAX)
    });
    assert!(visited.is_ok(), "a walk tells damage, and goes on");
}

/// Lists directories and reads what is in them; says whether anything could be read.
fn look_around(tree: &TreeReader) -> bool {
    let mut todo = vec![tree.root().clone()];
    let (mut seen, mut has_read) = (0, false);
    while let Some(entry) = todo.pop() {
        let _ = tree.attributes(&entry);
        match &entry.content {
            EntryContent::Directory(top) => {
                let entries = tree.entries(top.as_ref(), None).take(ENTRIES_MAX.saturating_sub(seen));
                let entries: Vec<Entry> = entries.flatten().collect();
                seen += entries.len().max(1);
                entries.iter().take(4).for_each(|entry| find_again(tree, top.as_ref(), entry));
                let _ = tree.entry_runs_from(top.as_ref(), 2).next();
                todo.extend(entries);
            }
            EntryContent::File(data) => has_read |= read(&tree.open_file(data)),
            _ => {}
        }
    }
    has_read
}

/// What is listed is found by its name, unless a node above misstates which names lie below it.
fn find_again(tree: &TreeReader, top: Option<&DirectoryTop>, entry: &Entry) {
    if let Ok(Some((place, found))) = tree.locate(top, entry.name.as_bytes()) {
        assert!(found.name == entry.name, "{:?} is found for {:?}", found.name, entry.name);
        assert!(tree.entry_at(&place).is_ok_and(|again| again == found), "it is not at its place");
    }
}

/// Reads the ends of a file and asks where its data are; says whether all of that worked.
fn read(file: &FileReader) -> bool {
    let mut reads = true;
    let size = file.size();
    for offset in [0, 1, size / 2, size.saturating_sub(1), size, u64::MAX] {
        let mut buffer = vec![0; 5_000];
        let read = file.read_at(offset, &mut buffer);
        let expected = size.saturating_sub(offset).min(buffer.len() as u64);
        assert!(read.as_ref().is_ok_and(|&read| read as u64 == expected) || read.is_err(), "a read is short");
        reads &= read.is_ok();
        let data = file.next_data(offset).ok().flatten();
        assert!(data.is_none_or(|data| data >= offset && data < size), "data lie elsewhere");
        // Damage counts as data; only what is of a newer version is refused.
        let hole =
            file.next_hole(offset).or_else(|error| if error.is_loss() { Err(error) } else { Ok(offset) });
        assert!(hole.is_ok_and(|hole| hole >= offset), "a hole lies elsewhere");
        let _ = file.prefetch(offset);
    }
    let mut end = 0;
    for (range, _) in file.extents(0).take(100).flatten() {
        assert!(range.start == end && range.end > end && range.end <= size, "{range:?} of {size}");
        end = range.end;
    }
    reads
}
