//! `treering diff`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::File;

use serde_json::{Value, json};
use support::{CHUNK, World, write_at, write_chunk};

fn ranges(said: &Value) -> Vec<(u64, u64)> {
    let ranges = said["ranges"].as_array().unwrap();
    ranges
        .iter()
        .map(|range| (range["offset"].as_u64().unwrap() / CHUNK, range["length"].as_u64().unwrap()))
        .collect()
}

#[test]
fn changed_chunks_are_shown_merged_and_clipped() {
    let world = World::new();
    let image = world.image("vm1.img", 600 * CHUNK + 100, &[0, 1, 2, 300, 600 - 1]);
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 1, 1000);
    write_chunk(&image, 2, 1001);
    write_at(&image, 400 * CHUNK + 5, b"x");
    write_at(&image, 600 * CHUNK + 99, b"y");
    world.backup("vm1.img", "vm1");
    let said = world.json(&["diff", "vm1@1", "0"]);
    assert_eq!(ranges(&said), [(1, 2 * CHUNK), (400, CHUNK), (600, 100)]);
    assert_eq!(said["bytes_changed"], 3 * CHUNK + 100);
    assert_eq!(world.json(&["diff", "vm1@0", "vm1@1"])["bytes_changed"], 3 * CHUNK + 100);
    let text = world.ok(&["diff", "vm1@1", "latest"]).text();
    assert!(text.contains(&(400 * CHUNK).to_string()) && text.contains("3 ranges"), "{text}");
}

#[test]
fn equal_revisions_have_no_difference() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.backup("vm1.img", "vm1");
    let size = 64 * CHUNK;
    let nothing = json!({ "ranges": [], "bytes_changed": 0, "size_from": size, "size_to": size });
    assert_eq!(world.json(&["diff", "vm1@1", "0"]), nothing);
    assert!(world.ok(&["diff", "vm1@1", "0"]).text().ends_with("0 B changed in 0 ranges\n"));
}

#[test]
fn streams_and_sizes_may_differ() {
    let world = World::new();
    let image = world.image("a.img", 10 * CHUNK, &[0, 9]);
    world.backup("a.img", "a");
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(20 * CHUNK).unwrap();
    write_chunk(&image, 15, 1000);
    world.backup("a.img", "b");
    assert_eq!(ranges(&world.json(&["diff", "a", "b@latest"])), [(15, CHUNK)]);
    assert_eq!(ranges(&world.json(&["diff", "b@0", "a@0"])), [(15, CHUNK)]);
}

#[test]
fn a_size_that_changed_by_holes_alone_is_told() {
    let world = World::new();
    let image = world.image("a.img", 10 * CHUNK, &[0, 9]);
    world.backup("a.img", "a");
    File::options().write(true).open(&image).unwrap().set_len(11 * CHUNK + 5).unwrap();
    world.backup("a.img", "a");
    let said = world.json(&["diff", "a@1", "0"]);
    assert_eq!(said["bytes_changed"], 0);
    assert_eq!((&said["size_from"], &said["size_to"]), (&(10 * CHUNK).into(), &(11 * CHUNK + 5).into()));
    let grown = format!("({} bytes)", CHUNK + 5);
    let text = world.ok(&["diff", "a@1", "0"]).text();
    assert!(text.contains("it grew from") && text.contains(&grown), "{text}");
    let text = world.ok(&["diff", "a@0", "a@1"]).text();
    assert!(text.contains("it shrank from") && text.contains(&grown), "{text}");
}

#[test]
fn what_is_not_there_is_an_error() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(1, &["diff", "vm1@0", "1"], &["cannot compare vm1@0 with 1", "no revision"]);
    world.fails(1, &["diff", "vm2@0", "vm1@0"], &["no stream 'vm2'", "streams: vm1"]);
}
