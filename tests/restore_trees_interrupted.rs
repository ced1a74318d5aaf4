//! `treering restore` of trees: ended early, by a signal, a kill or a full disk, and continued.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use support::oracle::{RESTORED, assert_same};
use support::system::{Requirement, SmallDisk, can_use};
use support::trees::{MIB, leftovers, number};
use support::{Run, World, interrupt, noise, random_seed, settle};

/// Many files and a few large ones, so that a restore takes a while.
fn long() -> World {
    let world = World::new();
    for directory in 0..40 {
        let path = world.path(&format!("home/{directory:02}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            fs::write(path.join(format!("{file}")), noise(directory * 100 + file, 700)).unwrap();
        }
        if directory % 8 == 0 {
            fs::write(path.join("large"), noise(directory, 40 * MIB)).unwrap();
        }
    }
    settle();
    world.ok(&["backup", "home"]);
    world
}

/// Starts a restore and ends it after a while by `end`.
fn interrupted(world: &World, after: Duration, end: impl Fn(&mut Child)) -> Run {
    let mut child = world.start(&["restore", "home", "out", "--in-place"]);
    let start = Instant::now();
    while start.elapsed() < after && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    end(&mut child);
    Run::of(&["restore"], child.wait_with_output().unwrap())
}

#[test]
fn an_interrupted_restore_says_how_to_go_on_and_is_continued() {
    let world = long();
    let run = interrupted(&world, Duration::from_millis(60), |child| interrupt(child));
    if run.code != Some(0) {
        run.expect_code(130).says(&["interrupted", "the same command goes on where this one ended"]);
    }
    let said = world.json(&["restore", "home", "out", "--in-place", "--verify"]);
    assert_eq!(said["problems"], 0);
    assert_same(&world.path("home"), &world.path("out"), RESTORED);
    assert!(leftovers(&world.path("out")).is_empty());
}

#[test]
fn a_killed_restore_is_continued() {
    let world = long();
    let seed = random_seed();
    for round in 0..6 {
        let after = Duration::from_millis((support::fraction(seed + round) * 300.0) as u64);
        interrupted(&world, after, |child| {
            let _ = child.kill();
        });
        // Nothing that is there under its own name, and complete by its time, is anything but complete.
        for directory in 0..40 {
            let (from, to) = (format!("home/{directory:02}/large"), format!("out/{directory:02}/large"));
            if let Ok(restored) = fs::metadata(world.path(&to)) {
                let original = fs::metadata(world.path(&from)).unwrap();
                if restored.mtime() == original.mtime() && restored.mtime_nsec() == original.mtime_nsec() {
                    assert!(fs::read(world.path(&to)).unwrap() == fs::read(world.path(&from)).unwrap());
                }
            }
        }
    }
    world.ok(&["restore", "home", "out", "--in-place", "--verify"]);
    assert_same(&world.path("home"), &world.path("out"), RESTORED);
    assert!(leftovers(&world.path("out")).is_empty());
}

#[test]
fn two_restores_to_one_target_keep_out_of_each_others_way() {
    let world = long();
    fs::create_dir(world.path("out")).unwrap();
    let target = File::open(world.path("out")).unwrap();
    target.lock().unwrap();
    world.fails(1, &["restore", "home", "out"], &["another restore to it is running"]);
    drop(target);
    world.ok(&["restore", "home", "out"]);
}

#[test]
fn a_full_disk_ends_it_cleanly_and_it_goes_on_when_there_is_room() {
    if !can_use(&[Requirement::Root, Requirement::Loop]) {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    for number in 0..40 {
        fs::write(world.path(&format!("home/{number:02}")), noise(number, MIB)).unwrap();
    }
    settle();
    world.ok(&["backup", "home"]);
    let disk = SmallDisk::new(&world, 64 << 20);
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 30 * MIB]).unwrap();
    let target = disk.path().join("out");
    let target = target.to_str().unwrap();
    let run = world.run(&["restore", "home", target]).expect_code(1);
    run.says(&["No space left", "free some space", "--in-place goes on"]);
    fs::remove_file(filler).unwrap();
    let said = world.json(&["restore", "home", target, "--in-place", "--verify"]);
    assert!(number(&said, "unchanged") > 5, "{said:#}");
    assert_same(&world.path("home"), Path::new(target), RESTORED);
}
