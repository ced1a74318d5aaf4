//! Block devices that `treering restore` must not write, and that `treering backup` must not read.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use support::system::{LoopDevice, Mounted, Requirement, can_use, system};
use support::{CHUNK, World};

fn can_attach() -> bool {
    can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")])
}

/// A partition of a loop device, removed when dropped. It needs no table: not every kernel reads these.
struct Partition<'a> {
    device: &'a LoopDevice,
    number: &'static str,
}

impl<'a> Partition<'a> {
    /// Start and size are in sectors of 512 bytes.
    #[track_caller]
    fn add(device: &'a LoopDevice, number: &'static str, start: &str, size: &str) -> Self {
        system("addpart", &[device.name(), number, start, size]);
        Self { device, number }
    }

    fn name(&self) -> String {
        format!("{}p{}", self.device.name(), self.number)
    }
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        let _ = Command::new("delpart").args([self.device.name(), self.number]).status();
    }
}

/// Swap on a device, until dropped.
struct Swap<'a>(&'a LoopDevice);

impl<'a> Swap<'a> {
    #[track_caller]
    fn on(device: &'a LoopDevice) -> Self {
        system("swapon", &[device.name()]);
        Self(device)
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(self.0.name()).status();
    }
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
        refused(&world, other.path(), &["disk, which it lies on, is in use by", one.name(), "losetup -d"]);
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

/// Nothing but the partition is mounted, and that was once overwritten.
#[test]
fn a_loop_device_on_a_disk_is_not_written_while_a_partition_of_the_disk_is_mounted() {
    if !can_attach() || !can_use(&[Requirement::Program("addpart")]) {
        return;
    }
    let world = world();
    let disk = LoopDevice::attach(&world.path("disk"), &["--partscan"]);
    let first = Partition::add(&disk, "1", "2048", "32768");
    let second = Partition::add(&disk, "2", "34816", "32768");
    system("mkfs.ext4", &["-q", &first.name()]);
    let above = LoopDevice::attach(disk.path(), &[]);
    {
        let _mounted = Mounted::mount(Path::new(&first.name()), world.path("mounted"), "noatime");
        let reason = format!("{}, which it lies on, is in use", disk.name());
        refused(&world, above.path(), &[&reason, "unmount its partitions"]);
    }
    system("e2fsck", &["-n", "-f", &first.name()]);
    let above_second = LoopDevice::attach(Path::new(&second.name()), &[]);
    refused(&world, above.path(), &["is in use by", above_second.name(), "as well"]);
    drop(above);
    let _mounted = Mounted::mount(Path::new(&first.name()), world.path("mounted"), "noatime");
    world.ok(&["restore", "vm1", above_second.name(), "--overwrite", "--verify"]);
}

#[test]
fn a_loop_device_is_not_written_while_swap_is_on_what_it_lies_on() {
    if !can_attach() || !can_use(&[Requirement::Program("mkswap"), Requirement::Program("swapon")]) {
        return;
    }
    let world = world();
    let disk = LoopDevice::attach(&world.path("disk"), &[]);
    let above = LoopDevice::attach(disk.path(), &[]);
    system("mkswap", &[disk.name()]);
    let _swap = Swap::on(&disk);
    refused(&world, above.path(), &[disk.name(), "which it lies on, is in use", "lsblk"]);
}

/// Partitions of an image are often reached so.
#[test]
fn loop_devices_on_other_parts_of_a_file_or_device_are_not_in_the_way() {
    if !can_attach() {
        return;
    }
    let world = world();
    let disk = LoopDevice::attach(&world.path("disk"), &[]);
    let file = world.image("parted", 40 << 20, &[]);
    for below in [file.as_path(), disk.path()] {
        let first = LoopDevice::attach(below, &["--offset", "1048576", "--sizelimit", "16777216"]);
        let last = LoopDevice::attach(below, &["--offset", "17825792"]);
        system("mkfs.ext4", &["-q", first.name()]);
        let _mounted = Mounted::mount(first.path(), world.path("mounted"), "noatime");
        world.ok(&["restore", "vm1", last.name(), "--overwrite", "--verify"]);
        let across = LoopDevice::attach(below, &["--offset", "17825280", "--sizelimit", "8388608"]);
        refused(&world, across.path(), &["is in use by", "as well", "losetup -d"]);
        refused(&world, last.path(), &["is in use by", across.name(), "as well"]);
    }
}

#[test]
fn loop_devices_on_one_file_are_found_whatever_its_name_is_and_was() {
    if !can_attach() {
        return;
    }
    let world = world();
    for name in [&b"white \t "[..], b"line\n", b"l\xe4tin"] {
        let file = world.directory().join(OsStr::from_bytes(name));
        fs::rename(world.path("disk"), &file).unwrap();
        let (one, other) = (LoopDevice::attach(&file, &[]), LoopDevice::attach(&file, &[]));
        refused(&world, one.path(), &["is in use by", other.name(), "as well"]);
        fs::rename(&file, world.path("disk")).unwrap();
    }
    let (one, other) =
        (LoopDevice::attach(&world.path("disk"), &[]), LoopDevice::attach(&world.path("disk"), &[]));
    fs::remove_file(world.path("disk")).unwrap();
    refused(&world, one.path(), &["(deleted)", "is in use by", other.name(), "as well"]);
    // Another file that has the name now is another file.
    world.image("disk", 40 << 20, &[]);
    let new = LoopDevice::attach(&world.path("disk"), &[]);
    world.ok(&["restore", "vm1", new.name(), "--overwrite"]);
    drop(other);
    world.ok(&["restore", "vm1", one.name(), "--overwrite"]);
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
