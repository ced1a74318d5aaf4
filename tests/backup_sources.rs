//! `treering backup` of stdin and block devices, and of sources that fail.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use support::failing_source::{FailingSource, Fault};
use support::system::{LoopDevice, Requirement, can_use};
use support::{CHUNK, World, noise, settle, wait_until, write_chunk};

#[test]
fn an_image_comes_from_stdin() {
    let world = World::new();
    for (length, new) in [(10 * CHUNK as usize + 3, 11), (10 * CHUNK as usize + 3, 0), (1, 1)] {
        let input = noise(5, length);
        let run = world.run_with_input(&["backup", "-", "piped", "--json"], &input).expect_code(0);
        let said = run.json();
        assert_eq!((&said["size"], &said["chunks_new"]), (&length.into(), &new.into()));
        assert!(world.dump("piped") == input);
    }
    assert_eq!(world.revisions("piped")[0]["source"], "-");
}

/// A producer that fails at once (`qemu-img convert` into a pipe, say) once made an empty revision.
#[test]
fn an_empty_or_closed_stdin_is_no_image() {
    let world = World::new();
    world.run_with_input(&["backup", "-", "piped"], b"abc").expect_code(0);
    let closed = format!("exec '{}' backup - piped <&-", env!("CARGO_BIN_EXE_treering"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &closed]).env("TREERING_REPOSITORY", world.repository());
    for run in [
        world.run_with_input(&["backup", "-", "piped"], b""),
        world.run_with_input(&["backup", "-", "piped", "--dry-run"], b""),
        support::Run::of(&["backup", "-", "piped", "<&-"], shell.output().unwrap()),
    ] {
        run.expect_code(1).says(&["nothing came", "hint:", "no revision was made"]);
    }
    assert_eq!(world.revisions("piped").len(), 1);
}

#[test]
fn stdin_has_no_name() {
    let world = World::new();
    world.fails(2, &["backup", "-"], &["stdin has no name", "backup - STREAM"]);
}

#[test]
fn zeros_from_stdin_become_holes() {
    let world = World::new();
    let mut input = vec![0; 20 * CHUNK as usize];
    input[7 * CHUNK as usize] = 1;
    let run = world.run_with_input(&["backup", "-", "piped", "--json"], &input).expect_code(0);
    assert_eq!(run.json()["chunks_total"], 1);
    assert!(world.dump("piped") == input);
}

#[test]
fn a_signal_stops_a_backup_that_waits_for_stdin() {
    let world = World::new();
    let mut child = world.command(&["backup", "-", "piped"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(1, 3 * CHUNK as usize)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    wait_until("the backup has ended", || child.try_wait().unwrap().is_some());
    let run = support::Run::of(&["backup", "-"], child.wait_with_output().unwrap()).expect_code(130);
    run.says(&["interrupted"]);
    drop(stdin);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
    world.run_with_input(&["backup", "-", "piped"], b"now").expect_code(0);
}

#[test]
fn a_block_device_is_an_image() {
    if !can_use(&[Requirement::Root, Requirement::Loop]) {
        return;
    }
    let world = World::new();
    let image = world.small_image("disk.img");
    let device = LoopDevice::attach(&image, &[]);
    let said = world.backup(device.name(), "disk");
    assert_eq!(said["size"], 64 * CHUNK);
    world.assert_same("disk", &image);
    settle();
    let again = world.backup(device.name(), "disk");
    assert!(again["bytes_read"].as_u64().unwrap() > 0, "nothing tells that a device is unchanged");
    assert_eq!(again["chunks_new"], 0);
    write_chunk(device.path(), 2, 1000);
    rustix::fs::fsync(std::fs::File::open(device.path()).unwrap()).unwrap();
    assert_eq!(world.backup(device.name(), "disk")["bytes_changed"], CHUNK);
    assert!(world.dump("disk") == std::fs::read(device.path()).unwrap());
}

#[test]
fn a_bad_region_ends_the_backup_and_leaves_no_revision() {
    a_failing_source_leaves_no_revision(Fault::BadRegion, "Input/output error");
}

#[test]
fn a_file_that_ends_early_ends_the_backup_and_leaves_no_revision() {
    a_failing_source_leaves_no_revision(Fault::Truncated, "it ends there");
}

fn a_failing_source_leaves_no_revision(fault: Fault, reason: &str) {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = World::new();
    let good = 20 * CHUNK;
    let source = FailingSource::mount(&world.path("source"), 64 * CHUNK, good, fault);
    let path = source.image();
    let run =
        world.fails(1, &["backup", path.to_str().unwrap(), "vm1"], &["cannot read source", reason, "hint:"]);
    let told: u64 = run
        .stderr
        .split("at offset ")
        .nth(1)
        .and_then(|rest| rest.split(':').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no offset in {}", run.stderr));
    assert!((good..64 * CHUNK).contains(&told), "{told} lies in the good part");
    let json = world.run(&["backup", path.to_str().unwrap(), "vm1", "--json"]).expect_code(1).json();
    assert_eq!(json["error"]["offset"].as_u64().map(|offset| offset >= good), Some(true));
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
    assert_eq!(world.json(&["status"])["repository"]["leftovers"]["files"], 0);
}

/// Linux gives a mapped page that is dirty no new time when it is written again: what was written after the backup had
/// read it was never seen.
#[test]
#[expect(unsafe_code, reason = "a mapping that others may change is what is to be tested")]
fn what_is_written_through_a_mapping_after_it_was_read_is_read_again() {
    let world = World::new();
    let path = world.small_image("vm1.img");
    settle();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // SAFETY: nobody but this test has the file, and it keeps its size.
    let mut mapped = unsafe { memmap2::MmapMut::map_mut(&file) }.unwrap();
    mapped[5000..5003].copy_from_slice(b"AAA");
    std::thread::sleep(std::time::Duration::from_millis(100));
    world.backup("vm1.img", "vm1");
    mapped[5000..5003].copy_from_slice(b"BBB");
    drop(mapped);
    settle();
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &path);
}
