//! `treering backup` of files, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, File};

use support::system::system;
use support::{CHUNK, World, assert_keys, settle, write_at, write_chunk};

#[test]
fn the_json_has_all_keys_and_counts_what_was_done() {
    let world = World::new();
    world.image("vm1.img", 64 * CHUNK, &[0, 1, 40]);
    let said = world.backup("vm1.img", "vm1");
    let keys = [
        "stream",
        "id",
        "name",
        "time",
        "kind",
        "size",
        "bytes_read",
        "bytes_changed",
        "bytes_stored",
        "chunks_total",
        "chunks_new",
        "seconds",
        "hints",
        "warnings",
    ];
    assert_keys(&said, &keys);
    assert_eq!(said["stream"], "vm1");
    assert_eq!(said["kind"], "image");
    assert_eq!(said["size"], 64 * CHUNK);
    assert_eq!(said["bytes_read"], 3 * CHUNK, "holes are not read");
    assert_eq!(said["bytes_changed"], 3 * CHUNK);
    assert_eq!((&said["chunks_total"], &said["chunks_new"]), (&3.into(), &3.into()));
    assert!(said["bytes_stored"].as_u64().unwrap() > 3 * CHUNK, "noise does not compress");
    assert!(said["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(said["warnings"], serde_json::json!([]));
    world.assert_same("vm1", &world.path("vm1.img"));
}

#[test]
fn people_get_a_few_lines() {
    let world = World::new();
    world.small_image("vm1.img");
    let text = world.ok(&["backup", "vm1.img", "vm1"]).text();
    for word in ["vm1@2", "4.00 MiB", "read", "changed", "stored", "32 of 32 chunks new"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn an_increment_stores_only_what_changed() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let before = fs::read(&image).unwrap();
    write_chunk(&image, 3, 1000);
    let said = world.backup("vm1.img", "vm1");
    assert_eq!((&said["bytes_changed"], &said["chunks_new"]), (&CHUNK.into(), &1.into()));
    assert!(said["bytes_stored"].as_u64().unwrap() < 3 * CHUNK);
    assert_eq!(world.dump("vm1@1"), before);
    world.assert_same("vm1@0", &image);
}

#[test]
fn chunks_of_zeros_become_holes() {
    let world = World::new();
    fs::write(world.path("zeros.img"), vec![0; 8 * CHUNK as usize]).unwrap();
    let said = world.backup("zeros.img", "zeros");
    assert_eq!((&said["bytes_read"], &said["chunks_total"]), (&(8 * CHUNK).into(), &0.into()));
}

#[test]
fn equal_content_is_stored_once_over_all_streams() {
    let world = World::new();
    world.small_image("a.img");
    world.small_image("b.img");
    world.backup("a.img", "a");
    let said = world.backup("b.img", "b");
    assert_eq!((&said["chunks_new"], &said["chunks_total"]), (&0.into(), &32.into()));
}

#[test]
fn an_unchanged_file_is_taken_over_unread() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    settle();
    let first = world.backup("vm1.img", "vm1");
    let second = world.backup("vm1.img", "vm1");
    assert_eq!((&second["bytes_read"], &second["bytes_changed"]), (&0.into(), &0.into()));
    assert_eq!(second["chunks_total"], 32);
    assert_eq!(second["parent"], first["id"]);
    world.assert_same("vm1", &image);
    assert!(world.ok(&["backup", "vm1.img", "vm1"]).text().contains("unchanged"));
}

/// A write that is under way while the file is read leaves the times as they are, so a file that changed just before it was
/// read must be read again.
#[test]
fn a_file_that_changed_just_before_is_read_again() {
    let world = World::new();
    // Between the write and the backup lies the start of a process: try until that was quick enough.
    for attempt in 0..200 {
        let name = format!("vm{attempt}");
        world.image("vm.img", 4 * CHUNK, &[attempt]);
        world.backup("vm.img", &name);
        let second = world.backup("vm.img", &name);
        if second["bytes_read"] != 0 {
            settle();
            world.backup("vm.img", &name);
            assert_eq!(world.backup("vm.img", &name)["bytes_read"], 0, "by now it has settled");
            return;
        }
    }
    panic!("no file was ever taken for unsettled");
}

#[test]
fn a_file_with_other_times_is_read_again() {
    let world = World::new();
    let image = world.small_image("vm1.img");
    settle();
    world.backup("vm1.img", "vm1");
    settle();
    // The same bytes: only the times change.
    write_chunk(&image, 0, 1);
    settle();
    let said = world.backup("vm1.img", "vm1");
    assert_eq!((&said["bytes_read"], &said["chunks_new"]), (&(32 * CHUNK).into(), &0.into()));
}

#[test]
fn force_read_reads_everything() {
    let world = World::new();
    world.small_image("vm1.img");
    settle();
    world.backup("vm1.img", "vm1");
    let said = world.json(&["backup", "vm1.img", "vm1", "--force-read"]);
    assert_eq!((&said["bytes_read"], &said["chunks_new"]), (&(32 * CHUNK).into(), &0.into()));
}

#[test]
fn images_may_grow_shrink_and_end_in_the_middle_of_a_chunk() {
    let world = World::new();
    let image = world.image("vm1.img", 10 * CHUNK, &[0, 5, 9]);
    for (size, change) in [
        (10 * CHUNK, None),
        (20 * CHUNK + 12345, Some(20 * CHUNK)),
        (20 * CHUNK + 54321, None),
        (9 * CHUNK + 1, Some(9 * CHUNK)),
        (300 * CHUNK, Some(299 * CHUNK)),
        (1, Some(0)),
        (0, None),
        (CHUNK, Some(0)),
    ] {
        File::options().write(true).open(&image).unwrap().set_len(size).unwrap();
        if let Some(offset) = change {
            write_at(&image, offset, b"x");
        }
        let said = world.backup("vm1.img", "vm1");
        assert_eq!(said["size"], size);
        world.assert_same("vm1", &image);
    }
    assert_eq!(world.revisions("vm1").len(), 8);
    world.ok(&["scrub"]);
}

/// Nothing is stored that could be compared with the parent, so a dry run counts on its way.
#[test]
fn a_dry_run_says_what_would_change() {
    let world = World::new();
    let image = world.image("vm1.img", 1000 * CHUNK, &(100..160).collect::<Vec<_>>());
    world.backup("vm1.img", "vm1");
    settle();
    let agree = |options: &[&str], changed: u64| {
        let changes = |dry: &[&str]| {
            let arguments = [&["backup", "vm1.img", "vm1"], options, dry].concat();
            world.json(&arguments)["bytes_changed"].as_u64().unwrap() / CHUNK
        };
        assert_eq!((changes(&["--dry-run"]), changed), (changed, changed), "{options:?}");
        assert_eq!(changes(&[]), changed, "{options:?}");
    };
    agree(&["--force-read"], 0);
    write_chunk(&image, 120, 7);
    system("fallocate", &["-p", "-o", "9175040", "-l", "655360", image.to_str().unwrap()]);
    settle();
    agree(&[], 11);
    write_chunk(&image, 130, 7);
    fs::write(world.path("hints"), format!(r#"[{{"offset":{},"length":1,"exists":true}}]"#, 130 * CHUNK))
        .unwrap();
    agree(&["--hints", "hints"], 1);
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(150 * CHUNK).unwrap();
    agree(&[], 10);
}

#[test]
fn a_dry_run_stores_nothing() {
    let world = World::new();
    world.small_image("vm1.img");
    let said = world.json(&["backup", "vm1.img", "vm1", "--dry-run"]);
    assert_eq!((&said["bytes_read"], &said["chunks_new"]), (&(32 * CHUNK).into(), &32.into()));
    assert_eq!(said["id"], serde_json::Value::Null);
    assert_eq!(world.json(&["list"])["revisions"], serde_json::json!([]));
    assert_eq!(world.json(&["status"])["streams"], serde_json::json!([]));
    assert!(world.stored_files("packs").is_empty() && world.stored_files("index").is_empty());
    world.backup("vm1.img", "vm1");
    let packs = world.stored_files("packs");
    write_chunk(&world.path("vm1.img"), 1, 99);
    assert!(world.ok(&["backup", "vm1.img", "vm1", "-n"]).text().contains("nothing was stored"));
    assert_eq!(world.stored_files("packs"), packs);
    assert_eq!(world.revisions("vm1").len(), 1);
}

#[test]
fn tags_are_listed_and_name_the_revision() {
    let world = World::new();
    world.small_image("vm1.img");
    let tagged = world.json(&["backup", "vm1.img", "vm1", "--tag", "weekly", "--tag", "before-upgrade"]);
    world.backup("vm1.img", "vm1");
    let revisions = world.revisions("vm1@tag:weekly");
    assert_eq!(revisions[0]["id"], tagged["id"]);
    assert_eq!(revisions[0]["tags"], serde_json::json!(["before-upgrade", "weekly"]));
    world.fails(2, &["backup", "vm1.img", "vm1", "--tag", "no good"], &["tag 'no good' is not allowed"]);
    assert_eq!(world.revisions("vm1").len(), 2);
}

#[test]
fn the_stream_is_called_like_the_file_where_that_can_be() {
    let world = World::new();
    world.small_image("vm1.img");
    assert_eq!(world.json(&["backup", "vm1.img"])["stream"], "vm1.img");
    world.small_image("my disk");
    world.fails(2, &["backup", "my disk"], &["'my disk' is not allowed", "backup 'my disk' STREAM"]);
    world.fails(2, &["backup", "vm1.img", "../x"], &["'../x' is not allowed", "hint:"]);
    world.ok(&["backup", "my disk", "my-disk"]);
}

#[test]
fn what_is_no_image_is_refused() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    let as_image = ["backup", "home", "--kind", "image"];
    world.fails(1, &as_image, &["cannot use home as a source: it is a directory", "hint:"]);
    world.fails(
        1,
        &["backup", "missing.img", "vm1"],
        &["cannot use missing.img as a source", "No such file"],
    );
    world.fails(1, &["backup", "/dev/null", "vm1"], &["neither a file nor a block device"]);
    assert_eq!(world.json(&["status"])["streams"], serde_json::json!([]));
}

#[test]
fn revisions_of_one_second_have_names_of_their_own() {
    let world = World::new();
    world.small_image("vm1.img");
    for _ in 0..4 {
        world.backup("vm1.img", "vm1");
    }
    let revisions = world.revisions("vm1");
    let names: std::collections::BTreeSet<&str> =
        revisions.iter().map(|revision| revision["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4);
    let sequences: Vec<u64> =
        revisions.iter().map(|revision| revision["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, [1, 2, 3, 4]);
}
