//! `treering status`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

use serde_json::Value;
use support::{CHUNK, World, assert_keys};

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
fn a_stream_whose_backup_never_ended_has_no_latest_revision() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    for record in world.stored_files("revisions") {
        fs::remove_file(record).unwrap();
    }
    let status = world.json(&["status"]);
    let vm1 = &status["streams"][0];
    assert_eq!((&vm1["revisions"], &vm1["latest"], &vm1["size"]), (&0.into(), &Value::Null, &Value::Null));
    world.ok(&["status"]);
    world.ok(&["list"]);
}

#[test]
fn leftovers_of_killed_runs_are_shown() {
    let world = World::new();
    fs::create_dir_all(world.path("repo/incoming")).unwrap();
    fs::write(world.path("repo/incoming/0123"), "abc").unwrap();
    let status = world.json(&["status"]);
    assert_eq!(status["repository"]["leftovers"], serde_json::json!({ "files": 1, "bytes": 3 }));
    assert!(world.ok(&["status"]).text().contains("interrupted"));
}
