//! `treering gc`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use support::harms::contradict_packs;
use support::system::{Mounted, Requirement, SmallDisk, can_use};
use support::{CHUNK, World, noise, wait_until, write_chunk};

/// Writes an image of so many chunks, whose content depends on the seed.
fn write_image(world: &World, chunks: u64, seed: u64) {
    fs::write(world.path("vm.img"), noise(seed, (chunks * CHUNK) as usize)).unwrap();
}

/// A world with so many revisions that have nothing in common.
fn world(revisions: u64) -> World {
    let world = World::new();
    for number in 0..revisions {
        write_image(&world, 16, number + 1);
        world.backup("vm.img", "vm");
    }
    world
}

fn pack_bytes(world: &World) -> u64 {
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    world.stored_files("packs").iter().map(|path| size(path)).sum()
}

/// Asserts that nothing is wrong with the repository, and that no pack is left that nobody needs.
#[track_caller]
fn assert_clean(world: &World) {
    world.ok(&["scrub"]);
    let health = &world.json(&["status"])["repository"];
    assert_eq!(health["damaged_files"], json!([]));
    assert_eq!(health["packs_without_table"]["files"], json!(0));
    assert_eq!(health["leftovers"]["files"], json!(0));
}

#[test]
fn without_anything_to_free_nothing_is_changed() {
    let world = world(2);
    let before = world.stored_files("");
    let said = world.json(&["gc"]);
    assert_eq!(
        (&said["bytes_freed"], &said["pending"], &said["held"]),
        (&json!(0), &json!(null), &json!([]))
    );
    let after: Vec<_> =
        world.stored_files("").into_iter().filter(|path| !path.ends_with("locks/gc")).collect();
    assert!(before.iter().all(|path| after.contains(path)));
    World::new().ok(&["gc"]);
}

/// It once took a lock, and made a file for it: there was no dry run on a read-only medium.
#[test]
fn a_dry_run_makes_nothing_and_waits_for_nobody() {
    let world = world(2);
    world.ok(&["forget", "vm@1"]);
    let would = world.ok(&["gc", "--dry-run"]).text();
    assert!(would.contains("would be deleted"), "{would}");
    let merges = fs::File::create(world.path("repo/locks/index")).unwrap();
    merges.lock().unwrap();
    assert_eq!(world.ok(&["gc", "--dry-run"]).text(), would);
    fs::remove_dir_all(world.path("repo/locks")).unwrap();
    assert_eq!(world.ok(&["gc", "--dry-run"]).text(), would);
    assert!(!world.path("repo/locks").exists());
}

#[test]
fn what_was_forgotten_is_freed_and_the_rest_is_as_it_was() {
    let world = world(3);
    let (before, newest) = (pack_bytes(&world), world.dump("vm"));
    world.ok(&["forget", "vm@1..2"]);
    let would = world.json(&["gc", "--dry-run"]);
    assert_eq!(pack_bytes(&world), before, "a dry run changes nothing");
    world.ok(&["forget", "--undo", "vm"]);
    world.ok(&["forget", "vm@1..2"]);
    let said = world.json(&["gc"]);
    for key in ["revisions_taken", "packs_deleted", "bytes_before", "bytes_freed"] {
        assert_eq!(said[key], would[key], "{key}");
    }
    assert_eq!((&said["revisions_taken"], &said["bytes_before"]), (&json!(2), &json!(before)));
    assert_eq!(json!(before - pack_bytes(&world)), said["bytes_freed"]);
    assert!(pack_bytes(&world) < before / 2, "{said}");
    assert_eq!(world.dump("vm"), newest);
    assert_clean(&world);
    world.fails(1, &["forget", "--undo", "vm"], &["vm"]);
    assert_eq!(world.json(&["gc"])["bytes_freed"], json!(0));
    // The same data again is stored again.
    write_image(&world, 16, 1);
    world.backup("vm.img", "vm");
    assert_eq!(world.dump("vm"), fs::read(world.path("vm.img")).unwrap());
    assert_clean(&world);
}

/// What is in use was once taken for something that the pack has not, and deleted with it.
#[test]
fn a_pack_of_which_a_table_says_something_else_is_left_as_it_is() {
    let world = World::new();
    write_image(&world, 64, 1);
    world.backup("vm.img", "vm");
    let tables = world.stored_files("index");
    for chunk in (0..64).filter(|chunk| chunk % 4 != 0) {
        write_chunk(&world.path("vm.img"), chunk, 1000 + chunk);
    }
    world.backup("vm.img", "vm");
    world.ok(&["forget", "vm@1"]);
    tables.iter().for_each(|table| contradict_packs(table));
    let packs = world.stored_files("packs/data");
    let run = world.ok(&["gc"]);
    run.says(&["is left as it is", "in use in it, as tables say"]);
    assert!(packs.iter().all(|pack| pack.exists()));
    assert_eq!(world.dump("vm"), fs::read(world.path("vm.img")).unwrap());
    world.run(&["check", "--repair"]).expect_code(0);
    world.ok(&["gc"]);
    assert!(!packs.iter().all(|pack| pack.exists()));
    assert_eq!(world.dump("vm"), fs::read(world.path("vm.img")).unwrap());
    assert_clean(&world);
}

#[test]
fn mostly_unused_packs_are_written_anew() {
    let world = World::new();
    write_image(&world, 64, 1);
    world.backup("vm.img", "vm");
    // Three quarters of it change, here and there.
    for chunk in (0..64).filter(|chunk| chunk % 4 != 0) {
        write_chunk(&world.path("vm.img"), chunk, 1000 + chunk);
    }
    world.backup("vm.img", "vm");
    let before = pack_bytes(&world);
    world.ok(&["forget", "vm@1"]);
    assert_eq!(world.json(&["gc", "--rewrite-below", "0"])["packs_rewritten"]["files"], json!(0));
    let would = world.json(&["gc", "--dry-run"]);
    assert_eq!(would["packs_rewritten"]["files"], json!(1), "{would}");
    let said = world.json(&["gc"]);
    assert_eq!(said["packs_rewritten"], would["packs_rewritten"]);
    assert!(pack_bytes(&world) + 40 * CHUNK < before, "{said}");
    assert_eq!(world.dump("vm"), fs::read(world.path("vm.img")).unwrap());
    assert_clean(&world);
    assert_eq!(world.json(&["gc"])["packs_rewritten"]["files"], json!(0), "once is enough");
}

#[test]
fn trees_are_freed_as_well() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    for number in 0..40 {
        fs::write(world.path(&format!("home/{number}")), noise(number, 30_000)).unwrap();
    }
    fs::write(world.path("home/large"), noise(99, 3_000_000)).unwrap();
    world.backup("home", "home");
    for number in 0..30 {
        fs::remove_file(world.path(&format!("home/{number}"))).unwrap();
    }
    fs::write(world.path("home/large"), noise(98, 3_000_000)).unwrap();
    world.backup("home", "home");
    let before = pack_bytes(&world);
    world.ok(&["forget", "home@1"]);
    world.ok(&["gc"]);
    assert!(pack_bytes(&world) + 3_500_000 < before);
    world.ok(&["restore", "home", "back"]);
    for number in 30..40 {
        assert_eq!(fs::read(world.path(&format!("back/{number}"))).unwrap(), noise(number, 30_000));
    }
    assert_eq!(fs::read(world.path("back/large")).unwrap(), noise(98, 3_000_000));
    assert_clean(&world);
}

#[test]
fn what_somebody_has_open_is_kept_until_it_is_closed() {
    if !can_use(&[Requirement::Fuse]) {
        return;
    }
    let world = world(2);
    let mounted = Mounted::repository(&world, &[]);
    let name = world.revisions("vm")[0]["name"].as_str().unwrap().to_owned();
    let mut file = fs::File::open(mounted.path().join(format!("vm/{name}.img"))).unwrap();
    let mut first = vec![0; CHUNK as usize];
    file.read_exact(&mut first).unwrap();
    world.ok(&["forget", "vm@1"]);
    let said = world.json(&["gc"]);
    assert!(said["held"][0]["holder"].as_str().unwrap().contains("reader (process "), "{said}");
    assert_eq!(said["bytes_freed"], json!(0));
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).unwrap();
    assert_eq!([first, rest].concat(), noise(1, (16 * CHUNK) as usize));
    drop(file);
    wait_until("the pin is gone", || world.json(&["gc"])["bytes_freed"] != json!(0));
    // What is left is served on.
    let name = world.revisions("vm")[0]["name"].as_str().unwrap().to_owned();
    let newest = fs::read(mounted.path().join(format!("vm/{name}.img"))).unwrap();
    assert_eq!(newest, noise(2, (16 * CHUNK) as usize));
}

/// A backup of stdin that has begun, and stored something.
fn begun_backup(world: &World) -> std::process::Child {
    let mut backup = world.command(&["backup", "-", "piped"]).stdin(Stdio::piped()).spawn().unwrap();
    backup.stdin.as_mut().unwrap().write_all(&noise(7, 4 << 20)).unwrap();
    backup
}

#[test]
fn what_a_running_backup_may_rely_on_is_left_to_the_next_gc() {
    let world = world(2);
    let mut backup = begun_backup(&world);
    world.ok(&["forget", "vm@1"]);
    let before = pack_bytes(&world);
    let said = world.json(&["gc"]);
    assert!(said["pending"]["holders"][0].as_str().unwrap().contains("backup of -"), "{said}");
    assert!(pack_bytes(&world) >= before);
    // Also another one finds it so.
    assert_ne!(world.json(&["gc"])["pending"], json!(null));
    backup.stdin.as_mut().unwrap().write_all(&noise(1, (16 * CHUNK) as usize)).unwrap();
    drop(backup.stdin.take());
    assert!(backup.wait().unwrap().success());
    let said = world.json(&["gc"]);
    assert_eq!(said["pending"], json!(null));
    let piped = world.dump("piped");
    assert!(piped == [noise(7, 4 << 20), noise(1, (16 * CHUNK) as usize)].concat());
    assert_clean(&world);
}

/// It must not reuse what gc has condemned, though it is there still.
#[test]
fn a_backup_that_begins_meanwhile_stores_anew_what_is_condemned() {
    let world = world(2);
    let mut older = begun_backup(&world);
    world.ok(&["forget", "vm@1"]);
    assert_ne!(world.json(&["gc"])["pending"], json!(null));
    write_image(&world, 16, 1);
    let newer = world.backup("vm.img", "again");
    assert_eq!(newer["chunks_new"], json!(16));
    drop(older.stdin.take());
    assert!(older.wait().unwrap().success());
    assert_eq!(world.json(&["gc"])["pending"], json!(null));
    assert_eq!(world.dump("again"), noise(1, (16 * CHUNK) as usize));
    assert_clean(&world);
}

/// Others came all the time, and what was condemned was never deleted.
#[test]
fn backups_that_began_later_keep_nothing_from_being_deleted() {
    let world = world(2);
    let mut older = begun_backup(&world);
    world.ok(&["forget", "vm@1"]);
    assert_ne!(world.json(&["gc"])["pending"], json!(null));
    let mut later = world.command(&["backup", "-", "later"]).stdin(Stdio::piped()).spawn().unwrap();
    later.stdin.as_mut().unwrap().write_all(&noise(8, 4 << 20)).unwrap();
    drop(older.stdin.take());
    assert!(older.wait().unwrap().success());
    let said = world.json(&["gc"]);
    assert!(said["bytes_freed"].as_u64().unwrap() > 15 * CHUNK, "{said}");
    drop(later.stdin.take());
    assert!(later.wait().unwrap().success());
    world.ok(&["gc"]);
    assert!(world.dump("later") == noise(8, 4 << 20));
    assert_clean(&world);
}

#[test]
fn of_two_at_once_one_is_refused_and_names_the_other() {
    let world = world(1);
    let lock = fs::File::create(world.repository().join("locks/gc")).unwrap();
    lock.lock().unwrap();
    world.fails(1, &["gc"], &["gc", "in use by"]);
    world.ok(&["gc", "--dry-run"]);
    drop(lock);
    world.ok(&["gc"]);
}

#[test]
fn what_killed_runs_have_left_goes() {
    let world = world(1);
    let mut backup = begun_backup(&world);
    wait_until("something is stored", || !world.stored_files("incoming").is_empty());
    backup.kill().unwrap();
    backup.wait().unwrap();
    assert_ne!(world.json(&["status"])["repository"]["leftovers"]["files"], json!(0));
    let said = world.json(&["gc"]);
    assert_ne!(said["leftovers"]["files"], json!(0));
    assert_clean(&world);
    assert_eq!(world.stored_files("incoming").len() + world.stored_files("sessions").len(), 0);
}

#[test]
fn a_deleted_stream_leaves_nothing() {
    let world = world(2);
    world.ok(&["tag", "vm@all", "--add", "weekly"]);
    world.backup("vm.img", "other");
    world.ok(&["stream", "delete", "vm", "--yes"]);
    world.ok(&["gc"]);
    let streams = world.json(&["stream", "list"]);
    assert_eq!(streams["streams"].as_array().unwrap().len(), 1, "{streams}");
    for directory in ["streams", "revisions", "labels"] {
        let left = fs::read_dir(world.repository().join(directory)).unwrap().count();
        assert_eq!(left, if directory == "labels" { 0 } else { 1 }, "{directory}");
    }
    assert_eq!(world.dump("other"), noise(2, (16 * CHUNK) as usize));
    assert_clean(&world);
}

/// What lies below it would be taken for unused.
#[test]
fn where_it_is_not_known_what_a_revision_needs_nothing_is_freed() {
    let world = world(3);
    world.ok(&["forget", "vm@2"]);
    let records = world.stored_files("revisions");
    let record = records.iter().min().unwrap();
    let intact = fs::read(record).unwrap();
    fs::write(record, b"garbage").unwrap();
    let before = pack_bytes(&world);
    world.fails(1, &["gc"], &["cannot free space", "nothing is freed", "--despite-damage"]);
    assert_eq!(pack_bytes(&world), before);
    // The trash is as it was, too.
    assert_eq!(world.json(&["stream", "list"])["streams"][0]["forgotten"], json!(1));
    fs::write(record, intact).unwrap();
    world.ok(&["gc"]);
    assert!(pack_bytes(&world) < before);
    fs::write(record, b"garbage").unwrap();
    let before = pack_bytes(&world);
    world.ok(&["gc", "--despite-damage"]);
    assert!(pack_bytes(&world) < before);
    world.assert_same("vm", &world.path("vm.img"));
}

#[test]
fn while_the_index_is_not_whole_nothing_is_freed() {
    let world = world(2);
    world.ok(&["forget", "vm@1"]);
    let tables = world.stored_files("index");
    let intact: Vec<Vec<u8>> = tables.iter().map(|table| fs::read(table).unwrap()).collect();
    let before = pack_bytes(&world);
    let refused = || {
        world.fails(1, &["gc"], &["cannot free space", "index"]);
        assert_eq!(pack_bytes(&world), before);
    };
    fs::write(&tables[0], &intact[0][..intact[0].len() - 1]).unwrap();
    refused();
    tables.iter().for_each(|table| fs::remove_file(table).unwrap());
    refused();
    tables.iter().zip(&intact).for_each(|(table, intact)| fs::write(table, intact).unwrap());
    world.ok(&["gc"]);
    assert!(pack_bytes(&world) < before);
}

/// First a backup with nothing left, then the gc that makes room.
#[test]
fn a_full_disk_is_freed() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::without_repository();
    let small = SmallDisk::new(&world, 64 << 20);
    let repository = small.path().join("repo");
    let named = repository.to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| world.run(&[&["-r", &named], arguments].concat());
    run(&["init"]).expect_code(0);
    for seed in 1..=3 {
        fs::write(world.path("vm.img"), noise(seed, 12 << 20)).unwrap();
        run(&["backup", "vm.img", "vm"]).expect_code(0);
    }
    fs::write(world.path("vm.img"), noise(9, 60 << 20)).unwrap();
    run(&["backup", "vm.img", "vm"]).expect_code(1);
    // All that is left is taken by somebody else, but for less than 1 MiB.
    fill_up_to(small.path(), 900 << 10);
    run(&["forget", "vm", "--keep-last", "1"]).expect_code(0);
    let said = run(&["gc", "--json"]).expect_code(0).json();
    assert!(said["bytes_freed"].as_u64().unwrap() > 20 << 20, "{said}");
    assert!(run(&["dump", "vm"]).expect_code(0).stdout == noise(3, 12 << 20));
    run(&["scrub"]).expect_code(0);
    fs::write(world.path("vm.img"), noise(4, 12 << 20)).unwrap();
    run(&["backup", "vm.img", "vm"]).expect_code(0);
}

/// A repository on a small disk, with two packs of which a revision uses a little of one and a third of the other.
fn mostly_dead_packs_on(small: &SmallDisk, world: &World) -> (String, Vec<u8>) {
    let repository = small.path().join("repo").to_str().unwrap().to_owned();
    let image = world.path("vm.img");
    fs::write(&image, noise(1, 64 << 20)).unwrap();
    world.ok(&["-r", &repository, "init"]);
    world.ok(&["-r", &repository, "backup", "vm.img", "vm"]);
    let kept = [0..512 << 10, 36 << 20..46 << 20];
    let bytes = fs::read(&image).unwrap();
    let file = fs::File::create(&image).unwrap();
    file.set_len(64 << 20).unwrap();
    kept.into_iter().for_each(|range| file.write_all_at(&bytes[range.clone()], range.start as u64).unwrap());
    world.ok(&["-r", &repository, "backup", "vm.img", "vm", "--force-read"]);
    world.ok(&["-r", &repository, "forget", "vm@1"]);
    (repository, fs::read(&image).unwrap())
}

/// What is in use of 32 packs was written anew before the first was deleted, for which there was no room.
#[test]
fn on_a_full_disk_packs_are_written_anew_one_after_the_other() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::without_repository();
    let small = SmallDisk::new(&world, 100 << 20);
    let (repository, image) = mostly_dead_packs_on(&small, &world);
    let gc = || world.ok(&["-r", &repository, "gc", "--json"]).json();
    fill_up_to(small.path(), 200 << 10);
    let said = gc();
    assert!(said["bytes_freed"].as_u64().unwrap() < 1 << 20, "{said}");
    assert_ne!(said["packs_not_rewritten"]["files"], json!(0), "{said}");
    let text = world.ok(&["-r", &repository, "gc"]).text();
    assert!(text.contains("stay as they are") && text.contains("free "), "{text}");
    fs::remove_file(small.path().join("filler")).unwrap();
    fill_up_to(small.path(), 1100 << 10);
    let said = gc();
    assert!(said["bytes_freed"].as_u64().unwrap() > 50 << 20, "{said}");
    assert_eq!(said["packs_not_rewritten"]["files"], json!(0), "{said}");
    assert!(world.ok(&["-r", &repository, "dump", "vm"]).stdout == image);
    world.ok(&["-r", &repository, "scrub"]);
}

/// Takes all space of a file system but for so many bytes.
fn fill_up_to(path: &Path, left: u64) {
    let statistics = rustix::fs::statvfs(path).unwrap();
    let free = statistics.f_bavail * statistics.f_frsize;
    let filler = fs::File::create(path.join("filler")).unwrap();
    let mode = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&filler, mode, 0, free.checked_sub(left).unwrap()).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = World::new();
    world.fails(2, &["gc", "--rewrite-below", "101"], &["101"]);
    world.fails(2, &["gc", "vm"], &["vm"]);
    world.fails(1, &["-r", "nowhere", "gc"], &["nowhere"]);
    let text = world.ok(&["gc"]).text();
    assert_eq!(text, "0 B of 0 B freed\n");
    let _: Value = world.json(&["gc"]);
}

/// Of two copies the one that can be read is kept, whichever is the newer.
#[test]
fn of_a_healed_chunk_the_good_copy_is_kept() {
    let world = world(1);
    world.damage_data_packs();
    world.run(&["scrub"]).expect_code(4);
    world.backup("vm.img", "vm");
    world.ok(&["gc", "--rewrite-below", "100"]);
    world.ok(&["scrub"]);
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], json!(0));
    assert_eq!(world.dump("vm@0"), noise(1, (16 * CHUNK) as usize));
    assert_eq!(world.dump("vm@1"), noise(1, (16 * CHUNK) as usize));
    world.ok(&["forget", "vm@1"]);
    world.ok(&["gc"]);
    assert_eq!(world.dump("vm"), noise(1, (16 * CHUNK) as usize));
    assert_clean(&world);
}

/// What was found to be bad is no longer told of when nobody needs it and it is gone.
#[test]
fn what_is_bad_and_forgotten_leaves_the_damage_list() {
    let world = world(1);
    world.damage_data_packs();
    world.run(&["scrub"]).expect_code(4);
    write_image(&world, 16, 2);
    world.backup("vm.img", "vm");
    world.ok(&["forget", "vm@1"]);
    assert_ne!(world.json(&["status"])["repository"]["damaged_objects"], json!(0));
    world.ok(&["gc"]);
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], json!(0));
    assert_clean(&world);
}

/// What lay in it only its table knew, which may come back from a copy.
#[test]
fn a_pack_that_no_table_names_and_that_says_nothing_itself_is_left_to_a_repair() {
    let world = world(1);
    let table = world.stored_files("index").remove(0);
    let packs = world.stored_files("packs/data");
    write_image(&world, 16, 2);
    world.backup("vm.img", "vm");
    world.ok(&["forget", "vm@0"]);
    let is_new = |file: &std::path::PathBuf| !packs.contains(file) && *file != table;
    let new_table = world.stored_files("index").into_iter().find(is_new).unwrap();
    fs::remove_file(new_table).unwrap();
    let pack = world.stored_files("packs/data").into_iter().find(is_new).unwrap();
    let whole = fs::metadata(&pack).unwrap().len();
    fs::File::options().write(true).open(&pack).unwrap().set_len(whole - 1).unwrap();
    world.ok(&["gc"]).says(&["which no table names", "check --repair"]);
    assert!(pack.exists());
    world.ok(&["check", "--repair"]);
    assert!(!pack.exists() && world.stored_files("quarantine").len() == 1);
    world.ok(&["gc"]);
    assert_clean(&world);
}
