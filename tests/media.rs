//! Repositories on media that are not an ordinary disk.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

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
    fs::create_dir(world.path("mnt")).unwrap();
    let mounted = Mounted::take_over(world.path("mnt"));
    world.ok(&["-r", medium.path().to_str().unwrap(), "mount", "mnt", "--log-file", "log"]);
    assert!(fs::read(mounted.path().join("vm1/latest.img")).unwrap() == content);
    world.ok(&["unmount", "mnt"]);
    let log = fs::read_to_string(world.path("log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("without a pin")).count(), 1, "{log}");
}
