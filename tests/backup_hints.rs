//! `treering backup --hints`: only what changed is read, and wrong hints do no harm.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};
use std::path::PathBuf;

use support::{CHUNK, World, settle, write_chunk};

/// Chunks of the image: enough that a sample of the rest must be drawn.
const CHUNKS: u64 = 200;

/// A stream with one revision, whose image then changes in chunk 7.
fn world_with_base() -> (World, PathBuf) {
    let world = World::new();
    let data: Vec<u64> = (0..CHUNKS).filter(|chunk| chunk % 4 != 3).collect();
    let image = world.image("vm1.img", CHUNKS * CHUNK, &data);
    world.backup("vm1.img", "vm1");
    settle();
    (world, image)
}

fn write_hints(world: &World, ranges: &[(u64, u64, &str)]) {
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(offset, length, exists)| {
            format!(r#"{{"offset":{offset},"length":{length},"exists":{exists}}}"#)
        })
        .collect();
    fs::write(world.path("hints"), format!("[{}]", ranges.join(","))).unwrap();
}

const HINTED: [&str; 5] = ["backup", "vm1.img", "vm1", "--hints", "hints"];

#[test]
fn only_hinted_ranges_and_a_sample_are_read() {
    let (world, image) = world_with_base();
    write_chunk(&image, 8, 1000);
    write_hints(&world, &[(8 * CHUNK + 100, 10, r#""true""#)]);
    let said = world.json(&HINTED);
    let read = said["bytes_read"].as_u64().unwrap();
    assert!((CHUNK..=80 * CHUNK).contains(&read), "{read}");
    assert_eq!((&said["bytes_changed"], &said["chunks_new"]), (&CHUNK.into(), &1.into()));
    assert_eq!(said["method"], "hints");
    world.assert_same("vm1", &image);
}

#[test]
fn the_sample_and_its_result_go_into_the_record() {
    let (world, image) = world_with_base();
    write_chunk(&image, 8, 1000);
    write_hints(&world, &[(8 * CHUNK + 100, 10, r#""true""#), (20 * CHUNK, 2 * CHUNK, "true")]);
    let said = world.json(&HINTED);
    let hints = &said["hints"];
    let sampled = hints["chunks_sampled"].as_u64().unwrap();
    assert!((32..150).contains(&sampled), "{sampled}");
    assert_eq!(said["bytes_read"], (sampled + 3) * CHUNK);
    let base = world.revisions("vm1")[0]["id"].clone();
    let expected = serde_json::json!({
        "base": base,
        "ranges_named": 2,
        "bytes_named": 10 + 2 * CHUNK,
        "chunks_sampled": sampled,
        "differing_offset": null,
    });
    assert_eq!(hints, &expected);
    assert_eq!(world.revisions("vm1")[1]["hints"], expected);
}

#[test]
fn where_hints_proved_wrong_goes_into_the_record() {
    let world = World::new();
    // So few chunks with data that all of them are in the sample.
    let image = world.image("vm1.img", CHUNKS * CHUNK, &(20..40).collect::<Vec<_>>());
    world.backup("vm1.img", "vm1");
    settle();
    write_chunk(&image, 33, 1000);
    write_hints(&world, &[(20 * CHUNK, CHUNK, "true")]);
    let said = world.json(&HINTED);
    assert_eq!((&said["method"], &said["hints"]["differing_offset"]), (&"read".into(), &(33 * CHUNK).into()));
    assert_eq!(said["hints"]["chunks_sampled"], 13, "21 to 33, and then it is clear");
    assert_eq!(world.revisions("vm1")[1]["hints"], said["hints"]);
    world.assert_same("vm1", &image);
}

#[test]
fn what_no_longer_exists_becomes_a_hole_and_partial_chunks_are_read() {
    let (world, image) = world_with_base();
    let file = File::options().write(true).open(&image).unwrap();
    let zeros = vec![0; 2 * CHUNK as usize];
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros, 4 * CHUNK).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &zeros[..1000], 8 * CHUNK + 50).unwrap();
    write_hints(&world, &[(4 * CHUNK, 2 * CHUNK, "false"), (8 * CHUNK + 50, 1000, r#""false""#)]);
    let said = world.json(&HINTED);
    assert_eq!(said["method"], "hints");
    world.assert_same("vm1", &image);
}

#[test]
fn hints_may_come_from_stdin_but_not_together_with_the_source() {
    let (world, image) = world_with_base();
    write_chunk(&image, 12, 1000);
    let hints = format!(r#"[{{"offset":{},"length":1,"exists":true}}]"#, 12 * CHUNK);
    let run = world.run_with_input(&["backup", "vm1.img", "vm1", "--hints", "-", "--json"], hints.as_bytes());
    assert_eq!(run.expect_code(0).json()["chunks_new"], 1);
    world.assert_same("vm1", &image);
    world.fails(2, &["backup", "-", "vm1", "--hints", "-"], &["can't both be -"]);
    let piped = world.run_with_input(&["backup", "-", "vm1", "--hints", "hints"], b"x");
    assert_ne!(piped.code, Some(0), "a stream can't be read in places");
}

#[test]
fn hints_that_cannot_be_right_are_refused_before_anything_is_stored() {
    let (world, _) = world_with_base();
    let size = CHUNKS * CHUNK;
    let range =
        |offset: u64, length: u64| format!(r#"{{"offset":{offset},"length":{length},"exists":true}}"#);
    let packs = world.stored_files("");
    for (hints, reason) in [
        ("{".to_owned(), "hints"),
        ("[1]".to_owned(), "hints"),
        (format!("[{}]", range(size - 1, 2)), "past the end"),
        (format!("[{},{}]", range(0, 10), range(5, 10)), "overlap"),
        (format!("[{}]", range(0, 0)), "length 0"),
        (r#"[{"offset":0,"length":1,"exists":"perhaps"}]"#.to_owned(), "perhaps"),
    ] {
        fs::write(world.path("hints"), hints).unwrap();
        world.fails(1, &HINTED, &["cannot back up vm1.img: hints:", reason, "hint:"]);
    }
    assert_eq!(world.stored_files(""), packs);
    world.fails(1, &["backup", "vm1.img", "vm1", "--hints", "missing"], &["cannot read hints from missing"]);
}

#[test]
fn hints_need_a_base() {
    let world = World::new();
    let image = world.image("vm1.img", CHUNKS * CHUNK, &[1, 2]);
    write_hints(&world, &[(CHUNK, 2 * CHUNK, "true")]);
    world.fails(1, &HINTED, &["no revision", "--hints-base none"]);
    let none = [&HINTED[..], &["--hints-base", "none"]].concat();
    let said = world.json(&none);
    assert_eq!(said["method"], "hints");
    world.assert_same("vm1", &image);
    let missing = [&HINTED[..], &["--hints-base", "tag:weekly"]].concat();
    world.fails(1, &missing, &["no revision of 'vm1' matches 'tag:weekly'"]);
    assert_eq!(world.revisions("vm1").len(), 1);
}

#[test]
fn hints_may_be_relative_to_an_older_revision() {
    let (world, image) = world_with_base();
    let before = fs::read(&image).unwrap();
    write_chunk(&image, 0, 1000);
    world.backup("vm1.img", "vm1");
    // Back to the first state, but for chunk 20.
    fs::write(&image, &before).unwrap();
    write_chunk(&image, 20, 1001);
    write_hints(&world, &[(20 * CHUNK, CHUNK, "true")]);
    let said = world.json(&[&HINTED[..], &["--hints-base", "1"]].concat());
    assert_eq!(said["method"], "hints");
    world.assert_same("vm1", &image);
}

/// The sample has at least 32 chunks; here nearly everything differs, so it can't miss.
#[test]
fn wrong_hints_lead_to_a_full_read_loudly() {
    let (world, image) = world_with_base();
    for chunk in 0..CHUNKS {
        write_chunk(&image, chunk, 5000 + chunk);
    }
    write_hints(&world, &[(0, CHUNK, "true")]);
    let run = world.run(&[&HINTED[..], &["--json"]].concat()).expect_code(0);
    run.says(&["treering: warning:", "hints are wrong", "everything is read"]);
    let said = run.json();
    assert!(said["warnings"][0].as_str().unwrap().contains("hints are wrong"));
    assert_eq!(said["method"], "read");
    world.assert_same("vm1", &image);
    assert_eq!(world.revisions("vm1")[1]["warnings"], said["warnings"]);
}

#[test]
fn wrong_hints_without_a_base_are_found_out_too() {
    let world = World::new();
    let data: Vec<u64> = (0..CHUNKS).collect();
    let image = world.image("vm1.img", CHUNKS * CHUNK, &data);
    write_hints(&world, &[(0, CHUNK, "true")]);
    let run = world.run(&[&HINTED[..], &["--hints-base", "none", "--json"]].concat()).expect_code(0);
    run.says(&["hints are wrong"]);
    world.assert_same("vm1", &image);
}

#[test]
fn force_read_does_not_believe_hints() {
    let (world, image) = world_with_base();
    write_chunk(&image, 8, 1000);
    write_hints(&world, &[]);
    let said = world.json(&[&HINTED[..], &["--force-read"]].concat());
    assert_eq!(said["bytes_read"], 150 * CHUNK);
    world.assert_same("vm1", &image);
}

#[test]
fn a_grown_image_is_read_behind_the_old_end_whatever_hints_say() {
    let (world, image) = world_with_base();
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len((CHUNKS + 10) * CHUNK + 77).unwrap();
    write_chunk(&image, CHUNKS + 3, 1000);
    write_hints(&world, &[]);
    world.json(&HINTED);
    world.assert_same("vm1", &image);
    file.set_len(50 * CHUNK - 1).unwrap();
    world.json(&HINTED);
    world.assert_same("vm1", &image);
}

#[test]
fn hints_without_end_are_refused() {
    let world = World::new();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(1, &["backup", "vm1.img", "vm1", "--hints", "/dev/zero"], &["longer than", "--whole-object"]);
}
