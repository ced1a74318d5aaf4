//! `treering restore` of trees: who may read and write what is restored, while it is written and afterwards.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::{XattrFlags, setxattr};
use support::oracle::{RESTORED, acl, assert_same, attributes};
use support::system::{Mounted, Requirement, can_use, system};
use support::trees::{MIB, assert_names, give_to_user, leftovers, let_user_in, number, partial_name, small};
use support::{World, noise, settle, write_at};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[test]
fn two_restores_of_one_file_keep_out_of_each_others_way() {
    let world = small();
    for name in ["a", "large"] {
        let partial = world.path(&partial_name("one"));
        fs::write(&partial, b"what the other one has written").unwrap();
        let other = File::open(&partial).unwrap();
        other.lock().unwrap();
        for options in [&[][..], &["--in-place"]] {
            let run = [&["restore", "home", "one", "--path", name], options].concat();
            world.fails(1, &run, &["one: another restore is writing it"]);
        }
        assert!(!world.path("one").exists());
        assert_eq!(fs::read(&partial).unwrap(), b"what the other one has written");
        drop(other);
        world.ok(&["restore", "home", "one", "--path", name]);
        assert_same(&world.path("home").join(name), &world.path("one"), RESTORED);
        assert!(!partial.exists());
        fs::remove_file(world.path("one")).unwrap();
    }
}

/// One that lies in the other's target, so that they have no directory in common that both lock.
#[test]
fn a_restore_into_the_target_of_another_leaves_what_that_is_writing() {
    let world = small();
    world.ok(&["restore", "home", "out"]);
    let out = world.path("out");
    fs::remove_file(out.join("large")).unwrap();
    fs::write(out.join("a"), b"changed").unwrap();
    let partials = ["a", "large"].map(|name| out.join(partial_name(name)));
    let locked = partials.clone().map(|partial| {
        fs::write(&partial, b"of the other one").unwrap();
        let file = File::open(partial).unwrap();
        file.lock().unwrap();
        file
    });
    let run = world.run(&["restore", "home", "out", "--in-place"]).expect_code(1);
    run.says(&["out/a: another restore is writing it", "out/large: another restore is writing it"]);
    assert_eq!(fs::read(out.join("a")).unwrap(), b"changed");
    partials.iter().for_each(|partial| assert_eq!(fs::read(partial).unwrap(), b"of the other one"));
    drop(locked);
    world.ok(&["restore", "home", "out", "--in-place"]);
    assert_same(&world.path("home"), &out, RESTORED);
    assert!(leftovers(&out).is_empty());
}

/// A large file is mended for hours, in which everybody reads along who may read what was there.
#[test]
fn a_large_file_that_more_may_read_is_replaced() {
    let world = small();
    let (home, out) = (world.path("home"), world.path("out"));
    set_mode(&home.join("large"), 0o640);
    settle();
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out"]);
    let large = out.join("large");
    let stale = |mode: u32| {
        write_at(&large, 5, b"stale");
        set_mode(&large, mode);
        (File::open(&large).unwrap(), inode(&large))
    };
    for wider in [0o644, 0o660, 0o642] {
        let (held, before) = stale(wider);
        world.ok(&["restore", "home", "out", "--in-place"]);
        assert_ne!(inode(&large), before, "{wider:o}");
        let mut there = [0; 5];
        held.read_exact_at(&mut there, 5).unwrap();
        assert_eq!(&there, b"stale", "{wider:o}: nothing of the revision came into what was there");
        assert_same(&home, &out, RESTORED);
    }
    for narrower in [0o600, 0o640, 0o711] {
        let (_, before) = stale(narrower);
        world.ok(&["restore", "home", "out", "--in-place"]);
        assert_eq!(inode(&large), before, "{narrower:o}");
        assert_same(&home, &out, RESTORED);
    }
    // Whom an ACL names who is not named in the revision.
    stale(0o640);
    set_attribute(&large, "system.posix_acl_access", &acl(4321));
    set_mode(&large, 0o640);
    let before = inode(&large);
    world.ok(&["restore", "home", "out", "--in-place"]);
    assert_ne!(inode(&large), before);
    assert_same(&home, &out, RESTORED);
}

/// Who has it open for writing would go on writing to it.
#[test]
fn what_more_may_write_is_replaced_though_its_content_is_right() {
    let world = small();
    let (home, out) = (world.path("home"), world.path("out"));
    world.ok(&["restore", "home", "out"]);
    let names = ["a", "large"];
    let restore = |expected: &dyn Fn(u64, u64) -> bool, what: &str| {
        let before = names.map(|name| inode(&out.join(name)));
        world.ok(&["restore", "home", "out", "--in-place"]);
        for (name, before) in names.iter().zip(before) {
            assert!(expected(before, inode(&out.join(name))), "{name} {what}");
        }
        assert_same(&home, &out, RESTORED);
    };
    for wider in [0o666, 0o646, 0o664] {
        names.iter().for_each(|name| set_mode(&out.join(name), wider));
        let held = names.map(|name| File::options().write(true).open(out.join(name)).unwrap());
        restore(&|before, after| before != after, "may be written by more");
        held.iter().for_each(|file| file.write_all_at(b"EVIL", 1).unwrap());
        assert_same(&home, &out, RESTORED);
    }
    names.iter().for_each(|name| set_mode(&out.join(name), 0o755));
    restore(&|before, after| before == after, "may be run by more");
    names.iter().for_each(|name| {
        set_attribute(&out.join(name), "system.posix_acl_access", &acl(4321));
        set_mode(&out.join(name), 0o664);
    });
    restore(&|before, after| before != after, "may be written by somebody by name");
}

#[test]
fn a_capability_survives_that_the_owner_was_wrong() {
    if !can_use(&[Requirement::Root, Requirement::Program("setcap")]) {
        return;
    }
    let world = World::new();
    let (home, out) = (world.path("home"), world.path("out"));
    fs::create_dir(&home).unwrap();
    for (name, length) in [("small", 100), ("large", 5 * MIB)] {
        let path = home.join(name);
        fs::write(&path, noise(3, length)).unwrap();
        set_mode(&path, 0o755);
        system("setcap", &["cap_net_bind_service+ep", path.to_str().unwrap()]);
    }
    settle();
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out"]);
    assert_same(&home, &out, RESTORED);
    for name in ["small", "large"] {
        let path = out.join(name);
        let capability = &attributes(&path)["security.capability"];
        chown(&path, None, Some(4321)).unwrap();
        set_attribute(&path, "security.capability", capability);
    }
    world.ok(&["restore", "home", "out", "--in-place"]);
    assert_same(&home, &out, RESTORED);
}

#[test]
fn what_an_earlier_run_gave_an_unfinished_file_goes() {
    let world = small();
    let (home, out) = (world.path("home"), world.path("out"));
    let content = fs::read(home.join("large")).unwrap();
    for with_acl in [false, true] {
        fs::create_dir(&out).unwrap();
        let partial = out.join(partial_name("large"));
        fs::write(&partial, &content[..11 * MIB]).unwrap();
        set_attribute(&partial, "user.stale", b"of another revision");
        if with_acl {
            set_attribute(&partial, "system.posix_acl_access", &acl(4321));
        }
        let said = world.json(&["restore", "home", "out", "--in-place"]);
        let is_continued = number(&said, "bytes_written") < 4 * MIB as u64;
        assert_eq!(is_continued, !with_acl, "{said:#}");
        assert_same(&home, &out, RESTORED);
        fs::remove_dir_all(&out).unwrap();
    }
}

/// A world with a revision that the normal user can restore, of a directory that may not be written, and his directory.
fn for_user() -> World {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir_all(home.join("closed")).unwrap();
    fs::create_dir(home.join("shut")).unwrap();
    fs::write(home.join("closed/file"), b"in a closed directory").unwrap();
    fs::write(home.join("shut/file"), b"in a shut directory").unwrap();
    fs::write(home.join("read-only"), b"read only").unwrap();
    set_attribute(&home.join("read-only"), "user.a", b"1");
    set_mode(&home.join("read-only"), 0o444);
    fs::write(home.join("hidden"), b"hidden").unwrap();
    set_mode(&home.join("hidden"), 0o000);
    set_mode(&home.join("closed"), 0o555);
    set_mode(&home.join("shut"), 0o000);
    give_to_user(&home);
    settle();
    world.ok(&["backup", "home"]);
    let_user_in(&world);
    world
}

#[test]
fn reading_back_leaves_modes_as_they_are() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = for_user();
    let out = world.path("his/out");
    let run = world.run_as_user(&["restore", "home", "his/out", "--verify", "--json"]).expect_code(0);
    assert_eq!(number(&run.json(), "bytes_verified"), number(&run.json(), "size"));
    assert_same(&world.path("home"), &out, RESTORED);
    // The same where all is there already.
    world.run_as_user(&["restore", "home", "his/out", "--in-place", "--verify"]).expect_code(0);
    assert_same(&world.path("home"), &out, RESTORED);
    world.run_as_user(&["restore", "home", "his/closed", "--path", "closed", "--verify"]).expect_code(0);
    assert_same(&world.path("home/closed"), &world.path("his/closed"), RESTORED);
}

#[test]
fn a_restore_that_is_refused_changes_nothing() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = for_user();
    for mode_before in [0o555, 0o311, 0o000] {
        let target = world.path("his/target");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("kept"), b"kept").unwrap();
        give_to_user(&target);
        set_mode(&target, mode_before);
        let run = world.run_as_user(&["restore", "home", "his/target"]).expect_code(1);
        run.says(&["it is not empty"]);
        assert_eq!(mode(&target), mode_before);
        // With an option it is worked in, and gets what the revision says.
        world.run_as_user(&["restore", "home", "his/target", "--in-place", "--delete"]).expect_code(0);
        assert_same(&world.path("home"), &target, RESTORED);
        system("rm", &["-rf", target.to_str().unwrap()]);
    }
}

#[test]
fn what_can_not_be_removed_leaves_the_modes_above_it_as_they_were() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = for_user();
    world.run_as_user(&["restore", "home", "his/out"]).expect_code(0);
    let extra = world.path("his/out/extra");
    fs::create_dir_all(extra.join("roots")).unwrap();
    give_to_user(&extra);
    chown(extra.join("roots"), Some(0), Some(0)).unwrap();
    fs::write(extra.join("roots/file"), b"root's").unwrap();
    set_mode(&extra, 0o555);
    let run = world.run_as_user(&["restore", "home", "his/out", "--in-place", "--delete"]).expect_code(1);
    run.says(&["cannot remove his/out/extra/roots"]);
    assert_eq!(mode(&extra), 0o555);
}

#[test]
fn attributes_of_what_may_not_be_written_can_be_mended() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = for_user();
    world.run_as_user(&["restore", "home", "his/out"]).expect_code(0);
    let file = world.path("his/out/read-only");
    set_attribute(&file, "user.a", b"other");
    set_attribute(&file, "user.b", b"2");
    let before = inode(&file);
    let run = world.run_as_user(&["restore", "home", "his/out", "--in-place", "--json"]).expect_code(0);
    assert_eq!(number(&run.json(), "bytes_written"), 0);
    assert_eq!(inode(&file), before);
    assert_same(&world.path("home"), &world.path("his/out"), RESTORED);
}

/// Its owner may put something into it, or give it an ACL, at any time.
#[test]
fn an_empty_directory_of_another_user_is_no_private_one() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = small();
    let target = world.path("target");
    for mode in [0o755, 0o777, 0o1777] {
        fs::create_dir(&target).unwrap();
        give_to_user(&target);
        set_mode(&target, mode);
        world.ok(&["restore", "home", "target", "--verify"]);
        assert_same(&world.path("home"), &target, RESTORED);
        assert_names(&target, &["a", "dir", "large", "link"]);
        fs::remove_dir_all(&target).unwrap();
    }
}

#[test]
fn a_hint_names_no_option_that_is_refused() {
    let world = small();
    fs::create_dir_all(world.path("out/a")).unwrap();
    fs::write(world.path("out/a/kept"), b"kept").unwrap();
    symlink("elsewhere", world.path("out/large")).unwrap();
    let run = world.run(&["restore", "home", "out", "--overwrite"]).expect_code(1);
    run.says(&["the same command with --in-place instead of --overwrite does the rest"]);
    let run = world.run(&["restore", "home", "out", "--in-place"]).expect_code(1);
    run.says(&["the same command does the rest"]);
}

/// `restore home /dev/null --path file --overwrite` once made a plain file of the device.
#[test]
fn a_single_file_does_not_take_the_place_of_a_device() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home/a"), "content").unwrap();
    let node = |path: &Path| {
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, rustix::fs::makedev(1, 3)).unwrap();
    };
    node(&world.path("home/null"));
    settle();
    world.ok(&["backup", "home"]);
    node(&world.path("device"));
    for option in ["--overwrite", "--in-place"] {
        let arguments = ["restore", "home", "device", "--path", "a", option];
        world.fails(1, &arguments, &["it is a device, a pipe or a socket", "treering dump"]);
        world.ok(&["restore", "home", "device", "--path", "null", option]);
        assert!(fs::metadata(world.path("device")).unwrap().file_type().is_char_device());
    }
}

/// With an ACL the group's bits of a mode are the mask. A target without ACLs once gave them to the group.
#[test]
fn a_group_does_not_get_the_rights_of_a_mask() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    fs::create_dir_all(world.path("home/dir")).unwrap();
    fs::write(world.path("home/file"), b"content").unwrap();
    fs::write(world.path("home/plain"), b"content").unwrap();
    for (name, whole, own) in [("home/file", 0o660, 0o640), ("home/dir", 0o670, 0o640)] {
        // The group may read, a named user what the mask says.
        set_attribute(&world.path(name), "system.posix_acl_access", &acl(4321));
        set_mode(&world.path(name), whole);
        assert_ne!(whole, own);
    }
    set_mode(&world.path("home/plain"), 0o660);
    settle();
    world.ok(&["backup", "home"]);
    let without_acls = Mounted::mount_type("ramfs", world.path("ram"));
    let out = without_acls.path().join("out");
    for options in [&[][..], &["--in-place"], &["--overwrite"]] {
        let arguments = [&["restore", "home", "ram/out"], options].concat();
        world.fails(1, &arguments, &["(or ACLs) of 2 entries"]);
        for (name, expected) in [("file", 0o640), ("dir", 0o640), ("plain", 0o660)] {
            assert_eq!(mode(&out.join(name)), expected, "{name} {options:?}");
        }
        assert_eq!(fs::read(out.join("file")).unwrap(), b"content");
        // What an earlier version left so.
        set_mode(&out.join("file"), 0o660);
        set_mode(&out.join("dir"), 0o670);
    }
}

/// Who may not list a directory may still have something put into it.
#[test]
fn a_single_entry_goes_into_a_directory_that_may_not_be_listed() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = for_user();
    let drop_box = world.path("his/box");
    fs::create_dir(&drop_box).unwrap();
    // Of root, so that it can't be opened up. What is made in it must not get the ACL that it passes on.
    set_attribute(&drop_box, "system.posix_acl_default", &acl(4321));
    set_mode(&drop_box, 0o733);
    for path in ["closed/file", "hidden"] {
        for options in [&["--verify"][..], &["--in-place"], &["--overwrite"]] {
            let run = [&["restore", "home", "his/box/one", "--path", path], options].concat();
            world.run_as_user(&run).expect_code(0);
            assert_same(&world.path("home").join(path), &drop_box.join("one"), RESTORED);
        }
        fs::remove_file(drop_box.join("one")).unwrap();
    }
    assert_eq!(mode(&drop_box), 0o733);
}
