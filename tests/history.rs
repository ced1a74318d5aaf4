//! `treering history`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use support::blobs::{DIRECTORY, blobs};
use support::{World, assert_keys, settle};

fn backup(world: &World) {
    settle();
    world.ok(&["backup", "home"]);
}

/// A world in which `docs/x` was not there, was written, stayed, was written anew, made private, removed, and made a
/// directory, one revision each.
fn world() -> World {
    let world = World::new();
    let path = world.path("home/docs/x");
    fs::create_dir_all(world.path("home/docs")).unwrap();
    backup(&world);
    fs::write(&path, b"first").unwrap();
    backup(&world);
    fs::write(world.path("home/other"), b"other").unwrap();
    backup(&world);
    fs::write(&path, b"second").unwrap();
    backup(&world);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    backup(&world);
    fs::remove_file(&path).unwrap();
    backup(&world);
    fs::create_dir(&path).unwrap();
    backup(&world);
    world
}

fn versions(said: &Value) -> Vec<(String, Option<u64>, u64)> {
    let versions = said["versions"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    versions.map(|it| (text(&it["type"]), it["size"].as_u64(), it["revisions"].as_u64().unwrap())).collect()
}

#[test]
fn versions_come_with_their_first_and_last_revision_and_with_gaps() {
    let world = world();
    let said = world.json(&["history", "home", "/docs//x"]);
    assert_eq!((&said["path"], &said["damaged"]), (&json!("docs/x"), &json!([])));
    let expected = [
        ("file", Some(5), 2),
        ("file", Some(6), 1),
        ("file", Some(6), 1),
        ("absent", None, 1),
        ("directory", None, 1),
    ];
    assert_eq!(versions(&said), expected.map(|(kind, size, count)| (kind.to_owned(), size, count)));
    let names: Vec<Value> = world.revisions("home").iter().map(|it| it["name"].clone()).collect();
    let first = &said["versions"][0];
    assert_eq!((&first["first"], &first["last"]), (&names[1], &names[2]));
    for version in said["versions"].as_array().unwrap() {
        assert_keys(version, &["size", "mtime", "mode", "uid", "gid"]);
    }
    assert_eq!(said["versions"][2]["mode"], "0600");
    let some = world.json(&["history", "home@4..2", "docs/x"]);
    assert_eq!(versions(&some).len(), 3);
    let text = world.ok(&["history", "home", "docs/x"]).text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("FIRST") && lines.len() == 6, "{text}");
    assert!(lines[4].ends_with("absent") && lines[3].contains("-rw-------"), "{text}");
}

/// The second backup stores entries as settled that the first one had to leave open.
#[test]
fn a_directory_in_which_nothing_changed_has_one_version() {
    let world = World::new();
    fs::create_dir_all(world.path("home/docs/deep")).unwrap();
    let file = world.path("home/docs/deep/f");
    fs::write(&file, b"f").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    // Right after the file was made, without waiting.
    world.ok(&["backup", "home"]);
    backup(&world);
    let count = |path: &str| versions(&world.json(&["history", "home", path])).len();
    for path in ["", "docs", "docs/deep", "docs/deep/f"] {
        assert_eq!(count(path), 1, "{path}");
    }
    // What a change and its withdrawal leave behind is a ctime, and times of directories.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(world.path("home/docs/gone"), b"").unwrap();
    fs::remove_file(world.path("home/docs/gone")).unwrap();
    backup(&world);
    assert_eq!((count(""), count("docs"), count("docs/deep")), (1, 1, 1));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(world.path("home/other"), b"").unwrap();
    backup(&world);
    fs::write(world.path("home/other"), b"other").unwrap();
    backup(&world);
    assert_eq!((count(""), count("docs"), count("docs/deep"), count("docs/deep/f")), (3, 2, 2, 2));
}

#[test]
fn a_copy_of_the_same_is_no_new_version() {
    let world = world();
    let path = world.path("home/other");
    let before = fs::metadata(&path).unwrap();
    fs::write(world.path("home/copy"), fs::read(&path).unwrap()).unwrap();
    fs::rename(world.path("home/copy"), &path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    backup(&world);
    let said = world.json(&["history", "home", "other"]);
    assert_eq!(versions(&said).len(), 1, "{said:#}");
}

#[test]
fn a_path_that_never_was_is_an_error() {
    let world = world();
    let run =
        world.fails(1, &["history", "home", "docs/y"], &["stream 'home' has no entry 'docs/y'", "hint:"]);
    assert_eq!(run.text(), "");
    let run = world.fails(1, &["history", "home", "docs/y", "--json"], &[]);
    assert_keys(&run.json()["error"], &["message", "hint"]);
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(1, &["history", "vm1", "x"], &["is an image, not a tree"]);
}

#[test]
fn revisions_that_cannot_be_looked_into_are_named_and_hide_no_others() {
    let world = world();
    let mut hidden = 0;
    for blob in blobs(&world, "packs/metadata", DIRECTORY) {
        blob.flip();
        let run = world.run(&["history", "home", "docs/x", "--json"]);
        let said = run.json();
        let unreadable: u64 =
            versions(&said).iter().filter(|(kind, ..)| kind == "unreadable").map(|(_, _, count)| count).sum();
        let all: u64 = versions(&said).iter().map(|(_, _, count)| count).sum();
        // Without the first one, unless that is what can't be read.
        assert!(all == 6 || all == 7, "{said:#}");
        assert_eq!(said["damaged"].as_array().unwrap().len() as u64, unreadable);
        assert_eq!(run.code, Some(if unreadable > 0 { 4 } else { 0 }), "{}", run.stderr);
        hidden += unreadable;
        blob.flip();
    }
    assert!(hidden >= 14, "roots, directories: {hidden}");
    support::flip_bit(&world.stored_files("revisions")[2], 30);
    let run = world.run(&["history", "home", "docs/x"]).expect_code(4);
    run.says(&["cannot read docs/x in home@", "the record"]);
    assert!(run.text().contains("unreadable"), "{}", run.text());
}
