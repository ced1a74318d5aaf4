//! Repositories on media that are not an ordinary disk.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::path::Path;

use support::World;
use support::system::{Mounted, Requirement, can_use, system};

/// Such a medium (as ISO 9660 and erofs) can't sync a directory: every restore once failed, for want of a pin.
#[test]
fn a_repository_in_a_squashfs_image_is_read_as_any_other() {
    let needed =
        [Requirement::Root, Requirement::Loop, Requirement::Fuse, Requirement::Program("mksquashfs")];
    if !can_use(&needed) {
        return;
    }
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.image_with_seeds("vm1.img", &[1000, 1001]);
    world.backup("vm1.img", "vm1");
    world.ok(&["forget", "vm1@0"]);
    world.small_image("vm1.img");
    let would_be_freed = world.ok(&["gc", "--dry-run"]).text();
    assert!(would_be_freed.contains("packs: would be deleted"), "{would_be_freed}");
    let medium = world.path("medium");
    system("mksquashfs", &[world.repository().to_str().unwrap(), medium.to_str().unwrap(), "-no-progress"]);
    let medium = Mounted::mount(&medium, world.path("medium-mount"), "loop,ro");
    let on_medium = |command: &[&'static str]| {
        let run = world.ok(&[&["-r", medium.path().to_str().unwrap()], command].concat());
        assert_eq!(run.stderr, "", "treering {}", run.arguments);
        run
    };
    let content = fs::read(&image).unwrap();
    assert!(on_medium(&["dump", "vm1"]).stdout == content);
    on_medium(&["restore", "vm1", "out.img", "--quiet"]);
    assert!(fs::read(world.path("out.img")).unwrap() == content);
    on_medium(&["status"]);
    on_medium(&["scrub", "--quiet"]);
    on_medium(&["check", "--quiet"]);
    // It once took locks.
    assert_eq!(on_medium(&["gc", "--dry-run"]).text(), would_be_freed);
    fs::create_dir(world.path("mnt")).unwrap();
    let mounted = Mounted::take_over(world.path("mnt"));
    world.ok(&["-r", medium.path().to_str().unwrap(), "mount", "mnt", "--log-file", "log"]);
    assert!(fs::read(mounted.path().join("vm1/latest.img")).unwrap() == content);
    world.ok(&["unmount", "mnt"]);
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("without a pin")).count(), 1, "{log}");
}

/// Files of an image that is made at one go have the times that its maker likes. A new one with the same times was once
/// taken for the old one unread.
#[test]
fn a_source_on_a_file_system_whose_times_say_nothing_is_read() {
    let programs = [Requirement::Root, Requirement::Loop, Requirement::Program("mksquashfs")];
    if !can_use(&programs) {
        return;
    }
    let world = World::new();
    for version in 1..3 {
        fs::create_dir_all(world.path("source")).unwrap();
        fs::write(world.path("source/vm1.img"), support::noise(version, 300_000)).unwrap();
        let (source, medium) = (world.path("source"), world.path(&format!("medium{version}")));
        let times = ["-all-time", "1000000000", "-mkfs-time", "1000000000"];
        let arguments =
            [source.to_str().unwrap(), medium.to_str().unwrap(), "-noappend", "-quiet", "-no-progress"];
        system("mksquashfs", &[&arguments[..], &times].concat());
        let mounted = Mounted::mount(&medium, world.path("a name:b"), "loop,ro");
        assert_backed_up(&world, mounted.path(), "direct");
        // As live systems have it.
        let over = overlay(&world, &mounted, "over");
        assert_backed_up(&world, over.path(), "over");
        let over_over = overlay(&world, &over, "over-over");
        assert_backed_up(&world, over_over.path(), "over-over");
        drop(over_over);
        drop(over);
    }
}

/// Backs up the image that lies in a directory, and the directory, and compares.
fn assert_backed_up(world: &World, directory: &Path, name: &str) {
    let image = directory.join("vm1.img");
    let (vm, tree) = (format!("vm-{name}"), format!("tree-{name}"));
    world.backup(image.to_str().unwrap(), &vm);
    world.assert_same(&vm, &image);
    world.ok(&["backup", directory.to_str().unwrap(), &tree]);
    assert!(world.ok(&["dump", &tree, "vm1.img"]).stdout == fs::read(&image).unwrap(), "{tree}");
}

/// Mounts what was mounted once more, as the lower layer of an overlay file system.
fn overlay(world: &World, lower: &Mounted, name: &str) -> Mounted {
    let [over, upper, work] = ["", "-upper", "-work"].map(|end| world.path(&format!("{name}{end}")));
    [&over, &upper, &work].into_iter().for_each(|directory| fs::create_dir_all(directory).unwrap());
    let [lower, upper, work] = [lower.path(), &upper, &work].map(|path| path.to_str().unwrap());
    let options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.replace(':', "\\:"));
    system("mount", &["-t", "overlay", "overlay", "-o", &options, over.to_str().unwrap()]);
    Mounted::take_over(over)
}
