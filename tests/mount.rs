//! `treering mount` and `treering unmount`, through the program and the kernel.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::system::{Mounted, Requirement, can_use, is_mounted, system};
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
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
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

/// The path once was followed anew with every look: through a directory that was gone by then.
#[test]
fn a_mount_keeps_its_repository_whatever_becomes_of_the_path_to_it() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    fs::create_dir(world.path("aside")).unwrap();
    std::os::unix::fs::symlink("repo", world.path("link")).unwrap();
    let mounted = Mounted::repository(&world, &["-r", "aside/../link"]);
    fs::remove_dir(world.path("aside")).unwrap();
    fs::remove_file(world.path("link")).unwrap();
    std::os::unix::fs::symlink("/", world.path("link")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(fs::read_dir(mounted.path().join("vm1")).unwrap().count(), 4);
    assert!(
        fs::read(mounted.path().join("vm1/latest.img")).unwrap() == fs::read(world.path("vm1.img")).unwrap()
    );
}

#[test]
fn a_read_only_copy_of_the_repository_is_mounted() {
    if !can_mount() {
        return;
    }
    let world = world();
    system("cp", &["-r", world.repository().to_str().unwrap(), world.path("copy").to_str().unwrap()]);
    let copy = Mounted::mount(&world.path("copy"), world.path("medium"), "bind,ro");
    assert!(File::create(copy.path().join("x")).is_err());
    let mounted = Mounted::repository(&world, &["-r", "medium"]);
    assert_same(&mounted.path().join("vm1/latest.img"), &world.path("vm1.img"));
    assert_eq!(fs::read_dir(mounted.path().join("vm1/by-id")).unwrap().count(), 2);
    // The repository that it was copied from goes its own way.
    world.backup("vm1.img", "vm1");
    assert_eq!(world.json(&["list", "vm1", "-r", "medium"])["revisions"].as_array().unwrap().len(), 2);
    world.ok(&["unmount", "mnt"]);
}

#[test]
fn a_mount_begins_and_ends_while_a_backup_runs() {
    if !can_mount() {
        return;
    }
    let world = world();
    let content = support::noise(5, 20 * CHUNK as usize);
    let arguments = ["backup", "-", "vm2"];
    let mut backup = world.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = backup.stdin.take().unwrap();
    input.write_all(&content).unwrap();
    wait_until("the backup has made its claim", || !world.stored_files("sessions").is_empty());
    let mounted = Mounted::repository(&world, &[]);
    assert_same(&mounted.path().join("vm1/latest.img"), &world.path("vm1.img"));
    world.ok(&["unmount", "mnt"]);
    assert!(backup.try_wait().unwrap().is_none(), "it waits for the rest of its input");
    drop(input);
    support::Run::of(&arguments, backup.wait_with_output().unwrap()).expect_code(0);
    assert!(world.dump("vm2") == content);
}

// How the processes of a mount start, live and end.

#[test]
fn a_hang_up_of_the_server_opens_the_log_anew_and_ends_nothing() {
    if !can_mount() {
        return;
    }
    let world = world();
    fs::create_dir(world.path("mnt")).unwrap();
    let mounted = Mounted::take_over(world.path("mnt"));
    let said = world.json(&["mount", "mnt", "--log-file", "log"]);
    let server = Pid::from_raw(said["process"].as_i64().unwrap() as i32).unwrap();
    fs::rename(world.path("log"), world.path("log.1")).unwrap();
    kill_process(server, Signal::HUP).unwrap();
    assert_same(&mounted.path().join("vm1/latest.img"), &world.path("vm1.img"));
    kill_process(server, Signal::TERM).unwrap();
    wait_until("the server has ended", || rustix::process::test_kill_process(server).is_err());
    let log = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    assert!(log("log").contains("has ended"), "{}", log("log.1"));
    assert!(!log("log.1").contains("has ended"));
}

/// Each time that the image was opened anew there was another line.
#[test]
fn a_damaged_chunk_is_logged_once_however_often_the_image_is_opened() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let mounted = Mounted::repository(&world, &["--log-file", "log"]);
    world.damage_data_packs();
    for _ in 0..3 {
        assert!(fs::read(mounted.path().join("vm1/latest.img")).is_err());
    }
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert_eq!(log.matches("cannot read the chunk").count(), 1, "{log}");
}
