//! Block devices that `treering restore` must not write, and that `treering backup` must not read.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::path::Path;

use support::system::{LoopDevice, Mounted, Requirement, can_use, system};
use support::{CHUNK, World};

fn can_attach() -> bool {
    can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")])
}

/// A world with a small image, and a file of 40 MiB for a disk.
fn world() -> World {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.image("disk", 40 << 20, &[]);
    world
}

#[track_caller]
fn refused(world: &World, target: &Path, words: &[&str]) {
    for option in ["--overwrite", "--in-place"] {
        world.fails(1, &["restore", "vm1", target.to_str().unwrap(), option], words);
    }
}

/// A loop device does not hold its file: a file system was once overwritten that was mounted from another one.
#[test]
fn a_file_system_that_is_mounted_through_another_loop_device_is_not_written() {
    if !can_attach() {
        return;
    }
    let world = world();
    let (one, other) =
        (LoopDevice::attach(&world.path("disk"), &[]), LoopDevice::attach(&world.path("disk"), &[]));
    system("mkfs.ext4", &["-q", one.name()]);
    {
        let _mounted = Mounted::mount(one.path(), world.path("mounted"), "noatime");
        refused(&world, one.path(), &["it is mounted on", "unmount it first"]);
        refused(
            &world,
            other.path(),
            &["disk, which it is a loop device on, is in use by", one.name(), "losetup -d"],
        );
    }
    system("e2fsck", &["-n", "-f", one.name()]);
    drop(one);
    world.ok(&["restore", "vm1", other.name(), "--overwrite"]);
}

#[test]
fn a_device_with_a_loop_device_on_it_is_not_written() {
    if !can_attach() {
        return;
    }
    let world = world();
    let disk = LoopDevice::attach(&world.path("disk"), &[]);
    let part = LoopDevice::attach(disk.path(), &["--offset", "1048576"]);
    refused(&world, disk.path(), &["it is in use by", part.name(), "losetup -d"]);
    // The part itself may be written: only it is on the disk.
    world.ok(&["restore", "vm1", part.name(), "--overwrite", "--verify"]);
    drop(part);
    world.ok(&["restore", "vm1", disk.name(), "--overwrite"]);
}

#[test]
fn a_loop_device_on_a_file_of_the_repository_is_not_written() {
    if !can_attach() {
        return;
    }
    let world = world();
    let pack = world.stored_files("packs/data").remove(0);
    let content = fs::read(&pack).unwrap();
    let device = LoopDevice::attach(&pack, &[]);
    refused(&world, device.path(), &["lies in the repository"]);
    let above = LoopDevice::attach(device.path(), &[]);
    refused(&world, above.path(), &["lies in the repository"]);
    assert!(fs::read(&pack).unwrap() == content);
}

#[test]
fn a_read_only_device_is_called_so() {
    if !can_attach() {
        return;
    }
    let world = world();
    let device = LoopDevice::attach(&world.path("disk"), &["--read-only"]);
    refused(&world, device.path(), &["it is read-only", "blockdev --setrw"]);
}

/// A device that has lost its medium was once backed up as an image of no bytes, which became the newest revision.
#[test]
fn a_device_of_no_bytes_is_no_source() {
    if !can_attach() {
        return;
    }
    let world = world();
    fs::write(world.path("empty"), "").unwrap();
    let device = LoopDevice::attach(&world.path("empty"), &[]);
    world.fails(1, &["backup", device.name(), "vm1"], &["a device of no bytes", "no medium"]);
    assert_eq!(world.revisions("vm1@latest")[0]["size"], 64 * CHUNK);
}
