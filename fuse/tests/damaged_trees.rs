//! Damage in trees: EIO where something is gone, one line about it, and everything else is served.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use support::damage::{blobs, flip, lines_about, record_lines};
use support::{Fixture, can_mount, names};
use treering_engine::Repository;
use treering_fuse::{Errno, FileSystem, Ino, Owner, Room};

/// A repository with a tree of a large file and two others in a stream of this name.
fn tree_fixture(stream: &str) -> Fixture {
    record_lines();
    let fixture = Fixture::new();
    support::make_image(&fixture.image(), 1);
    fixture.back_up("an-image-beside", &[]);
    let tree = fixture.path("tree");
    std::fs::create_dir(&tree).unwrap();
    let mut numbers = support::Numbers::new(7);
    for (name, length) in [("large", 4 << 20), ("other", 300_000), ("small", 100)] {
        std::fs::write(tree.join(name), numbers.bytes(length)).unwrap();
    }
    fixture.back_up_tree(stream);
    fixture
}

/// Reads a file in pages with nothing in the kernel's memory: gives where pages failed, and checks all other bytes.
fn failed_pages(original: &Path, shown: &Path) -> BTreeSet<u64> {
    let bytes = std::fs::read(original).unwrap();
    let file = File::open(shown).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut failed = BTreeSet::new();
    for (page, expected) in (0..).zip(bytes.chunks(4096)) {
        let mut buffer = vec![0xee; expected.len()];
        match file.read_exact_at(&mut buffer, page * 4096) {
            Ok(()) => assert!(buffer == expected, "wrong bytes in page {page}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "{error} in page {page}");
                failed.insert(page);
            }
        }
    }
    failed
}

#[test]
fn a_flipped_bit_costs_a_file_of_a_tree_its_chunk_alone_and_one_line() {
    if !can_mount("a_flipped_bit_costs_a_file_of_a_tree_its_chunk_alone_and_one_line") {
        return;
    }
    let stream = "flipped-in-a-tree";
    let fixture = tree_fixture(stream);
    let mounted = fixture.mount();
    let shown = |name: &str| mounted.path(&format!("{stream}/latest/{name}"));
    let failed = |name: &str| failed_pages(&fixture.path("tree").join(name), &shown(name));
    assert_eq!(failed("large"), BTreeSet::new());
    // The large file takes most of the newest pack; images are in the other one.
    let packs = fixture.stored("packs/data");
    let pack = packs.iter().max_by_key(|pack| std::fs::metadata(pack).unwrap().modified().unwrap()).unwrap();
    let middle = std::fs::metadata(pack).unwrap().len() / 2;
    for round in 1..=2 {
        flip(pack, middle);
        // What was verified before may come from memory: another mount has none.
        let other = fixture.mount();
        let shown = |name: &str| other.path(&format!("{stream}/latest/{name}"));
        let failed = |name: &str| failed_pages(&fixture.path("tree").join(name), &shown(name));
        let pages = failed("large");
        let span = pages.last().unwrap() - pages.first().unwrap() + 1;
        assert!(span as usize == pages.len() && span <= 129, "more than one chunk: {pages:?}");
        assert_eq!(failed("large"), pages);
        assert!(failed("other").is_empty() && failed("small").is_empty());
        assert_eq!(lines_about(stream).len(), round, "{:?}", lines_about(stream));
        // It is read again as soon as it is whole, by the same mount.
        flip(pack, middle);
        assert_eq!(failed("large"), BTreeSet::new());
        assert_eq!(names(&other.path(&format!("{stream}/latest/"))), ["large", "other", "small"]);
    }
}

#[test]
fn lost_metadata_of_a_tree_is_an_error_and_not_the_end_of_the_mount() {
    if !can_mount("lost_metadata_of_a_tree_is_an_error_and_not_the_end_of_the_mount") {
        return;
    }
    let stream = "lost-directories";
    let fixture = tree_fixture(stream);
    let mounted = fixture.mount();
    let moved = |from: &str, to: &str| {
        std::fs::rename(fixture.path("repository").join(from), fixture.path("repository").join(to)).unwrap();
    };
    moved("packs/metadata", "packs/away");
    std::fs::create_dir(fixture.path("repository/packs/metadata")).unwrap();
    let latest = mounted.path(&format!("{stream}/latest"));
    for _ in 0..2 {
        assert_eq!(std::fs::metadata(&latest).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(std::fs::read_dir(latest.join("")).unwrap_err().raw_os_error(), Some(5));
    }
    assert_eq!(names(&mounted.path(stream)).len(), 4);
    assert_eq!(lines_about(stream).len(), 1, "{:?}", lines_about(stream));
    std::fs::remove_dir(fixture.path("repository/packs/metadata")).unwrap();
    moved("packs/away", "packs/metadata");
    assert_eq!(names(&latest.join("")), ["large", "other", "small"]);
    let same = |name| {
        std::fs::read(latest.join(name)).unwrap() == std::fs::read(fixture.path("tree").join(name)).unwrap()
    };
    assert!(same("large") && same("small"));
}

/// A passing error once used up the one line of an entry, or of a directory, for the life of the mount.
#[test]
fn what_was_read_well_again_is_worth_another_line() {
    let stream = "passing-errors-of-a-tree";
    let fixture = tree_fixture(stream);
    let list = rustix::fs::XattrFlags::empty();
    let long = vec![b'x'; 3000];
    let has_attributes = rustix::fs::setxattr(fixture.path("tree/small"), "user.long", &long, list).is_ok();
    fixture.back_up_tree(stream);
    // Nothing is kept in memory.
    let repository = Repository::open(&fixture.path("repository"), 0).unwrap();
    let fs = FileSystem::new(repository, &[], Owner { uid: 1, gid: 2 }).unwrap();
    let home = fs.lookup(Ino::ROOT, stream).unwrap().ino;
    let root = fs.lookup(home, fs.read_link(fs.lookup(home, "latest").unwrap().ino).unwrap()).unwrap().ino;
    let small = fs.lookup(root, "small").unwrap().ino;
    // Held by a handle, the tree itself stays open.
    let handle = fs.open_directory(root).unwrap();
    let ask = |what: usize| -> Result<(), Errno> {
        match what {
            0 => fs.attributes(small).map(drop),
            1 => fs.extended_attribute(small, b"user.long").map(drop),
            _ => {
                let handle = fs.open_directory(root)?;
                let listed = fs.read_directory(handle, 0, &mut |_| Room::Left);
                fs.release_directory(handle);
                listed
            }
        }
    };
    let mut hits = [0; 3];
    for pack in fixture.stored("packs") {
        for blob in blobs(&pack) {
            for (what, hits) in hits.iter_mut().enumerate() {
                let before = lines_about(stream).len();
                let mut failed = 0;
                for _ in 0..3 {
                    flip(&pack, blob + 20);
                    // However often it is asked for meanwhile.
                    failed += usize::from(ask(what).is_err() && ask(what).is_err());
                    flip(&pack, blob + 20);
                    let _ = ask(what);
                }
                assert_eq!(lines_about(stream).len() - before, failed, "{what}: {:?}", lines_about(stream));
                *hits += failed;
            }
        }
    }
    fs.release_directory(handle);
    assert!(hits[0] > 0 && hits[2] > 0 && (hits[1] > hits[0] || !has_attributes), "{hits:?}");
}
