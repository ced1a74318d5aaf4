//! The life of a mount in front: what ends it, and what does not.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::system::{Mounted, Requirement, can_use, is_mounted};
use support::{World, wait_until};

/// The end of a terminal once ended a mount that `nohup` was to keep.
#[test]
fn a_mount_in_front_that_nohup_started_outlives_the_end_of_the_terminal() {
    if !can_use(&[Requirement::Root, Requirement::Fuse, Requirement::Program("nohup")]) {
        return;
    }
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    fs::create_dir(world.path("mnt")).unwrap();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_treering")).args(["-r", "repo", "mount", "mnt", "-f"]);
    command.current_dir(world.directory()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mounted = Mounted::take_over(world.path("mnt"));
    let latest = mounted.path().join("vm1/latest.img");
    wait_until("the mount answers", || latest.exists());
    let process = Pid::from_child(&child);
    kill_process(process, Signal::HUP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_mounted(mounted.path()) && child.try_wait().unwrap().is_none());
    assert!(fs::read(&latest).unwrap() == fs::read(image).unwrap());
    kill_process(process, Signal::TERM).unwrap();
    wait_until("the mount has ended", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!is_mounted(mounted.path()));
}
