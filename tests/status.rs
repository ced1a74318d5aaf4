//! `treering status`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::Write;

use support::{CHUNK, World, assert_keys, noise, wait_until};

#[test]
fn an_empty_repository_has_a_status() {
    let world = World::new();
    let status = world.json(&["status"]);
    assert_keys(&status["repository"], &["path", "id", "version", "bytes", "leftovers"]);
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
fn packs_without_a_table_are_leftovers() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    assert_eq!(world.json(&["status"])["repository"]["leftovers"]["files"], 0);
    let packs = [world.stored_files("packs/data"), world.stored_files("packs/metadata")].concat();
    let bytes: u64 = packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
    for table in world.stored_files("index") {
        fs::remove_file(table).unwrap();
    }
    let leftovers = serde_json::json!({ "files": packs.len(), "bytes": bytes });
    assert_eq!(world.json(&["status"])["repository"]["leftovers"], leftovers);
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
