//! `treering forget`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::World;

/// A world with so many revisions of one image, each another.
fn world(revisions: usize) -> World {
    let world = World::new();
    for number in 0..revisions {
        fs::write(world.path("vm.img"), vec![number as u8 + 1; 200_000]).unwrap();
        world.backup("vm.img", "vm");
    }
    world
}

fn names(world: &World) -> Vec<String> {
    world.revisions("vm").iter().map(|revision| revision["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_forgotten_by_name_is_gone_and_the_rest_is_as_it_was() {
    let world = world(4);
    let before = names(&world);
    let said = world.json(&["forget", &format!("vm@{}", before[1])]);
    assert_eq!(said["dry_run"], json!(false));
    let stream = &said["streams"][0];
    assert_eq!(
        (&stream["stream"], &stream["forgotten"], &stream["kept"]),
        (&json!("vm"), &json!(1), &json!(0))
    );
    assert_eq!(stream["revisions"][0]["name"], json!(before[1]));
    assert_eq!(names(&world), [&before[0], &before[2], &before[3]].map(String::as_str));
    assert_eq!(world.dump(&format!("vm@{}", before[0])), vec![1; 200_000]);
    world.fails(1, &["dump", &format!("vm@{}", before[1])], &["no revision"]);
    // Also the newest, and several at once.
    world.ok(&["forget", "vm@0..1"]);
    assert_eq!(names(&world), [before[0].as_str()]);
    world.ok(&["scrub"]);
}

#[test]
fn names_and_numbers_are_never_given_again() {
    let world = world(2);
    let before = world.revisions("vm");
    world.ok(&["forget", "vm@all"]);
    assert_eq!(world.revisions("vm"), Vec::<Value>::new());
    world.fails(1, &["dump", "vm"], &["'vm' has no revisions", "forgotten ones can be brought back"]);
    assert_eq!(world.json(&["status"])["streams"][0]["revisions"], json!(0));
    world.backup("vm.img", "vm");
    let after = world.revisions("vm");
    assert_eq!(after.len(), 1);
    assert_eq!(after[0]["sequence"], json!(3));
    assert!(before.iter().all(|revision| revision["name"] != after[0]["name"]));
}

#[test]
fn a_policy_keeps_what_it_says_and_a_dry_run_tells_why() {
    let world = world(4);
    world.ok(&["tag", "vm@3", "--add", "keep"]);
    world.ok(&["protect", "vm@2"]);
    let before = names(&world);
    let policy = ["forget", "vm", "--keep-tag", "keep", "--keep-last", "1"];
    let said = world.json(&[&policy[..], &["--dry-run"]].concat());
    let rules: Vec<&Value> = said["streams"][0]["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| &revision["rules"])
        .collect();
    let expected = [json!(["tag keep"]), json!(["protected"]), json!([]), json!(["newest", "last"])];
    assert_eq!(rules, expected.iter().collect::<Vec<_>>());
    assert_eq!(names(&world), before, "a dry run changes nothing");
    let text = world.ok(&[&policy[..], &["--dry-run"]].concat()).text();
    let kept = text.lines().find(|line| line.contains(&before[3])).unwrap();
    assert!(kept.contains("kept") && kept.contains("newest, last"), "{text}");
    assert!(text.contains("1 revision would be forgotten"), "{text}");
    let text = world.ok(&policy).text();
    assert!(text.contains(&before[2]) && !text.contains(&before[1]), "{text}");
    assert_eq!(names(&world), [&before[0], &before[1], &before[3]].map(String::as_str));
    assert!(world.ok(&policy).text().contains("nothing was forgotten"));
}

/// Dates revisions, the oldest first: a policy goes by the names of their files.
fn date(world: &World, days: &[&str]) {
    for (record, day) in world.stored_files("revisions").iter().zip(days) {
        let (key, _) = record.to_str().unwrap().rsplit_once('_').unwrap();
        fs::rename(record, format!("{key}_{day}T02-00-00Z")).unwrap();
    }
}

/// Two nights on which the clock was ahead, by different times, and honest ones were older than the duration.
#[test]
fn nights_of_a_clock_that_was_ahead_push_no_honest_ones_out() {
    let world = world(6);
    let between = ["2020-01-02", "2020-02-01", "2020-01-03", "2020-01-04", "2020-01-05", "2020-02-20"];
    let at_the_end = ["2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05", "2020-02-01", "2020-02-20"];
    for days in [between, at_the_end] {
        date(&world, &days);
        let said = world.json(&["forget", "vm", "--keep-within", "7d", "--dry-run"]);
        assert_eq!(said["streams"][0]["kept"], 6, "{days:?}: {said}");
        let said = world.json(&["forget", "vm", "--keep-within", "2d", "--dry-run"]);
        assert_eq!(said["streams"][0]["revisions"][0]["forgotten"], true, "{days:?}: {said}");
        assert_eq!(said["streams"][0]["kept"], 5, "{days:?}: {said}");
    }
}

#[test]
fn every_stream_is_judged_by_itself() {
    let world = world(3);
    for _ in 0..2 {
        world.backup("vm.img", "other");
    }
    let said = world.json(&["forget", "--all", "--keep-last", "2"]);
    let counts: Vec<(&Value, &Value)> = said["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| (&stream["stream"], &stream["forgotten"]))
        .collect();
    assert_eq!(counts, [(&json!("other"), &json!(0)), (&json!("vm"), &json!(1))]);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_forgotten() {
    let world = world(2);
    world.fails(2, &["forget"], &["STREAM"]);
    world.fails(2, &["forget", "vm"], &["'vm'", "--keep-daily", "stream delete"]);
    world.fails(2, &["forget", "vm", "--keep-last", "0"], &["'vm'"]);
    world.fails(2, &["forget", "--all"], &["every stream"]);
    world.fails(2, &["forget", "vm@1", "--keep-last", "1"], &["'vm@1'", "policy"]);
    world.fails(2, &["forget", "vm", "--keep-within", "soon"], &["soon"]);
    world.fails(2, &["forget", "vm", "--keep-daily", "1", "--timezone", "Mars/Base"], &["Mars/Base"]);
    world.fails(2, &["forget", "vm", "--keep-tag", "of two words"], &["of two words", "such as weekly"]);
    world.fails(2, &["forget", "vm", "--undo", "--keep-last", "1"], &["--undo"]);
    world.fails(1, &["forget", "vm@1", "vm@none-such"], &["none-such"]);
    world.fails(1, &["forget", "other", "--keep-last", "1"], &["cannot forget", "other"]);
    assert_eq!(names(&world).len(), 2);
}

#[test]
fn what_is_protected_is_forgotten_neither_by_name_nor_by_a_policy() {
    let world = world(3);
    world.ok(&["protect", "vm@1"]);
    let before = names(&world);
    world.fails(1, &["forget", "vm@2", "vm@1"], &["protected", &before[1], "unprotect"]);
    assert_eq!(names(&world), before);
    world.ok(&["forget", "vm", "--keep-last", "1"]);
    assert_eq!(names(&world), before[1..]);
    world.ok(&["unprotect", "vm@1"]);
    world.ok(&["forget", "vm@1"]);
    assert_eq!(names(&world), before[2..]);
}

/// It may be protected.
#[test]
fn a_revision_whose_labels_are_damaged_is_kept() {
    let world = world(3);
    world.ok(&["tag", "vm@2", "--add", "a"]);
    let file = world.stored_files("labels").pop().unwrap();
    fs::write(&file, b"garbage").unwrap();
    let before = names(&world);
    let said = world.json(&["forget", "vm", "--keep-last", "1"]);
    assert_eq!(said["streams"][0]["revisions"][0]["rules"], json!(["labels can't be read"]));
    assert_eq!(names(&world), [&before[0], &before[2]].map(String::as_str));
    world.fails(1, &["forget", "vm@1"], &["labels", "or give it up by `treering check --repair`"]);
    world.run(&["check", "--repair"]).expect_code(4);
    world.ok(&["forget", "vm@1"]);
    assert_eq!(names(&world), before[2..]);
}

#[test]
fn a_damaged_record_is_forgotten_like_any_other() {
    let world = world(3);
    let file = world.stored_files("revisions").into_iter().min().unwrap();
    fs::write(&file, b"garbage").unwrap();
    let before = names(&world);
    world.ok(&["forget", &format!("vm@{}", before[0])]);
    assert_eq!(names(&world), before[1..]);
}

#[test]
fn what_was_forgotten_is_brought_back_with_its_labels() {
    let world = world(4);
    world.ok(&["tag", "vm@2", "--add", "weekly"]);
    let before = world.revisions("vm");
    world.ok(&["forget", "vm@1..3"]);
    let newest = before[2]["id"].as_str().unwrap();
    world.fails(
        1,
        &["forget", "--undo", "vm@none-such"],
        &["no forgotten revision of 'vm' matches 'none-such'", "can be brought back", newest],
    );
    let would = world.json(&["forget", "--undo", "vm", "--dry-run"]);
    assert_eq!(would["streams"][0]["revisions"].as_array().unwrap().len(), 3);
    assert_eq!(names(&world).len(), 1);
    world.ok(&["forget", "--undo", &format!("vm@{}", before[1]["name"].as_str().unwrap())]);
    assert_eq!(world.revisions("vm"), [before[1].clone(), before[3].clone()]);
    let text = world.ok(&["forget", "--undo", "vm"]).text();
    assert!(text.contains("2 revisions brought back"), "{text}");
    assert_eq!(world.revisions("vm"), before);
    assert_eq!(world.dump("vm@tag:weekly"), vec![2; 200_000]);
    let run = world.fails(
        1,
        &["forget", "--undo", "vm"],
        &["nothing of stream 'vm' is in the trash", "gc has taken"],
    );
    assert!(!run.stderr.contains("no revisions"), "{}", run.stderr);
    world.fails(1, &["forget", "--undo", "other"], &["no stream 'other'", "can be brought back"]);
}

/// A loss is told also where names were retired.
#[test]
fn a_lost_newest_revision_is_told_also_after_others_were_forgotten() {
    let world = world(4);
    world.ok(&["forget", "vm@3"]);
    assert_eq!(world.json(&["status"])["repository"]["damaged_files"], json!([]));
    let before = names(&world);
    let file = world.stored_files("revisions").into_iter().max().unwrap();
    fs::remove_file(file).unwrap();
    let lost = world.json(&["status"])["repository"]["damaged_files"].clone();
    assert!(lost[0]["reason"].as_str().unwrap().contains("number 4, is lost"), "{lost}");
    // To forget others does not hide it, nor does to forget the newest one that is left.
    world.ok(&["forget", &format!("vm@{}", before[1])]);
    assert_eq!(world.json(&["status"])["repository"]["damaged_files"], lost);
}

#[test]
fn the_newest_may_be_forgotten_by_name_and_is_not_lost_then() {
    let world = world(2);
    world.ok(&["forget", "vm@latest"]);
    assert_eq!(world.json(&["status"])["repository"]["damaged_files"], json!([]));
    world.backup("vm.img", "vm");
    assert_eq!(world.revisions("vm")[1]["sequence"], json!(3));
    world.ok(&["forget", "--undo", "vm"]);
    let sequences: Vec<Value> =
        world.revisions("vm").iter().map(|revision| revision["sequence"].clone()).collect();
    assert_eq!(sequences, [json!(1), json!(2), json!(3)]);
}

#[test]
fn two_that_forget_the_same_are_no_error_to_each_other() {
    let world = world(6);
    let mut children: Vec<_> = (0..4).map(|_| world.start(&["forget", "vm", "--keep-last", "2"])).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(names(&world).len(), 2);
}

/// What is wrong with one stream leaves no other without its policy.
#[test]
fn a_stream_that_can_not_be_forgotten_of_does_not_stop_the_others() {
    let world = world(3);
    for number in 0..3 {
        fs::write(world.path("a.img"), vec![number + 1; 100_000]).unwrap();
        world.backup("a.img", "a");
    }
    let stream = world.json(&["list", "a"])["revisions"][0]["id"].as_str().unwrap().to_owned();
    let record =
        world.stored_files("revisions").into_iter().find(|file| file.to_str().unwrap().contains(&stream));
    let id = record.unwrap().parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    fs::write(world.repository().join("streams").join(&id), "garbage").unwrap();
    let run =
        world.fails(1, &["forget", "--all", "--keep-last", "1"], &["cannot forget any of", &id, "hint:"]);
    assert!(run.text().contains("vm@"), "{}", run.text());
    assert_eq!(names(&world).len(), 1);
    assert_eq!(world.revisions(&id).len(), 3);
    let said = world.run(&["forget", "--all", "--keep-last", "1", "--json"]).expect_code(1).json();
    assert_eq!(said["error"]["done"]["streams"][0]["stream"], json!("vm"));
}
