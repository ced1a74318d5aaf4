//! `treering restore --delete` of trees: what goes, and what stays.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::oracle::{RESTORED, assert_same};
use support::system::{LoopDevice, Mounted, Requirement, can_use, system};
use support::trees::{MIB, assert_names, number, partial_name, small};
use support::{World, settle};

#[test]
fn delete_removes_what_the_revision_does_not_have_and_nothing_outside() {
    let world = small();
    let out = world.path("out");
    world.ok(&["restore", "home", "out"]);
    fs::create_dir(world.path("outside")).unwrap();
    fs::write(world.path("outside/precious"), b"precious").unwrap();
    fs::create_dir_all(out.join("extra/sub/deeper")).unwrap();
    fs::write(out.join("extra/sub/file"), b"x").unwrap();
    symlink(world.path("outside"), out.join("extra/way-out")).unwrap();
    symlink(world.path("outside"), out.join("dir/way-out")).unwrap();
    symlink(world.path("outside"), out.join("zzz")).unwrap();
    // A link in the place of a directory of the revision.
    fs::remove_dir_all(out.join("dir/sub")).unwrap();
    symlink(world.path("outside"), out.join("dir/sub")).unwrap();
    world.fails(2, &["restore", "home", "out", "--delete"], &["--delete needs --in-place or --overwrite"]);
    let said = world.json(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_eq!(said["removed"], 7);
    assert_same(&world.path("home"), &out, RESTORED);
    assert_names(&world.path("outside"), &["precious"]);
}

#[test]
fn a_directory_in_the_way_goes_if_it_is_empty_or_with_delete() {
    let world = small();
    let out = world.path("out");
    world.ok(&["restore", "home", "out"]);
    for name in ["a", "link", "large"] {
        fs::remove_file(out.join(name)).unwrap();
        fs::create_dir(out.join(name)).unwrap();
    }
    fs::write(out.join("a/kept"), b"kept").unwrap();
    fs::write(out.join("large/kept"), b"kept").unwrap();
    let run = world.run(&["restore", "home", "out", "--in-place", "--json"]).expect_code(1);
    run.says(&["out/a: a directory that is not empty is in the way", "out/large", "--delete"]);
    assert_eq!(run.json()["error"]["problems"], 2);
    assert_eq!(fs::read(out.join("a/kept")).unwrap(), b"kept");
    assert!(out.join("link").is_symlink());
    world.ok(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_same(&world.path("home"), &out, RESTORED);
}

#[test]
fn delete_leaves_what_is_mounted_below_the_target() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = small();
    world.ok(&["restore", "home", "out"]);
    fs::create_dir(world.path("outside")).unwrap();
    fs::write(world.path("outside/precious"), b"precious").unwrap();
    let bind = |to: &str| {
        let path = world.path(to);
        fs::create_dir_all(&path).unwrap();
        system("mount", &["--bind", world.path("outside").to_str().unwrap(), path.to_str().unwrap()]);
        Mounted::take_over(path)
    };
    // A directory that the revision has, and one that it does not have.
    let mounts = [bind("out/dir/sub"), bind("out/extra/below")];
    let run = world.run(&["restore", "home", "out", "--in-place", "--delete"]).expect_code(1);
    run.says(&["cannot remove out/extra/below: it is a mount point or a subvolume"]);
    assert_names(&world.path("outside"), &["c", "precious"]);
    drop(mounts);
}

/// What the backup did not store may have its only copy here.
#[test]
fn nothing_is_removed_where_the_backup_left_something_out() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir_all(home.join("dir")).unwrap();
    fs::create_dir(home.join("whole")).unwrap();
    fs::write(home.join("dir/precious.log"), b"precious").unwrap();
    fs::write(home.join("dir/text"), b"text").unwrap();
    fs::write(home.join("whole/text"), b"text").unwrap();
    settle();
    world.ok(&["backup", "home", "--exclude", "*.log"]);
    fs::write(home.join("whole/new"), b"new").unwrap();
    fs::remove_file(home.join("dir/text")).unwrap();
    fs::create_dir(home.join("dir/text")).unwrap();
    fs::write(home.join("dir/text/kept"), b"kept").unwrap();
    let run = world.run(&["restore", "home", "home", "--in-place", "--delete", "--json"]).expect_code(1);
    run.says(&[
        "1 name that the revision does not have is kept in home/dir",
        "left something out",
        "home/dir/text: a directory that is not empty is in the way",
    ]);
    let said = &run.json()["error"];
    assert_eq!((&said["removed"], &said["problems"]), (&1.into(), &2.into()), "{said:#}");
    assert_eq!(fs::read(home.join("dir/precious.log")).unwrap(), b"precious");
    assert_names(&home.join("dir/text"), &["kept"]);
    assert_names(&home.join("whole"), &["text"]);
    // That something is kept is no reason not to read back the rest.
    fs::remove_dir_all(home.join("dir/text")).unwrap();
    let arguments = ["restore", "home", "home", "--in-place", "--delete", "--verify", "--json"];
    let said = &world.run(&arguments).expect_code(1).json()["error"];
    assert_eq!((number(said, "problems"), number(said, "bytes_verified")), (1, 8), "{said:#}");
    // Where nothing has to be kept, nothing is said.
    fs::remove_file(home.join("dir/precious.log")).unwrap();
    world.ok(&["restore", "home", "home", "--in-place", "--delete"]);
}

#[test]
fn subvolumes_count_as_other_file_systems() {
    let programs = [Requirement::Program("mkfs.btrfs"), Requirement::Program("btrfs")];
    if !can_use(&[Requirement::Root, Requirement::Loop, programs[0], programs[1]]) {
        return;
    }
    let world = World::new();
    let file = world.image("disk", 256 << 20, &[]);
    system("mkfs.btrfs", &["-q", file.to_str().unwrap()]);
    let device = LoopDevice::attach(&file, &[]);
    let mounted = Mounted::mount(device.path(), world.path("bm"), "noatime");
    let home = mounted.path().join("home");
    fs::create_dir(&home).unwrap();
    let vms = home.join("vms");
    system("btrfs", &["-q", "subvolume", "create", vms.to_str().unwrap()]);
    fs::write(vms.join("disk"), b"precious").unwrap();
    fs::write(home.join("text"), b"text").unwrap();
    settle();
    world.ok(&["backup", "bm/home", "home", "--one-file-system"]);
    fs::create_dir(home.join("extra")).unwrap();
    let inner = home.join("extra/inner");
    system("btrfs", &["-q", "subvolume", "create", inner.to_str().unwrap()]);
    fs::write(inner.join("disk"), b"precious").unwrap();
    let run = world.run(&["restore", "home", "bm/home", "--in-place", "--delete"]).expect_code(1);
    run.says(&["cannot remove bm/home/extra/inner: it is a mount point or a subvolume"]);
    assert_eq!(fs::read(vms.join("disk")).unwrap(), b"precious");
    assert_eq!(fs::read(inner.join("disk")).unwrap(), b"precious");
}

#[test]
fn what_an_interrupted_restore_has_written_is_used_and_not_removed() {
    let world = small();
    let (home, out) = (world.path("home"), world.path("out"));
    let content = fs::read(home.join("large")).unwrap();
    for (options, written) in [(&["--in-place", "--delete"][..], 2 * MIB), (&["--in-place"], 2 * MIB)] {
        fs::create_dir(&out).unwrap();
        fs::write(out.join(partial_name("large")), &content[..10 * MIB]).unwrap();
        // Others are of no use: of an entry that is small, that is there already, or that there is not.
        fs::create_dir(out.join("dir")).unwrap();
        for name in ["dir/b", "dir/gone"] {
            fs::write(out.join("dir").join(partial_name(name)), b"old").unwrap();
        }
        let said = world.json(&[&["restore", "home", "out"], options].concat());
        let rest = number(&said, "bytes_written") as usize;
        assert!((written - 256 * 1024..=written + 512 * 1024).contains(&rest), "{said:#}");
        if options.contains(&"--delete") {
            assert_same(&home, &out, RESTORED);
        }
        fs::remove_dir_all(&out).unwrap();
    }
    world.ok(&["restore", "home", "out"]);
    fs::write(out.join(partial_name("large")), b"of a run that was followed by another").unwrap();
    let said = world.json(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_eq!(number(&said, "removed"), 1);
    assert_same(&home, &out, RESTORED);
}

#[test]
fn delete_is_refused_where_it_would_do_nothing() {
    let world = small();
    fs::write(world.path("file"), b"there").unwrap();
    let options = ["--in-place", "--delete"];
    let run = [&["restore", "home", "file", "--path", "a"][..], &options].concat();
    world.fails(2, &run, &["--delete is for directories, and a is none"]);
    assert_eq!(fs::read(world.path("file")).unwrap(), b"there");
    world.ok(&[&["restore", "home", "part", "--path", "dir"][..], &options].concat());
    let missing = [&["restore", "home", "part", "--path", "nothing"][..], &options].concat();
    world.fails(1, &missing, &["has no entry 'nothing'"]);
}

/// e2fsck makes it anew, but without the blocks that it keeps ready.
#[test]
fn delete_leaves_what_stands_in_the_root_of_a_file_system() {
    let world = small();
    let out = world.path("out");
    world.ok(&["restore", "home", "out"]);
    fs::create_dir_all(out.join("lost+found/found")).unwrap();
    fs::create_dir(out.join("dir/lost+found")).unwrap();
    assert_eq!(world.json(&["restore", "home", "out", "--in-place", "--delete"])["removed"], 1);
    assert_names(&out.join("lost+found"), &["found"]);
    assert!(!out.join("dir/lost+found").exists());
    // Anything else of that name is no such thing.
    fs::remove_dir_all(out.join("lost+found")).unwrap();
    fs::write(out.join("lost+found"), b"a file").unwrap();
    assert_eq!(world.json(&["restore", "home", "out", "--in-place", "--delete"])["removed"], 1);
    assert_same(&world.path("home"), &out, RESTORED);
    // What the revision has is restored as anything else.
    fs::create_dir(world.path("home/lost+found")).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    fs::create_dir_all(out.join("lost+found/extra")).unwrap();
    assert_eq!(world.json(&["restore", "home", "out", "--in-place", "--delete"])["removed"], 1);
    assert_same(&world.path("home"), &out, RESTORED);
}
