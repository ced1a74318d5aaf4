//! `treering status`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::Write;

use support::{CHUNK, Run, World, assert_keys, noise, wait_until, write_chunk};

#[test]
fn an_empty_repository_has_a_status() {
    let world = World::new();
    let status = world.json(&["status"]);
    let keys = ["path", "id", "version", "bytes", "leftovers", "packs_without_table"];
    assert_keys(&status["repository"], &keys);
    assert_eq!(status["repository"]["bytes"], 0);
    assert_eq!(status["repository"]["version"], 1);
    assert_eq!(status["streams"], serde_json::json!([]));
    assert!(world.ok(&["status"]).text().contains("no damage is known"));
}

#[test]
fn streams_are_counted_and_their_newest_revision_named() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let newest = world.backup("vm1.img", "vm1");
    world.image("web.img", 3 * CHUNK, &[]);
    world.backup("web.img", "web");
    let status = world.json(&["status"]);
    let vm1 = &status["streams"][0];
    assert_keys(
        vm1,
        &["name", "kind", "revisions", "latest", "size", "damaged", "last_success", "age_seconds"],
    );
    assert_eq!((&vm1["name"], &vm1["kind"], &vm1["revisions"]), (&"vm1".into(), &"image".into(), &2.into()));
    assert_eq!((&vm1["latest"], &vm1["size"]), (&newest["id"], &(64 * CHUNK).into()));
    assert_eq!(vm1["damaged"], 0);
    assert!((0.0..3600.0).contains(&vm1["age_seconds"].as_f64().unwrap()));
    assert!(status["repository"]["bytes"].as_u64().unwrap() > 32 * CHUNK);
    let one = world.json(&["status", "web"]);
    assert_eq!(one["streams"].as_array().unwrap().len(), 1);
    let text = world.ok(&["status"]).text();
    assert!(text.contains("vm1") && text.contains("web") && text.contains("ago"), "{text}");
}

#[test]
fn the_sum_of_what_revisions_stored_is_what_the_repository_holds() {
    let world = World::new();
    world.small_image("vm1.img");
    let stored = world.backup("vm1.img", "vm1")["bytes_stored"].as_u64().unwrap();
    let held = world.json(&["status"])["repository"]["bytes"].as_u64().unwrap();
    // The record counts as stored, but is neither pack nor table.
    assert!((held..held + 4096).contains(&stored), "{stored} stored, {held} held");
}

#[test]
fn an_unknown_stream_is_an_error() {
    let world = World::new();
    world.fails(1, &["status", "vm1"], &["no stream 'vm1'", "no streams yet"]);
}

#[test]
fn the_version_is_the_one_that_stands_in_the_header() {
    let world = World::new();
    let header = fs::read(world.path("repo/treering-repository")).unwrap();
    let stored = u16::from_le_bytes([header[12], header[13]]);
    assert_eq!(world.json(&["status"])["repository"]["version"], stored);
}

/// A stream once stayed visible, without a revision, when its first backup failed.
#[test]
fn a_stream_shows_with_its_first_revision() {
    let world = World::new();
    world.small_image("vm1.img");
    let killed = world.command(&["backup", "-", "vm1"]).stdin(std::process::Stdio::piped()).spawn();
    let mut killed = killed.unwrap();
    wait_until("the stream is made", || !world.stored_files("streams").is_empty());
    let shows_nothing = || {
        assert_eq!(world.json(&["status"])["streams"], serde_json::json!([]));
        assert!(!world.ok(&["list"]).text().contains("vm1"));
        world.fails(1, &["status", "vm1"], &["no stream 'vm1'"]);
        world.fails(1, &["list", "vm1"], &["no stream 'vm1'"]);
        world.ok(&["backup", "vm1.img", "vm1", "--dry-run"]);
    };
    shows_nothing();
    killed.kill().unwrap();
    killed.wait().unwrap();
    shows_nothing();
    let left = world.stored_files("streams");
    world.backup("vm1.img", "vm1");
    assert_eq!(world.stored_files("streams"), left, "what was left is used");
    assert_eq!(world.json(&["status"])["streams"][0]["revisions"], 1);
}

#[test]
fn leftovers_of_killed_runs_are_shown() {
    let world = World::new();
    world.small_image("vm1.img");
    let uuid = "018f2f6e-7b5c-4c3a-9d1e-0123456789ab";
    for left in ["incoming/0123", &format!("sessions/{uuid}"), &format!("pins/{uuid}")] {
        fs::write(world.path("repo").join(left), "abc").unwrap();
    }
    let status = world.json(&["status"]);
    assert_eq!(status["repository"]["leftovers"], serde_json::json!({ "files": 3, "bytes": 9 }));
    assert!(world.ok(&["status"]).text().contains("interrupted"));
    // What a backup finds of dead claims it removes; the rest is gc's.
    world.backup("vm1.img", "vm1");
    assert_eq!(world.json(&["status"])["repository"]["leftovers"]["files"], 1);
}

/// Half a GiB of them once lay there without a word.
#[test]
fn packs_that_a_killed_run_has_left_without_a_table_are_told() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let stored = || ["packs/data", "packs/metadata", "index"].map(|area| world.stored_files(area)).concat();
    let known = stored();
    let mut killed =
        world.command(&["backup", "-", "vm2"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = killed.stdin.take().unwrap();
    input.write_all(&noise(1, 40 << 20)).unwrap();
    wait_until("a pack is there", || stored().len() > known.len());
    killed.kill().unwrap();
    killed.wait().unwrap();
    let mut left = [stored(), world.stored_files("sessions"), world.stored_files("incoming")].concat();
    left.retain(|file| !known.contains(file));
    assert!(left.iter().any(|file| file.starts_with(world.path("repo/packs/data"))), "{left:?}");
    assert!(!left.iter().any(|file| file.starts_with(world.path("repo/index"))), "{left:?}");
    let said = world.json(&["status"]);
    let repository = &said["repository"];
    let (packs, others): (Vec<_>, Vec<_>) =
        left.into_iter().partition(|file| file.starts_with(world.path("repo/packs")));
    for (key, files) in [("packs_without_table", packs), ("leftovers", others)] {
        let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert_eq!(repository[key], serde_json::json!({ "files": files.len(), "bytes": bytes }), "{key}");
    }
    assert_eq!(repository["damaged_files"], serde_json::json!([]));
}

/// Packs that revisions use were once called leftovers of interrupted runs.
#[test]
fn tables_that_are_missing_are_damage_and_make_no_leftovers() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let known = world.stored_files("index");
    world.image("web.img", 5 * CHUNK, &[1, 2]);
    world.backup("web.img", "web");
    for table in world.stored_files("index").iter().filter(|table| !known.contains(table)) {
        fs::remove_file(table).unwrap();
    }
    let status = world.ok(&["status"]);
    status.says(&["error: index tables are missing", "nothing is lost"]);
    assert!(status.text().contains("DAMAGE in index/"), "{}", status.text());
    let said = world.json(&["status"]);
    let repository = &said["repository"];
    assert_eq!(repository["damaged_files"][0]["file"], "index/");
    assert_eq!(repository["leftovers"], serde_json::json!({ "files": 0, "bytes": 0 }));
    world.assert_same("web", &world.path("web.img"));
}

/// Each table is an open file, and they may be many.
#[test]
fn commands_open_as_many_files_as_the_system_allows() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    for round in 0..6 {
        write_chunk(&image, round, 1000 + round);
        world.backup("vm1.img", "vm1");
    }
    assert_eq!(world.stored_files("index").len(), 6);
    for command in ["status", "dump vm1", "scrub", "backup vm1.img vm1 --force-read"] {
        let line = format!("ulimit -Sn 8 && exec \"$0\" {command}");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &line, env!("CARGO_BIN_EXE_treering")]).current_dir(world.directory());
        let output = shell.env("TREERING_REPOSITORY", world.repository()).output().unwrap();
        Run::of(&[command], output).expect_code(0);
    }
}

#[test]
fn what_a_running_backup_holds_is_no_leftover() {
    let world = World::new();
    let mut running =
        world.command(&["backup", "-", "vm1"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input.write_all(&noise(1, 4 << 20)).unwrap();
    wait_until("a pack is written", || !world.stored_files("incoming").is_empty());
    assert_eq!(world.stored_files("sessions").len(), 1);
    assert_eq!(world.json(&["status"])["repository"]["leftovers"]["files"], 0);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(world.json(&["status"])["repository"]["leftovers"]["files"], 2);
}

/// After the next backup nothing was said any more, and the packs of all that was there were called leftovers.
#[test]
fn packs_whose_tables_are_lost_are_never_called_leftovers() {
    let world = World::new();
    let image = world.image_with_seeds("vm1.img", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    world.backup("vm1.img", "vm1");
    for table in world.stored_files("index") {
        fs::remove_file(table).unwrap();
    }
    write_chunk(&image, 3, 1000);
    world.backup("vm1.img", "vm1");
    let status = world.ok(&["status"]).text();
    assert!(status.contains("that no index table names") && status.contains("leftovers   none"), "{status}");
    world.assert_same("vm1", &image);
    assert_eq!(world.dump("vm1@1").len(), world.dump("vm1@0").len());
}

#[test]
fn a_lost_table_is_told_though_a_newer_one_names_the_newest_root() {
    let world = World::new();
    let image = world.image_with_seeds("vm1.img", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    world.backup("vm1.img", "vm1");
    let older = world.stored_files("index");
    write_chunk(&image, 3, 1000);
    world.backup("vm1.img", "vm1");
    assert_eq!(world.stored_files("index").len(), 2);
    fs::remove_file(&older[0]).unwrap();
    let status = world.ok(&["status"]);
    status.says(&["index tables are missing"]);
    world.assert_same("vm1", &image);
}

#[test]
fn packs_that_are_gone_are_told_without_a_scrub() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    for pack in world.stored_files("packs/data") {
        fs::remove_file(pack).unwrap();
    }
    let status = world.ok(&["status"]);
    status.says(&["packs/data/", "is gone or truncated"]);
    assert!(status.text().contains("DAMAGE in packs/data/"), "{}", status.text());
}
