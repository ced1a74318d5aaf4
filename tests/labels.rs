//! `treering tag`, `protect` and `unprotect`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::system::{Mounted, Requirement, can_use};
use support::{World, wait_until};

/// A world with so many revisions of one image.
fn world(revisions: usize) -> World {
    let world = World::new();
    world.small_image("vm.img");
    for _ in 0..revisions {
        world.backup("vm.img", "vm");
    }
    world
}

fn tags(world: &World) -> Vec<Value> {
    world.revisions("vm").iter().map(|revision| revision["tags"].clone()).collect()
}

#[test]
fn tags_are_added_and_removed() {
    let world = world(3);
    let said = world.json(&["tag", "vm@1", "--add", "weekly", "--add", "a.b-c", "--add", "weekly"]);
    let revision = &said["revisions"][0];
    assert_eq!((&revision["stream"], &revision["protected"]), (&json!("vm"), &json!(false)));
    assert_eq!(revision["tags"], json!(["a.b-c", "weekly"]));
    assert_eq!(revision["id"], world.revisions("vm")[1]["id"]);
    assert_eq!(tags(&world), [json!([]), json!(["a.b-c", "weekly"]), json!([])]);
    // Without a SPEC the newest; what is there, or is not, is no error.
    world.ok(&["tag", "vm", "--add", "daily", "--remove", "weekly"]);
    world.ok(&["tag", "vm", "--add", "daily"]);
    assert_eq!(tags(&world), [json!([]), json!(["a.b-c", "weekly"]), json!(["daily"])]);
    assert_eq!(world.revisions("vm@tag:weekly").len(), 1);
    let text = world.ok(&["tag", "vm@all", "--remove", "a.b-c"]).text();
    let endings: Vec<_> = text.lines().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(endings, ["no tags", "tags weekly", "tags daily"]);
    assert_eq!(world.ok(&["tag", "vm@1"]).text().trim().split_once(": ").unwrap().1, "tags weekly");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = world(1);
    world.fails(
        2,
        &["tag", "vm", "--add", "of two words"],
        &["of two words", "letter or digit", "such as weekly"],
    );
    let both = ["tag", "vm", "--add", "a", "--remove", "a"];
    world.fails(2, &both, &["'a'", "both", "hint: leave --add a out, or --remove a"]);
    world.fails(1, &["tag", "other", "--add", "a"], &["cannot tag other", "vm"]);
    world.fails(1, &["protect", "vm@tag:none"], &["cannot protect vm@tag:none"]);
    assert_eq!(tags(&world), [json!([])]);
}

#[test]
fn protection_is_set_and_taken_off() {
    let world = world(3);
    let protected = || {
        let revisions = world.revisions("vm");
        revisions.iter().map(|revision| revision["protected"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    world.ok(&["tag", "vm@all", "--add", "kept"]);
    world.ok(&["protect", "vm"]);
    assert_eq!(protected(), [false, false, true]);
    let text = world.ok(&["protect", "vm@2..1"]).text();
    assert_eq!(text.matches("tags kept, protected").count(), 2, "{text}");
    assert_eq!(protected(), [true, true, true]);
    world.ok(&["unprotect", "vm@1"]);
    assert_eq!(protected(), [true, false, true]);
    assert_eq!(tags(&world), [json!(["kept"]), json!(["kept"]), json!(["kept"])]);
}

/// Each change is read, made and written by one at a time.
#[test]
fn of_changes_at_once_none_is_lost() {
    let world = world(1);
    let names: Vec<String> = (0..16).map(|number| format!("tag-{number:02}")).collect();
    let children: Vec<_> = names.iter().map(|name| world.start(&["tag", "vm", "--add", name])).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(tags(&world), [json!(names)]);
}

#[test]
fn a_damaged_set_of_labels_is_told_and_left_alone() {
    let world = world(1);
    world.ok(&["tag", "vm", "--add", "weekly"]);
    let file = world.stored_files("labels").pop().unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    world.fails(1, &["tag", "vm", "--add", "other"], &["cannot tag vm", "labels"]);
    assert_eq!(fs::read(&file).unwrap(), bytes[..bytes.len() - 1]);
}

#[test]
fn a_mount_follows_tags() {
    if !can_use(&[Requirement::Fuse]) {
        return;
    }
    let world = world(2);
    let mounted = Mounted::repository(&world, &[]);
    let by_tag = mounted.path().join("vm/by-tag");
    let names = || {
        let entries = fs::read_dir(&by_tag).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(), Vec::<String>::new());
    world.ok(&["tag", "vm@1", "--add", "weekly"]);
    wait_until("the tag shows", || names() == ["weekly"]);
    let revisions = world.revisions("vm");
    let name = format!("{}.img", revisions[0]["name"].as_str().unwrap());
    assert_eq!(fs::metadata(by_tag.join("weekly").join(&name)).unwrap().len(), revisions[0]["size"]);
    world.ok(&["tag", "vm@1", "--remove", "weekly"]);
    wait_until("the tag is gone", || names().is_empty());
}
