//! `treering find`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::{Value, json};
use support::blobs::{DIRECTORY, blobs};
use support::{World, settle};

/// A world with three revisions of a small tree.
fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/docs/deep")).unwrap();
    fs::create_dir(world.path("home/same")).unwrap();
    for name in ["docs/a.txt", "docs/deep/b.txt", "same/c.TXT", "same/d\nd"] {
        fs::write(world.path("home").join(name), name).unwrap();
    }
    let backup = || {
        settle();
        world.ok(&["backup", "home"]);
    };
    backup();
    fs::write(world.path("home/docs/new.txt"), b"new").unwrap();
    backup();
    fs::remove_file(world.path("home/docs/a.txt")).unwrap();
    fs::create_dir(world.path("home/docs/a.txt")).unwrap();
    fs::remove_file(world.path("home/docs/deep/b.txt")).unwrap();
    backup();
    world
}

/// Paths with the numbers of the revisions, 0 for the oldest.
fn found(world: &World, arguments: &[&str]) -> Vec<(String, Vec<usize>)> {
    let names: Vec<Value> = world.revisions("home").iter().map(|it| it["name"].clone()).collect();
    let said = world.json(&[&["find"][..], arguments].concat());
    let number = |name: &Value| names.iter().position(|other| other == name).unwrap();
    let matches = said["matches"].as_array().unwrap().iter();
    matches
        .map(|it| {
            let runs = it["runs"].as_array().unwrap();
            let revisions: Vec<usize> =
                runs.iter().flat_map(|run| number(&run[0])..=number(&run[1])).collect();
            let ends = (number(&it["first"]), number(&it["last"]));
            assert_eq!(Some(ends), revisions.first().copied().zip(revisions.last().copied()), "{it:#}");
            assert_eq!(it["revisions"], revisions.len(), "{it:#}");
            (it["path"].as_str().unwrap().to_owned(), revisions)
        })
        .collect()
}

fn list(expected: &[(&str, &[usize])]) -> Vec<(String, Vec<usize>)> {
    expected.iter().map(|(path, revisions)| ((*path).to_owned(), revisions.to_vec())).collect()
}

#[test]
fn paths_come_with_the_revisions_that_have_them() {
    let world = world();
    let texts: &[(&str, &[usize])] =
        &[("docs/a.txt", &[0, 1, 2]), ("docs/deep/b.txt", &[0, 1]), ("docs/new.txt", &[1, 2])];
    assert_eq!(found(&world, &["home", "*.txt"]), list(texts));
    assert_eq!(found(&world, &["home@0", "*.txt"]), list(&[("docs/a.txt", &[2]), ("docs/new.txt", &[2])]));
    assert_eq!(found(&world, &["home@2..1", "new*"]), list(&[("docs/new.txt", &[1])]));
    assert_eq!(found(&world, &["home", "*.txt", "--type", "d"]), list(&[("docs/a.txt", &[2])]));
    let files = found(&world, &["home", "*a.txt", "-t", "f", "--type", "symlink"]);
    assert_eq!(files, list(&[("docs/a.txt", &[0, 1])]));
    assert_eq!(found(&world, &["home", "*.txt", "-i"]).len(), 4);
    assert_eq!(found(&world, &["home", "docs/*.txt"]).len(), 2);
    assert_eq!(found(&world, &["home", "/docs/**/b.txt"]), list(&[("docs/deep/b.txt", &[0, 1])]));
    assert_eq!(found(&world, &["home", "--regex", "^docs/[an]"]).len(), 2);
    assert_eq!(found(&world, &["home", "--regex", r"C\.txt$", "--ignore-case"]).len(), 1);
    assert_eq!(found(&world, &["home", "nothing"]), []);
    assert_eq!(found(&world, &["home", "a.txt/"]), list(&[("docs/a.txt", &[2])]));
    assert_eq!(found(&world, &["home", "b.txt/"]), []);
    assert_eq!(found(&world, &["home", "docs/a.txt/"]), list(&[("docs/a.txt", &[2])]));
    assert_eq!(found(&world, &["home", "./docs/*.txt"]).len(), 2);
    let said = world.json(&["find", "home", "new.txt"]);
    let first = &said["matches"][0];
    assert_eq!((&first["type"], &first["size"]), (&json!("file"), &json!(3)));
    assert!(first["mtime"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&said["revisions_searched"], &said["damaged"]), (&json!(3), &json!([])));
}

/// The document once named all revisions for each path.
#[test]
fn what_is_said_of_a_path_does_not_grow_with_the_revisions_that_have_it() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home/stays"), b"stays").unwrap();
    for number in 0..40 {
        fs::write(world.path("home/other"), number.to_string()).unwrap();
        // Here and there a file that comes and goes.
        match number % 10 {
            0 => fs::write(world.path("home/guest"), b"guest").unwrap(),
            3 => fs::remove_file(world.path("home/guest")).unwrap(),
            _ => {}
        }
        world.ok(&["backup", "home"]);
    }
    let said = world.json(&["find", "home", "*"]);
    let runs = |path: &str| {
        let matches = said["matches"].as_array().unwrap();
        let found = matches.iter().find(|it| it["path"] == path).unwrap();
        (found["revisions"].as_u64().unwrap(), found["runs"].as_array().unwrap().len())
    };
    assert_eq!((runs("stays"), runs("other"), runs("guest")), ((40, 1), (40, 1), (12, 4)));
    assert!(said.to_string().len() < 2000, "{said:#}");
}

#[test]
fn patterns_are_of_characters() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    for name in ["x\u{e4}y", "\u{e4}l", "\u{f6}l", "\u{c4}rger.txt"] {
        fs::write(world.path("home").join(name), b"").unwrap();
    }
    fs::write(world.path("home").join(OsStr::from_bytes(b"x\xffy")), b"").unwrap();
    world.ok(&["backup", "home"]);
    let count = |arguments: &[&str]| found(&world, &[&["home"], arguments].concat()).len();
    assert_eq!(count(&["x?y"]), 2);
    assert_eq!(count(&["[\u{e4}\u{f6}]l"]), 2);
    assert_eq!((count(&["\u{e4}r*"]), count(&["\u{e4}r*", "-i"])), (0, 1));
}

#[test]
fn people_see_first_and_last_revision_or_of_one_the_paths_alone() {
    let world = world();
    let name = |number: usize| world.revisions("home")[number]["name"].as_str().unwrap().to_owned();
    let text = world.ok(&["find", "home", "b.txt"]).text();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["FIRST", "LAST", "REVISIONS", "PATH"]);
    assert_eq!(lines[1], [&name(0), &name(1), "2", "docs/deep/b.txt"]);
    assert_eq!(world.ok(&["find", "home@latest", "d?d"]).text(), "same/d\\nd\n");
    assert_eq!(world.ok(&["find", "home@latest", "nothing"]).text(), "");
}

#[test]
fn what_is_no_pattern_or_no_tree_is_refused() {
    let world = world();
    world.fails(2, &["find", "home", "a{b"], &["pattern", "hint:"]);
    world.fails(2, &["find", "home", "(", "--regex"], &["pattern"]);
    world.fails(2, &["find", "home", "../x"], &["pattern", "no '..'"]);
    world.fails(2, &["find", "home", "/"], &["pattern", "no name"]);
    world.fails(2, &["find", "home", "[[:alpha:]]"], &["pattern", "[:alpha:]"]);
    world.fails(2, &["find", "home", "x", "--type", "x"], &["--type"]);
    let run = world.fails(2, &["find", "home", "[", "--json"], &[]);
    assert_eq!(run.json()["error"]["code"], 2);
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.fails(1, &["find", "vm1", "x"], &["is an image, not a tree"]);
    world.fails(1, &["find", "vm2", "x"], &["no stream 'vm2'"]);
}

#[test]
fn what_revisions_share_is_searched_once() {
    let world = World::new();
    fs::create_dir_all(world.path("home/many")).unwrap();
    for number in 0..3000 {
        fs::write(world.path(&format!("home/many/{number:05}")), b"").unwrap();
    }
    let nodes = || world.json(&["find", "home", "0299?"])["nodes_read"].as_u64().unwrap();
    settle();
    world.ok(&["backup", "home"]);
    let one = nodes();
    assert!(one > 8, "{one}");
    for number in 0..4 {
        fs::write(world.path(&format!("home/of-{number}")), b"").unwrap();
        settle();
        world.ok(&["backup", "home"]);
    }
    assert_eq!(nodes(), one + 4, "of each further revision its root");
    assert_eq!(world.json(&["find", "home", "0299?"])["matches"].as_array().unwrap().len(), 10);
}

#[test]
fn what_can_be_read_is_searched_whatever_is_damaged() {
    let world = world();
    let paths = |said: &Value| -> BTreeSet<String> {
        let matches = said["matches"].as_array().unwrap().iter();
        matches.map(|it| it["path"].as_str().unwrap().to_owned()).collect()
    };
    let all = paths(&world.json(&["find", "home", "*"]));
    let directories = blobs(&world, "packs/metadata", DIRECTORY);
    for blob in &directories {
        blob.flip();
        let run = world.run(&["find", "home", "*", "--json"]).expect_code(4);
        run.says(&["cannot read", "home@", "treering scrub"]);
        let said = run.json();
        assert!(!said["damaged"].as_array().unwrap().is_empty());
        assert!(paths(&said).is_subset(&all) && !paths(&said).is_empty(), "other revisions have the rest");
        blob.flip();
    }
    let records = world.stored_files("revisions");
    support::flip_bit(&records[1], 30);
    let run = world.run(&["find", "home", "*.txt", "--json"]).expect_code(4);
    run.says(&["cannot read / in home@", "the record"]);
    assert_eq!(run.json()["revisions_searched"], 2);
    assert_eq!(run.json()["matches"].as_array().unwrap().len(), 3);
}

#[test]
fn a_regular_expression_is_one_of_characters_unless_it_says_otherwise() {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    fs::write(world.path("home").join(OsStr::from_bytes(b"l\xe4tin")), b"").unwrap();
    world.ok(&["backup", "home"]);
    let count =
        |pattern| world.json(&["find", "home", "--regex", pattern])["matches"].as_array().unwrap().len();
    assert_eq!([count("^l.tin$"), count("(?s-u)^l.tin$"), count("tin$")], [0, 1, 1]);
}
