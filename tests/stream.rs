//! `treering stream`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::World;
use support::system::answer_on_terminal;

fn world() -> World {
    let world = World::new();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    world.backup("vm.img", "vm");
    world.backup("vm.img", "other");
    world
}

fn streams(world: &World) -> Vec<(Value, Value, Value)> {
    let said = world.json(&["stream", "list"]);
    let streams = said["streams"].as_array().unwrap().clone();
    streams
        .into_iter()
        .map(|stream| (stream["name"].clone(), stream["revisions"].clone(), stream["deleted"].clone()))
        .collect()
}

#[test]
fn streams_are_listed() {
    let world = world();
    let living = |name: &str, revisions: u64| (json!(name), json!(revisions), json!(false));
    assert_eq!(streams(&world), [living("other", 1), living("vm", 2)]);
    let text = world.ok(&["stream", "list"]).text();
    assert!(text.lines().any(|line| line.starts_with("vm ") && line.contains("image")), "{text}");
}

#[test]
fn a_renamed_stream_goes_on_under_its_new_name() {
    let world = world();
    let before = world.revisions("vm");
    world.ok(&["stream", "rename", "vm", "mail-server"]);
    world.fails(1, &["list", "vm"], &["vm", "mail-server"]);
    let after = world.revisions("mail-server");
    assert_eq!(after.len(), 2);
    assert!(before.iter().zip(&after).all(|(before, after)| before["id"] == after["id"]));
    world.backup("vm.img", "mail-server");
    let newest = world.revisions("mail-server").pop().unwrap();
    assert_eq!((&newest["sequence"], &newest["parent"]), (&json!(3), &after[1]["id"]));
    // Its old name is free.
    world.backup("vm.img", "vm");
    world.ok(&["scrub"]);
}

#[test]
fn a_name_that_is_taken_or_not_allowed_is_refused() {
    let world = world();
    world.fails(
        1,
        &["stream", "rename", "vm", "other"],
        &["cannot rename stream 'vm'", "'other'", "already"],
    );
    let rule = "begins with a letter or digit";
    for bad in ["two words", "a/b", "", "vm@1"] {
        // It was once told how to back up.
        let run = world.fails(
            2,
            &["stream", "rename", "vm", bad],
            &[bad, rule, "`treering stream rename vm NAME`"],
        );
        assert!(!run.stderr.contains("backup"), "{}", run.stderr);
    }
    let id = world.json(&["stream", "list"])["streams"][0]["id"].as_str().unwrap().to_owned();
    world.fails(
        2,
        &["stream", "rename", "vm", &id],
        &["the id of a stream", "`treering stream rename vm NAME`"],
    );
    world.fails(1, &["stream", "rename", "none", "any"], &["none"]);
    for command in [&["stream", "rename", "vm@1", "any"][..], &["stream", "delete", "vm@1", "--yes"]] {
        world.fails(2, command, &["'vm@1' names revisions", "hint: give the stream as a whole: vm"]);
    }
    world.ok(&["stream", "rename", "vm", "vm"]);
    assert_eq!(streams(&world).len(), 2);
}

#[test]
fn a_stream_whose_name_is_lost_gets_one_again() {
    let world = world();
    let id = world.json(&["stream", "list"])["streams"][1]["id"].as_str().unwrap().to_owned();
    fs::remove_file(world.repository().join("streams").join(&id)).unwrap();
    world.fails(1, &["list", "vm"], &["vm", &id]);
    world.ok(&["stream", "rename", &id, "vm"]);
    assert_eq!(world.revisions("vm").len(), 2);
    world.backup("vm.img", "vm");
    assert_eq!(world.revisions("vm")[2]["sequence"], json!(3));
    assert_eq!(world.json(&["status"])["repository"]["damaged_files"], json!([]));
}

#[test]
fn a_deleted_stream_is_gone_and_can_be_brought_back() {
    let world = world();
    let before = world.revisions("vm");
    world.ok(&["tag", "vm", "--add", "weekly"]);
    world.ok(&["stream", "delete", "vm", "--yes"]);
    world.fails(1, &["list", "vm"], &["vm"]);
    assert_eq!(streams(&world)[1], (json!("vm"), json!(0), json!(true)));
    world.ok(&["scrub"]);
    let back = world.json(&["forget", "--undo", "vm"]);
    assert_eq!(back["streams"][0]["revisions"].as_array().unwrap().len(), 2);
    let after = world.revisions("vm");
    assert!(before.iter().zip(&after).all(|(before, after)| before["id"] == after["id"]));
    assert_eq!(after[1]["tags"], json!(["weekly"]));
    assert_eq!(streams(&world).len(), 2);
}

#[test]
fn the_name_of_a_deleted_stream_is_free() {
    let world = world();
    world.ok(&["stream", "delete", "vm", "-y"]);
    world.backup("vm.img", "vm");
    assert_eq!(world.revisions("vm")[0]["sequence"], json!(1));
    // The one that has the name is meant, of which nothing was forgotten: it was said to have no revisions.
    let listed = world.json(&["stream", "list"])["streams"].as_array().unwrap().clone();
    let id = listed.iter().find(|stream| stream["deleted"] == true).unwrap()["id"].as_str().unwrap();
    let back = format!("`treering forget --undo {id}`");
    let words = ["nothing of stream 'vm' is in the trash", "`treering stream rename vm NAME`", &back];
    world.fails(1, &["forget", "--undo", "vm"], &words);
    // By its id it is found, and its name is taken, which a dry run tells as well.
    for option in [&[][..], &["--dry-run"]] {
        let words = ["a stream 'vm' already", "hint: give that one another name", "stream rename vm NAME"];
        world.fails(1, &[&["forget", "--undo", id], option].concat(), &words);
    }
    world.ok(&["stream", "rename", "vm", "new"]);
    world.ok(&["forget", "--undo", id]);
    assert_eq!((world.revisions("vm").len(), world.revisions("new").len()), (2, 1));
}

#[test]
fn nothing_is_deleted_unasked() {
    let world = world();
    world.fails(2, &["stream", "delete", "vm"], &["--yes"]);
    world.ok(&["protect", "vm"]);
    world.fails(1, &["stream", "delete", "vm", "--yes"], &["protected", "unprotect"]);
    assert_eq!(world.revisions("vm").len(), 2);
    world.ok(&["unprotect", "vm"]);
    world.fails(1, &["stream", "delete", "none", "--yes"], &["none"]);
}

#[test]
fn on_a_terminal_the_name_is_asked_for() {
    let world = world();
    let said = answer_on_terminal(&world, &["stream", "delete", "vm"], "yes").expect_code(1).text();
    assert!(said.contains("2 revisions") && said.contains("not deleted"), "{said}");
    assert_eq!(world.revisions("vm").len(), 2);
    answer_on_terminal(&world, &["stream", "delete", "vm"], "vm").expect_code(0);
    world.fails(1, &["list", "vm"], &["vm"]);
}

#[test]
fn a_stream_that_is_being_backed_up_is_not_deleted() {
    let world = world();
    let mut backup = world.command(&["backup", "-", "vm"]).stdin(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds: it has been read from then, which comes after the stream was locked.
    backup.stdin.as_mut().unwrap().write_all(&[1; 1 << 20]).unwrap();

    let run =
        world.fails(1, &["stream", "delete", "vm", "--yes"], &["in use by backup", "when that is done"]);
    assert!(!run.stderr.contains("--wait"), "it has no such option: {}", run.stderr);
    backup.stdin.take().unwrap().write_all(b"bytes").unwrap();
    assert!(backup.wait().unwrap().success());
    assert_eq!(world.revisions("vm").len(), 3);
}

/// It was once brought back whole, whatever of it was named.
#[test]
fn a_part_of_a_deleted_stream_is_not_brought_back() {
    let world = World::new();
    world.small_image("vm.img");
    world.backup("vm.img", "vm");
    world.ok(&["stream", "delete", "vm", "--yes"]);
    world.fails(1, &["forget", "--undo", "vm@0"], &["deleted as a whole", "hint:", "forget --undo vm"]);
    world.backup("vm.img", "vm");
    world.ok(&["stream", "delete", "vm", "--yes"]);
    let run =
        world.fails(1, &["forget", "--undo", "vm"], &["2 streams of the name 'vm'", "hint: give the id"]);
    let id = run.stderr.split([' ', ',', '\n']).find(|word| word.len() == 36).unwrap().to_owned();
    world.ok(&["forget", "--undo", &id]);
    assert_eq!(world.revisions("vm").len(), 1);
}
