//! Contents of files, compared with a model byte by byte.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::super::super::ranges::next_data;
use super::*;
use crate::format::{FileSlot, Slot};
use crate::revision::test_maps::{absent, numbers};
use crate::revision::test_trees::{data, hole, zeros};

const BLOCK: u64 = 4096;

/// A file of blocks: data, zeros and holes.
struct File {
    slots: Vec<FileSlot>,
    bytes: Vec<u8>,
}

fn file(scene: &Scene, blocks: u64, random: &mut impl FnMut(u64) -> u64) -> File {
    let (mut slots, mut bytes): (Vec<FileSlot>, Vec<u8>) = Default::default();
    let mut contents = Vec::new();
    let mut kinds = Vec::new();
    for _ in 0..blocks {
        let length = BLOCK * (1 + random(3));
        let kind = random(4);
        let joins = kinds.last() == Some(&kind) && kind < 2;
        if joins {
            continue;
        }
        kinds.push(kind);
        let content = vec![1 + random(250) as u8; length as usize];
        match kind {
            0 | 1 => bytes.extend(vec![0; length as usize]),
            _ => bytes.extend(&content),
        }
        contents.push(content);
    }
    let ids = scene.trees.chunks(&contents);
    for ((kind, content), id) in kinds.iter().zip(&contents).zip(ids) {
        let length = content.len() as u64;
        slots.push(match kind {
            0 => hole(length),
            1 => zeros(length),
            _ => data(id, length),
        });
    }
    File { slots, bytes }
}

fn entry_of(scene: &Scene, name: &str, file: &File) -> Entry {
    entry(name, EntryContent::File(scene.trees.file(&file.slots)))
}

/// Bytes that must be written if nothing is right.
fn data_bytes(file: &File) -> u64 {
    file.slots.iter().filter(|slot| slot.content != Slot::Hole).map(|slot| slot.length).sum()
}

/// Holes are holes and nothing else is one; the file system may take a little for itself.
#[track_caller]
fn assert_allocated(path: &Path, file: &File) {
    let (there, wanted) = (fs::metadata(path).unwrap().blocks() * 512, data_bytes(file));
    assert!((wanted..=wanted + 16 * BLOCK).contains(&there), "{there} bytes instead of {wanted}");
}

#[test]
fn files_of_any_slots_are_written_and_mended_in_place() {
    // Below and above what is restored piece by piece.
    for (seed, blocks) in [(1, 1), (2, 5), (3, 40), (4, 900), (5, 2000)] {
        let scene = Scene::new();
        let mut random = numbers(seed);
        let file = file(&scene, blocks, &mut random);
        let entry = entry_of(&scene, "file", &file);
        let path = scene.target().join("file");
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.files, report.problem_count), (1, 0), "{:?}", report.problems);
        assert!(fs::read(&path).unwrap() == file.bytes, "{blocks}");
        assert_allocated(&path, &file);
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.bytes_written, report.unchanged), (0, 2), "{blocks}");
        // Changed at some places, shorter or longer, and all of it stale.
        for _ in 0..4 {
            let target = fs::File::options().write(true).open(&path).unwrap();
            target.set_len(random(2 * file.bytes.len() as u64)).unwrap();
            for _ in 0..random(4) {
                let at = random(file.bytes.len() as u64);
                target.write_all_at(&vec![9; 1 + random(9000) as usize], at).unwrap();
            }
            let report = scene.restore(std::slice::from_ref(&entry));
            assert_eq!((report.files, report.problem_count), (1, 0), "{:?}", report.problems);
            assert!(fs::read(&path).unwrap() == file.bytes, "{blocks}");
            assert_allocated(&path, &file);
        }
        assert_eq!(names(&scene.target()), ["file"]);
    }
}

/// As many blocks as the file should have, but not where it should have them: what is a hole there reads as the zeros that
/// were stored.
#[test]
fn blocks_in_wrong_places_do_not_count_for_those_that_are_missing() {
    for blocks in [20, 2000] {
        let scene = Scene::new();
        let partly_zero = [vec![1; 4096], vec![0; 4096]].concat();
        let ids = scene.trees.chunks(&[partly_zero.clone(), vec![2; 4096]]);
        let length = blocks * BLOCK;
        let slots = [hole(length), zeros(2 * BLOCK), data(ids[0], 2 * BLOCK), data(ids[1], BLOCK)];
        let entry = entry("file", EntryContent::File(scene.trees.file(&slots)));
        fs::create_dir(scene.target()).unwrap();
        let path = scene.target().join("file");
        let target = fs::File::create(&path).unwrap();
        target.set_len(length + 5 * BLOCK).unwrap();
        target.write_all_at(&[9; 5 * BLOCK as usize], BLOCK).unwrap();
        target.write_all_at(&[1; BLOCK as usize], length + 2 * BLOCK).unwrap();
        target.write_all_at(&[2; BLOCK as usize], length + 4 * BLOCK).unwrap();
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.files, report.problem_count), (1, 0), "{:?}", report.problems);
        let data = length..length + 5 * BLOCK;
        assert_eq!(
            next_data(&fs::File::open(&path).unwrap(), &(0..length + 5 * BLOCK)),
            Some(data),
            "{blocks}"
        );
        let content = [&vec![0; 2 * BLOCK as usize], &partly_zero, &vec![2; BLOCK as usize]];
        assert!(fs::read(&path).unwrap()[length as usize..] == content.map(Vec::as_slice).concat());
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.bytes_written, report.unchanged), (0, 2), "{blocks}");
    }
}

/// The same where the blocks go: out of a hole, or with the end of a file that is too long.
#[test]
fn blocks_that_go_do_not_count_for_those_that_are_missing() {
    const LENGTH: u64 = 5 << 20;
    let allocated = |path: &Path| fs::metadata(path).unwrap().blocks() * 512;
    let cases = [
        (vec![hole(LENGTH), zeros(LENGTH), hole(LENGTH)], 3 * LENGTH, 0..LENGTH),
        (vec![zeros(2 * LENGTH)], 5 * LENGTH, 3 * LENGTH..5 * LENGTH),
    ];
    for (slots, size, stale) in cases {
        let scene = Scene::new();
        let entry = entry("file", EntryContent::File(scene.trees.file(&slots)));
        fs::create_dir(scene.target()).unwrap();
        let path = scene.target().join("file");
        let target = fs::File::create(&path).unwrap();
        target.set_len(size).unwrap();
        target.write_all_at(&vec![9; (stale.end - stale.start) as usize], stale.start).unwrap();
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.files, report.problem_count), (1, 0), "{:?}", report.problems);
        assert!(fs::read(&path).unwrap() == vec![0; slots.iter().map(|slot| slot.length as usize).sum()]);
        let wanted: u64 =
            slots.iter().filter(|slot| slot.content == Slot::Zeros).map(|slot| slot.length).sum();
        assert!((wanted..=wanted + 16 * BLOCK).contains(&allocated(&path)), "{}", allocated(&path));
        let report = scene.restore(std::slice::from_ref(&entry));
        assert_eq!((report.bytes_written, report.unchanged), (0, 2));
    }
}

#[test]
fn of_a_large_file_only_what_differs_is_written() {
    let scene = Scene::new();
    let contents: Vec<Vec<u8>> = (0..200u8).map(|byte| vec![byte + 1; 50_000]).collect();
    let ids = scene.trees.chunks(&contents);
    let slots: Vec<FileSlot> = ids.iter().map(|id| data(*id, 50_000)).collect();
    let entry = entry("file", EntryContent::File(scene.trees.file(&slots)));
    scene.restore(std::slice::from_ref(&entry));
    let path = scene.target().join("file");
    let inode = fs::metadata(&path).unwrap().ino();
    let target = fs::File::options().write(true).open(&path).unwrap();
    for chunk in [3, 77] {
        target.write_all_at(b"?", chunk * 50_000 + 10).unwrap();
    }
    let report = scene.restore(std::slice::from_ref(&entry));
    assert_eq!((report.bytes_written, report.bytes_compared), (100_000, 10_000_000));
    assert!(fs::read(&path).unwrap() == contents.concat());
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "it is the same file");
}

/// What is right in the target needs nothing of the repository.
#[test]
fn lost_chunks_that_the_target_has_are_not_missed() {
    let scene = Scene::new();
    let content = vec![7; 5_000_000];
    let id = scene.trees.store().hasher().id(crate::format::ObjectType::Chunk, &content);
    let slots = [data(id, 5_000_000), data(absent(1), 1000), data(scene.trees.chunk(b"end"), 3)];
    let large = entry("large", EntryContent::File(scene.trees.file(&slots)));
    fs::create_dir(scene.target()).unwrap();
    fs::write(scene.target().join("large"), [&content[..], &[5; 1000], b"???"].concat()).unwrap();
    let report = scene.restore(std::slice::from_ref(&large));
    assert_eq!((report.files, report.damaged_count, report.bytes_written), (0, 1, 3));
    assert_eq!(report.damaged[0].ranges.as_slice(), std::slice::from_ref(&(5_000_000..5_001_000)));
    let there = fs::read(scene.target().join("large")).unwrap();
    assert!(there == [&content[..], &[5; 1000], b"end"].concat(), "what was lost is as it was before");
    assert_eq!(names(&scene.target()), ["large"]);
}

#[test]
fn what_could_be_read_of_a_new_file_has_a_name_that_tells() {
    for length in [1000, 6_000_000] {
        let scene = Scene::new();
        let content = vec![7; length];
        let slots = [data(scene.trees.chunk(&content), length as u64), data(absent(1), 9)];
        let mut damaged = entry("file", EntryContent::File(scene.trees.file(&slots)));
        damaged.metadata.mode = 0o4755;
        let lost = entry("lost", EntryContent::File(scene.trees.file(&[data(absent(2), 9)])));
        let report = scene.restore(&[damaged, lost]);
        assert_eq!((report.files, report.damaged_count), (0, 2));
        assert_eq!(names(&scene.target()), ["file.treering-damaged"]);
        let path = scene.target().join("file.treering-damaged");
        assert!(fs::read(&path).unwrap() == [&content[..], &[0; 9]].concat());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755, "half a program has no privileges");
        let end = length as u64;
        let of_file = report.damaged.iter().find(|damaged| damaged.path == b"file").unwrap();
        assert_eq!(of_file.ranges.as_slice(), std::slice::from_ref(&(end..end + 9)));
    }
}

#[test]
fn an_unfinished_large_file_is_continued() {
    let scene = Scene::new();
    let contents: Vec<Vec<u8>> = (0..100u8).map(|byte| vec![byte + 1; 50_000]).collect();
    let ids = scene.trees.chunks(&contents);
    let slots: Vec<FileSlot> = ids.iter().map(|id| data(*id, 50_000)).collect();
    let entry = entry("file", EntryContent::File(scene.trees.file(&slots)));
    let partial = super::super::names::partial_name(b".treering-partial-", b"file");
    let partial = String::from_utf8(partial).unwrap();
    fs::create_dir(scene.target()).unwrap();
    fs::write(scene.target().join(&partial), contents[..60].concat()).unwrap();
    let report = scene.restore(std::slice::from_ref(&entry));
    assert_eq!((report.files, report.bytes_written), (1, 40 * 50_000));
    assert_eq!(names(&scene.target()), ["file"]);
    assert!(fs::read(scene.target().join("file")).unwrap() == contents.concat());
    // A link or a pipe of that name is no unfinished file, and is not written to.
    fs::remove_file(scene.target().join("file")).unwrap();
    std::os::unix::fs::symlink(scene.path("outside/precious"), scene.target().join(&partial)).unwrap();
    let report = scene.restore(std::slice::from_ref(&entry));
    assert_eq!((report.files, report.bytes_written), (1, 100 * 50_000));
    assert_eq!(names(&scene.target()), ["file"]);
    scene.assert_nothing_outside();
}

#[test]
fn verifying_finds_what_is_not_as_it_was_written() {
    let scene = Scene::new();
    let small = FileData::Slice { chunk: scene.trees.chunk(b"small"), offset: 0, length: 5 };
    let slots = [data(scene.trees.chunk(&vec![3; 5_000_000]), 5_000_000), hole(100_000)];
    let entries = [
        entry("fifo", EntryContent::Fifo),
        entry("large", EntryContent::File(scene.trees.file(&slots))),
        symlink("link", Path::new("small")),
        entry("small", EntryContent::File(small)),
    ];
    let tree = scene.open(scene.trees.directory(&entries));
    let verify = || {
        let options = TreeRestoreOptions { in_place: true, verify: true, ..TreeRestoreOptions::default() };
        super::super::verify_alone(&tree, &scene.trees.repository, &scene.target(), &options).unwrap()
    };
    scene.restore(&entries);
    assert_eq!(verify().differing_count, 0);
    let path = |name: &str| scene.target().join(name);
    fs::write(path("small"), b"smell").unwrap();
    fs::File::options().write(true).open(path("large")).unwrap().write_all_at(b"?", 5_050_000).unwrap();
    fs::remove_file(path("link")).unwrap();
    std::os::unix::fs::symlink("large", path("link")).unwrap();
    fs::remove_file(path("fifo")).unwrap();
    assert_eq!(verify().differing_count, 4);
}

/// The medium may fail between the two readings.
#[test]
fn what_could_not_be_compared_is_not_verified() {
    let scene = Scene::new();
    let lost = FileData::Slice { chunk: absent(1), offset: 0, length: 5 };
    let mut large = scene.trees.file(&[data(absent(2), 5_000_000), hole(9)]);
    let FileData::Map { subtree, .. } = &mut large else { panic!("{large:?}") };
    subtree.id = absent(3);
    let entries = [entry("large", EntryContent::File(large)), entry("small", EntryContent::File(lost))];
    let tree = scene.open(scene.trees.directory(&entries));
    fs::create_dir_all(scene.target()).unwrap();
    fs::write(scene.target().join("large"), vec![3; 5_000_009]).unwrap();
    fs::write(scene.target().join("small"), b"small").unwrap();
    let options = TreeRestoreOptions { in_place: true, verify: true, ..TreeRestoreOptions::default() };
    let report =
        super::super::verify_alone(&tree, &scene.trees.repository, &scene.target(), &options).unwrap();
    let mut damaged: Vec<&[u8]> = report.damaged.iter().map(|one| &one.path[..]).collect();
    damaged.sort_unstable();
    assert_eq!((damaged, report.differing_count), (vec![&b"large"[..], b"small"], 0));
}
