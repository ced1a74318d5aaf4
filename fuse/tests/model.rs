//! The file system below the kernel against plain files and a plain model.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use support::{CHUNK, Fixture, Numbers, SIZE, data_ranges, make_image};
use treering_engine::Record;
use treering_fuse::{
    Attributes, Errno, FileKind, FileSystem, HandleId, Ino, NAME_LIFETIME, Owner, Room, UNLIMITED,
};

fn file_system(fixture: &Fixture) -> FileSystem {
    FileSystem::new(fixture.reopened(), &[], Owner { uid: 1, gid: 2 }).unwrap()
}

/// Walks a path; each step counts a lookup, as in a kernel that forgets nothing.
fn walk(fs: &FileSystem, path: &str) -> Result<Attributes, Errno> {
    let mut found = fs.attributes(Ino::ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        found = fs.lookup(found.ino, name)?;
    }
    Ok(found)
}

/// Where a link leads.
fn target(fs: &FileSystem, link: Ino) -> String {
    String::from_utf8(fs.read_link(link).unwrap()).unwrap()
}

fn text(name: &[u8]) -> String {
    String::from_utf8(name.to_vec()).unwrap()
}

/// Opens the newest image of a stream.
fn open_latest(fs: &FileSystem, stream: &str) -> HandleId {
    let link = walk(fs, &format!("{stream}/latest.img")).unwrap();
    let target = target(fs, link.ino);
    fs.open(walk(fs, &format!("{stream}/{target}")).unwrap().ino).unwrap()
}

/// Lists a directory with so many entries to a reply.
fn list(fs: &FileSystem, ino: Ino, entries_per_reply: usize) -> Vec<(String, FileKind)> {
    let handle = fs.open_directory(ino).unwrap();
    let (mut listed, mut offset) = (Vec::new(), 0);
    loop {
        let (mut count, from) = (0, offset);
        let add = &mut |entry: treering_fuse::DirectoryEntry<'_>| {
            if count == entries_per_reply {
                return Room::Full;
            }
            count += 1;
            offset = entry.next_offset;
            listed.push((text(entry.name), entry.kind));
            Room::Left
        };
        fs.read_directory(handle, from, add).unwrap();
        if count == 0 {
            break;
        }
    }
    fs.release_directory(handle);
    listed
}

/// The same with attributes.
fn list_plus(fs: &FileSystem, ino: Ino, entries_per_reply: usize) -> Vec<(String, Attributes)> {
    let handle = fs.open_directory(ino).unwrap();
    let (mut listed, mut offset) = (Vec::new(), 0);
    loop {
        let (mut count, from) = (0, offset);
        let add = &mut |entry: treering_fuse::DirectoryEntry<'_>, found: &Attributes| {
            if count == entries_per_reply {
                return Room::Full;
            }
            count += 1;
            offset = entry.next_offset;
            listed.push((text(entry.name), *found));
            Room::Left
        };
        fs.read_directory_plus(handle, from, add).unwrap();
        if count == 0 {
            break;
        }
    }
    fs.release_directory(handle);
    listed
}

#[test]
fn reads_at_random_places_are_those_of_the_source() {
    let fixture = Fixture::with_image();
    let bytes = fixture.bytes();
    let fs = file_system(&fixture);
    let handle = open_latest(&fs, "vm1");
    let mut numbers = Numbers::new(3);
    for round in 0..3000 {
        let offset = match round % 3 {
            0 => numbers.below(SIZE + 100_000),
            // Around the borders of chunks and of the image.
            1 => (numbers.below(SIZE / CHUNK + 2) * CHUNK).saturating_sub(numbers.below(3)),
            _ => SIZE.saturating_sub(numbers.below(100_000)),
        };
        let length = numbers.below(if round % 10 == 0 { 1 << 20 } else { 70_000 }) as usize;
        let mut buffer = vec![0xee; length];
        let read = fs.read(handle, offset, &mut buffer).unwrap();
        let expected = bytes.get(offset as usize..).unwrap_or_default();
        let expected = &expected[..expected.len().min(length)];
        assert_eq!(read, expected.len(), "{length} at {offset}");
        assert!(buffer[..read] == *expected, "{length} at {offset}");
    }
}

/// SEEK_DATA on plain ranges.
fn model_data(ranges: &[Range<u64>], offset: u64) -> Result<u64, Errno> {
    let next = ranges.iter().find(|range| range.end > offset).map(|range| range.start.max(offset));
    next.filter(|_| offset < SIZE).ok_or(Errno::NoSuchOffset)
}

/// SEEK_HOLE on plain ranges.
fn model_hole(ranges: &[Range<u64>], offset: u64) -> Result<u64, Errno> {
    if offset >= SIZE {
        return Err(Errno::NoSuchOffset);
    }
    Ok(ranges.iter().find(|range| range.contains(&offset)).map_or(offset, |range| range.end))
}

#[test]
fn seeks_are_those_of_the_model() {
    let fixture = Fixture::with_image();
    let fs = file_system(&fixture);
    let handle = open_latest(&fs, "vm1");
    let ranges = data_ranges();
    let borders = ranges.iter().flat_map(|range| [range.start, range.end]);
    let near = borders.flat_map(|border| border.saturating_sub(2)..border + 3);
    let mut numbers = Numbers::new(4);
    let random = (0..2000).map(|_| numbers.below(SIZE + CHUNK)).collect::<Vec<_>>();
    for offset in near.chain(random).chain([u64::MAX, SIZE - 1, SIZE, SIZE + 1]) {
        assert_eq!(fs.seek_data(handle, offset), model_data(&ranges, offset), "data at {offset}");
        assert_eq!(fs.seek_hole(handle, offset), model_hole(&ranges, offset), "hole at {offset}");
    }
}

#[test]
fn histories_of_several_streams_are_listed_and_served_as_they_were() {
    let fixture = Fixture::new();
    let mut numbers = Numbers::new(5);
    // What each revision must hold, and its record.
    let mut model: BTreeMap<&str, Vec<(Record, Vec<u8>)>> = BTreeMap::new();
    make_image(&fixture.image(), 9);
    let file = File::options().write(true).open(fixture.image()).unwrap();
    for round in 0..12 {
        for _ in 0..3 {
            let length = 1 + numbers.below(100_000) as usize;
            let change = numbers.bytes(length);
            file.write_all_at(&change, numbers.below(SIZE - 100_000)).unwrap();
        }
        let stream = ["a", "b", "c-1.x"][numbers.below(3) as usize];
        let tags: &[&str] = if round % 2 == 0 { &["even"] } else { &[] };
        model.entry(stream).or_default().push((fixture.back_up(stream, tags), fixture.bytes()));
    }
    let fs = file_system(&fixture);
    let streams: Vec<_> = list(&fs, Ino::ROOT, 1).into_iter().map(|(name, _)| name).collect();
    let expected: Vec<&str> = [".", ".."].into_iter().chain(model.keys().copied()).collect();
    assert_eq!(streams, expected);
    for (stream, revisions) in &model {
        let directory = walk(&fs, stream).unwrap();
        let mut expected: Vec<String> =
            [".", "..", "latest.img", "by-id", "by-tag"].map(str::to_owned).to_vec();
        expected.extend(revisions.iter().map(|(record, _)| format!("{}.img", record.name)));
        for entries_per_reply in [1, 2, 5, 100] {
            let names: Vec<_> =
                list(&fs, directory.ino, entries_per_reply).into_iter().map(|e| e.0).collect();
            assert_eq!(names, expected);
            let names: Vec<_> =
                list_plus(&fs, directory.ino, entries_per_reply).into_iter().map(|e| e.0).collect();
            assert_eq!(names, expected);
        }
        for (record, bytes) in revisions {
            let image = walk(&fs, &format!("{stream}/{}.img", record.name)).unwrap();
            assert_eq!((image.size, image.mode, image.kind), (bytes.len() as u64, 0o440, FileKind::File));
            let handle = fs.open(image.ino).unwrap();
            let mut read = vec![0; bytes.len()];
            assert_eq!(fs.read(handle, 0, &mut read), Ok(bytes.len()));
            assert!(read == *bytes, "{stream}@{}", record.name);
            fs.release(handle);
        }
        let newest = &revisions.last().unwrap().0;
        let latest = walk(&fs, &format!("{stream}/latest.img")).unwrap();
        assert_eq!(target(&fs, latest.ino), format!("{}.img", newest.name));
        let tagged = revisions.iter().filter(|(record, _)| fixture_tagged(&fixture, stream, record)).count();
        let by_tag = list(&fs, walk(&fs, &format!("{stream}/by-tag")).unwrap().ino, 100);
        assert_eq!(by_tag.len(), 2 + usize::from(tagged > 0));
    }
}

fn fixture_tagged(fixture: &Fixture, stream: &str, record: &Record) -> bool {
    let stream = fixture.repository.stream(stream).unwrap();
    !fixture.repository.labels(&stream, record.id).unwrap().tags.is_empty()
}

#[test]
fn a_table_holds_only_what_the_kernel_holds() {
    let fixture = Fixture::with_image();
    let fs = file_system(&fixture);
    let stream = walk(&fs, "vm1").unwrap();
    let listed = list_plus(&fs, stream.ino, 2);
    assert_eq!(listed.len(), 6);
    // The stream, the links' directories, latest, the image: `.` and `..` do not count.
    assert_eq!(fs.held_count(), 5);
    for (name, found) in &listed {
        assert_eq!(fs.attributes(found.ino).unwrap().ino, found.ino);
        if !name.starts_with('.') || name.len() > 2 {
            fs.forget(found.ino, 1);
        }
    }
    assert_eq!(fs.held_count(), 1);
    let image = &listed[5].1;
    assert_eq!(fs.attributes(image.ino), Err(Errno::NotFound));
    // The number is the same again.
    assert_eq!(fs.lookup(stream.ino, &listed[5].0).unwrap().ino, image.ino);
}

#[test]
fn the_beginning_of_a_listing_with_attributes_opens_no_record() {
    let fixture = Fixture::with_image();
    let fs = file_system(&fixture);
    let handle = fs.open_directory(walk(&fs, "vm1").unwrap().ino).unwrap();
    let mut names = Vec::new();
    let mut add = |entry: treering_fuse::DirectoryEntry<'_>, _: &Attributes| {
        names.push(text(entry.name));
        Room::Left
    };
    fs.read_directory_plus(handle, 0, &mut add).unwrap();
    assert_eq!(names, [".", "..", "latest.img", "by-id", "by-tag"]);
}

/// So a new revision shows within two seconds, and what was read of an image is not asked for again.
#[test]
fn what_may_change_is_kept_for_a_second_and_what_never_changes_for_ever() {
    let fixture = Fixture::new();
    make_image(&fixture.image(), 1);
    let record = fixture.back_up("vm1", &["weekly"]);
    let fs = file_system(&fixture);
    let (id, name) = (record.id, format!("{}.img", record.name));
    let directories = ["", "vm1", "vm1/by-id", "vm1/by-tag", "vm1/by-tag/weekly"].map(str::to_owned);
    let links = ["vm1/latest.img", &format!("vm1/by-id/{id}.img"), &format!("vm1/by-tag/weekly/{name}")];
    let second = Duration::from_secs(1);
    assert!(NAME_LIFETIME <= second);
    for path in directories.iter().cloned().chain(links.map(str::to_owned)) {
        let found = walk(&fs, &path).unwrap();
        assert!(found.kind != FileKind::File && found.lifetime <= second, "{path}");
        assert!(fs.attributes(found.ino).unwrap().lifetime <= second, "{path}");
    }
    let image = walk(&fs, &format!("vm1/{name}")).unwrap();
    assert_eq!((image.lifetime, fs.attributes(image.ino).unwrap().lifetime), (UNLIMITED, UNLIMITED));
    for directory in directories {
        for (name, listed) in list_plus(&fs, walk(&fs, &directory).unwrap().ino, 100) {
            let expected = if listed.kind == FileKind::File { UNLIMITED } else { NAME_LIFETIME };
            assert_eq!(listed.lifetime, expected, "{directory}/{name}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::with_image();
    let fs = file_system(&fixture);
    let latest = walk(&fs, "vm1/latest.img").unwrap();
    let stream = walk(&fs, "vm1").unwrap();
    let image = walk(&fs, &format!("vm1/{}", target(&fs, latest.ino))).unwrap();
    assert_eq!(fs.open(stream.ino), Err(Errno::IsADirectory));
    assert_eq!(fs.open(latest.ino), Err(Errno::Invalid));
    assert_eq!(fs.open_directory(image.ino), Err(Errno::NotADirectory));
    assert_eq!(fs.read_link(image.ino), Err(Errno::Invalid));
    assert_eq!(fs.lookup(image.ino, "x"), Err(Errno::NotADirectory));
    assert_eq!(fs.attributes(Ino::new(12345)), Err(Errno::NotFound));
    assert_eq!(fs.read(HandleId::new(99), 0, &mut [0]), Err(Errno::BadHandle));
    for name in ["", ".", "..", "x/y", "latest", "by-id/"] {
        assert_eq!(fs.lookup(stream.ino, name), Err(Errno::NotFound), "{name}");
    }
}

#[test]
fn a_stream_that_is_not_there_cannot_be_chosen() {
    let fixture = Fixture::with_image();
    let chosen = ["vm1".to_owned(), "vm9".to_owned()];
    assert!(FileSystem::new(fixture.reopened(), &chosen, Owner { uid: 0, gid: 0 }).is_err());
}

#[test]
fn a_sequential_reader_with_read_ahead_gets_the_same_bytes() {
    let fixture = Fixture::with_image();
    let bytes = fixture.bytes();
    let fs = file_system(&fixture);
    fs.start_read_ahead(3).unwrap();
    for length in [4096, 100_000, 128 << 10, 1 << 20] {
        let handle = open_latest(&fs, "vm1");
        let (mut buffer, mut offset) = (vec![0; length], 0);
        while offset < bytes.len() {
            let read = fs.read(handle, offset as u64, &mut buffer).unwrap();
            assert!(read > 0 && buffer[..read] == bytes[offset..offset + read], "{length} at {offset}");
            offset += read;
        }
        fs.release(handle);
    }
}
