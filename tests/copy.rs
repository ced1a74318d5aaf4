//! `treering copy`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::system::{Mounted, Requirement, SmallDisk, can_use, system};
use support::{
    CHUNK, Run, World, assert_keys, flip_bit, fraction, interrupt, noise, random_seed, wait_until,
    write_chunk,
};

/// A world with a second repository, `second`, that was made with these options.
fn world_with(options: &[&str]) -> World {
    let world = World::new();
    world.ok(&[&["init", "second"], options].concat());
    world
}

/// The same with the parameters of the first one.
fn world() -> World {
    world_with(&[])
}

/// Copies to the second repository, and returns what `--json` says.
#[track_caller]
fn copy(world: &World, named: &[&str]) -> Value {
    world.json(&[&["copy", "--to", "second"], named].concat())
}

/// Runs a command on the second repository.
#[track_caller]
fn on_second(world: &World, arguments: &[&str]) -> Run {
    world.ok(&[&["-r", "second"], arguments].concat())
}

/// The revisions of a repository, without what is no matter of the revisions themselves.
#[track_caller]
fn listed(world: &World, repository: &str) -> Vec<Value> {
    let list = world.json(&["-r", repository, "list"]);
    list["revisions"].as_array().unwrap().clone()
}

fn outcomes(said: &Value) -> Vec<&str> {
    let streams = said["streams"].as_array().unwrap();
    let revisions = streams.iter().flat_map(|stream| stream["revisions"].as_array().unwrap());
    revisions.map(|revision| revision["outcome"].as_str().unwrap()).collect()
}

#[track_caller]
fn number(said: &Value, key: &str) -> u64 {
    said[key].as_u64().unwrap_or_else(|| panic!("no number '{key}' in {said:#}"))
}

/// Fails unless a revision of the second repository is what a file holds, restored and compared.
#[track_caller]
fn assert_restores(world: &World, revision: &str, file: &Path) {
    let target = world.path("restored.img");
    let _ = fs::remove_file(&target);
    on_second(world, &["restore", revision, target.to_str().unwrap()]);
    system("cmp", &[target.to_str().unwrap(), file.to_str().unwrap()]);
}

/// A tree with files of all kinds of sizes.
fn make_tree(root: &Path) {
    for directory in 0..20 {
        let directory = root.join(format!("d{directory}"));
        fs::create_dir_all(directory.join("below")).unwrap();
        for file in 0..30 {
            let content = noise(file, 100 + 37 * file as usize);
            fs::write(directory.join(format!("f{file}")), content).unwrap();
        }
        fs::write(directory.join("below/large"), noise(7, 3 << 20)).unwrap();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_copy_has_the_same_revisions_byte_for_byte_and_is_a_repository_of_its_own() {
    let world = world();
    let image = world.small_image("vm.img");
    world.backup("vm.img", "vm");
    let first = fs::read(&image).unwrap();
    write_chunk(&image, 2, 77);
    world.ok(&["backup", "vm.img", "vm", "--tag", "daily"]);
    make_tree(&world.path("home"));
    world.backup("home", "home");
    world.ok(&["protect", "vm@1"]);
    let said = copy(&world, &["--all"]);
    assert_eq!(outcomes(&said), ["copied"; 3]);
    assert_eq!((number(&said, "copied"), number(&said, "present")), (3, 0));
    assert_eq!(listed(&world, "second"), listed(&world, "repo"), "ids, names, sequences, tags, protection");
    for stream in files(&world.path("repo/revisions")) {
        for record in files(&stream) {
            let copied = world.path("second").join(record.strip_prefix(world.path("repo")).unwrap());
            assert!(fs::read(&record).unwrap() == fs::read(copied).unwrap(), "{}", record.display());
        }
    }
    // Nothing is left that the copy could lean on.
    fs::rename(world.repository(), world.path("away")).unwrap();
    assert_restores(&world, "vm", &image);
    fs::write(world.path("first.img"), first).unwrap();
    assert_restores(&world, "vm@1", &world.path("first.img"));
    on_second(&world, &["restore", "home", "restored"]);
    system("diff", &["-r", world.path("home").to_str().unwrap(), world.path("restored").to_str().unwrap()]);
    on_second(&world, &["scrub"]);
    let status = on_second(&world, &["status", "--json"]).json();
    assert_eq!(status["streams"].as_array().unwrap().len(), 2);
    on_second(&world, &["backup", "vm.img", "vm"]);
    assert_eq!(listed(&world, "second").iter().filter(|it| it["stream"] == "vm").count(), 3);
}

#[test]
fn what_is_said_has_all_that_the_help_names() {
    let world = world();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    let said = copy(&world, &["vm"]);
    let sums = ["chunks_sent", "nodes_sent", "bytes_sent", "bytes_stored"];
    assert_keys(&said, &["target", "streams", "copied", "present", "forgotten", "unreadable"]);
    assert_keys(&said, &sums);
    assert_keys(&said["target"], &["path", "id"]);
    let stream = &said["streams"][0];
    assert_keys(stream, &["stream", "target_stream", "error", "damaged_files", "revisions"]);
    let revision = &stream["revisions"][0];
    assert_keys(revision, &["id", "name", "outcome", "relabelled", "reason"]);
    assert_keys(revision, &sums);
    for key in sums {
        assert!(number(revision, key) > 0 && revision[key] == said[key], "{key}");
    }
    let size = |repository: &str| number(&world.json(&["-r", repository, "status"])["repository"], "bytes");
    let record = files(&files(&world.path("second/revisions"))[0])[0].metadata().unwrap().len();
    assert_eq!(size("second") + record, number(&said, "bytes_stored"));
    let text = world.ok(&["copy", "vm", "--to", "second"]).text();
    assert!(text.contains("0 revisions copied to") && text.contains("1 there already"), "{text}");
}

/// What is sent are stored forms: the same bytes lie in the packs of both.
#[test]
fn chunks_go_as_they_are_stored_or_are_compressed_as_the_target_wants() {
    let world = world();
    let text: String = (0..40_000).map(|line| format!("line {line} of a file\n")).collect();
    fs::write(world.path("vm.img"), &text).unwrap();
    world.backup("vm.img", "vm");
    world.ok(&["init", "plain", "--compression", "none"]);
    world.ok(&["init", "third"]);
    let stored = |repository: &str| -> u64 {
        files(&world.path(repository).join("packs/data")).iter().map(|it| it.metadata().unwrap().len()).sum()
    };
    for (from, to) in [("repo", "second"), ("repo", "plain"), ("plain", "third")] {
        let said = world.json(&["-r", from, "copy", "--all", "--to", to]);
        assert_eq!(outcomes(&said), ["copied"]);
        world.ok(&["-r", to, "scrub"]);
        assert!(world.ok(&["-r", to, "dump", "vm"]).stdout == text.as_bytes());
    }
    assert_eq!(stored("second"), stored("repo"));
    assert!(stored("plain") > text.len() as u64 && stored("third") == stored("repo"));
}

#[test]
fn an_increment_sends_what_changed() {
    let world = world();
    let chunks: Vec<u64> = (0..2000).collect();
    let image = world.image("vm.img", 1 << 40, &chunks);
    world.backup("vm.img", "vm");
    assert_eq!(number(&copy(&world, &["vm"]), "chunks_sent"), 2000);
    write_chunk(&image, 1000, 5001);
    write_chunk(&image, 10_000_000, 5002);
    world.backup("vm.img", "vm");
    let said = copy(&world, &["vm"]);
    assert_eq!(outcomes(&said), ["present", "copied"]);
    assert_eq!(number(&said, "chunks_sent"), 2);
    assert!(number(&said, "nodes_sent") <= 8, "{said:#}");
    assert!(number(&said, "bytes_stored") < 4 * CHUNK, "{said:#}");
    let ranges = |repository: &str| world.json(&["-r", repository, "diff", "vm@1", "0"])["ranges"].clone();
    assert_eq!(ranges("second"), ranges("repo"));
    let said = copy(&world, &["vm"]);
    assert_eq!((outcomes(&said), number(&said, "bytes_stored")), (vec!["present"; 2], 0));
}

#[test]
fn an_increment_of_a_tree_sends_what_changed() {
    let world = world();
    let tree = world.path("home");
    make_tree(&tree);
    world.backup("home", "home");
    copy(&world, &["home"]);
    fs::write(tree.join("d3/f4"), b"changed").unwrap();
    support::write_at(&tree.join("d5/below/large"), 1 << 20, b"changed");
    fs::rename(tree.join("d7"), tree.join("moved")).unwrap();
    fs::remove_dir_all(tree.join("d8")).unwrap();
    world.backup("home", "home");
    let said = copy(&world, &["home"]);
    assert_eq!(outcomes(&said), ["present", "copied"]);
    assert!(number(&said, "bytes_stored") < 1 << 20, "{said:#}");
    let changes = |repository: &str| world.json(&["-r", repository, "diff", "home@1", "0"]);
    assert_eq!(changes("second"), changes("repo"));
    on_second(&world, &["restore", "home", "restored"]);
    system("diff", &["-r", tree.to_str().unwrap(), world.path("restored").to_str().unwrap()]);
    on_second(&world, &["scrub"]);
}

#[test]
fn single_revisions_are_copied_in_any_order() {
    let world = world();
    let image = world.small_image("vm.img");
    let mut contents = Vec::new();
    for round in 0..5 {
        write_chunk(&image, round, 100 + round);
        world.backup("vm.img", "vm");
        contents.push(fs::read(&image).unwrap());
    }
    assert_eq!(outcomes(&copy(&world, &["vm@1"])), ["copied"]);
    assert_eq!(outcomes(&copy(&world, &["vm@4..3", "vm@1"])), ["copied", "copied", "present"]);
    on_second(&world, &["status"]);
    assert_eq!(outcomes(&copy(&world, &["vm@all"])), ["present", "present", "copied", "present", "copied"]);
    assert_eq!(listed(&world, "second"), listed(&world, "repo"));
    for (back, content) in contents.iter().rev().enumerate() {
        assert!(&on_second(&world, &["dump", &format!("vm@{back}")]).stdout == content, "vm@{back}");
    }
    on_second(&world, &["scrub"]);
}

#[test]
fn labels_come_with_a_revision_and_later_ones_are_added() {
    let world = world();
    world.small_image("vm.img");
    world.ok(&["backup", "vm.img", "vm", "--tag", "a"]);
    world.ok(&["backup", "vm.img", "vm"]);
    copy(&world, &["vm"]);
    world.ok(&["tag", "vm@1", "--add", "b", "--remove", "a"]);
    world.ok(&["protect", "vm@0"]);
    on_second(&world, &["tag", "vm@0", "--add", "held"]);
    on_second(&world, &["protect", "vm@1"]);
    let said = copy(&world, &["vm"]);
    let relabelled: Vec<&Value> =
        said["streams"][0]["revisions"].as_array().unwrap().iter().map(|it| &it["relabelled"]).collect();
    assert_eq!(relabelled, [&json!(true), &json!(true)]);
    let labels: Vec<(Value, Value)> = listed(&world, "second")
        .iter()
        .map(|revision| (revision["tags"].clone(), revision["protected"].clone()))
        .collect();
    assert_eq!(labels, [(json!(["a", "b"]), json!(true)), (json!(["held"]), json!(true))]);
    assert_eq!(copy(&world, &["vm"])["streams"][0]["revisions"][0]["relabelled"], false);
}

#[test]
fn what_was_forgotten_on_one_side_stays_as_it_is_on_the_other() {
    let world = world();
    let image = world.small_image("vm.img");
    for round in 0..4 {
        write_chunk(&image, round, 100 + round);
        world.backup("vm.img", "vm");
    }
    copy(&world, &["vm"]);
    let names: Vec<Value> = world.revisions("vm").iter().map(|it| it["name"].clone()).collect();
    on_second(&world, &["forget", "vm@3", "vm@0"]);
    world.ok(&["forget", "vm@2"]);
    let said = copy(&world, &["--all"]);
    assert_eq!(outcomes(&said), ["forgotten", "present", "forgotten"]);
    let text = world.ok(&["copy", "vm", "--to", "second"]).text();
    assert!(text.contains("2 forgotten there"), "{text}");
    let there =
        |world: &World| listed(world, "second").iter().map(|it| it["name"].clone()).collect::<Vec<_>>();
    assert_eq!(there(&world), names[1..3]);
    assert_eq!(outcomes(&copy(&world, &["vm@latest"])), ["copied"]);
    assert_eq!(there(&world), names[1..]);
    assert_restores(&world, "vm", &image);
    // The next one goes on from what is there.
    write_chunk(&image, 9, 200);
    world.backup("vm.img", "vm");
    let said = copy(&world, &["vm"]);
    assert_eq!((outcomes(&said).last(), number(&said, "chunks_sent")), (Some(&"copied"), 1));
    on_second(&world, &["scrub"]);
    assert_eq!(on_second(&world, &["status", "--json"]).json()["streams"][0]["damaged"], 0);
}

#[test]
fn a_stream_that_was_renamed_or_deleted_there_is_copied_all_the_same() {
    let world = world();
    let image = world.small_image("vm.img");
    world.backup("vm.img", "vm");
    copy(&world, &["vm"]);
    on_second(&world, &["stream", "rename", "vm", "old-vm"]);
    write_chunk(&image, 0, 7);
    world.backup("vm.img", "vm");
    let said = copy(&world, &["vm"]);
    assert_eq!(
        (outcomes(&said), &said["streams"][0]["target_stream"]),
        (vec!["present", "copied"], &json!("old-vm"))
    );
    assert_restores(&world, "old-vm", &image);
    on_second(&world, &["stream", "delete", "old-vm", "--yes"]);
    assert_eq!(outcomes(&copy(&world, &["vm"])), ["copied"; 2]);
    assert_restores(&world, "vm", &image);
    on_second(&world, &["scrub"]);
}

#[test]
fn a_copy_of_a_copy_is_a_copy_and_goes_back() {
    let world = world();
    let image = world.small_image("vm.img");
    world.backup("vm.img", "vm");
    copy(&world, &["--all"]);
    world.ok(&["init", "third", "--chunk-size", "128KiB"]);
    on_second(&world, &["copy", "--all", "--to", "third"]);
    assert_eq!(listed(&world, "third"), listed(&world, "repo"));
    // The first one is gone, and the third takes over.
    write_chunk(&image, 3, 5);
    world.ok(&["-r", "third", "backup", "vm.img", "vm"]);
    let said = world.json(&["-r", "third", "copy", "vm", "--to", "repo"]);
    assert_eq!(outcomes(&said), ["present", "copied"]);
    world.assert_same("vm", &image);
    world.ok(&["scrub"]);
}

#[test]
fn a_repository_is_not_copied_to_itself_nor_to_what_is_none() {
    let world = world();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    world.fails(1, &["copy", "vm", "--to", "repo"], &["is the repository that is copied", "hint:"]);
    system("cp", &["-a", world.path("repo").to_str().unwrap(), world.path("same").to_str().unwrap()]);
    world.fails(1, &["copy", "vm", "--to", "same"], &["a copy of its files"]);
    world.fails(1, &["copy", "vm", "--to", "nowhere"], &["not a repository", "treering init nowhere"]);
    world.fails(2, &["copy", "vm", "--to", "ssh://host/x"], &["directories only"]);
    world.fails(2, &["copy", "vm"], &["none is remembered", "--to REPO"]);
    world.fails(1, &["copy", "vm", "other", "--to", "second"], &["cannot copy", "no stream 'other'", "vm"]);
    world.fails(1, &["copy", "vm@2020-01", "--to", "second"], &["no revision of 'vm'"]);
    assert_eq!(listed(&world, "second"), Vec::<Value>::new());
}

/// It was once taken for a limit of the repository's chunks.
#[test]
fn a_target_whose_path_is_no_text_is_not_remembered_and_can_be_given_each_time() {
    let world = world();
    let target = world.directory().join(OsStr::from_bytes(b"sec\xffond"));
    fs::rename(world.path("second"), &target).unwrap();
    let run = |arguments: &[&str]| {
        Run::of(arguments, world.command(arguments).arg("--to").arg(&target).output().unwrap())
    };
    let words = ["not named in UTF-8", "hint: give it by a path in UTF-8", "--to each time"];
    run(&["copy", "--all", "--remember"]).expect_code(1).says(&words);
    run(&["copy", "--all"]).expect_code(0);
}

#[test]
fn a_target_is_remembered_and_told_from_another_one_in_its_place() {
    let world = world();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    world.ok(&["copy", "--all", "--to", "second", "--remember"]);
    world.backup("vm.img", "vm");
    assert_eq!(outcomes(&world.json(&["copy", "--all"])), ["present", "copied"]);
    // The place counts, and not the directory that a command runs in.
    fs::create_dir(world.path("below")).unwrap();
    let output = world.command(&["copy", "vm"]).current_dir(world.path("below")).output().unwrap();
    Run::of(&["copy"], output).expect_code(0);
    fs::rename(world.path("second"), world.path("unplugged")).unwrap();
    world.fails(1, &["copy", "--all"], &["is not a repository", "it is remembered", "--to REPO"]);
    world.ok(&["init", "second"]);
    world.fails(1, &["copy", "--all"], &["another repository than the one that was remembered"]);
    world.ok(&["scrub"]);
    flip_bit(&world.path("repo/copy-target"), 30);
    world.fails(4, &["scrub"], &[]);
    world.fails(4, &["copy", "--all"], &["target of copies", "--remember"]);
    world.ok(&["copy", "--all", "--to", "second", "--remember"]);
    world.ok(&["scrub"]);
}

#[test]
fn streams_with_another_history_are_refused_and_the_others_copied() {
    let world = world();
    world.small_image("vm.img");
    for stream in ["a", "b", "c", "d"] {
        world.backup("vm.img", stream);
    }
    // Another stream of the name; one that went on by itself; one where both went on.
    on_second(&world, &["backup", "vm.img", "a"]);
    copy(&world, &["b", "c"]);
    on_second(&world, &["backup", "vm.img", "b"]);
    on_second(&world, &["backup", "vm.img", "c"]);
    world.backup("vm.img", "c");
    let before = listed(&world, "second");
    let run = world.run(&["copy", "--all", "--to", "second", "--json"]).expect_code(1);
    run.says(&[
        "stream 'a' was not copied",
        "different history",
        "another one, with id",
        "rename one",
        "stream 'b' was not copied",
        "was never here",
        "stream 'c' was not copied",
        "has the place of another one",
    ]);
    let said = run.json();
    let errors: Vec<bool> =
        said["streams"].as_array().unwrap().iter().map(|stream| !stream["error"].is_null()).collect();
    assert_eq!(errors, [true, true, true, false]);
    let after = listed(&world, "second");
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().any(|revision| revision["stream"] == "d"));
    on_second(&world, &["scrub"]);
}

#[test]
fn a_damaged_chunk_keeps_its_revisions_from_being_committed_and_no_others() {
    let world = world();
    let seeds: Vec<u64> = (0..50).collect();
    world.image_with_seeds("vm.img", &seeds);
    world.backup("vm.img", "vm");
    world.damage_data_packs();
    // It has other chunks, and the third one has some of both.
    world.image_with_seeds("other.img", &(100..150).collect::<Vec<_>>());
    world.backup("other.img", "vm");
    world.image_with_seeds("mixed.img", &(0..100).rev().collect::<Vec<_>>());
    world.backup("mixed.img", "vm");
    let run = world.run(&["copy", "vm", "--to", "second", "--json"]).expect_code(4);
    assert_eq!(outcomes(&run.json()), ["unreadable", "copied", "unreadable"]);
    let names: Vec<String> =
        world.revisions("vm").iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    run.says(&[&format!("vm@{} was not copied: chunk ", names[0]), &format!("vm@{} was", names[2])]);
    let there = listed(&world, "second");
    assert_eq!((there.len(), &there[0]["name"]), (1, &json!(names[1])));
    assert_restores(&world, "vm", &world.path("other.img"));
    on_second(&world, &["scrub"]);
    // The next backup heals the chunk, and then all is copied.
    world.run(&["scrub"]).expect_code(4);
    world.image_with_seeds("vm.img", &seeds);
    world.backup("vm.img", "healer");
    assert_eq!(outcomes(&copy(&world, &["vm"])), ["copied", "present", "copied"]);
    assert_restores(&world, "vm", &world.path("mixed.img"));
    on_second(&world, &["scrub"]);
}

#[test]
fn damaged_records_and_nodes_of_the_source_are_named() {
    let world = world();
    make_tree(&world.path("home"));
    for round in 0..3 {
        fs::write(world.path("home/changing"), noise(round, 5000)).unwrap();
        world.backup("home", "home");
    }
    let record = files(&files(&world.path("repo/revisions"))[0])[1].clone();
    flip_bit(&record, 100);
    let run = world.run(&["copy", "home", "--to", "second", "--json"]).expect_code(4);
    run.says(&["was not copied: the record of home@", "is damaged"]);
    assert_eq!(outcomes(&run.json()), ["copied", "unreadable", "copied"]);
    world.ok(&["init", "third"]);
    for pack in world.stored_files("packs/metadata") {
        fs::remove_file(pack).unwrap();
    }
    let run = world.run(&["copy", "home", "--to", "third", "--json"]).expect_code(4);
    assert_eq!(outcomes(&run.json()), ["unreadable"; 3]);
    assert_eq!(listed(&world, "third"), Vec::<Value>::new());
}

#[test]
fn what_is_bad_or_lost_in_the_target_is_made_good_by_the_next_copy() {
    let world = world();
    let image = world.small_image("vm.img");
    make_tree(&world.path("home"));
    world.backup("vm.img", "vm");
    world.backup("home", "home");
    copy(&world, &["--all"]);
    let packs = |kind: &str| files(&world.path("second/packs").join(kind));
    type Harm<'a> = &'a dyn Fn();
    let harms: [Harm<'_>; 4] = [
        &|| packs("data").iter().for_each(|pack| flip_bit(pack, 200)),
        &|| packs("metadata").iter().for_each(|pack| flip_bit(pack, 70)),
        &|| packs("data").iter().for_each(|pack| fs::remove_file(pack).unwrap()),
        &|| files(&world.path("second/index")).iter().for_each(|table| fs::remove_file(table).unwrap()),
    ];
    for (number, harm) in harms.iter().enumerate() {
        harm();
        world.run(&["-r", "second", "scrub"]).expect_code(4);
        let said = copy(&world, &["--all"]);
        assert_eq!(outcomes(&said), ["present"; 2], "{number}");
        assert!(self::number(&said, "bytes_sent") > 0, "{number}");
        let scrub = world.run(&["-r", "second", "scrub", "--json"]);
        assert_eq!(scrub.json()["bad"], json!([]), "{number}");
        assert_restores(&world, "vm", &image);
        let damaged = on_second(&world, &["status", "--json"]).json()["streams"][0]["damaged"].clone();
        assert_eq!(damaged, 0, "{number}");
    }
}

/// Kill -9 at random points: what is committed is whole, and the next run goes on from what was published.
#[test]
fn a_killed_copy_is_resumed() {
    const CHUNKS: u64 = 600;
    const REVISIONS: u64 = 6;
    const ROUNDS: u64 = 12;
    let seed = random_seed();
    let world = World::new();
    let image = world.image("vm.img", CHUNKS * CHUNK, &(0..CHUNKS).collect::<Vec<_>>());
    for revision in 0..REVISIONS {
        let changed = (0..CHUNKS).filter(|chunk| chunk % 3 == revision % 3);
        changed.for_each(|chunk| write_chunk(&image, chunk, 9000 * (revision + 1) + chunk));
        world.backup("vm.img", "vm");
    }
    world.ok(&["init", "whole"]);
    let start = Instant::now();
    let all = world.json(&["copy", "vm", "--to", "whole"]);
    let whole = start.elapsed();
    let mut resumed = 0;
    for round in 0..ROUNDS {
        let target = format!("target{round}");
        world.ok(&["init", &target]);
        let mut child = world.start(&["copy", "vm", "--to", &target]);
        std::thread::sleep(whole.mul_f64(fraction(seed.wrapping_add(round))));
        child.kill().unwrap();
        child.wait().unwrap();
        let there = listed(&world, &target).len();
        world.ok(&["-r", &target, "scrub"]);
        let has_published =
            world.path(&target).join("index").read_dir().is_ok_and(|mut it| it.next().is_some());
        let said = world.json(&["copy", "vm", "--to", &target]);
        let sent = number(&said, "chunks_sent");
        assert!(sent < number(&all, "chunks_sent") || !has_published, "what was published is used");
        resumed += u32::from(has_published && there < REVISIONS as usize);
        assert_eq!(listed(&world, &target), listed(&world, "repo"));
        assert!(world.ok(&["-r", &target, "dump", "vm"]).stdout == fs::read(&image).unwrap());
        world.ok(&["-r", &target, "scrub"]);
    }
    assert!(resumed > 0, "no copy was cut off after it had published something");
}

#[test]
fn an_interrupted_copy_ends_with_130_and_its_work_is_used_again() {
    for attempt in 1..20 {
        let world = world();
        let chunks: Vec<u64> = (0..1500).collect();
        let image = world.image_with_seeds("vm.img", &chunks);
        world.backup("vm.img", "vm");
        let child = world.start(&["copy", "vm", "--to", "second", "--json"]);
        std::thread::sleep(Duration::from_millis(10 * attempt));
        interrupt(&child);
        let run = Run::of(&["copy"], child.wait_with_output().unwrap());
        let said = copy(&world, &["vm"]);
        assert_restores(&world, "vm", &image);
        if run.code == Some(130) && number(&said, "chunks_sent") < 1500 {
            run.says(&["interrupted", "nothing half-done", "hint:"]);
            let error = &run.json()["error"];
            assert_eq!((&error["code"], &error["done"]["copied"]), (&json!(130), &json!(0)));
            assert_eq!(outcomes(&said), ["copied"]);
            return;
        }
    }
    panic!("no copy was ever interrupted half-way");
}

#[test]
fn a_stream_that_is_written_to_in_the_target_is_refused_or_waited_for() {
    let world = world();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    world.backup("vm.img", "web");
    copy(&world, &["--all"]);
    world.backup("vm.img", "vm");
    world.backup("vm.img", "web");
    let mut backup = world
        .command(&["-r", "second", "backup", "-", "vm", "--wait"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the backup has its lock", || {
        let run = world.run(&["copy", "vm", "--to", "second"]);
        run.code == Some(1)
    });
    let run = world.run(&["copy", "--all", "--to", "second", "--json"]).expect_code(1);
    run.says(&["stream 'vm' was not copied", "is in use by backup of", "--wait"]);
    assert_eq!(run.json()["streams"][1]["error"], Value::Null);
    world.backup("vm.img", "vm");
    let mut waiting = world.start(&["copy", "vm", "--to", "second", "--wait"]);
    std::thread::sleep(Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    backup.kill().unwrap();
    backup.wait().unwrap();
    Run::of(&["copy", "--wait"], waiting.wait_with_output().unwrap()).expect_code(0);
    assert_eq!(listed(&world, "second"), listed(&world, "repo"));
}

#[test]
fn a_full_target_ends_a_copy_and_keeps_what_was_committed() {
    if !can_use(&[Requirement::Root, Requirement::Loop, Requirement::Program("mkfs.ext4")]) {
        return;
    }
    let world = World::new();
    let small = world.image_with_seeds("vm.img", &(0..50).collect::<Vec<_>>());
    world.backup("vm.img", "vm");
    let first = fs::read(&small).unwrap();
    let large = world.image_with_seeds("vm.img", &(0..1000).collect::<Vec<_>>());
    world.backup("vm.img", "vm");
    let disk = SmallDisk::new(&world, 100 << 20);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 40 << 20]).unwrap();
    let target = disk.path().join("repo");
    let target = target.to_str().unwrap();
    world.ok(&["init", target]);
    let run = world.run(&["copy", "vm", "--to", target, "--json"]).expect_code(1);
    run.says(&["No space left on device", "what was sent is used again"]);
    assert_eq!(run.json()["error"]["done"]["copied"], 1);
    assert_eq!(listed(&world, target).len(), 1);
    world.ok(&["-r", target, "scrub"]);
    assert!(world.ok(&["-r", target, "dump", "vm"]).stdout == first);
    fs::remove_file(ballast).unwrap();
    assert_eq!(outcomes(&world.json(&["copy", "vm", "--to", target])), ["present", "copied"]);
    assert!(world.ok(&["-r", target, "dump", "vm"]).stdout == fs::read(large).unwrap());
}

#[test]
fn a_mounted_target_shows_what_was_copied() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let image = world.small_image("vm.img");
    world.backup("vm.img", "vm");
    copy(&world, &["vm"]);
    let mountpoint = world.path("mnt");
    fs::create_dir(&mountpoint).unwrap();
    let _mounted = Mounted::take_over(mountpoint.clone());
    on_second(&world, &["mount", "mnt"]);
    write_chunk(&image, 1, 4);
    let made = world.backup("vm.img", "vm");
    copy(&world, &["vm"]);
    let file = mountpoint.join("vm").join(format!("{}.img", made["name"].as_str().unwrap()));
    wait_until("the copied revision shows", || file.exists());
    assert!(fs::read(file).unwrap() == fs::read(image).unwrap());
}

#[test]
fn copies_of_several_streams_run_side_by_side() {
    let world = world();
    world.small_image("vm.img");
    let names: Vec<String> = (0..4).map(|number| format!("vm{number}")).collect();
    names.iter().for_each(|name| _ = world.backup("vm.img", name));
    let children: Vec<Child> =
        names.iter().map(|name| world.start(&["copy", name, "--to", "second"])).collect();
    for child in children {
        Run::of(&["copy"], child.wait_with_output().unwrap()).expect_code(0);
    }
    on_second(&world, &["scrub"]);
    assert_eq!(listed(&world, "second").len(), 4);
}
