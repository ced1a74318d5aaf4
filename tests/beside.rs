//! Operations beside each other: the table of `docs/format.md`, section 5, cell by cell, and all at once.
//!
//! What is not here is proved elsewhere: two backups of one stream in `backup_faults.rs`, readers beside forget in the tests of
//! the mount, gc beside backups and readers in `gc.rs`, copies in `copy.rs`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on may panic")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use support::random::Random;
use support::{CHUNK, World, noise, random_seed};

/// Bytes of some chunks, each named by its seed.
fn image(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| noise(*seed, CHUNK as usize)).collect()
}

fn back_up(world: &World, stream: &str, seeds: &[u64]) {
    fs::write(world.path(stream), image(seeds)).unwrap();
    world.backup(stream, stream);
}

/// A backup of stdin that has got so many bytes, more than a pipe holds: so it has chosen its parent.
fn begun_backup(world: &World, stream: &str, bytes: &[u8]) -> Child {
    let mut backup = world.command(&["backup", "-", stream]).stdin(Stdio::piped()).spawn().unwrap();
    backup.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    backup
}

fn finish(mut backup: Child, rest: &[u8]) {
    backup.stdin.take().unwrap().write_all(rest).unwrap();
    assert!(backup.wait().unwrap().success());
}

/// Its session names it, so gc keeps what it is made of, though nothing else does.
#[test]
fn the_parent_of_a_running_backup_may_be_forgotten() {
    let world = World::new();
    let seeds: Vec<u64> = (100..140).collect();
    back_up(&world, "vm", &[1; 8]);
    back_up(&world, "vm", &seeds);
    // An older backup, so that gc leaves a list of condemned packs, which the other one has read when it begins.
    let older = begun_backup(&world, "other", &noise(7, 2 << 20));
    world.ok(&["forget", "vm@1"]);
    assert_ne!(world.json(&["gc"])["pending"], json!(null));
    let (first, rest) = (image(&seeds[..32]), image(&seeds[32..]));
    let backup = begun_backup(&world, "vm", &first);
    world.ok(&["forget", "vm@0"]);
    finish(older, b"");
    let said = world.json(&["gc"]);
    assert_eq!(said["pending"], json!(null), "the newer one is not waited for: {said}");
    let unused = world.json(&["gc", "--dry-run"]);
    assert_eq!(unused["packs_deleted"]["files"], json!(0), "{unused}");
    finish(backup, &rest);
    assert!(world.dump("vm") == image(&seeds));
    world.ok(&["scrub"]);
    assert_eq!(world.revisions("vm").len(), 1);
}

/// gc finds the record of what was brought back after it had marked.
#[test]
fn what_is_brought_back_while_gc_waits_stays() {
    let world = World::new();
    back_up(&world, "vm", &[1, 2, 3]);
    back_up(&world, "vm", &[4, 5, 6]);
    let older = begun_backup(&world, "other", &noise(7, 2 << 20));
    world.ok(&["forget", "vm@1"]);
    world.ok(&["forget", "--undo", "vm"]);
    world.ok(&["forget", "vm@1"]);
    // The trash is taken, and what was in it is condemned; the same bytes come again in a backup that had begun before.
    assert_ne!(world.json(&["gc"])["pending"], json!(null));
    finish(older, &image(&[1, 2, 3]));
    world.ok(&["gc"]);
    assert!(world.dump("other") == [noise(7, 2 << 20), image(&[1, 2, 3])].concat());
    world.ok(&["scrub"]);
}

#[test]
fn backups_of_other_streams_run_side_by_side() {
    let world = World::new();
    let names: Vec<String> = (0..4).map(|number| format!("vm{number}")).collect();
    // All have something in common, which each of them may store.
    let contents: Vec<Vec<u8>> = (0..4).map(|number| image(&[1, 2, 3, 100 + number])).collect();
    for (name, content) in names.iter().zip(&contents) {
        fs::write(world.path(name), content).unwrap();
    }
    let children: Vec<Child> = names.iter().map(|name| world.start(&["backup", name, name])).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    names.iter().zip(&contents).for_each(|(name, content)| assert!(world.dump(name) == *content));
    world.ok(&["gc"]);
    names.iter().zip(&contents).for_each(|(name, content)| assert!(world.dump(name) == *content));
    world.ok(&["scrub"]);
}

/// What revisions hold that were made, by their ids.
type Made = Mutex<HashMap<String, Vec<u64>>>;

/// Backs up one stream again and again. Its chunks come from a few, so that what was forgotten comes again all the time.
fn write_history(world: &World, stream: &str, rounds: usize, random: &mut Random, made: &Made) {
    let mut seeds: Vec<u64> = (0..24).map(|_| random.below(60)).collect();
    for _ in 0..rounds {
        for _ in 0..8 {
            let place = random.below(24) as usize;
            seeds[place] = random.below(60);
        }
        fs::write(world.path(stream), image(&seeds)).unwrap();
        // Another one may be about to delete what it was to build upon, which it says then.
        let said = world.backup(stream, stream);
        made.lock().unwrap().insert(said["id"].as_str().unwrap().to_owned(), seeds.clone());
    }
}

/// Reads revisions: each is what it was, or is no longer there.
fn read_history(world: &World, stream: &str, random: &mut Random, made: &Made) {
    let known: Vec<(String, Vec<u64>)> =
        made.lock().unwrap().iter().map(|(id, seeds)| (id.clone(), seeds.clone())).collect();
    if known.is_empty() {
        return;
    }
    let (id, seeds) = &known[random.below(known.len() as u64) as usize];
    let run = world.run(&["dump", &format!("{stream}@id:{id}")]);
    match run.code {
        Some(0) => assert!(run.stdout == image(seeds), "{stream}@{id}"),
        _ => {
            let says = |text: &str| run.stderr.contains(text);
            assert!(says("no revision of") || says("was forgotten meanwhile"), "{}", run.stderr);
        }
    }
}

#[test]
fn all_at_once_loses_nothing() {
    let seed = random_seed();
    eprintln!("seed {seed}");
    let (world, done) = (World::new(), AtomicBool::new(false));
    let streams = ["vm0", "vm1", "vm2"];
    let made: HashMap<&str, Made> = streams.iter().map(|stream| (*stream, Made::default())).collect();
    let until_done = |work: &mut dyn FnMut()| {
        while !done.load(Ordering::Relaxed) {
            work();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| until_done(&mut || _ = world.ok(&["forget", "--all", "--keep-last", "2"])));
        scope.spawn(|| until_done(&mut || _ = world.ok(&["gc", "--rewrite-below", "70"])));
        for (number, stream) in streams.iter().enumerate() {
            let made = &made[stream];
            let (world, until_done) = (&world, &until_done);
            scope.spawn(move || {
                let mut random = Random::new(seed + 100 + number as u64);
                until_done(&mut || read_history(world, stream, &mut random, made));
            });
        }
        let writers: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(number, stream)| {
                let (world, made) = (&world, &made[stream]);
                scope.spawn(move || {
                    write_history(world, stream, 12, &mut Random::new(seed + number as u64), made);
                })
            })
            .collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    world.ok(&["gc"]);
    world.ok(&["scrub"]);
    for stream in streams {
        let made = made[stream].lock().unwrap();
        let left = world.revisions(stream);
        assert!(left.len() >= 2, "{stream}");
        for revision in left {
            let id = revision["id"].as_str().unwrap();
            assert!(
                world.dump(&format!("{stream}@id:{id}")) == image(&made[id]),
                "{stream}@{id}, seed {seed}"
            );
        }
    }
}
