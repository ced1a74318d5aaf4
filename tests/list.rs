//! `treering list`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

use serde_json::Value;
use support::{World, assert_keys, flip_bit, settle, write_chunk};

/// Three revisions of vm1, one of web.
fn world() -> World {
    let world = World::new();
    let image = world.small_image("vm1.img");
    world.json(&["backup", "vm1.img", "vm1", "--tag", "first"]);
    write_chunk(&image, 0, 1000);
    settle();
    world.backup("vm1.img", "vm1");
    world.small_image("web.img");
    world.backup("web.img", "web");
    world.backup("vm1.img", "vm1");
    world
}

#[test]
fn the_json_has_all_keys_and_parents() {
    let world = world();
    let revisions = world.revisions("vm1");
    let keys = [
        "stream",
        "id",
        "name",
        "sequence",
        "time",
        "seconds",
        "kind",
        "size",
        "bytes_stored",
        "tags",
        "protected",
        "parent",
        "source",
        "hints",
        "damaged",
        "warnings",
    ];
    for revision in &revisions {
        assert_keys(revision, &keys);
        assert_eq!((&revision["protected"], &revision["damaged"]), (&false.into(), &false.into()));
        assert_eq!((&revision["source"], &revision["hints"]), (&"vm1.img".into(), &Value::Null));
    }
    assert_eq!(revisions.len(), 3);
    assert_eq!(revisions[0]["parent"], Value::Null);
    assert_eq!(revisions[1]["parent"], revisions[0]["id"]);
    assert_eq!(revisions[0]["tags"], serde_json::json!(["first"]));
}

#[test]
fn without_a_stream_the_json_has_all_revisions_oldest_first() {
    let world = world();
    let all = world.json(&["list"])["revisions"].as_array().unwrap().clone();
    let streams: Vec<&str> = all.iter().map(|revision| revision["stream"].as_str().unwrap()).collect();
    assert_eq!(streams, ["vm1", "vm1", "web", "vm1"]);
    let times: Vec<&str> = all.iter().map(|revision| revision["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
}

#[test]
fn people_see_streams_or_revisions() {
    let world = world();
    let streams = world.ok(&["list"]).text();
    assert!(streams.starts_with("STREAM") && streams.lines().count() == 3, "{streams}");
    let revisions = world.ok(&["list", "vm1"]).text();
    assert!(revisions.starts_with("REVISION") && revisions.lines().count() == 4, "{revisions}");
    assert!(revisions.lines().nth(1).unwrap().contains("first"));
}

#[test]
fn every_kind_of_spec_finds_its_revisions() {
    let world = world();
    let revisions = world.revisions("vm1");
    let text = |index: usize, key: &str| revisions[index][key].as_str().unwrap();
    let (id, name) = (text(1, "id"), text(1, "name"));
    for (spec, found) in [
        ("latest", vec![2]),
        ("0", vec![2]),
        ("2", vec![0]),
        (id, vec![1]),
        (&id[..9], vec![1]),
        (&format!("id:{id}"), vec![1]),
        (name, vec![1]),
        (&format!("{name}.img"), vec![1]),
        (&format!("time:{name}"), vec![1]),
        ("tag:first", vec![0]),
        ("all", vec![0, 1, 2]),
        ("2..1", vec![0, 1]),
        ("1..latest", vec![1, 2]),
    ] {
        let named = world.revisions(&format!("vm1@{spec}"));
        let expected: Vec<&Value> = found.iter().map(|&index| &revisions[index]["id"]).collect();
        assert_eq!(named.iter().map(|revision| &revision["id"]).collect::<Vec<_>>(), expected, "{spec}");
    }
    // All three were made in one or two seconds.
    let ambiguous = world.run(&["list", &format!("vm1@{}", &name[..5])]).expect_code(1);
    ambiguous.says(&["matches 3 revisions", text(0, "id"), text(2, "name")]);
}

#[test]
fn the_help_names_every_kind_of_spec() {
    let help = World::without_repository().ok(&["list", "--help"]).text();
    for spec in ["is latest;", "N for", "an id", "the name", "tag:", "id:", "time:", "A..B", "all"] {
        assert!(help.contains(spec), "no '{spec}' in {help}");
    }
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let world = world();
    let names = world.fails(1, &["list", "vm2"], &["no stream 'vm2'", "streams: vm1, web"]);
    assert_eq!(names.text(), "");
    let newest = world.revisions("vm1")[2]["name"].as_str().unwrap().to_owned();
    world.fails(1, &["list", "vm1@7"], &["no revision of 'vm1' matches '7'", &newest]);
    let error = world.run(&["list", "vm1@7", "--json"]).expect_code(1).json();
    assert_eq!(error["error"]["candidates"].as_array().unwrap().len(), 3);
}

#[test]
fn a_damaged_record_is_named_and_hides_nothing() {
    let world = world();
    let records = world.stored_files("revisions");
    let victim = records.iter().find(|path| path.to_string_lossy().contains("/0000000000000002_")).unwrap();
    let damaged_id = world.revisions("vm1")[1]["id"].clone();
    flip_bit(victim, 60);
    let run = world.run(&["list", "vm1", "--json"]).expect_code(0);
    run.says(&["damaged", "vm1@"]);
    let revisions = run.json()["revisions"].as_array().unwrap().clone();
    assert_eq!(revisions.len(), 3);
    assert_eq!((&revisions[1]["id"], &revisions[1]["damaged"]), (&damaged_id, &true.into()));
    assert_eq!(revisions[1]["size"], Value::Null);
    assert!(!revisions[1]["warnings"].as_array().unwrap().is_empty());
    assert_eq!(revisions[2]["damaged"], false);
    assert!(world.ok(&["list", "vm1"]).text().contains("DAMAGED"));
    assert_eq!(world.json(&["status"])["streams"][0]["damaged"], 1);
    world.fails(4, &["dump", "vm1@1"], &["cannot dump vm1@1", "damaged"]);
    world.backup("vm1.img", "vm1");
    world.assert_same("vm1", &world.path("vm1.img"));
}

#[test]
fn a_truncated_or_missing_record_is_no_more_trouble() {
    let world = world();
    let records = world.stored_files("revisions");
    fs::write(&records[0], "").unwrap();
    fs::remove_file(&records[1]).unwrap();
    let listed = world.json(&["list"])["revisions"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().filter(|revision| revision["damaged"] == true).count(), 1);
}

#[test]
fn a_read_only_repository_is_listed() {
    let world = world();
    let before = world.stored_files("");
    world.ok(&["list"]);
    world.ok(&["status"]);
    world.dump("vm1");
    assert_eq!(world.stored_files(""), before, "reading leaves nothing behind");
}
