//! Readers of an image whose nodes are of a fuzzer's making: well formed, and wrong in whatever they say of each other.

use super::input::Input;
use super::objects::Objects;
use crate::error::Error;
use crate::format::{Child, Inner, Leaf, ObjectType, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::revision::{ImageReader, MapPart, MapReader};

/// As many objects as there may be.
const OBJECTS_MAX: usize = 64;

/// As many parts of a map as are visited, and ranges as are asked for: a hostile map has no end.
const PARTS_MAX: usize = 2_000;

/// An image of nodes as the bytes describe them: first each object below the root, then the root, then places to read.
pub fn image(bytes: &[u8]) -> bool {
    let mut input = Input::new(bytes);
    let mut objects = Objects::new();
    while objects.count() < OBJECTS_MAX {
        match input.u8() % 8 {
            0 => break,
            1 | 2 => objects.add_chunk(&mut input),
            3 | 4 => add_leaf(&mut objects, &mut input),
            5 | 6 => add_inner(&mut objects, &mut input),
            _ => add_node_of_bytes(&mut objects, &mut input),
        };
    }
    let root = root(&objects, &mut input);
    let id = objects.add(ObjectType::Node, root.encode());
    let store = objects.into_store();
    let Ok(map) = MapReader::open(&store, &id) else { return false };
    visit(&map);
    let Ok(image) = ImageReader::open_unpinned(&store, &id) else { return false };
    while !input.is_empty() {
        read(&image, input.u64() % image.size().max(1));
    }
    let reads = read(&image, 0) | read(&image, image.size().saturating_sub(1));
    list(&image);
    reads
}

/// A leaf in which a few slots come again and again.
fn add_leaf(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let slots = repeated(input, |input| match input.u8() % 4 {
        0 => Slot::Hole,
        1 => Slot::Zeros,
        _ => Slot::Chunk(objects.pick(input)),
    });
    objects.add(ObjectType::Node, Leaf { slots }.encode())
}

fn add_inner(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let level = input.u8() % 8;
    let children = repeated(input, |input| child(objects, input));
    objects.add(ObjectType::Node, Inner { level, children }.encode())
}

fn add_node_of_bytes(objects: &mut Objects, input: &mut Input<'_>) -> ObjectId {
    let length = input.u8();
    objects.add(ObjectType::Node, input.bytes(length.into()).to_vec())
}

/// Up to 256 of something, of which up to eight are described.
fn repeated<T: Clone>(input: &mut Input<'_>, mut next: impl FnMut(&mut Input<'_>) -> T) -> Vec<T> {
    let (count, described) = (usize::from(input.u8()) + 1, input.u8() % 8 + 1);
    let described: Vec<T> = (0..described).map(|_| next(input)).collect();
    described.iter().cycle().take(count).cloned().collect()
}

fn child(objects: &Objects, input: &mut Input<'_>) -> Child {
    let is_stored = !input.u8().is_multiple_of(4);
    let stored = |input: &mut Input<'_>| Subtree {
        id: objects.pick(input),
        data_bytes: number(input),
        chunk_count: u64::from(input.u16()),
    };
    is_stored.then(|| stored(input))
}

/// A number of any magnitude, small ones in few bytes.
fn number(input: &mut Input<'_>) -> u64 {
    match input.u8() % 4 {
        0 => input.u8().into(),
        1 => u64::from(input.u16()) * 4096,
        2 => input.u32().into(),
        _ => input.u64(),
    }
}

fn root(objects: &Objects, input: &mut Input<'_>) -> Root {
    let (size, chunk_size) = (number(input), 4096 << (input.u8() % 12));
    let level = Root::level_for(size.div_ceil(chunk_size.into()));
    Root { level, size, chunk_size, top: child(objects, input) }
}

/// Asks a map all that is asked of maps.
fn visit(map: &MapReader) {
    let mut parts = 0;
    let mut chunks = Vec::new();
    let visited = map.walk(&mut |part| {
        parts += 1;
        if let MapPart::Chunk { slot, id } = part {
            assert!(slot < map.slot_count(), "a chunk lies behind the end");
            chunks.push((slot, *id));
        }
        Ok::<_, Error>(parts < PARTS_MAX)
    });
    assert!(visited.is_ok(), "a walk tells damage, and goes on");
    for (slot, id) in chunks.into_iter().take(16) {
        assert!(map.slot(slot).ok() == Some(Slot::Chunk(id)), "a look-up finds another chunk than the walk");
        assert!(map.chunk_len(slot) > 0);
    }
    let _ = (map.random_objects(4), map.slots(0..map.slot_count().min(600)));
}

/// Reads around a place, and says whether that worked.
fn read(image: &ImageReader, offset: u64) -> bool {
    let mut buffer = vec![0; 10_000];
    let read = image.read_at(offset, &mut buffer);
    let expected = image.size().saturating_sub(offset).min(buffer.len() as u64);
    assert!(read.as_ref().is_ok_and(|&read| read as u64 == expected) || read.is_err(), "a read is short");
    image.prefetch(offset / u64::from(image.chunk_size()));
    let data = image.next_data(offset).ok().flatten();
    assert!(data.is_none_or(|data| (offset..image.size()).contains(&data)), "data lie elsewhere");
    // Damage counts as data; only what is of a newer version is refused.
    let hole = image.next_hole(offset).or_else(|error| if error.is_loss() { Err(error) } else { Ok(offset) });
    assert!(
        hole.is_ok_and(|hole| hole >= offset && hole <= image.size().max(offset)),
        "a hole lies elsewhere"
    );
    read.is_ok()
}

/// Lists where data are: ranges in order, none of them empty.
fn list(image: &ImageReader) {
    let mut end = 0;
    for range in image.data_ranges().take(PARTS_MAX / 20).flatten() {
        assert!(range.start >= end && range.start < range.end && range.end <= image.size(), "{range:?}");
        end = range.end;
    }
}
