//! `treering restore` of trees, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, lgetxattr, setxattr};
use support::oracle::{Leniency, RESTORED, acl, assert_same, attributes, make_nasty_tree, set_mtime};
use support::system::{LoopDevice, Mounted, Requirement, SmallDisk, can_use, system};
use support::trees::{MIB, assert_names, leftovers, let_user_in, number, partial_name, small};
use support::{Run, World, allocated, assert_keys, noise, random_seed, settle, write_at};

/// A world with a revision of a tree of everything.
fn nasty() -> World {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    make_nasty_tree(&world.path("home"));
    settle();
    world.ok(&["backup", "home"]);
    world
}

#[test]
fn everything_comes_back_into_a_new_directory() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = nasty();
    let said = world.json(&["restore", "home", "out", "--verify"]);
    assert_same(&world.path("home"), &world.path("out"), RESTORED);
    assert_keys(
        &said,
        &[
            "files",
            "directories",
            "others",
            "bytes_written",
            "bytes_compared",
            "removed",
            "problems",
            "seconds",
        ],
    );
    assert_eq!(said["problems"], 0);
    assert_eq!(number(&said, "bytes_verified"), number(&said, "size"));
    assert!(leftovers(&world.path("out")).is_empty());
    let again = world.json(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_eq!((&again["bytes_written"], &again["removed"]), (&0.into(), &0.into()), "{again:#}");
    let entries = number(&again, "files") + number(&again, "directories") + number(&again, "others");
    assert_eq!(number(&again, "unchanged"), entries, "{again:#}");
    assert_same(&world.path("home"), &world.path("out"), RESTORED);
}

#[test]
fn a_tree_of_the_system_comes_back() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    // What does not change meanwhile.
    let real = world.path("real");
    fs::create_dir(&real).unwrap();
    for part in ["/etc", "/usr/share/zoneinfo", "/usr/bin"] {
        system("cp", &["-a", part, real.to_str().unwrap()]);
    }
    settle();
    world.ok(&["backup", "real"]);
    world.ok(&["restore", "real", "out"]);
    assert_same(&real, &world.path("out"), RESTORED);
}

/// Changes a tree of everything here and there.
fn damage(out: &Path, seed: u64) -> u64 {
    let file = |name: &str| out.join("files").join(name);
    write_at(&file("of-100"), seed % 100, b"\xff\xfe");
    fs::remove_file(file("small-7")).unwrap();
    File::options().write(true).open(file("of-65537")).unwrap().set_len(5).unwrap();
    // In a hole, and in data, of large files.
    write_at(&file("sparse"), 9 << 20, &noise(5, 5000));
    write_at(&file("large"), (seed % 5) << 20, b"changed");
    set_mtime(&file("of-1"), 1, 1);
    fs::set_permissions(file("of-4096"), Permissions::from_mode(0o777)).unwrap();
    rustix::fs::removexattr(out.join("attributes/file"), "user.short").unwrap();
    rustix::fs::setxattr(out.join("attributes/long"), "user.new", b"x", rustix::fs::XattrFlags::empty())
        .unwrap();
    rustix::fs::removexattr(out.join("attributes/acl"), "system.posix_acl_access").unwrap();
    fs::remove_file(out.join("links/second")).unwrap();
    fs::write(out.join("links/second"), b"has three names").unwrap();
    fs::remove_file(out.join("links/up")).unwrap();
    symlink("elsewhere", out.join("links/up")).unwrap();
    fs::remove_file(out.join("modes/fifo")).unwrap();
    fs::create_dir(out.join("modes/fifo")).unwrap();
    fs::remove_dir(out.join("empty")).unwrap();
    fs::write(out.join("empty"), b"no directory").unwrap();
    fs::remove_dir_all(out.join("deep/a-directory-in-a-directory/a-directory-in-a-directory")).unwrap();
    // The second name of what became a file of its own costs nothing: it is linked.
    100 + number_of_bytes("small-7") + 65_537
}

fn number_of_bytes(small: &str) -> u64 {
    let number = small.strip_prefix("small-").unwrap();
    format!("the content of {number}\n").repeat(20).len() as u64
}

#[test]
fn in_place_mends_whatever_was_changed_and_writes_little() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = nasty();
    let out = world.path("out");
    world.ok(&["restore", "home", "out"]);
    let seed = random_seed();
    let small_files = damage(&out, seed);
    fs::write(out.join("files/extra"), b"extra").unwrap();
    let said = world.json(&["restore", "home", "out", "--in-place", "--verify"]);
    fs::remove_file(out.join("files/extra")).unwrap();
    set_mtime_of(&world.path("home/files"), &out.join("files"));
    assert_same(&world.path("home"), &out, RESTORED);
    // Of the large file one chunk, of the small ones all; the sparse one's hole is punched. 58 short files lay deep.
    let written = number(&said, "bytes_written");
    assert!(written >= small_files + 32 * 1024 && written <= small_files + 600 * 1024, "{written}");
    assert!(number(&said, "bytes_compared") > 5 * MIB as u64);
}

fn set_mtime_of(like: &Path, path: &Path) {
    let metadata = fs::metadata(like).unwrap();
    set_mtime(path, metadata.mtime(), metadata.mtime_nsec());
}

#[test]
fn overwrite_replaces_what_the_revision_has_and_leaves_the_rest() {
    let world = small();
    let out = world.path("out");
    fs::create_dir_all(out.join("dir")).unwrap();
    fs::write(out.join("a"), b"another").unwrap();
    fs::write(out.join("dir/extra"), b"extra").unwrap();
    fs::write(out.join("large"), b"short").unwrap();
    world.fails(1, &["restore", "home", "out"], &["it is not empty", "--in-place", "--overwrite"]);
    assert_eq!(fs::read(out.join("a")).unwrap(), b"another");
    let said = world.json(&["restore", "home", "out", "--overwrite"]);
    assert_eq!(number(&said, "bytes_written"), number(&said, "size"), "all is written");
    assert_eq!(fs::read(out.join("dir/extra")).unwrap(), b"extra");
    let said = world.json(&["restore", "home", "out", "--overwrite", "--delete"]);
    assert_eq!(said["removed"], 1);
    assert_same(&world.path("home"), &out, RESTORED);
}

#[test]
fn a_part_is_put_at_the_target() {
    let world = small();
    world.ok(&["restore", "home", "file", "--path", "/dir/b"]);
    assert_eq!(fs::read(world.path("file")).unwrap(), b"the second");
    world.ok(&["restore", "home", "home/../part", "--path", "dir"]).expect_code(0);
    assert_same(&world.path("home/dir"), &world.path("part"), RESTORED);
    world.ok(&["restore", "home", "a-link", "--path", "link"]);
    assert_eq!(fs::read_link(world.path("a-link")).unwrap(), Path::new("dir/b"));
    world.ok(&["restore", "home", "big", "--path", "large", "--verify"]);
    assert!(fs::read(world.path("big")).unwrap() == fs::read(world.path("home/large")).unwrap());
    world.fails(1, &["restore", "home", "x", "--path", "dir/nothing"], &["has no entry 'dir/nothing'"]);
    world.fails(1, &["restore", "home", "x", "--path", "link/b"], &["has no entry"]);
    assert!(!world.path("x").exists());
}

#[test]
fn a_single_file_that_exists_needs_an_option() {
    let world = small();
    fs::write(world.path("file"), b"precious").unwrap();
    fs::hard_link(world.path("file"), world.path("other-name")).unwrap();
    world.fails(1, &["restore", "home", "file", "--path", "a"], &["it exists", "--overwrite"]);
    world.fails(1, &["restore", "home", "home", "--path", "a"], &["it is a directory", "name a file in it"]);
    for option in ["--in-place", "--overwrite"] {
        fs::write(world.path("file"), b"precious").unwrap();
        world.ok(&["restore", "home", "file", "--path", "a", option]);
        assert_same(&world.path("home/a"), &world.path("file"), RESTORED);
    }
    assert_eq!(fs::read(world.path("other-name")).unwrap(), b"precious", "its other name is another file");
    fs::write(world.path("big"), noise(9, 13 * MIB)).unwrap();
    world.ok(&["restore", "home", "big", "--path", "large", "--in-place"]);
    assert_same(&world.path("home/large"), &world.path("big"), RESTORED);
}

#[test]
fn every_refusal_has_its_own_message() {
    let world = small();
    symlink("elsewhere", world.path("dangling")).unwrap();
    fs::create_dir(world.path("directory")).unwrap();
    symlink("directory", world.path("to-directory")).unwrap();
    fs::write(world.path("file"), b"").unwrap();
    let refused = |target: &str, words: &[&str]| {
        let all = [&["hint:"], words].concat();
        world.fails(1, &["restore", "home", target, "--in-place", "--delete"], &all);
    };
    refused("dangling", &["it is a symbolic link"]);
    refused("to-directory", &["it is a symbolic link"]);
    refused("file", &["it is no directory"]);
    refused("repo", &["it lies in the repository"]);
    refused("repo/packs/new", &["it lies in the repository"]);
    refused("repo/streams", &["it lies in the repository"]);
    refused(".", &["the repository lies in it"]);
    refused("/", &["the repository lies in it"]);
    refused("directory/..", &["the repository lies in it"]);
    world.fails(1, &["restore", "home", "missing/out"], &["cannot find directory", "missing"]);
    world.fails(1, &["restore", "nothing", "out"], &["streams: home"]);
    assert_names(&world.path("directory"), &[]);
    assert!(fs::read(world.path("file")).unwrap().is_empty());
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    for option in [&["--path", "x"][..], &["--delete", "--in-place"], &["--numeric-owner"]] {
        world.fails(2, &[&["restore", "vm1", "out"][..], option].concat(), &[option[0], "is for trees"]);
    }
}

#[test]
fn a_repository_that_is_mounted_below_the_target_is_left_alone() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = small();
    world.ok(&["restore", "home", "out"]);
    fs::remove_dir_all(world.path("out/dir")).unwrap();
    let bound = world.path("out/dir");
    fs::create_dir(&bound).unwrap();
    system("mount", &["--bind", world.repository().to_str().unwrap(), bound.to_str().unwrap()]);
    let mounted = Mounted::take_over(bound);
    let run = world.run(&["restore", "home", "out", "--in-place", "--delete"]).expect_code(1);
    run.says(&["cannot restore out/dir: it is the repository"]);
    world.ok(&["restore", "home", "other", "--verify"]);
    drop(mounted);
}

#[test]
fn a_normal_user_gets_what_he_may_have() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = nasty();
    let_user_in(&world);
    let run = world.run_as_user(&["restore", "home", "his/out", "--json"]).expect_code(0);
    run.says(&[
        "owner or group could not be set",
        "device nodes could not be made: 2",
        "privileged extended attributes",
    ]);
    let said = run.json();
    assert_eq!((&said["devices_skipped"], &said["problems"]), (&2.into(), &0.into()));
    assert!(number(&said, "owners_skipped") > 100);
    let out = world.path("his/out");
    let setuid = fs::metadata(out.join("modes/4755")).unwrap();
    assert_eq!(setuid.mode() & 0o7777, 0o755, "setuid of root is not setuid of another user");
    assert_eq!(fs::metadata(out.join("privileged/setuid")).unwrap().mode() & 0o7777, 0o4755 | 0o2000);
    for path in ["modes/4755", "modes/2755", "modes/7777", "modes/dir-2775"] {
        let mode = fs::metadata(world.path("home").join(path)).unwrap().mode() & 0o1777;
        let restored = out.join(path);
        assert_eq!(fs::metadata(&restored).unwrap().mode() & 0o7777, mode, "{path}");
        fs::set_permissions(
            &restored,
            Permissions::from_mode(fs::metadata(world.path("home").join(path)).unwrap().mode()),
        )
        .unwrap();
    }
    for name in ["block", "character"] {
        fs::remove_file(world.path("home/privileged").join(name)).unwrap();
    }
    set_mtime_of(&out.join("privileged"), &world.path("home/privileged"));
    assert_same(&world.path("home"), &out, Leniency { privileged: true, ..RESTORED });
    // Again in place: directories and files that he may not write are his, so they can be mended.
    for path in ["modes/4755", "modes/2755", "modes/7777", "modes/dir-2775"] {
        fs::set_permissions(out.join(path), Permissions::from_mode(0o500)).unwrap();
    }
    fs::set_permissions(out.join("many"), Permissions::from_mode(0o000)).unwrap();
    fs::remove_file(out.join("many/00005")).unwrap();
    world.run_as_user(&["restore", "home", "his/out", "--in-place"]).expect_code(0);
    assert_eq!(fs::read(out.join("many/00005")).unwrap(), b"5");
    world.run_as_user(&["restore", "home", "root-only"]).expect_code(1).says(&[
        "cannot",
        "root-only",
        "Permission denied",
    ]);
}

#[test]
fn umask_and_inherited_acls_do_not_matter() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = nasty();
    let parent = world.path("parent");
    fs::create_dir(&parent).unwrap();
    rustix::fs::setxattr(&parent, "system.posix_acl_default", &acl(99), rustix::fs::XattrFlags::empty())
        .unwrap();
    assert!(attributes(&parent).contains_key("system.posix_acl_default"));
    let shell = format!("umask 0777; exec {} restore home parent/out", env!("CARGO_BIN_EXE_treering"));
    let mut command = Command::new("sh");
    command
        .args(["-c", &shell])
        .current_dir(world.directory())
        .env("TREERING_REPOSITORY", world.repository());
    Run::of(&["restore"], command.output().unwrap()).expect_code(0);
    assert_same(&world.path("home"), &parent.join("out"), RESTORED);
    // And into directories that are there and pass on theirs.
    let out = parent.join("out");
    fs::remove_file(out.join("files/of-1")).unwrap();
    fs::remove_file(out.join("links/loop")).unwrap();
    fs::remove_file(out.join("modes/fifo")).unwrap();
    fs::remove_dir_all(out.join("many")).unwrap();
    for directory in ["", "files", "links", "modes"] {
        rustix::fs::setxattr(
            out.join(directory),
            "system.posix_acl_default",
            &acl(99),
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    world.ok(&["restore", "home", "parent/out", "--in-place"]);
    assert_same(&world.path("home"), &out, RESTORED);
    rustix::fs::setxattr(&parent, "system.posix_acl_default", &acl(98), rustix::fs::XattrFlags::empty())
        .unwrap();
    world.ok(&["restore", "home", "parent/file", "--path", "files/of-100"]);
    assert_same(&world.path("home/files/of-100"), &parent.join("file"), RESTORED);
}

#[test]
fn damaged_files_are_named_and_all_else_is_restored() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir_all(home.join("dir")).unwrap();
    fs::write(home.join("whole"), noise(1, 3 * MIB)).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    let before = world.stored_files("packs/data");
    fs::write(home.join("broken"), noise(2, 20_000)).unwrap();
    // Of this one only a part is stored anew.
    let mut content = fs::read(home.join("whole")).unwrap();
    content.extend(noise(3, 6 * MIB));
    fs::write(home.join("dir/partly"), content).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    for pack in world.stored_files("packs/data").iter().filter(|pack| !before.contains(pack)) {
        let length = fs::metadata(pack).unwrap().len();
        for at in [100, length / 2] {
            support::flip_bit(pack, at);
        }
    }
    let run = world.run(&["restore", "home", "out", "--json"]).expect_code(4);
    run.says(&["broken is damaged", "dir/partly is damaged: bytes", "restored as partly.treering-damaged"]);
    let error = &run.json()["error"];
    assert_eq!(
        (&error["code"], &error["damaged_entries"], &error["files"]),
        (&4.into(), &2.into(), &1.into())
    );
    let ranges =
        error["damaged"].as_array().unwrap().iter().find(|entry| entry["path"] == "dir/partly").unwrap();
    assert!(!ranges["ranges"].as_array().unwrap().is_empty(), "{error:#}");
    let out = world.path("out");
    assert_names(&out, &["dir", "whole"]);
    assert_names(&out.join("dir"), &["partly.treering-damaged"]);
    assert_same(&home.join("whole"), &out.join("whole"), RESTORED);
    // What could be read is right, and only that.
    let (rest, original) = (
        fs::read(out.join("dir/partly.treering-damaged")).unwrap(),
        fs::read(home.join("dir/partly")).unwrap(),
    );
    assert_eq!(rest.len(), original.len());
    assert!(rest[..3 * MIB - (1 << 19)] == original[..3 * MIB - (1 << 19)]);
    assert!(rest != original);
    // In place what is there already is not damaged, and nothing of it has to be read.
    fs::copy(home.join("dir/partly"), out.join("dir/partly")).unwrap();
    let run = world.run(&["restore", "home", "out", "--in-place", "--delete"]).expect_code(4);
    run.says(&["broken is damaged"]);
    assert!(!run.stderr.contains("partly"), "{}", run.stderr);
    assert_same(&home.join("dir/partly"), &out.join("dir/partly"), RESTORED);
    // The next backup heals it.
    world.run(&["scrub"]).expect_code(4);
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out", "--in-place", "--verify"]);
    assert_same(&home, &out, RESTORED);
}

#[test]
fn verify_reads_all_of_it_back() {
    let world = small();
    world.ok(&["restore", "home", "out", "--verify"]);
    let said = world.json(&["restore", "home", "out", "--in-place", "--verify"]);
    assert_eq!(number(&said, "bytes_verified"), number(&said, "size"));
}

#[test]
fn a_new_file_system_is_filled_though_it_is_not_quite_empty() {
    if !can_use(&[Requirement::Root, Requirement::Loop]) {
        return;
    }
    let world = small();
    let disk = SmallDisk::new(&world, 64 << 20);
    world.ok(&["restore", "home", disk.path().to_str().unwrap(), "--verify"]);
    assert_names(disk.path(), &["a", "dir", "large", "link", "lost+found"]);
}

#[test]
fn paths_may_be_longer_than_the_system_takes_at_once() {
    let world = World::new();
    let levels = 3000;
    fs::create_dir(world.path("home")).unwrap();
    let make = format!(
        "import os\nos.chdir('home')\nfor i in range({levels}):\n os.mkdir('d'*100)\n os.chdir('d'*100)\n\
         open('file','w').write('at the end')\n"
    );
    if !can_use(&[Requirement::Program("python3")]) {
        return;
    }
    let python = |script: &str| {
        let mut command = Command::new("python3");
        let status = command.args(["-c", script]).current_dir(world.directory()).status().unwrap();
        assert!(status.success());
    };
    python(&make);
    settle();
    world.ok(&["backup", "home"]);
    let said = world.json(&["restore", "home", "out", "--verify"]);
    assert_eq!((number(&said, "files"), number(&said, "directories")), (1, levels + 1));
    python(&format!(
        "import os\nos.chdir('out')\nfor i in range({levels}):\n os.chdir('d'*100)\n\
         assert open('file').read() == 'at the end'\nopen('extra','w')\nos.mkdir('x')\n"
    ));
    let said = world.json(&["restore", "home", "out", "--in-place", "--delete"]);
    assert_eq!(said["removed"], 2);
    // All of it as an extra of another tree.
    fs::create_dir(world.path("empty")).unwrap();
    world.ok(&["backup", "empty"]);
    let said = world.json(&["restore", "empty", "out", "--in-place", "--delete"]);
    assert_eq!(number(&said, "removed"), levels + 1);
    assert_names(&world.path("out"), &[]);
    system("rm", &["-rf", world.path("home").to_str().unwrap()]);
}

#[test]
fn holes_and_preallocated_space_come_back_as_they_were() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    let sparse = File::create(home.join("sparse")).unwrap();
    sparse.set_len(3 << 40).unwrap();
    sparse.write_all_at(&noise(1, 8192), 1 << 40).unwrap();
    // As a swap file must be.
    fs::write(home.join("swap"), vec![0; 20 * MIB]).unwrap();
    // Zeros among data, and alone, too few to be told from data.
    fs::write(home.join("zeros-within"), [noise(2, 4096), vec![0; 20_000], noise(3, 90_000)].concat())
        .unwrap();
    fs::write(home.join("zeros"), vec![0; 35_357]).unwrap();
    fs::write(home.join("few-zeros"), vec![0; 8192]).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out", "--verify"]);
    let out = world.path("out");
    assert_eq!(fs::metadata(out.join("sparse")).unwrap().len(), 3 << 40);
    assert!(allocated(&out.join("sparse")) <= 64 << 10);
    assert!(allocated(&out.join("swap")) >= 20 << 20);
    // In place: stale data in holes go, and what is a hole and should not be is allocated.
    write_at(&out.join("sparse"), 2 << 40, b"stale");
    fs::remove_file(out.join("swap")).unwrap();
    File::create(out.join("swap")).unwrap().set_len(20 << 20).unwrap();
    let punched = ["zeros-within", "zeros", "few-zeros"];
    for name in punched {
        let file = out.join(name);
        system("fallocate", &["--punch-hole", "-o", "4096", "-l", "4096", file.to_str().unwrap()]);
        assert!(allocated(&file) < fs::metadata(&file).unwrap().len(), "{name}");
    }
    world.ok(&["restore", "home", "out", "--in-place", "--verify"]);
    assert!(allocated(&out.join("sparse")) <= 64 << 10);
    assert!(allocated(&out.join("swap")) >= 20 << 20);
    for name in punched {
        assert!(allocated(&out.join(name)) >= fs::metadata(out.join(name)).unwrap().len(), "{name}");
    }
    let said = world.json(&["restore", "home", "out", "--in-place"]);
    assert_eq!(number(&said, "unchanged"), 6, "{said:#}");
}

/// Runs the program on another system, where daemon has the numbers 4444 and 5555.
#[track_caller]
fn run_elsewhere(world: &World, arguments: &str) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap().replace("daemon:x:1:1:", "daemon:x:4444:4444:");
    let group = fs::read_to_string("/etc/group").unwrap().replace("daemon:x:1:", "daemon:x:5555:");
    fs::write(world.path("passwd"), passwd).unwrap();
    fs::write(world.path("group"), group).unwrap();
    let line = format!(
        "mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec {} {arguments}",
        env!("CARGO_BIN_EXE_treering")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &line]).current_dir(world.directory());
    command.env("TREERING_REPOSITORY", world.repository());
    Run::of(&[arguments], command.output().unwrap()).expect_code(0);
}

/// XFS shows ACLs to root under names of its own as well. They are neither extra attributes nor ones to be set.
#[test]
fn acls_stay_and_follow_their_users_on_xfs() {
    let programs = ["unshare", "mkfs.xfs"].map(Requirement::Program);
    if !can_use(&[Requirement::Root, Requirement::Loop, programs[0], programs[1]]) {
        return;
    }
    let world = nasty();
    // Longer than XFS lets a target be.
    fs::remove_file(world.path("home/links/long")).unwrap();
    world.ok(&["backup", "home"]);
    let file = world.image("disk", 512 << 20, &[]);
    system("mkfs.xfs", &["-q", "-f", file.to_str().unwrap()]);
    let device = LoopDevice::attach(&file, &[]);
    let xfs = Mounted::mount(device.path(), world.path("xfs"), "noatime");
    let leniency = Leniency { holes: true, ..RESTORED };
    for options in [&[][..], &["--in-place"], &["--in-place"], &["--overwrite"], &["--in-place"]] {
        let said = world.json(&[&["restore", "home", "xfs/out", "--verify"], options].concat());
        assert_eq!(number(&said, "problems"), 0, "{said:#}");
        assert_same(&world.path("home"), &xfs.path().join("out"), leniency);
    }
    let home = xfs.path().join("home");
    fs::create_dir_all(home.join("directory")).unwrap();
    fs::write(home.join("file"), b"x").unwrap();
    let set = |name: &str, attribute: &str| {
        setxattr(home.join(name), attribute, &acl(1), XattrFlags::empty()).unwrap();
    };
    set("file", "system.posix_acl_access");
    set("directory", "system.posix_acl_default");
    assert!(lgetxattr(home.join("file"), "trusted.SGI_ACL_FILE", &mut [0; 100][..]).is_ok());
    settle();
    world.ok(&["backup", "xfs/home", "acls"]);
    for target in ["xfs/elsewhere", "elsewhere"] {
        run_elsewhere(&world, &format!("restore acls {target}"));
        let found = |name: &str| attributes(&world.path(target).join(name)).into_iter().collect::<Vec<_>>();
        assert_eq!(found("file"), [("system.posix_acl_access".to_owned(), acl(4444))], "{target}");
        assert_eq!(found("directory"), [("system.posix_acl_default".to_owned(), acl(4444))], "{target}");
    }
    let alias = lgetxattr(world.path("elsewhere/file"), "trusted.SGI_ACL_FILE", &mut [0; 100][..]);
    assert_eq!(alias, Err(rustix::io::Errno::NODATA));
}

#[test]
fn owners_are_found_by_name_or_keep_their_number() {
    if !can_use(&[Requirement::Root, Requirement::Program("unshare")]) {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home/file"), b"x").unwrap();
    std::os::unix::fs::chown(world.path("home/file"), Some(1), Some(1)).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    run_elsewhere(&world, "restore home by-name");
    run_elsewhere(&world, "restore home by-number --numeric-owner");
    let owner = |path: &str| {
        let metadata = fs::metadata(world.path(path)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("by-name/file"), (4444, 5555));
    assert_eq!(owner("by-number/file"), (1, 1));
}

#[test]
fn a_name_of_our_own_kind_in_the_revision_is_a_name_like_any_other() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("file"), noise(1, 1000)).unwrap();
    let partial = partial_name("file");
    fs::write(home.join(&partial), b"a name of our own").unwrap();
    fs::write(home.join("file.treering-damaged"), b"another").unwrap();
    settle();
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out"]);
    for _ in 0..3 {
        fs::write(world.path("out/file"), b"changed").unwrap();
        fs::write(world.path("out").join(&partial), b"changed, too").unwrap();
        world.ok(&["restore", "home", "out", "--in-place"]);
        assert_same(&home, &world.path("out"), RESTORED);
    }
}

#[test]
fn a_running_program_and_files_that_may_not_be_written_are_replaced() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir(&home).unwrap();
    fs::copy("/bin/sleep", home.join("sleep")).unwrap();
    let mut content = fs::read("/bin/sleep").unwrap();
    content.resize(9 * MIB, 7);
    fs::write(home.join("large-program"), content).unwrap();
    fs::set_permissions(home.join("large-program"), Permissions::from_mode(0o755)).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    world.ok(&["restore", "home", "out"]);
    for name in ["sleep", "large-program"] {
        // Another end, so that it runs and differs.
        let path = world.path("out").join(name);
        let length = fs::metadata(&path).unwrap().len();
        File::options().append(true).open(&path).unwrap().write_all_at(b"x", length).unwrap();
        let mut running = Command::new(&path);
        running.arg0("sleep").arg("60");
        let mut running = running.spawn().unwrap();
        let restored = world.run(&["restore", "home", "out", "--in-place"]);
        running.kill().unwrap();
        running.wait().unwrap();
        restored.expect_code(0);
        assert_same(&home, &world.path("out"), RESTORED);
    }
}

/// Who holds a file open that is given to root would go on writing to it.
#[test]
fn what_another_user_owns_is_replaced_and_not_taken_over() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = small();
    world.ok(&["restore", "home", "out"]);
    let out = world.path("out");
    let names = ["a", "large", "dir/sub/c", "link"];
    let inodes: Vec<u64> =
        names.iter().map(|name| fs::symlink_metadata(out.join(name)).unwrap().ino()).collect();
    let held = File::options().write(true).open(out.join("large")).unwrap();
    for name in names {
        std::os::unix::fs::lchown(out.join(name), Some(1234), None).unwrap();
    }
    // An unfinished file of his is none of ours either.
    fs::remove_file(out.join("a")).unwrap();
    let partial = out.join(partial_name("large"));
    fs::write(&partial, b"his").unwrap();
    std::os::unix::fs::chown(&partial, Some(1234), None).unwrap();
    world.ok(&["restore", "home", "out", "--in-place"]);
    held.write_all_at(b"his", 100).unwrap();
    assert_same(&world.path("home"), &out, RESTORED);
    // The inode of what was removed meanwhile is free to be used again.
    for (name, before) in names.iter().zip(inodes).filter(|(name, _)| **name != "a") {
        assert_ne!(fs::symlink_metadata(out.join(name)).unwrap().ino(), before, "{name}");
    }
    // With the right owner and a wrong group it may stay.
    std::os::unix::fs::chown(out.join("large"), None, Some(4321)).unwrap();
    let inode = fs::metadata(out.join("large")).unwrap().ino();
    world.ok(&["restore", "home", "out", "--in-place"]);
    assert_same(&world.path("home"), &out, RESTORED);
    assert_eq!(fs::metadata(out.join("large")).unwrap().ino(), inode);
}
