//! `treering scrub`, through the program: damage is found, shown, and healed by the next backup.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};

use support::system::{Requirement, can_use};
use support::{CHUNK, World, assert_keys, flip_bit, write_at, write_chunk};

fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    write_chunk(&image, 1, 1000);
    world.backup("vm1.img", "vm1");
    world
}

/// The first of the packs: that of the first revision.
fn damage_first_revision(world: &World) {
    let packs = world.stored_files("packs/data");
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    // Within chunk 0, which both revisions have.
    flip_bit(largest, 200);
}

#[test]
fn a_sound_repository_is_found_to_be_sound() {
    let world = world();
    let said = world.json(&["scrub"]);
    assert_keys(&said, &["chunks_checked", "bytes_checked", "bad", "mismatched"]);
    assert_eq!((&said["chunks_checked"], &said["bytes_checked"]), (&33.into(), &(33 * CHUNK).into()));
    assert_eq!((said["bad"].as_array().unwrap().len(), said["mismatched"].as_array().unwrap().len()), (0, 0));
    assert_eq!(world.json(&["scrub", "vm1"])["chunks_checked"], 33);
    assert_eq!(world.json(&["scrub", "vm1@latest"])["chunks_checked"], 32);
    assert!(world.ok(&["scrub"]).text().contains("all is in order"));
}

#[test]
fn a_percentage_reads_less() {
    let world = World::new();
    let data: Vec<u64> = (0..400).collect();
    world.image("vm1.img", 400 * CHUNK, &data);
    world.backup("vm1.img", "vm1");
    for arguments in [&["scrub", "-p", "10"][..], &["scrub", "vm1", "--percentile", "10"]] {
        let checked = world.json(arguments)["chunks_checked"].as_u64().unwrap();
        assert!((5..120).contains(&checked), "{checked} of 400");
    }
    for percent in ["0", "-1", "101", "many"] {
        world.fails(2, &["scrub", "-p", percent], &[]);
    }
}

#[test]
fn damage_is_found_shown_and_healed() {
    let world = world();
    let image = world.path("vm1.img");
    damage_first_revision(&world);
    assert_eq!(world.json(&["status"])["streams"][0]["damaged"], 0, "nobody has looked yet");

    let run = world.run(&["scrub", "--json"]).expect_code(4);
    let bad = run.json()["bad"].as_array().unwrap().clone();
    assert_eq!(bad.len(), 1);
    assert_keys(&bad[0], &["chunk", "revisions"]);
    assert_eq!(bad[0]["revisions"].as_array().unwrap().len(), 2);
    let text = world.run(&["scrub"]).expect_code(4).text();
    assert!(text.contains("BAD") && text.contains("needed by vm1@"), "{text}");

    assert!(world.revisions("vm1").iter().all(|revision| revision["damaged"] == true));
    let status = world.json(&["status"]);
    assert_eq!(
        (&status["streams"][0]["damaged"], &status["repository"]["damaged_objects"]),
        (&2.into(), &1.into())
    );
    assert!(world.ok(&["status"]).text().contains("DAMAGE in 2 revisions"));

    // Neither times nor the parent are believed for what is damaged.
    support::settle();
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &image);
    assert!(world.revisions("vm1").iter().all(|revision| revision["damaged"] == false));
    assert_eq!(world.json(&["status"])["repository"]["damaged_objects"], 0);
    world.ok(&["dump", "vm1@2"]);
    world.ok(&["scrub", "vm1"]);
}

#[test]
fn damage_is_healed_through_hints_and_with_the_file_unchanged() {
    let world = world();
    support::settle();
    world.backup("vm1.img", "vm1");
    damage_first_revision(&world);
    world.run(&["scrub", "vm1"]).expect_code(4);
    fs::write(world.path("hints"), "[]").unwrap();
    world.ok(&["backup", "vm1.img", "vm1", "--hints", "hints"]);
    world.ok(&["scrub", "vm1"]);
    world.assert_same("vm1", &world.path("vm1.img"));
}

#[test]
fn damage_that_the_source_no_longer_has_stays_known() {
    let world = world();
    damage_first_revision(&world);
    world.run(&["scrub"]).expect_code(4);
    write_chunk(&world.path("vm1.img"), 0, 4000);
    world.backup("vm1.img", "vm1");
    let damaged: Vec<bool> =
        world.revisions("vm1").iter().map(|revision| revision["damaged"] == true).collect();
    assert_eq!(damaged, [true, true, false]);
    world.assert_same("vm1", &world.path("vm1.img"));
    world.fails(4, &["dump", "vm1@1"], &["damaged"]);
}

#[test]
fn a_missing_and_a_truncated_pack_are_damage() {
    for missing in [true, false] {
        let world = world();
        for pack in world.stored_files("packs/data") {
            match missing {
                true => fs::remove_file(pack).unwrap(),
                false => File::options().write(true).open(pack).unwrap().set_len(1000).unwrap(),
            }
        }
        let said = world.run(&["scrub", "--json"]).expect_code(4).json();
        assert_eq!(said["bad"].as_array().unwrap().len(), 33, "missing: {missing}");
        world.backup("vm1.img", "vm1");
        world.assert_same("vm1", &world.path("vm1.img"));
        world.ok(&["scrub", "vm1@latest"]);
    }
}

#[test]
fn a_repository_that_was_healed_is_in_order() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    damage_first_revision(&world);
    let found = world.run(&["scrub", "--json"]).expect_code(4).json();
    assert_eq!(found["superseded"], serde_json::json!([]));
    support::settle();
    world.backup("vm1.img", "vm1");
    let healed = world.json(&["scrub"]);
    assert_eq!(healed["damaged_files"], serde_json::json!([]));
    assert_eq!(healed["superseded"], found["damaged_files"]);
    let text = world.ok(&["scrub"]).text();
    assert!(text.contains("note ") && text.contains("all is in order"), "{text}");
}

#[test]
fn a_damaged_record_is_found() {
    let world = world();
    let records = world.stored_files("revisions");
    flip_bit(&records[0], 50);
    let all = world.run(&["scrub", "--json"]).expect_code(4).json();
    assert_eq!(all["damaged_files"].as_array().unwrap().len(), 1, "{all:#}");
    let stream = world.run(&["scrub", "vm1", "--json"]).expect_code(4).json();
    assert_eq!(stream["damaged_files"].as_array().unwrap().len(), 1, "{stream:#}");
    world.ok(&["scrub", "vm1@latest"]);
}

#[test]
fn a_damaged_index_table_is_found_and_in_nobodys_way() {
    let world = world();
    let tables = world.stored_files("index");
    tables.iter().for_each(|table| flip_bit(table, 5000));
    world.assert_same("vm1", &world.path("vm1.img"));
    world.run(&["scrub", "--json"]).expect_code(4);
}

#[test]
fn a_source_is_compared() {
    let world = world();
    assert_eq!(world.json(&["scrub", "vm1", "-s", "vm1.img"])["mismatched"], serde_json::json!([]));
    write_at(&world.path("vm1.img"), 5 * CHUNK + 3, b"different");
    let said = world.run(&["scrub", "vm1", "-s", "vm1.img", "--json"]).expect_code(4).json();
    assert_eq!(said["mismatched"], serde_json::json!([{ "offset": 5 * CHUNK, "length": CHUNK }]));
    world.run(&["scrub", "vm1@1", "-s", "vm1.img"]).expect_code(4);
    world.fails(1, &["scrub", "vm1", "-s", "missing"], &["cannot use missing as a source"]);
    world.fails(1, &["scrub", "vm9"], &["cannot scrub vm9", "streams: vm1"]);
}

#[test]
fn a_file_that_is_read_by_nobody_may_be_scrubbed_beside_a_mount() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    let world = world();
    let mounted = support::system::Mounted::repository(&world, &[]);
    world.ok(&["scrub"]);
    assert!(
        fs::read(mounted.path().join("vm1/latest.img")).unwrap() == fs::read(world.path("vm1.img")).unwrap()
    );
}
