//! `treering restore`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::process::Command;

use support::system::{LoopDevice, Mounted, Requirement, can_use, system};
use support::{
    CHUNK, Run, World, allocated, assert_keys, flip_bit, interrupt, noise, wait_until, write_at, write_chunk,
};

fn world() -> World {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world
}

fn assert_same_files(a: &std::path::Path, b: &std::path::Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} is not {}", a.display(), b.display());
}

#[test]
fn a_new_file_has_the_bytes_and_the_holes() {
    let world = world();
    let said = world.json(&["restore", "vm1", "out.img"]);
    assert_keys(
        &said,
        &["size", "data_bytes", "bytes_written", "bytes_compared", "bytes_verified", "tail_bytes"],
    );
    assert_eq!((&said["size"], &said["bytes_written"]), (&(64 * CHUNK).into(), &(32 * CHUNK).into()));
    assert_same_files(&world.path("out.img"), &world.path("vm1.img"));
    assert_eq!(allocated(&world.path("out.img")), 32 * CHUNK);
    let names: Vec<_> =
        fs::read_dir(world.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing but image, repository and target: {names:?}");
}

#[test]
fn any_revision_can_be_restored_and_is_named() {
    let world = world();
    let before = fs::read(world.path("vm1.img")).unwrap();
    write_chunk(&world.path("vm1.img"), 3, 1000);
    world.backup("vm1.img", "vm1");
    let text = world.ok(&["restore", "vm1@1", "old.img", "--verify"]).text();
    assert!(text.contains("vm1@") && text.contains("verified"), "{text}");
    assert!(fs::read(world.path("old.img")).unwrap() == before);
}

#[test]
fn an_existing_file_needs_an_option() {
    let world = world();
    fs::write(world.path("out.img"), "precious").unwrap();
    world.fails(1, &["restore", "vm1", "out.img"], &["it exists", "--overwrite", "--in-place"]);
    assert_eq!(fs::read(world.path("out.img")).unwrap(), b"precious");
    world.ok(&["restore", "vm1", "out.img", "--overwrite", "--verify"]);
    assert_same_files(&world.path("out.img"), &world.path("vm1.img"));
    assert_eq!(allocated(&world.path("out.img")), 32 * CHUNK);
}

#[test]
fn in_place_writes_only_differences_and_clears_stale_data() {
    let world = world();
    // Stale data everywhere, holes included, and a longer file; a few chunks are right already.
    fs::write(world.path("out.img"), noise(9, 70 * CHUNK as usize)).unwrap();
    let image = fs::read(world.path("vm1.img")).unwrap();
    write_at(&world.path("out.img"), 0, &image[..4 * CHUNK as usize]);
    let said = world.json(&["restore", "vm1", "out.img", "--in-place", "--verify"]);
    assert_eq!(said["bytes_written"], 28 * CHUNK);
    assert_eq!(said["bytes_verified"], 64 * CHUNK);
    assert_same_files(&world.path("out.img"), &world.path("vm1.img"));
    assert_eq!(allocated(&world.path("out.img")), 32 * CHUNK, "stale data became holes");
    let again = world.json(&["restore", "vm1", "out.img", "--in-place"]);
    assert_eq!(again["bytes_written"], 0);
    assert!(again["bytes_compared"].as_u64().unwrap() >= 32 * CHUNK);
}

#[test]
fn in_place_into_a_file_that_is_not_there_makes_it() {
    let world = world();
    world.ok(&["restore", "vm1", "out.img", "--in-place"]);
    assert_same_files(&world.path("out.img"), &world.path("vm1.img"));
}

#[test]
fn every_refusal_has_its_own_message() {
    let world = world();
    fs::create_dir(world.path("directory")).unwrap();
    world.fails(1, &["restore", "vm1", "directory"], &["it is a directory", "hint:"]);
    world.fails(1, &["restore", "vm1", "repo/out.img"], &["it lies in the repository", "hint:"]);
    world.fails(1, &["restore", "vm1", "/dev/null"], &["neither a file nor a block device", "hint:"]);
    world.fails(1, &["restore", "vm1", "missing/out.img"], &["cannot", "missing"]);
    world.fails(2, &["restore", "vm1", "-"], &["is not stdout", "treering dump"]);
    world.fails(1, &["restore", "vm1", "new/"], &["named as a directory", "leave the slash"]);
    world.fails(1, &["restore", "vm2", "out.img"], &["cannot restore vm2 to out.img", "streams: vm1"]);
    world.fails(1, &["restore", "vm1@3", "out.img"], &["no revision of 'vm1' matches '3'"]);
    world.fails(2, &["restore", "vm1@all", "out.img"], &["one revision is wanted"]);
    assert!(!world.path("out.img").exists() && !world.path("repo/out.img").exists());
}

#[test]
fn a_device_gets_the_image_and_keeps_its_tail() {
    if !can_use(&[Requirement::Root, Requirement::Loop]) {
        return;
    }
    let world = world();
    let disk = world.path("disk");
    fs::write(&disk, noise(3, 66 * CHUNK as usize)).unwrap();
    let device = LoopDevice::attach(&disk, &[]);
    world.fails(
        1,
        &["restore", "vm1", device.name()],
        &["there is something on it", "--overwrite", "--in-place"],
    );
    let run =
        world.run(&["restore", "vm1", device.name(), "--overwrite", "--verify", "--json"]).expect_code(0);
    run.says(&["is longer than the image", &(2 * CHUNK).to_string()]);
    assert_eq!(run.json()["tail_bytes"], 2 * CHUNK);
    let quiet = world.ok(&["-q", "restore", "vm1", device.name(), "--in-place"]);
    quiet.says(&["treering: warning:", "is longer than the image"]);
    let restored = fs::read(device.path()).unwrap();
    assert!(restored[..64 * CHUNK as usize] == fs::read(world.path("vm1.img")).unwrap());
    assert!(restored[64 * CHUNK as usize..] == noise(3, 66 * CHUNK as usize)[64 * CHUNK as usize..]);
    write_chunk(device.path(), 10, 1000);
    let said = world.json(&["restore", "vm1", device.name(), "--in-place", "--verify"]);
    assert_eq!(said["bytes_written"], 0, "chunk 10 is a hole of the image");
    assert!(
        fs::read(device.path()).unwrap()[..64 * CHUNK as usize] == fs::read(world.path("vm1.img")).unwrap()
    );
}

#[test]
fn an_empty_device_needs_no_option_and_a_small_one_is_refused() {
    if !can_use(&[Requirement::Root, Requirement::Loop]) {
        return;
    }
    let world = world();
    let large = world.image("large", 64 * CHUNK, &[]);
    let device = LoopDevice::attach(&large, &[]);
    assert_eq!(world.json(&["restore", "vm1", device.name()])["tail_bytes"], 0);
    assert!(fs::read(device.path()).unwrap() == fs::read(world.path("vm1.img")).unwrap());
    drop(device);
    let small = world.image("small", 63 * CHUNK, &[]);
    let device = LoopDevice::attach(&small, &[]);
    world.fails(1, &["restore", "vm1", device.name()], &["it has", "the image needs", "larger device"]);
}

#[test]
fn a_mounted_device_and_a_file_behind_a_loop_device_are_refused() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = world();
    let disk = world.image("disk", 16 << 20, &[]);
    system("mkfs.ext4", &["-q", "-F", disk.to_str().unwrap()]);
    let device = LoopDevice::attach(&disk, &[]);
    let file_in_use = ["restore", "vm1", "disk", "--overwrite"];
    world.fails(1, &file_in_use, &["it is in use by /dev/loop", "hint:"]);
    let mounted = Mounted::mount(device.path(), world.path("mounted"), "noatime");
    let refused = ["restore", "vm1", device.name(), "--overwrite"];
    world.fails(1, &refused, &["it is mounted on", mounted.path().to_str().unwrap(), "unmount it first"]);
    fs::write(mounted.path().join("file"), "still works").unwrap();
}

#[test]
fn damage_is_named_and_ends_with_4_without_a_half_image() {
    let world = world();
    world.damage_data_packs();
    let run = world.run(&["restore", "vm1", "out.img", "--json"]).expect_code(4);
    run.says(&["vm1@", "damaged", "could not be read", "scrub"]);
    let ranges = run.json()["error"]["ranges"].as_array().unwrap().clone();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0]["length"], CHUNK);
    assert!(!world.path("out.img").exists());
    run.says(&["all other bytes were restored to", "out.img.treering-partial"]);
    let partial = fs::read(world.path("out.img.treering-partial")).unwrap();
    let image = fs::read(world.path("vm1.img")).unwrap();
    let differing = partial.iter().zip(&image).filter(|(a, b)| a != b).count() as u64;
    assert!(differing > 0 && differing <= CHUNK && partial.len() == image.len());
}

#[test]
fn damage_in_place_leaves_what_was_there_and_says_so() {
    let world = world();
    world.damage_data_packs();
    let image = fs::read(world.path("vm1.img")).unwrap();
    fs::write(world.path("out.img"), vec![0xee; image.len()]).unwrap();
    let run = world.run(&["restore", "vm1", "out.img", "--in-place", "--json"]).expect_code(4);
    run.says(&["out.img still has what was there before", "scrub"]);
    let start = run.json()["error"]["ranges"][0]["offset"].as_u64().unwrap() as usize;
    let end = start + CHUNK as usize;
    let restored = fs::read(world.path("out.img")).unwrap();
    assert!(restored[start..end].iter().all(|&byte| byte == 0xee));
    assert!(restored[..start] == image[..start] && restored[end..] == image[end..]);
}

#[test]
fn a_damaged_map_is_damage() {
    let world = world();
    world.stored_files("packs/metadata").iter().for_each(|pack| {
        for offset in (64..fs::metadata(pack).unwrap().len()).step_by(16) {
            flip_bit(pack, offset);
        }
    });
    world.fails(4, &["restore", "vm1", "out.img"], &["cannot restore vm1"]);
    assert!(!world.path("out.img").exists());
}

#[test]
fn an_empty_image_and_one_of_holes_can_be_restored() {
    let world = World::new();
    for (name, size) in [("empty", 0), ("holes", 100 * CHUNK + 5)] {
        world.image(name, size, &[]);
        world.backup(name, name);
        let target = format!("{name}.out");
        world.ok(&["restore", name, &target, "--verify"]);
        assert_eq!(fs::metadata(world.path(&target)).unwrap().len(), size);
        assert_eq!(allocated(&world.path(&target)), 0);
    }
}

#[test]
fn an_interrupted_restore_is_continued_in_place() {
    let world = World::new();
    let chunks: Vec<u64> = (0..3000).collect();
    let image = world.image("vm1.img", 3000 * CHUNK, &chunks);
    world.backup("vm1.img", "vm1");
    let (target, partial) = (world.path("out.img"), world.path("out.img.treering-partial"));
    // Whether the signal comes in time is chance: try until it does.
    for _ in 0..20 {
        let child = world.start(&["restore", "vm1", "out.img", "--json"]);
        wait_until("it has begun to write", || {
            target.exists() || fs::metadata(&partial).is_ok_and(|_| allocated(&partial) > 0)
        });
        interrupt(&child);
        let run = Run::of(&["restore"], child.wait_with_output().unwrap());
        if run.code == Some(0) {
            fs::remove_file(&target).unwrap();
            continue;
        }
        let run = run.expect_code(130);
        run.says(&["interrupted", "--in-place goes on"]);
        assert_eq!(run.json()["error"]["code"], 130);
        assert!(!target.exists() && partial.exists(), "there is no half image under the target's name");
        let said = world.json(&["restore", "vm1", "out.img", "--in-place"]);
        assert!(said["bytes_written"].as_u64().unwrap() < 3000 * CHUNK, "what was there was used");
        assert_same_files(&target, &image);
        assert!(!partial.exists());
        return;
    }
    panic!("no restore was ever interrupted half-way");
}

#[test]
fn a_restore_works_from_a_read_only_copy() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    let repository = world.repository();
    let path = repository.to_str().unwrap();
    system("mount", &["--bind", path, path]);
    let mounted = Bound(path.to_owned());
    system("mount", &["-o", "remount,ro,bind", path]);
    assert!(File::create(repository.join("x")).is_err());
    world.ok(&["restore", "vm1", "out.img", "--verify"]);
    world.ok(&["scrub"]);
    world.ok(&["list", "vm1"]);
    world.fails(1, &["backup", "vm1.img", "vm1"], &["cannot", "read-only"]);
    drop(mounted);
    assert_same_files(&world.path("out.img"), &world.path("vm1.img"));
}

/// Through a bind mount the repository's own files once were a target like any other.
#[test]
fn the_repository_is_refused_as_a_target_under_whatever_name() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    for shown in ["repo", "repo/packs/data"] {
        let place = world.path("elsewhere");
        fs::create_dir_all(&place).unwrap();
        system("mount", &["--bind", world.path(shown).to_str().unwrap(), place.to_str().unwrap()]);
        let mounted = Bound(place.to_str().unwrap().to_owned());
        world.fails(1, &["restore", "vm1", "elsewhere/new.img"], &["it lies in the repository"]);
        let pack = world.stored_files("packs/data").pop().unwrap();
        let pack = place.join(pack.strip_prefix(world.path(shown)).unwrap());
        let pack = pack.to_str().unwrap();
        world.fails(1, &["restore", "vm1", pack, "--overwrite"], &["it lies in the repository"]);
        drop(mounted);
    }
    world.ok(&["scrub"]);
}

/// The partial file's suffix once made such a name too long.
#[test]
fn the_longest_names_can_be_restored_to() {
    let world = world();
    for (length, last) in [(255, "a"), (255, "b"), (240, "a"), (237, "a"), (238, "a")] {
        let name = "n".repeat(length - 1) + last;
        world.ok(&["restore", "vm1", &name]);
        assert_same_files(&world.path(&name), &world.path("vm1.img"));
    }
}

/// A bind mount, taken down when dropped.
struct Bound(String);

impl Drop for Bound {
    fn drop(&mut self) {
        system("umount", &[&self.0]);
    }
}

/// It once destroyed the repository.
#[test]
fn a_hard_link_to_a_file_of_the_repository_is_no_target() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    fs::hard_link(world.path("repo/treering-repository"), world.path("link")).unwrap();
    for option in ["--in-place", "--overwrite"] {
        world.fails(1, &["restore", "vm1", "link", option], &["hard link to a file of the repository"]);
    }
    fs::write(world.path("first"), b"").unwrap();
    fs::hard_link(world.path("first"), world.path("second")).unwrap();
    world.ok(&["restore", "vm1", "second", "--in-place"]);
}

/// Where a file system knows neither holes nor a way to zero a range, zeros are written.
#[test]
fn stale_data_is_overwritten_where_nothing_makes_holes() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    let plain = Mounted::mount_type("ramfs", world.path("plain"));
    let target = plain.path().join("out.img");
    for option in ["--overwrite", "--in-place"] {
        fs::write(&target, noise(3, 66 * CHUNK as usize)).unwrap();
        let punched = Command::new("fallocate").args(["-p", "-l", "65536"]).arg(&target).output().unwrap();
        assert!(!punched.status.success(), "this file system can make holes, so nothing is tried");
        let restored = world.json(&["restore", "vm1", target.to_str().unwrap(), option, "--verify"]);
        assert!(restored["bytes_verified"].as_u64().unwrap() > 0);
        assert_same_files(&target, &world.path("vm1.img"));
    }
}
