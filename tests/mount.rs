//! `treering mount` and `treering unmount`, through the program and the kernel.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use support::system::{LoopDevice, Mounted, Requirement, can_use, is_mounted, system};
use support::{CHUNK, World, allocated, assert_keys, flip_bit, wait_until, write_chunk};

fn can_mount() -> bool {
    can_use(&[Requirement::Root, Requirement::Fuse])
}

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

/// Mounts in front, and waits until the mount is there.
fn mount_in_front(world: &World, options: &[&str]) -> (Child, Mounted) {
    fs::create_dir_all(world.path("mnt")).unwrap();
    let arguments = [&["mount", "mnt", "-f"], options].concat();
    let child = world.start(&arguments);
    wait_until("the mount answers", || world.path("mnt/vm1").exists());
    (child, Mounted::take_over(world.path("mnt")))
}

#[test]
fn the_mount_answers_when_the_command_returns() {
    if !can_mount() {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    assert!(is_mounted(mounted.path()));
    assert_same(&mounted.path().join("vm1/latest.img"), &world.path("vm1.img"));
    for revision in world.revisions("vm1") {
        let (name, id) = (revision["name"].as_str().unwrap(), revision["id"].as_str().unwrap());
        let file = mounted.path().join(format!("vm1/{name}.img"));
        assert!(fs::read(&file).unwrap() == world.dump(&format!("vm1@{name}")));
        assert_same(&mounted.path().join(format!("vm1/by-id/{id}.img")), &file);
        assert_eq!((allocated(&file), fs::metadata(&file).unwrap().mode() & 0o7777), (32 * CHUNK, 0o440));
    }
    let newest = world.revisions("vm1@latest")[0]["name"].as_str().unwrap().to_owned();
    assert_same(&mounted.path().join(format!("vm1/by-tag/weekly/{newest}.img")), &world.path("vm1.img"));
    world.ok(&["unmount", "mnt"]);
    assert!(!is_mounted(mounted.path()));
}

#[test]
fn the_json_names_mount_point_and_repository() {
    if !can_mount() {
        return;
    }
    let world = world();
    fs::create_dir(world.path("mnt")).unwrap();
    let mounted = Mounted::take_over(world.path("mnt"));
    let said = world.json(&["mount", "mnt"]);
    assert_keys(&said, &["mountpoint", "repository", "process"]);
    assert_eq!(said["mountpoint"], mounted.path().to_str().unwrap());
    let process = said["process"].as_u64().unwrap();
    let directory = fs::read_link(format!("/proc/{process}/cwd")).unwrap();
    assert_eq!(directory, Path::new("/"), "the server keeps no directory busy");
    assert_eq!(fs::read_link(format!("/proc/{process}/fd/1")).unwrap(), Path::new("/dev/null"));
    assert_keys(&world.json(&["unmount", "mnt"]), &["mountpoint"]);
    wait_until("the server has ended", || !Path::new(&format!("/proc/{process}")).exists());
}

#[test]
fn what_cannot_be_mounted_fails_in_front_with_the_next_step() {
    if !can_use(&[Requirement::Fuse]) {
        return;
    }
    let world = world();
    fs::create_dir(world.path("mnt")).unwrap();
    for (arguments, words) in [
        (&["mount", "missing"][..], &["cannot", "missing", "No such file", "hint:"][..]),
        (&["mount", "vm1.img"], &["cannot mount on", "hint:"]),
        (&["mount", "repo"], &["it is the repository", "hint:"]),
        (&["mount", "mnt", "vm9"], &["cannot mount on mnt: there is no stream 'vm9'", "streams: vm1"]),
        (&["mount", "mnt", "-r", "nowhere"], &["is not a repository", "treering init"]),
        (&["unmount", "mnt"], &["nothing is mounted on", "hint:"]),
    ] {
        world.fails(1, arguments, words);
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let error = world.run(&arguments).expect_code(1).json();
        assert_keys(&error["error"], &["message", "hint", "code"]);
    }
    assert!(!is_mounted(&world.path("mnt")));
}

#[test]
fn a_second_mount_needs_a_place_of_its_own() {
    if !can_mount() {
        return;
    }
    let world = world();
    let _mounted = Mounted::repository(&world, &[]);
    world.fails(1, &["mount", "mnt"], &["something is mounted there", "hint:"]);
    fs::create_dir(world.path("second")).unwrap();
    let second = Mounted::take_over(world.path("second"));
    world.ok(&["mount", "second"]);
    assert_same(&second.path().join("vm1/latest.img"), &world.path("vm1.img"));
    world.ok(&["unmount", "second"]);
    world.ok(&["unmount", "mnt"]);
}

#[test]
fn streams_owner_and_cache_are_chosen() {
    if !can_mount() {
        return;
    }
    let world = world();
    world.small_image("web.img");
    world.backup("web.img", "web");
    let options = ["web", "--owner", "1234:5678", "--cache", "1M", "--threads", "1"];
    let mounted = Mounted::repository(&world, &options);
    let names: Vec<_> =
        fs::read_dir(mounted.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["web"]);
    let file = mounted.path().join("web/latest.img");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 5678));
    assert_same(&file, &world.path("web.img"));
}

#[test]
fn a_new_revision_appears_and_open_files_stay() {
    if !can_mount() {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    let latest = mounted.path().join("vm1/latest.img");
    let before = fs::read(world.path("vm1.img")).unwrap();
    let open = File::open(&latest).unwrap();
    write_chunk(&world.path("vm1.img"), 0, 2000);
    world.backup("vm1.img", "vm1");
    let now = fs::read(world.path("vm1.img")).unwrap();
    wait_until("the new revision appears", || fs::read(&latest).unwrap() == now);
    let mut bytes = vec![0; before.len()];
    open.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == before);
}

#[test]
fn a_mount_in_front_ends_with_the_first_signal() {
    if !can_mount() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let world = world();
        let (mut child, mounted) = mount_in_front(&world, &[]);
        kill_process(Pid::from_child(&child), signal).unwrap();
        wait_until("the mount has ended", || child.try_wait().unwrap().is_some());
        let run = support::Run::of(&["mount", "-f"], child.wait_with_output().unwrap()).expect_code(0);
        run.says(&["is mounted on mnt", "Ctrl-C"]);
        assert!(!is_mounted(mounted.path()));
    }
}

#[test]
fn the_first_signal_serves_what_is_open_and_the_second_ends_at_once() {
    if !can_mount() {
        return;
    }
    let world = world();
    let (mut child, mounted) = mount_in_front(&world, &[]);
    let open = File::open(mounted.path().join("vm1/latest.img")).unwrap();
    let process = Pid::from_child(&child);
    kill_process(process, Signal::INT).unwrap();
    wait_until("the mount is off the tree", || !is_mounted(mounted.path()));
    let mut bytes = vec![0; CHUNK as usize];
    open.read_exact_at(&mut bytes, 20 * CHUNK).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it serves what is open");
    kill_process(process, Signal::INT).unwrap();
    wait_until("the process has ended", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(open.read_exact_at(&mut bytes, 40 * CHUNK).is_err());
}

#[test]
fn a_mount_whose_process_died_is_cleared() {
    if !can_mount() {
        return;
    }
    let world = world();
    for clears in ["unmount", "mount"] {
        let (mut child, mounted) = mount_in_front(&world, &[]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(fs::read_dir(mounted.path()).is_err(), "the endpoint is dead");
        world.ok(&[clears, "mnt"]);
        assert_eq!(is_mounted(mounted.path()), clears == "mount");
        fs::read_dir(mounted.path()).unwrap();
    }
}

#[test]
fn what_is_not_ours_is_not_unmounted() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    let mounted = Mounted::mount_type("tmpfs", world.path("mnt"));
    world.fails(1, &["unmount", "mnt"], &["not a mount of Treering", "hint:"]);
    assert!(is_mounted(mounted.path()));
}

#[test]
fn damage_is_an_error_of_its_range_alone_and_is_logged() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let _mounted = Mounted::repository(&world, &["--log-file", "log"]);
    world.stored_files("packs/data").iter().for_each(|pack| flip_bit(pack, 200));
    let file = File::open(world.path("mnt/vm1/latest.img")).unwrap();
    let mut bytes = vec![0; CHUNK as usize];
    let error = file.read_exact_at(&mut bytes, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    file.read_exact_at(&mut bytes, 20 * CHUNK).unwrap();
    assert!(bytes == fs::read(image).unwrap()[20 * CHUNK as usize..21 * CHUNK as usize]);
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert!(log.contains("vm1") && log.contains("damaged"), "{log}");
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
fn backups_and_mounts_do_not_hinder_each_other() {
    if !can_mount() {
        return;
    }
    let world = world();
    let mounted = Mounted::repository(&world, &[]);
    let open = File::open(mounted.path().join("vm1/latest.img")).unwrap();
    for seed in 0..5 {
        write_chunk(&world.path("vm1.img"), seed, 3000 + seed);
        world.backup("vm1.img", "vm1");
    }
    let mut bytes = vec![0; CHUNK as usize];
    open.read_exact_at(&mut bytes, 3 * CHUNK).unwrap();
    assert_eq!(world.revisions("vm1").len(), 7);
}
