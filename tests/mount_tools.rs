//! Images in the mount, used by the tools that administrators use: loop devices, file systems, qemu-img, rsync, tar.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::system::{LoopDevice, Mounted, Requirement, can_use, is_mounted, system};
use support::{CHUNK, World, allocated, wait_until, write_chunk};

fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 3, 1000);
    world.json(&["backup", "vm1.img", "vm1", "--tag", "weekly"]);
    world
}

fn assert_same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} is not {}", a.display(), b.display());
}

/// The main job: a partition of a revision is mounted from a loop device on the mount, also while `unmount` is called.
#[test]
fn a_file_system_in_a_revision_is_mounted_and_survives_unmount() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Loop, Requirement::Program("mkfs.ext4")])
    {
        return;
    }
    let world = World::new();
    let disk = world.image("disk.img", 32 << 20, &[]);
    system("mkfs.ext4", &["-q", "-F", disk.to_str().unwrap()]);
    let content = support::noise(42, 3_000_000);
    {
        let device = LoopDevice::attach(&disk, &[]);
        let inside = Mounted::mount(device.path(), world.path("inside"), "noatime");
        fs::write(inside.path().join("file"), &content).unwrap();
    }
    world.backup("disk.img", "disk");
    let mounted = Mounted::repository(&world, &[]);
    let device = LoopDevice::attach(&mounted.path().join("disk/latest.img"), &["--read-only"]);
    let inside = Mounted::mount(device.path(), world.path("inside"), "ro,noload");
    world.ok(&["unmount", "mnt"]);
    assert!(!is_mounted(mounted.path()));
    assert!(fs::read(inside.path().join("file")).unwrap() == content);
}

#[test]
fn qemu_img_sees_the_holes_and_no_difference() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("qemu-img")]) {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    let image = mounted.path().join("vm1/latest.img");
    let image = image.to_str().unwrap();
    let map = system("qemu-img", &["map", "--output=json", "-f", "raw", image]);
    let map: Vec<serde_json::Value> = serde_json::from_str(&map).unwrap();
    let number = |range: &serde_json::Value, key: &str| range[key].as_u64().unwrap() / CHUNK;
    let data: Vec<(u64, u64)> = map
        .iter()
        .filter(|range| range["data"] == true)
        .map(|range| (number(range, "start"), number(range, "length")))
        .collect();
    assert_eq!(data, [(0, 8), (16, 8), (32, 8), (48, 8)]);
    let original = world.path("vm1.img");
    let compare = ["compare", "-f", "raw", "-F", "raw", original.to_str().unwrap(), image];
    assert_eq!(system("qemu-img", &compare), "Images are identical.");
}

/// Fails unless a copy of the newest revision is the image, and takes the disk space of its data alone.
#[track_caller]
fn assert_sparse_copy(world: &World, copy: &Path) {
    assert_same(copy, &world.path("vm1.img"));
    File::open(copy).unwrap().sync_all().unwrap();
    // The file system may need a block to note down the extents.
    assert_eq!(allocated(copy) / CHUNK, 32, "{} bytes", allocated(copy));
}

#[test]
fn rsync_keeps_the_holes() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("rsync")]) {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    let image = mounted.path().join("vm1/latest.img");
    let copy = world.path("copy.img");
    system("rsync", &["-S", "--copy-links", image.to_str().unwrap(), copy.to_str().unwrap()]);
    assert_sparse_copy(&world, &copy);
}

#[test]
fn tar_keeps_the_holes() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("tar")]) {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    let (archive, directory) = (world.path("archive.tar"), world.path("extracted"));
    let streams = mounted.path().join("vm1");
    let (archive_name, from) = (archive.to_str().unwrap(), streams.to_str().unwrap());
    system("tar", &["-S", "-h", "-c", "-f", archive_name, "-C", from, "latest.img"]);
    assert_eq!(fs::metadata(&archive).unwrap().len() / CHUNK, 32, "holes are not in the archive");
    fs::create_dir(&directory).unwrap();
    system("tar", &["-x", "-f", archive_name, "-C", directory.to_str().unwrap()]);
    assert_sparse_copy(&world, &directory.join("latest.img"));
}

/// The first partition of a loop device, made known to the kernel; forgotten when dropped.
struct Partition<'a> {
    device: &'a LoopDevice,
}

impl<'a> Partition<'a> {
    fn of(device: &'a LoopDevice) -> Self {
        let partition = Self { device };
        if !partition.path().exists() {
            // This kernel reads no partition tables by itself.
            system("partx", &["--add", device.name()]);
        }
        wait_until("the partition is there", || partition.path().exists());
        partition
    }

    fn path(&self) -> PathBuf {
        format!("{}p1", self.device.name()).into()
    }
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        let _ = Command::new("partx").args(["--delete", self.device.name()]).output();
    }
}

/// The main job: a partition of a revision, by way of the disk's partition table, has the files that went in.
#[test]
fn the_partitions_of_a_disk_in_a_revision_have_the_files_that_went_in() {
    let programs = ["sfdisk", "partx", "mkfs.ext4", "diff"].map(Requirement::Program);
    if !can_use(&[&[Requirement::Root, Requirement::Fuse, Requirement::Loop], &programs[..]].concat()) {
        return;
    }
    let world = World::new();
    let disk = world.image("disk.img", 48 << 20, &[]);
    fs::write(world.path("table"), "label: gpt\nstart=1MiB, type=linux\n").unwrap();
    let (disk_name, table) = (disk.to_str().unwrap(), world.path("table"));
    system("sh", &["-c", "sfdisk --quiet \"$0\" <\"$1\"", disk_name, table.to_str().unwrap()]);
    let files = world.path("files");
    fs::create_dir_all(files.join("etc/deep/er")).unwrap();
    fs::write(files.join("etc/deep/er/large"), support::noise(1, 5_000_000)).unwrap();
    (0..200)
        .for_each(|n| fs::write(files.join(format!("etc/{n}")), support::noise(n, n as usize * 40)).unwrap());
    std::os::unix::fs::symlink("deep/er/large", files.join("etc/link")).unwrap();
    {
        let device = LoopDevice::attach(&disk, &["--partscan"]);
        let partition = Partition::of(&device);
        let partition = partition.path();
        system("mkfs.ext4", &["-q", partition.to_str().unwrap()]);
        let inside = Mounted::mount(&partition, world.path("inside"), "noatime");
        system("cp", &["-a", files.to_str().unwrap(), inside.path().to_str().unwrap()]);
    }
    world.backup("disk.img", "disk");
    // What happens afterwards is another revision.
    write_chunk(&disk, 16, 1);
    world.backup("disk.img", "disk");

    let mounted = Mounted::repository(&world, &[]);
    let name = world.revisions("disk@1")[0]["name"].as_str().unwrap().to_owned();
    let revision = mounted.path().join(format!("disk/{name}.img"));
    let device = LoopDevice::attach(&revision, &["--read-only", "--partscan"]);
    let partition = Partition::of(&device);
    let inside = Mounted::mount(&partition.path(), world.path("inside"), "ro,noload");
    let found = inside.path().join("files");
    system("diff", &["-r", "--no-dereference", files.to_str().unwrap(), found.to_str().unwrap()]);
}
