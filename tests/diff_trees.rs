//! `treering diff` of trees, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::{Value, json};
use support::blobs::{DIRECTORY, blobs};
use support::oracle::{make_nasty_tree, set_mtime};
use support::system::{Requirement, can_use, system};
use support::{World, noise, settle};

fn backup(world: &World, source: &str) {
    settle();
    world.ok(&["backup", source]);
}

const LISTS: [&str; 6] = ["added", "removed", "modified", "metadata", "type_changed", "renamed"];

/// What a diff says, without what it has cost.
fn lists(said: &Value) -> Value {
    let object = said.as_object().unwrap();
    let some = object.iter().filter(|(key, value)| LISTS.contains(&key.as_str()) && **value != json!([]));
    some.map(|(key, value)| (key.clone(), value.clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn what_a_day_changes_is_told() {
    let world = World::new();
    let home = world.path("home");
    fs::create_dir_all(home.join("docs/old")).unwrap();
    for name in ["docs/old/one", "docs/old/two", "gone", "mode", "stays", "type", "small"] {
        fs::write(home.join(name), format!("the content of {name}")).unwrap();
    }
    fs::write(home.join("large"), noise(1, 3 << 20)).unwrap();
    fs::write(home.join("edited"), noise(2, 1 << 20)).unwrap();
    symlink("here", home.join("link")).unwrap();
    backup(&world, "home");
    fs::remove_file(home.join("gone")).unwrap();
    fs::set_permissions(home.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(home.join("type")).unwrap();
    symlink("stays", home.join("type")).unwrap();
    fs::create_dir(home.join("moved")).unwrap();
    fs::rename(home.join("docs/old"), home.join("moved/new")).unwrap();
    fs::rename(home.join("large"), home.join("moved/larger")).unwrap();
    fs::rename(home.join("small"), home.join("docs/smaller")).unwrap();
    fs::set_permissions(home.join("moved/larger"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(home.join("moved/new"), fs::Permissions::from_mode(0o777)).unwrap();
    support::write_at(&home.join("edited"), 500_000, b"x");
    fs::remove_file(home.join("link")).unwrap();
    symlink("there", home.join("link")).unwrap();
    fs::write(home.join(OsStr::from_bytes(b"new\xff")), b"new").unwrap();
    backup(&world, "home");
    let said = world.json(&["diff", "home@1", "0"]);
    let expected = json!({
        "added": ["moved", "new\u{fffd}"],
        "removed": ["gone"],
        "modified": ["edited", "link"],
        "metadata": ["mode", "moved/larger", "moved/new"],
        "type_changed": ["type"],
        "renamed": [
            { "from": "small", "to": "docs/smaller", "metadata": false },
            { "from": "large", "to": "moved/larger", "metadata": true },
            { "from": "docs/old", "to": "moved/new", "metadata": true },
        ],
    });
    assert_eq!(lists(&said), expected);
    assert_eq!(said["path_bytes"], json!([{ "list": "added", "index": 1, "path": "6e6577ff" }]));
    assert_eq!(said["damaged"], json!([]));
    let text = world.ok(&["diff", "home@1", "0"]).text();
    let renamed = ["R large -> moved/larger", "m moved/larger", "R docs/old/ -> moved/new/", "m moved/new/"];
    let others = ["- gone", "M edited", "m mode", "T type", "+ moved/", "+ new\\xff"];
    for line in renamed.into_iter().chain(others) {
        assert!(text.lines().any(|shown| shown == line), "no '{line}' in {text}");
    }
    assert!(
        text.ends_with(
            "2 added, 1 removed, 2 modified, 3 with other metadata, 1 of another type, 3 renamed\n"
        )
    );
    assert!(!world.ok(&["diff", "-q", "home@1", "0"]).text().contains("renamed"));
    let back = lists(&world.json(&["diff", "home@0", "1"]));
    assert_eq!(back["removed"], expected["added"]);
    assert_eq!(back["renamed"].as_array().unwrap().len(), 3);
    assert_eq!(lists(&world.json(&["diff", "home@0", "0"])), json!({}));
    let part = lists(&world.json(&["diff", "home@1", "0", "/moved/"]));
    assert_eq!(
        part,
        json!({ "added": ["moved", "moved/larger", "moved/new", "moved/new/one", "moved/new/two"] })
    );
    world.fails(1, &["diff", "home@1", "0", "nowhere"], &["has no entry 'nowhere'"]);
}

#[test]
fn a_faithful_copy_does_not_differ_and_every_change_of_it_does() {
    if !can_use(&[Requirement::Root, Requirement::Program("cp")]) {
        return;
    }
    let world = World::new();
    let (original, copy) = (world.path("original"), world.path("copy"));
    fs::create_dir(&original).unwrap();
    make_nasty_tree(&original);
    let to = copy.to_str().unwrap();
    system("cp", &["--archive", "--sparse=always", original.to_str().unwrap(), to]);
    backup(&world, "original");
    backup(&world, "copy");
    assert_eq!(lists(&world.json(&["diff", "original", "copy@0"])), json!({}));
    let all = lists(&world.json(&["diff", "original", "copy@0", "--all-metadata"]));
    assert!(all["metadata"].as_array().unwrap().len() > 100, "every inode is another one");
    fs::write(copy.join("files/of-100"), [7; 100]).unwrap();
    set_mtime(&copy.join("files/of-1"), 5, 5);
    fs::set_permissions(copy.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
    rustix::fs::removexattr(copy.join("attributes/file"), "user.short").unwrap();
    fs::remove_file(copy.join("links/up")).unwrap();
    symlink("elsewhere", copy.join("links/up")).unwrap();
    fs::rename(copy.join("many/00077"), copy.join("many/renamed")).unwrap();
    backup(&world, "copy");
    let expected = json!({
        "modified": ["files/of-100", "links/up"],
        "metadata": ["attributes/file", "empty", "files/of-1"],
        "renamed": [{ "from": "many/00077", "to": "many/renamed", "metadata": false }],
    });
    assert_eq!(lists(&world.json(&["diff", "original", "copy@0"])), expected);
}

#[test]
fn the_cost_is_that_of_the_change() {
    let world = World::new();
    for directory in ["many", "other"] {
        fs::create_dir_all(world.path("home").join(directory)).unwrap();
        for number in 0..5000 {
            fs::write(world.path(&format!("home/{directory}/{number:05}")), b"").unwrap();
        }
    }
    backup(&world, "home");
    fs::write(world.path("home/many/02500"), b"x").unwrap();
    backup(&world, "home");
    let said = world.json(&["diff", "home@1", "0"]);
    assert_eq!(lists(&said), json!({ "modified": ["many/02500"] }));
    assert_eq!(said["nodes_read"], 2 * (2 + 2 * 2), "in each tree the root and the way to the file, twice");
}

#[test]
fn two_images_or_two_trees_can_be_compared() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    backup(&world, "home");
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    let words = ["cannot compare", "one of them is an image, the other a tree", "hint:"];
    world.fails(1, &["diff", "home@0", "vm1@0"], &words);
    world.fails(1, &["diff", "vm1@0", "home@0"], &words);
    world.fails(2, &["diff", "vm1@0", "0", "path"], &["for trees"]);
    world.fails(2, &["diff", "vm1@0", "0", "--all-metadata"], &["for trees"]);
}

#[test]
fn of_what_is_damaged_nothing_false_is_told() {
    let world = World::new();
    for directory in ["a", "b"] {
        fs::create_dir_all(world.path("home").join(directory)).unwrap();
        fs::write(world.path("home").join(directory).join("x"), b"x").unwrap();
    }
    backup(&world, "home");
    fs::write(world.path("home/a/x"), b"changed").unwrap();
    fs::write(world.path("home/b/y"), b"y").unwrap();
    backup(&world, "home");
    let whole = json!({ "added": ["b/y"], "modified": ["a/x"] });
    assert_eq!(lists(&world.json(&["diff", "home@1", "0"])), whole);
    let mut told = Vec::new();
    for blob in blobs(&world, "packs/metadata", DIRECTORY) {
        blob.flip();
        let run = world.run(&["diff", "home@1", "0", "--json"]);
        let said = run.json();
        assert_eq!(run.code, Some(4), "{}", run.stderr);
        match &said["error"] {
            Value::Null => {
                run.says(&["cannot read", "home@", "treering scrub"]);
                assert_eq!(said["damaged"].as_array().unwrap().len(), 1);
                told.push(lists(&said).to_string());
            }
            // The root of a tree: there is nothing to be compared.
            error => assert!(error["message"].as_str().unwrap().contains("damaged")),
        }
        blob.flip();
    }
    told.sort();
    let (added, modified) = (json!({ "added": ["b/y"] }), json!({ "modified": ["a/x"] }));
    let mut expected =
        [json!({}), json!({}), added.clone(), added, modified.clone(), modified].map(|it| it.to_string());
    expected.sort();
    assert_eq!(told, expected, "without the root's entries, those of a, those of b, in each tree");
}
