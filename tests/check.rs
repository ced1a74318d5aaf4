//! `treering check`, through the program: what is damaged or lost is named, with all that it affects.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::system::{Mounted, Requirement, can_use, system};
use support::{CHUNK, Run, World, assert_keys, flip_bit, noise, settle, write_chunk};

/// Three revisions of an image, one of them forgotten, the others with tags; and two of a tree.
fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.json(&["backup", "vm1.img", "vm1", "--tag", "first"]);
    write_chunk(&image, 1, 1000);
    world.json(&["backup", "vm1.img", "vm1", "--tag", "second"]);
    write_chunk(&image, 2, 2000);
    world.backup("vm1.img", "vm1");
    world.ok(&["forget", "vm1@2"]);
    fs::create_dir_all(world.path("home/dir/sub")).unwrap();
    fs::write(world.path("home/small"), "small").unwrap();
    fs::write(world.path("home/dir/large"), noise(5, 3_000_000)).unwrap();
    settle();
    world.backup("home", "home");
    fs::write(world.path("home/dir/sub/new"), noise(6, 2_000_000)).unwrap();
    settle();
    world.backup("home", "home");
    world
}

fn json_of(world: &World, code: i32) -> Value {
    world.run(&["check", "--json"]).expect_code(code).json()
}

fn damaged_files(said: &Value) -> Vec<String> {
    let damaged = said["damaged_files"].as_array().unwrap().iter();
    damaged.map(|damaged| damaged["file"].as_str().unwrap().to_owned()).collect()
}

fn relative(world: &World, file: &Path) -> String {
    file.strip_prefix(world.repository()).unwrap().to_str().unwrap().to_owned()
}

fn truncate(file: &Path) {
    let size = fs::metadata(file).unwrap().len();
    File::options().write(true).open(file).unwrap().set_len(size * 2 / 3).unwrap();
}

/// What is done to a file, and what it is called.
type Way = (&'static str, fn(&Path));

#[test]
fn a_sound_repository_is_found_to_be_sound() {
    let world = world();
    let said = json_of(&world, 0);
    let keys = [
        "damaged_files",
        "bad",
        "unused",
        "affected",
        "superseded",
        "leftovers",
        "strangers",
        "repaired",
        "checked",
    ];
    assert_keys(&said, &keys);
    let help = world.ok(&["check", "--help"]).text();
    for key in said.as_object().unwrap().keys() {
        assert!(help.contains(key), "the help says nothing of {key}");
    }
    for key in &keys[..5] {
        assert_eq!(said[key], json!([]), "{key}");
    }
    assert_eq!(said["strangers"], json!([]));
    assert_eq!(said["checked"]["revisions"], 4);
    assert_eq!(said["checked"]["packs"], world.stored_files("packs").len());
    assert!(world.ok(&["check"]).text().contains("all is in order"));
    let empty = World::new();
    empty.ok(&["check"]);
    assert!(empty.ok(&["-q", "check"]).text().is_empty());
}

/// Notes came, too.
#[test]
fn a_quiet_check_tells_of_damage_alone() {
    let world = World::new();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    fs::write(world.path("repo/notes.txt"), "a stranger").unwrap();
    assert!(world.ok(&["check"]).text().contains("note     notes.txt"));
    assert_eq!(world.ok(&["check", "-q"]).text(), "");
    let pack = world.stored_files("packs/data").pop().unwrap();
    fs::remove_file(&pack).unwrap();
    let text = world.run(&["check", "-q"]).expect_code(4).text();
    for word in ["DAMAGED  packs/data/", "BAD      chunk", "AFFECTED vm@", "bytes at offset"] {
        assert!(text.contains(word), "no '{word}' in {text}");
    }
    assert!(!text.contains("note ") && !text.contains("checked"), "{text}");
    // A repair that gives something up says what, and only that.
    let record = world.stored_files("revisions").pop().unwrap();
    support::flip_bit(&record, 100);
    fs::remove_dir_all(world.repository().join("index")).unwrap();
    let text = world.run(&["check", "--repair", "-q"]).expect_code(4).text();
    let repaired: Vec<&str> = text.lines().filter(|line| line.starts_with("REPAIRED")).collect();
    assert!(
        repaired.len() == 1 && repaired[0].contains("revisions/") && repaired[0].contains("LOST"),
        "{text}"
    );
}

/// Damages a file in each way, looks what check says, and puts it back.
fn with_each_damage(world: &World, file: &Path, look: impl Fn(&str, i32, &Value)) {
    let ways: [Way; 3] = [
        ("deleted", |file| fs::remove_file(file).unwrap()),
        ("truncated", truncate),
        ("flipped", |file| flip_bit(file, fs::metadata(file).unwrap().len() / 2)),
    ];
    for (way, damage) in ways {
        let kept = fs::read(file).unwrap();
        let list = world.repository().join("damage");
        let known = fs::read(&list).ok();
        damage(file);
        let run = world.run(&["check", "--json"]);
        look(way, run.code.unwrap(), &run.json());
        fs::write(file, kept).unwrap();
        match known {
            Some(known) => fs::write(list, known).unwrap(),
            None => fs::remove_file(list).unwrap_or_default(),
        }
    }
    json_of(world, 0);
}

#[test]
fn every_small_file_that_is_damaged_is_named() {
    let world = world();
    world.ok(&["scrub"]);
    world.ok(&["init", "second"]);
    world.ok(&["copy", "vm1@latest", "--to", "second", "--remember"]);
    let files = ["streams", "revisions", "labels", "trash", "index"].map(|area| world.stored_files(area));
    let at_the_top = ["scrub", "copy-target"].map(|name| world.repository().join(name));
    for file in files.iter().flatten().chain(&at_the_top) {
        let name = relative(&world, file);
        with_each_damage(&world, file, |way, code, said| {
            let found = damaged_files(said);
            // What may be absent is not missed.
            let may_be_absent = ["trash", "scrub", "copy-target"].iter().any(|area| name.starts_with(area));
            let is_of_forgotten = name.starts_with("labels")
                && files[3]
                    .iter()
                    .any(|record| record.to_str().unwrap().contains(name.rsplit('/').next().unwrap()));
            if way == "deleted" && (may_be_absent || is_of_forgotten) {
                return assert_eq!(code, 0, "{name}: {said:#}");
            }
            assert_eq!(code, 4, "{name} {way}: {said:#}");
            let is_named =
                |found: &String| *found == name || way == "deleted" && name.starts_with(found.as_str());
            assert!(found.iter().any(is_named), "{name} {way}: {said:#}");
            assert!(said["damaged_files"][0]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
        });
    }
}

#[test]
fn every_frame_of_a_pack_that_is_damaged_is_named_with_what_it_affects() {
    let world = world();
    // What only forgotten revisions need is missed by nobody.
    world.ok(&["forget", "--undo", "vm1"]);
    for file in world.stored_files("packs") {
        let name = relative(&world, &file);
        let trailer = fs::metadata(&file).unwrap().len() - 10;
        for offset in [20, trailer] {
            flip_bit(&file, offset);
            let said = json_of(&world, 4);
            flip_bit(&file, offset);
            assert_eq!(damaged_files(&said), std::slice::from_ref(&name), "{said:#}");
            assert_eq!(said["bad"], json!([]), "all of it can still be read");
        }
        for damage in [truncate, |file: &Path| fs::remove_file(file).unwrap()] {
            let kept = fs::read(&file).unwrap();
            damage(&file);
            let said = json_of(&world, 4);
            fs::write(&file, kept).unwrap();
            fs::remove_file(world.repository().join("damage")).unwrap_or_default();
            assert_eq!(damaged_files(&said), std::slice::from_ref(&name), "{said:#}");
            assert_ne!(said["affected"], json!([]), "{name}");
        }
    }
    json_of(&world, 0);
}

fn smallest(files: Vec<PathBuf>) -> PathBuf {
    files.into_iter().min_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

/// Puts the packs away that a command stores.
fn new_packs(world: &World, command: &[&str]) -> Vec<PathBuf> {
    let before = world.stored_files("packs/data");
    world.ok(command);
    world.stored_files("packs/data").into_iter().filter(|pack| !before.contains(pack)).collect()
}

#[test]
fn the_ranges_of_an_image_are_named_and_the_next_backup_heals_what_check_marked() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 3, 3000);
    write_chunk(&image, 4, 4000);
    write_chunk(&image, 7, 7000);
    settle();
    let packs = new_packs(&world, &["backup", "vm1.img", "vm1"]);
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let said = json_of(&world, 4);
    let newest = format!("vm1@{}", world.revisions("vm1")[1]["name"].as_str().unwrap());
    let ranges =
        json!([{ "offset": 3 * CHUNK, "length": 2 * CHUNK }, { "offset": 7 * CHUNK, "length": CHUNK }]);
    assert_eq!(said["affected"], json!([{ "revision": newest, "ranges": ranges, "more": 0 }]));
    assert_eq!(said["bad"].as_array().unwrap().len(), 3);
    assert_eq!(said["bad"][0]["revisions"], json!([newest]));
    let text = world.run(&["check"]).expect_code(4).text();
    assert!(
        text.contains(&format!("AFFECTED {newest}")) && text.contains("131072 bytes at offset 196608"),
        "{text}"
    );
    // It is marked, so that the file is not believed to be as it was.
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 3);
    assert!(world.revisions("vm1")[1]["damaged"] == true);
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &image);
    let healed = json_of(&world, 0);
    assert_eq!((&healed["affected"], &healed["bad"]), (&json!([]), &json!([])));
    assert_eq!(healed["superseded"].as_array().unwrap().len(), packs.len());
}

#[test]
fn the_files_of_a_tree_are_named() {
    let world = World::new();
    fs::create_dir_all(world.path("home/dir/sub")).unwrap();
    fs::write(world.path("home/dir/large"), noise(5, 3_000_000)).unwrap();
    settle();
    world.backup("home", "home");
    for name in ["home/dir/sub/new", "home/other"] {
        fs::write(world.path(name), noise(name.len() as u64, 2_000_000)).unwrap();
    }
    settle();
    let packs = new_packs(&world, &["backup", "home"]);
    packs.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let said = json_of(&world, 4);
    let newest = format!("home@{}", world.revisions("home")[1]["name"].as_str().unwrap());
    let file = |path: &str| json!({ "path": path, "part": "content" });
    let files = json!([file("dir/sub/new"), file("other")]);
    assert_eq!(said["affected"], json!([{ "revision": newest, "files": files, "more": 0 }]));
    // The first revision, and the rest of the second, is not affected.
    world.ok(&["restore", "home@1", "out"]);
    assert!(fs::read(world.path("out/dir/large")).unwrap() == noise(5, 3_000_000));
    assert!(world.ok(&["dump", "home", "dir/large"]).stdout == noise(5, 3_000_000));
    world.backup("home", "home");
    json_of(&world, 0);
}

#[test]
fn what_a_scrub_found_is_damage_whose_effects_check_tells() {
    let world = world();
    let packs = world.stored_files("packs/data");
    let largest = packs.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    flip_bit(largest, 200);
    json_of(&world, 0);
    world.run(&["scrub"]).expect_code(4);
    let said = json_of(&world, 4);
    assert_eq!(said["bad"].as_array().unwrap().len(), 1);
    assert!(!said["affected"].as_array().unwrap().is_empty(), "{said:#}");
    assert_eq!(said["damaged_files"], json!([]), "the frame of the pack is intact");
}

#[test]
fn lost_and_damaged_nodes_affect_all_that_is_below_them() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.stored_files("packs/metadata").iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let said = json_of(&world, 4);
    assert_eq!(said["affected"][0]["ranges"], json!([{ "offset": 0, "length": 64 * CHUNK }]));
    assert_eq!(said["bad"][0]["type"], "node");
    settle();
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &image);
    json_of(&world, 0);
}

#[test]
fn lost_tables_are_told_and_nothing_else_is_damage() {
    let world = world();
    let tables = world.stored_files("index");
    tables.iter().for_each(|table| fs::remove_file(table).unwrap());
    let said = json_of(&world, 4);
    assert_eq!(damaged_files(&said), ["index/"]);
    assert!(said["damaged_files"][0]["hint"].as_str().unwrap().contains("treering check --repair"));
    assert_eq!((&said["bad"], &said["affected"]), (&json!([]), &json!([])));
    assert_eq!(said["leftovers"]["packs_without_table"]["files"], world.stored_files("packs").len());
}

#[test]
fn leftovers_and_strangers_are_named_and_are_no_damage() {
    let world = world();
    let repository = world.repository();
    fs::write(repository.join("incoming/018f2f6e-7b5c-4c3a-9d1e-0123456789ab"), "left").unwrap();
    let labels = world.stored_files("labels")[0].with_file_name("018f2f6e-7b5c-4c3a-9d1e-0123456789ab");
    fs::write(&labels, "garbage is damage as well").unwrap();
    let said = json_of(&world, 4);
    assert_eq!(damaged_files(&said), [relative(&world, &labels)]);
    fs::copy(&world.stored_files("labels")[1], &labels).unwrap();
    json_of(&world, 4);
    fs::remove_file(&labels).unwrap();
    for name in ["notes.txt", "index/notes", "packs/data/core", "incoming/x", "revisions/x"] {
        fs::write(repository.join(name), "x").unwrap();
    }
    fs::create_dir(repository.join("streams/directory")).unwrap();
    let said = json_of(&world, 0);
    let expected =
        ["incoming/x", "index/notes", "notes.txt", "packs/data/core", "revisions/x", "streams/directory"];
    assert_eq!(said["strangers"], json!(expected));
    assert_eq!(said["leftovers"]["files"]["files"], 2);
    assert!(world.ok(&["check"]).text().contains("note     notes.txt: "));
}

/// Labels of a revision whose record is neither there nor in the trash.
#[test]
fn labels_of_nothing_are_leftovers() {
    let world = world();
    world.ok(&["tag", "home@1", "--add", "old"]);
    let older = world.revisions("home")[0]["id"].as_str().unwrap().to_owned();
    let mut records = world.stored_files("revisions").into_iter();
    let of_older = |record: &PathBuf| record.to_str().unwrap().contains(&older);
    fs::remove_file(records.find(of_older).unwrap()).unwrap();
    world.run(&["check", "--repair"]).expect_code(4);
    let said = json_of(&world, 0);
    assert_eq!(said["leftovers"]["labels"].as_array().unwrap().len(), 1, "{said:#}");
}

#[test]
fn a_read_only_copy_is_checked_and_it_is_said_that_nothing_can_be_marked() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let pack = smallest(world.stored_files("packs/data"));
    fs::remove_file(pack).unwrap();
    let repository = world.repository();
    let path = repository.to_str().unwrap();
    system("mount", &["--bind", path, path]);
    let mounted = Mounted::take_over(repository.clone());
    system("mount", &["-o", "remount,ro,bind", path]);
    let run = world.run(&["check", "--json"]).expect_code(4);
    run.says(&["could not be noted in the repository", "ead-only"]);
    assert_ne!(run.json()["affected"], json!([]));
    drop(mounted);
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 0);
}

#[test]
fn what_goes_away_beside_a_check_is_no_damage() {
    let world = World::new();
    world.image("vm1.img", 600 * CHUNK, &(0..600).collect::<Vec<_>>());
    world.backup("vm1.img", "vm1");
    for round in 0..6u64 {
        let checks: Vec<_> = (0..2).map(|_| world.start(&["check", "--json"])).collect();
        for chunk in 0..40 {
            write_chunk(&world.path("vm1.img"), round * 40 + chunk, round * 1000 + chunk + 5000);
        }
        world.backup("vm1.img", "vm1");
        world.ok(&["forget", "vm1@1"]);
        world.ok(&["gc", "--rewrite-below", "100"]);
        for check in checks {
            let run = Run::of(&["check"], check.wait_with_output().unwrap()).expect_code(0);
            assert_eq!(run.json()["superseded"], json!([]), "{}", run.text());
        }
    }
    json_of(&world, 0);
}
