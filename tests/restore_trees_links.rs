//! `treering restore` of trees: names of one and the same, also where no link can be made.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use support::oracle::{RESTORED, assert_same};
use support::system::{Mounted, Requirement, can_use, system};
use support::trees::{MIB, let_user_in, number, small};
use support::{World, noise, settle};

/// A world with a revision of files with several names, in three directories.
fn linked() -> World {
    let world = World::new();
    let home = world.path("home");
    for directory in ["one", "three", "two"] {
        fs::create_dir_all(home.join(directory)).unwrap();
    }
    fs::write(home.join("one/small"), b"text").unwrap();
    fs::write(home.join("one/large"), noise(3, 9 * MIB)).unwrap();
    for directory in ["three", "two"] {
        for name in ["small", "large"] {
            fs::hard_link(home.join("one").join(name), home.join(directory).join(name)).unwrap();
            fs::hard_link(home.join("one").join(name), home.join(directory).join(format!("{name}-too")))
                .unwrap();
        }
    }
    settle();
    world.ok(&["backup", "home"]);
    world
}

fn inode(path: &Path) -> (u64, u64) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.dev(), metadata.ino())
}

#[test]
fn what_can_not_be_linked_becomes_a_file_of_its_own() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = linked();
    let (home, out) = (world.path("home"), world.path("out"));
    fs::create_dir(&out).unwrap();
    let mounted = Mounted::mount_type("tmpfs", out.join("two"));
    let run = world.run(&["restore", "home", "out", "--in-place", "--json"]).expect_code(1);
    run.says(&["2 names were made files of their own instead of hard links"]);
    assert_eq!(number(&run.json()["error"], "files"), 10);
    for name in ["small", "large"] {
        let names = [("one", name.to_owned()), ("three", name.to_owned()), ("two", name.to_owned())];
        for (directory, name) in names {
            assert!(
                fs::read(out.join(directory).join(&name)).unwrap()
                    == fs::read(home.join("one").join(&name)).unwrap()
            );
        }
        // On each file system they are one.
        let too = format!("{name}-too");
        assert_eq!(inode(&out.join("two").join(name)), inode(&out.join("two").join(&too)));
        assert_eq!(inode(&out.join("one").join(name)), inode(&out.join("three").join(&too)));
    }
    drop(mounted);
}

#[test]
fn a_first_name_that_is_blocked_takes_no_other_down() {
    let world = linked();
    let (home, out) = (world.path("home"), world.path("out"));
    for name in ["small", "large"] {
        fs::create_dir_all(out.join("one").join(name)).unwrap();
        fs::write(out.join("one").join(name).join("kept"), b"kept").unwrap();
    }
    let run = world.run(&["restore", "home", "out", "--in-place"]).expect_code(1);
    run.says(&["out/one/small: a directory that is not empty is in the way", "2 entries"]);
    for name in ["small", "large"] {
        let made = out.join("three").join(name);
        assert!(fs::read(&made).unwrap() == fs::read(home.join("one").join(name)).unwrap());
        assert_eq!(fs::metadata(&made).unwrap().nlink(), 4);
    }
    world.ok(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_same(&home, &out, RESTORED);
}

#[test]
fn devices_with_several_names_are_left_out_as_others_are() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    system("mknod", &[home.join("a").to_str().unwrap(), "c", "1", "3"]);
    fs::hard_link(home.join("a"), home.join("b")).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    let_user_in(&world);
    let run = world.run_as_user(&["restore", "home", "his/out", "--verify", "--json"]).expect_code(0);
    let said = run.json();
    assert_eq!((number(&said, "devices_skipped"), number(&said, "problems")), (2, 0), "{said:#}");
    // What has a device's name stays.
    fs::write(world.path("his/out/a"), "a file").unwrap();
    world.run_as_user(&["restore", "home", "his/out", "--in-place", "--verify"]).expect_code(0);
    assert_eq!(fs::read(world.path("his/out/a")).unwrap(), b"a file");
}

#[test]
fn hard_links_are_one_file_again_also_in_a_part() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir_all(home.join("one")).unwrap();
    fs::create_dir_all(home.join("two")).unwrap();
    fs::write(home.join("one/a"), b"text").unwrap();
    fs::hard_link(home.join("one/a"), home.join("one/b")).unwrap();
    fs::hard_link(home.join("one/a"), home.join("two/c")).unwrap();
    fs::write(home.join("one/large"), noise(3, 9 * MIB)).unwrap();
    fs::hard_link(home.join("one/large"), home.join("two/large")).unwrap();
    fs::hard_link(home.join("one/large"), home.join("two/large-too")).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    let inode = |path: &str| fs::metadata(world.path(path)).unwrap().ino();
    world.ok(&["restore", "home", "part", "--path", "one"]);
    assert_eq!(inode("part/a"), inode("part/b"));
    assert_eq!(fs::metadata(world.path("part/a")).unwrap().nlink(), 2);
    let said = world.json(&["restore", "home", "out", "--verify"]);
    assert_eq!(number(&said, "bytes_verified"), number(&said, "size"), "{said:#}");
    assert_same(&home, &world.path("out"), RESTORED);
    // Names that were torn apart become one again, those of others' files are left alone.
    fs::remove_file(world.path("out/two/c")).unwrap();
    fs::write(world.path("elsewhere"), b"text").unwrap();
    fs::hard_link(world.path("elsewhere"), world.path("out/two/c")).unwrap();
    fs::remove_file(world.path("out/two/large")).unwrap();
    fs::copy(world.path("home/one/large"), world.path("out/two/large")).unwrap();
    let said = world.json(&["restore", "home", "out", "--in-place", "--verify"]);
    assert_same(&home, &world.path("out"), RESTORED);
    assert_eq!(number(&said, "bytes_written"), 0);
    assert_eq!(fs::metadata(world.path("elsewhere")).unwrap().nlink(), 1);
    // Two groups that became one file part again.
    world.ok(&["restore", "home", "single", "--path", "one/b"]);
    assert_eq!(fs::metadata(world.path("single")).unwrap().nlink(), 1);
}

#[test]
fn what_has_other_names_outside_is_never_changed() {
    let world = small();
    let out = world.path("out");
    world.ok(&["restore", "home", "out"]);
    for name in ["a", "large"] {
        let outside = world.path(&format!("outside-{name}"));
        fs::write(&outside, noise(7, 5000)).unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(out.join(name)).unwrap();
        fs::hard_link(&outside, out.join(name)).unwrap();
    }
    // The same content and another mode: not even that is changed.
    fs::copy(world.path("home/dir/b"), world.path("outside-b")).unwrap();
    fs::set_permissions(world.path("outside-b"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(out.join("dir/b")).unwrap();
    fs::hard_link(world.path("outside-b"), out.join("dir/b")).unwrap();
    world.ok(&["restore", "home", "out", "--in-place"]);
    assert_same(&world.path("home"), &out, RESTORED);
    for name in ["outside-a", "outside-large", "outside-b"] {
        let metadata = fs::metadata(world.path(name)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1), "{name}");
    }
    assert!(fs::read(world.path("outside-a")).unwrap() == noise(7, 5000));
    assert!(fs::read(world.path("outside-large")).unwrap() == noise(7, 5000));
}
