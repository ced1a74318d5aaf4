//! Revisions that are forgotten, and taken by a gc elsewhere, while they are read from a medium that takes no pin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use support::damage::{lines_about, record_lines};
use support::{CHUNK, Fixture, Numbers, eventually, note, run};
use treering_engine::Repository;
use treering_fuse::{Errno, FileSystem, Ino, Owner, Room};

/// A read-only view of a directory that others can change.
struct ReadOnly(PathBuf);

impl ReadOnly {
    /// `None`, said loudly, where this can't be made.
    fn of(directory: &Path, place: PathBuf, test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            note(&format!("SKIPPED {test}: needs root"));
            return None;
        }
        fs::create_dir(&place).unwrap();
        run("mount", &[OsStr::new("-o"), OsStr::new("bind,ro"), directory.as_os_str(), place.as_os_str()]);
        Some(Self(place))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        run("umount", &[self.0.as_os_str()]);
    }
}

/// What a gc elsewhere does with what no record reaches and no pin holds.
fn forget_all(fixture: &Fixture) {
    for file in ["revisions", "packs", "index"].iter().flat_map(|area| fixture.stored(area)) {
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_is_gone_is_stale_if_nothing_kept_it_and_damaged_if_its_revision_is_there() {
    let test = "what_is_gone_is_stale_if_nothing_kept_it_and_damaged_if_its_revision_is_there";
    record_lines();
    let (images, trees) = ("forgotten-images", "forgotten-trees");
    let fixture = Fixture::new();
    support::make_image(&fixture.image(), 1);
    fixture.back_up(images, &[]);
    fs::create_dir(fixture.path("tree")).unwrap();
    fs::write(fixture.path("tree/file"), Numbers::new(1).bytes(3 << 20)).unwrap();
    fixture.back_up_tree(trees);
    let Some(medium) = ReadOnly::of(&fixture.path("repository"), fixture.path("medium"), test) else {
        return;
    };
    let open = |path: &Path| {
        let repository = Repository::open(path, 0).unwrap();
        FileSystem::new(repository, &[], Owner { uid: 1, gid: 2 }).unwrap()
    };
    let damaged = open(&medium.0);
    let find = |fs: &FileSystem, stream: &str, link: &str| {
        let home = fs.lookup(Ino::ROOT, stream).unwrap().ino;
        let latest = fs.read_link(fs.lookup(home, link).unwrap().ino).unwrap();
        fs.lookup(home, latest).unwrap().ino
    };
    let fs = open(&medium.0);
    let image = fs.open(find(&fs, images, "latest.img")).unwrap();
    let root = find(&fs, trees, "latest");
    let entry = fs.lookup(root, "file").unwrap().ino;
    let file = fs.open(entry).unwrap();
    let directory = fs.open_directory(root).unwrap();
    assert!(fixture.stored("pins").is_empty());
    // Damage is damage, also where nothing is pinned.
    let packs = fixture.path("repository/packs");
    fs::rename(&packs, fixture.path("packs")).unwrap();
    let other = damaged.open(find(&damaged, images, "latest.img"));
    assert_eq!(other.map(drop), Err(Errno::Unreadable));
    fs::rename(fixture.path("packs"), &packs).unwrap();
    forget_all(&fixture);
    let mut bytes = [0; 100];
    let home = fs.lookup(Ino::ROOT, images).unwrap().ino;
    eventually("the image is gone", || fs.lookup(home, "latest.img").is_err());
    let home = fs.lookup(Ino::ROOT, trees).unwrap().ino;
    eventually("the tree is gone", || fs.lookup(home, "latest").is_err());
    for _ in 0..2 {
        assert_eq!(fs.read(image, 200 * CHUNK, &mut bytes), Err(Errno::Stale));
        assert_eq!(fs.read(file, 1 << 20, &mut bytes), Err(Errno::Stale));
    }
    for stream in [images, trees] {
        let lines = lines_about(&format!("{stream}@"));
        let of_reads = lines.iter().filter(|line| !line.starts_with("cannot open"));
        assert_eq!(of_reads.count(), 1, "{lines:?}");
    }
    assert_eq!(fs.read_directory(directory, 0, &mut |_| Room::Left), Err(Errno::Stale));
    // An entry that the kernel holds, when its tree is not open any more.
    fs.release(file);
    fs.release_directory(directory);
    // Longer than a tree stays open that nobody reads.
    std::thread::sleep(std::time::Duration::from_secs(9));
    assert_eq!(fs.attributes(entry), Err(Errno::Stale));
    assert_eq!(fs.lookup(home, "latest").map(drop), Err(Errno::NotFound));
}
