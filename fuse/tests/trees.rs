//! Trees below the kernel, against the directory that was backed up.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;

use support::{Fixture, Numbers, eventually};
use treering_fuse::{Attributes, Errno, FileKind, FileSystem, HandleId, Ino, Owner, Room};

/// Entries of the directory `many`: several leaves of it.
const MANY: usize = 3000;
const LARGE: u64 = 3_000_000;

/// A fixture with a directory `tree` that is backed up as `home`.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let root = fixture.path("tree");
    for directory in ["", "many", "sub", "sub/deeper", "sub/empty"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    let mut numbers = Numbers::new(1);
    for number in 0..MANY {
        let length = numbers.below(60) as usize;
        fs::write(root.join(format!("many/a-file-of-many-{number:05}")), numbers.bytes(length)).unwrap();
    }
    let longest = "n".repeat(255);
    for name in [b"\xff\xfe not utf-8", &b"new\nline"[..], longest.as_bytes()] {
        fs::write(root.join("sub").join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(root.join("sub/deeper/linked"), "of two names").unwrap();
    fs::hard_link(root.join("sub/deeper/linked"), root.join("sub/link")).unwrap();
    symlink("deeper/linked", root.join("sub/symlink")).unwrap();
    let large = File::create(root.join("large")).unwrap();
    large.write_all_at(&numbers.bytes(1 << 20), 0).unwrap();
    large.write_all_at(&numbers.bytes(1 << 20), LARGE - (1 << 20)).unwrap();
    fixture.back_up_tree("home");
    fixture
}

fn file_system(fixture: &Fixture) -> FileSystem {
    FileSystem::new(fixture.reopened(), &[], Owner { uid: 1, gid: 2 }).unwrap()
}

/// Walks a path below the newest revision; each step counts a lookup.
fn walk(fs: &FileSystem, path: &str) -> Result<Attributes, Errno> {
    let stream = fs.lookup(Ino::ROOT, "home")?;
    let latest = fs.read_link(fs.lookup(stream.ino, "latest")?.ino)?;
    let mut found = fs.lookup(stream.ino, latest)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        found = fs.lookup(found.ino, name)?;
    }
    Ok(found)
}

/// An entry as it was listed: name, number, kind, and where to go on behind it.
type Listed = (Vec<u8>, Ino, FileKind, u64);

/// One reply of so many entries.
fn reply(fs: &FileSystem, handle: HandleId, offset: u64, count: usize) -> Result<Vec<Listed>, Errno> {
    let mut listed = Vec::new();
    fs.read_directory(handle, offset, &mut |entry| {
        if listed.len() == count {
            return Room::Full;
        }
        listed.push((entry.name.to_vec(), entry.ino, entry.kind, entry.next_offset));
        Room::Left
    })?;
    Ok(listed)
}

/// One reply with attributes; these have the lookups that were counted.
fn reply_plus(fs: &FileSystem, handle: HandleId, offset: u64, count: usize) -> Vec<(Listed, Attributes)> {
    let mut listed = Vec::new();
    let mut add = |entry: treering_fuse::DirectoryEntry<'_>, found: &Attributes| {
        if listed.len() == count {
            return Room::Full;
        }
        listed.push(((entry.name.to_vec(), entry.ino, entry.kind, entry.next_offset), *found));
        Room::Left
    };
    fs.read_directory_plus(handle, offset, &mut add).unwrap();
    listed
}

fn list(fs: &FileSystem, ino: Ino, count: usize) -> Vec<Listed> {
    let handle = fs.open_directory(ino).unwrap();
    let mut all: Vec<Listed> = Vec::new();
    loop {
        let offset = all.last().map_or(0, |listed| listed.3);
        let more = reply(fs, handle, offset, count).unwrap();
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    fs.release_directory(handle);
    all
}

fn names(listed: &[Listed]) -> Vec<Vec<u8>> {
    listed.iter().map(|entry| entry.0.clone()).collect()
}

/// `.`, `..`, and what lies in a directory, sorted.
fn expected(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<Vec<u8>> =
        entries.map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
    names.sort();
    [b".".to_vec(), b"..".to_vec()].into_iter().chain(names).collect()
}

fn is_dot(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

fn bytes(fs: &FileSystem, file: &Attributes) -> Result<Vec<u8>, Errno> {
    let handle = fs.open(file.ino)?;
    let mut bytes = vec![0xee; file.size as usize];
    let read = fs.read(handle, 0, &mut bytes);
    fs.release(handle);
    assert!(read.is_err() || read == Ok(bytes.len()));
    read.map(|_| bytes)
}

#[test]
fn directories_are_listed_whole_whatever_fits_into_a_reply() {
    let fixture = fixture();
    let fs = file_system(&fixture);
    for path in ["", "many", "sub", "sub/deeper", "sub/empty"] {
        let expected = expected(&fixture.path("tree").join(path));
        let directory = walk(&fs, path).unwrap();
        for count in [1, 2, 7, 500, 10_000] {
            assert_eq!(names(&list(&fs, directory.ino, count)), expected, "{path} by {count}");
        }
        let distinct: BTreeSet<Ino> =
            list(&fs, directory.ino, 100).into_iter().skip(2).map(|entry| entry.1).collect();
        assert_eq!(distinct.len(), expected.len() - 2, "{path}");
    }
}

/// As `telldir` and `seekdir` do, and several programs on one descriptor.
#[test]
fn a_listing_goes_on_from_any_offset_in_any_order() {
    let fixture = fixture();
    let fs = file_system(&fixture);
    let directory = walk(&fs, "many").unwrap();
    let all = list(&fs, directory.ino, 1000);
    let handle = fs.open_directory(directory.ino).unwrap();
    let mut numbers = Numbers::new(2);
    for _ in 0..300 {
        let index = numbers.below(all.len() as u64) as usize;
        let count = 1 + numbers.below(400) as usize;
        let rest = &all[index + 1..all.len().min(index + 1 + count)];
        assert_eq!(reply(&fs, handle, all[index].3, count).unwrap(), rest, "{count} behind {index}");
        let with_attributes = reply_plus(&fs, handle, all[index].3, count);
        let (listed, _): (Vec<Listed>, Vec<Attributes>) = with_attributes.into_iter().unzip();
        assert_eq!(listed, rest, "{count} behind {index}");
    }
    assert_eq!(reply(&fs, handle, u64::MAX, 10), Ok(Vec::new()));
}

#[test]
fn what_is_listed_is_what_is_found_by_name_and_what_was_saved() {
    let fixture = fixture();
    let fs = file_system(&fixture);
    let held = fs.held_count();
    for path in ["many", "sub", "sub/deeper"] {
        let directory = walk(&fs, path).unwrap();
        let handle = fs.open_directory(directory.ino).unwrap();
        for (listed, attributes) in reply_plus(&fs, handle, 0, MANY * 2) {
            if is_dot(&listed.0) {
                continue;
            }
            let found = fs.lookup(directory.ino, &listed.0).unwrap();
            assert_eq!((found, fs.attributes(found.ino).unwrap()), (attributes, attributes));
            assert_eq!((listed.1, listed.2), (found.ino, found.kind));
            let source = fixture.path("tree").join(path).join(OsStr::from_bytes(&listed.0));
            let metadata = fs::symlink_metadata(&source).unwrap();
            assert_eq!(u64::from(found.links), metadata.nlink());
            assert_eq!(u32::from(found.mode), metadata.mode() & 0o7777);
            assert_eq!(found.modified, metadata.modified().unwrap());
            if found.kind == FileKind::File {
                assert!(bytes(&fs, &found).unwrap() == fs::read(&source).unwrap(), "{source:?}");
            }
            fs.forget(found.ino, 2);
            // What two names share is held by the other one.
            assert!(found.links > 1 || fs.attributes(found.ino) == Err(Errno::NotFound));
        }
        fs.release_directory(handle);
    }
    // The stream, `latest`, the root, and three directories.
    assert_eq!(fs.held_count() - held, 6);
}

#[test]
fn a_sparse_file_is_read_and_sought_at_any_place() {
    let fixture = fixture();
    let (plain, ahead) = (file_system(&fixture), file_system(&fixture));
    ahead.start_read_ahead(3).unwrap();
    let expected = fs::read(fixture.path("tree/large")).unwrap();
    for fs in [plain, ahead] {
        let file = walk(&fs, "large").unwrap();
        let handle = fs.open(file.ino).unwrap();
        let mut numbers = Numbers::new(3);
        let check = |offset: u64, length: usize| {
            let mut buffer = vec![0xee; length];
            let read = fs.read(handle, offset, &mut buffer).unwrap();
            let rest = expected.get(offset as usize..).unwrap_or_default();
            assert!(buffer[..read] == rest[..rest.len().min(length)], "{length} at {offset}");
        };
        (0..LARGE).step_by(128 << 10).for_each(|offset| check(offset, 128 << 10));
        for _ in 0..300 {
            check(numbers.below(LARGE + 1000), numbers.below(300_000) as usize);
        }
        let (mut at, mut data) = (0, 0);
        while let Ok(start) = fs.seek_data(handle, at) {
            at = fs.seek_hole(handle, start).unwrap();
            data += at - start;
        }
        assert_eq!(file.blocks, data.div_ceil(512));
        assert!(data < LARGE - 500_000, "the hole is data: {data}");
        assert_eq!(fs.seek_data(handle, LARGE), Err(Errno::NoSuchOffset));
        assert_eq!(fs.seek_hole(handle, LARGE), Err(Errno::NoSuchOffset));
    }
}

#[test]
fn names_of_one_inode_share_it_and_what_makes_no_sense_is_refused() {
    let fixture = fixture();
    let fs = file_system(&fixture);
    let (first, second) = (walk(&fs, "sub/link").unwrap(), walk(&fs, "sub/deeper/linked").unwrap());
    assert_eq!((first, first.links), (second, 2));
    let (file, directory) = (walk(&fs, "large").unwrap(), walk(&fs, "sub").unwrap());
    let link = walk(&fs, "sub/symlink").unwrap();
    assert_eq!(fs.read_link(link.ino), Ok(b"deeper/linked".to_vec()));
    assert_eq!(link.size, 13);
    assert_eq!(fs.open(directory.ino), Err(Errno::IsADirectory));
    assert_eq!(fs.open(link.ino), Err(Errno::Invalid));
    assert_eq!(fs.read_link(file.ino), Err(Errno::Invalid));
    assert_eq!(fs.open_directory(file.ino), Err(Errno::NotADirectory));
    assert_eq!(fs.lookup(file.ino, "x"), Err(Errno::NotADirectory));
    assert_eq!(fs.attributes(Ino::new(u64::MAX)), Err(Errno::NotFound));
    for name in [&b""[..], b".", b"..", b"sub/link", b"link\0", b"lin", &[b'n'; 256], b"\xff"] {
        assert_eq!(fs.lookup(directory.ino, name), Err(Errno::NotFound), "{name:?}");
    }
    assert_eq!(fs.extended_attribute(file.ino, b"user.none"), Err(Errno::NoAttribute));
    assert_eq!(fs.extended_attribute_names(file.ino, true), Ok(Vec::new()));
}

/// A stream of a tree that is backed up every hour has thousands; a pin is a file, and an open one.
#[test]
fn a_stream_that_is_listed_opens_nothing_for_names_and_leaves_nothing_open_for_attributes() {
    let fixture = fixture();
    for number in 0..20 {
        fs::write(fixture.path("tree/changed"), number.to_string()).unwrap();
        fixture.back_up_tree("home");
    }
    let fs = file_system(&fixture);
    let stream = fs.lookup(Ino::ROOT, "home").unwrap();
    let listed = list(&fs, stream.ino, 100);
    assert_eq!(listed.len(), 2 + 3 + 21);
    let handle = fs.open_directory(stream.ino).unwrap();
    let beginning = reply_plus(&fs, handle, 0, 100);
    assert_eq!(beginning.len(), 5, "stops before what costs a record");
    let rest = reply_plus(&fs, handle, beginning[4].0.3, 100);
    assert_eq!(rest.len(), 21);
    let root = fs::metadata(fixture.path("tree")).unwrap();
    let (listed, newest) = &rest[20];
    assert_eq!((newest.owner, u32::from(newest.mode)), (owner_of(&root), root.mode() & 0o7777));
    assert_eq!(newest.modified, root.modified().unwrap());
    assert_eq!(newest.ino, listed.1);
    for (_, root) in &rest {
        assert_eq!(fs.extended_attribute(root.ino, b"security.selinux"), Err(Errno::NoAttribute));
        assert_eq!(fs.extended_attribute_names(root.ino, true), Ok(Vec::new()));
    }
    assert_eq!(fixture.stored("pins").len(), 0);
    // What is held is not read again.
    for record in fixture.stored("revisions") {
        fs::remove_file(record).unwrap();
    }
    assert_eq!(fs.attributes(newest.ino), Ok(*newest));
}

fn owner_of(metadata: &fs::Metadata) -> Owner {
    Owner { uid: metadata.uid(), gid: metadata.gid() }
}

#[test]
fn a_file_of_a_forgotten_revision_stays_readable_while_it_is_open() {
    let fixture = fixture();
    let fs = file_system(&fixture);
    let file = walk(&fs, "large").unwrap();
    let handle = fs.open(file.ino).unwrap();
    assert_eq!(fixture.stored("pins").len(), 1);
    for record in fixture.stored("revisions") {
        fs::remove_file(record).unwrap();
    }
    eventually("the revision is gone", || walk(&fs, "").is_err());
    // Longer than a tree stays open that nobody reads.
    std::thread::sleep(std::time::Duration::from_secs(9));
    let mut bytes = vec![0; LARGE as usize];
    assert_eq!(fs.read(handle, 0, &mut bytes), Ok(bytes.len()));
    assert!(bytes == fs::read(fixture.path("tree/large")).unwrap());
    // Held by the handle, it is found again by others, with the same pin.
    assert_eq!(fs.attributes(file.ino), Ok(file));
    assert_eq!(fixture.stored("pins").len(), 1);
    fs.release(handle);
    eventually("its pin is gone", || fixture.stored("pins").is_empty());
    assert!(fs.attributes(file.ino).is_err());
}

/// What is at each path, or why it can't be told; of files with their bytes.
type Survey = BTreeMap<Vec<u8>, Result<(Attributes, Option<Vec<u8>>), Errno>>;

fn survey(fs: &FileSystem) -> Survey {
    let mut found = Survey::new();
    let root = match walk(fs, "") {
        Ok(root) => root,
        Err(error) => return Survey::from([(Vec::new(), Err(error))]),
    };
    let mut todo = vec![(Vec::new(), root)];
    while let Some((path, directory)) = todo.pop() {
        let handle = fs.open_directory(directory.ino).unwrap_or(HandleId::new(0));
        let listed = match reply(fs, handle, 0, usize::MAX) {
            Ok(listed) => listed,
            Err(error) => {
                found.insert([&path[..], b"/"].concat(), Err(error));
                continue;
            }
        };
        for name in names(&listed).into_iter().filter(|name| !is_dot(name)) {
            let path = [&path[..], b"/", &name].concat();
            match fs.lookup(directory.ino, &name) {
                Ok(entry) if entry.kind == FileKind::Directory => todo.push((path, entry)),
                Ok(entry) if entry.kind == FileKind::File => {
                    let content = bytes(fs, &entry).map(|bytes| (entry, Some(bytes)));
                    found.insert(path, content);
                }
                Ok(entry) => _ = found.insert(path, Ok((entry, None))),
                Err(error) => _ = found.insert(path, Err(error)),
            }
        }
    }
    found
}

/// Whatever is flipped or cut off: what is served is right, everything else is EIO.
#[test]
fn no_damage_makes_a_wrong_entry_or_byte() {
    let fixture = fixture();
    let whole = survey(&file_system(&fixture));
    assert!(whole.len() > MANY && whole.values().all(Result::is_ok));
    let mut numbers = Numbers::new(4);
    let (mut hit, mut served) = (0, 0);
    for pack in fixture.stored("packs") {
        let intact = fs::read(&pack).unwrap();
        for round in 0..12 {
            let mut damaged = intact.clone();
            let at = numbers.below(intact.len() as u64) as usize;
            if round == 11 {
                damaged.truncate(at)
            } else {
                damaged[at] ^= 1 << numbers.below(8)
            }
            fs::write(&pack, damaged).unwrap();
            for (path, found) in survey(&file_system(&fixture)) {
                match found {
                    Ok(found) => {
                        served += 1;
                        assert!(whole[&path] == Ok(found), "{}", String::from_utf8_lossy(&path));
                    }
                    Err(error) => {
                        hit += 1;
                        assert_eq!(error, Errno::Unreadable, "{}", String::from_utf8_lossy(&path));
                    }
                }
            }
        }
        fs::write(&pack, intact).unwrap();
    }
    assert!(hit > 0 && served > hit, "{hit} {served}");
    assert!(survey(&file_system(&fixture)) == whole);
}
