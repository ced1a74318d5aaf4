//! Repositories of every version of the format are read, restored, scrubbed and extended; what is newer is refused by name
//! and number.
//!
//! They lie in `engine/testdata/repositories`, each with a list of what its revisions hold and with what `list` said. Those
//! that are missing are written with `TREERING_WRITE_GOLDEN=1`, by this program: so a version gets its repository with the
//! release that writes it first, and it is never replaced.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::World;
use support::fixture::{children, facts, make};
use support::system::{Mounted, Requirement, can_use, system};
use support::versions::{
    add_feature, set_version_of_pack_header, set_version_of_pack_trailer, set_version_of_sealed,
    set_version_of_table,
};

/// All versions that a program ever wrote.
const VERSIONS: [&str; 1] = ["v1"];

/// What a repository is whole without, and holds nothing of worth.
const PASSING: [&str; 4] = ["sessions", "pins", "locks", "incoming"];

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/testdata/repositories").join(name)
}

fn read_kept(name: &str) -> String {
    fs::read_to_string(kept(name)).unwrap()
}

/// A world with a copy of the repository of a version.
fn world_of(version: &str) -> World {
    let world = World::without_repository();
    system("cp", &["-a", kept(version).to_str().unwrap(), world.repository().to_str().unwrap()]);
    world
}

/// What `list` says, but for what depends on where it is asked.
fn listed(world: &World) -> Value {
    world.json(&["list"])["revisions"].clone()
}

/// Writes the repository of a version that has none yet.
fn write_missing(version: &str) {
    if std::env::var_os("TREERING_WRITE_GOLDEN").is_none() || kept(version).exists() {
        return;
    }
    let world = World::new();
    fs::create_dir_all(kept("")).unwrap();
    fs::write(kept(&format!("{version}.manifest")), make(&world)).unwrap();
    let list = serde_json::to_string_pretty(&listed(&world)).unwrap();
    fs::write(kept(&format!("{version}.list.json")), list + "\n").unwrap();
    PASSING.iter().for_each(|area| fs::remove_dir_all(world.repository().join(area)).unwrap());
    system("cp", &["-a", world.repository().to_str().unwrap(), kept(version).to_str().unwrap()]);
}

/// Restores all revisions below a directory, laid out like the mount, and says what they hold.
fn restored(world: &World, below: &str) -> String {
    for revision in listed(world).as_array().unwrap() {
        let text = |key: &str| revision[key].as_str().unwrap();
        let suffix = if text("kind") == "image" { ".img" } else { "" };
        let target = format!("{below}/{}/{}{suffix}", text("stream"), text("name"));
        fs::create_dir_all(world.path(&target).parent().unwrap()).unwrap();
        world.ok(&["restore", &format!("{}@{}", text("stream"), text("id")), &target]);
    }
    facts(&world.path(below))
}

#[test]
fn the_repository_of_every_version_is_among_the_tested_ones() {
    let directories = children(&kept("")).into_iter().filter(|name| kept(name).is_dir());
    assert_eq!(directories.collect::<Vec<_>>(), VERSIONS);
}

#[test]
fn every_version_is_listed_mounted_restored_and_scrubbed() {
    if !can_use(&[Requirement::Root, Requirement::Fuse]) {
        return;
    }
    for version in VERSIONS {
        write_missing(version);
        let (world, manifest) = (world_of(version), read_kept(&format!("{version}.manifest")));
        let list: Value = serde_json::from_str(&read_kept(&format!("{version}.list.json"))).unwrap();
        assert_says(&listed(&world), &list);
        let status = world.json(&["status"]);
        assert_eq!(status["repository"]["version"].to_string(), version[1..]);
        assert_eq!(status["repository"]["damaged_files"], serde_json::json!([]));
        let mounted = Mounted::repository(&world, &[]);
        assert_same(&facts(mounted.path()), &manifest, "the mount");
        drop(mounted);
        assert_same(&restored(&world, "restored"), &manifest, "what is restored");
        world.ok(&["scrub"]);
        world.ok(&["check"]);
    }
}

#[test]
fn every_version_is_extended_by_backups_and_old_revisions_stay_what_they_are() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    for version in VERSIONS {
        let (world, manifest) = (world_of(version), read_kept(&format!("{version}.manifest")));
        world.ok(&["restore", "vm", "vm.img"]);
        world.ok(&["restore", "home", "home"]);
        support::write_chunk(&world.path("vm.img"), 7, 9);
        fs::write(world.path("home/new"), "a new file").unwrap();
        let said = world.backup("vm.img", "vm");
        // Nearly all is taken over.
        assert_eq!(said["chunks_new"], 1, "{said}");
        world.backup("home", "home");
        world.ok(&["tag", "vm@1", "--add", "old"]);
        world.assert_same("vm", &world.path("vm.img"));
        assert_eq!(world.ok(&["dump", "home", "new"]).text(), "a new file");
        // What was forgotten comes back, and gc takes nothing.
        world.ok(&["forget", "--undo", "home"]);
        world.ok(&["gc"]);
        assert_eq!(
            world.ok(&["dump", "home@2", "passing"]).text(),
            "a file of the revision that is forgotten"
        );
        let all = restored(&world, "restored");
        let lost: Vec<&str> = manifest.lines().filter(|line| !all.contains(&format!("{line}\n"))).collect();
        assert!(lost.is_empty(), "not any more what they were:\n{}", lost.join("\n"));
        world.ok(&["scrub"]);
    }
}

/// Fails unless each of the listed revisions says what it said; it may say more.
#[track_caller]
fn assert_says(found: &Value, expected: &Value) {
    let (found, expected) = (found.as_array().unwrap(), expected.as_array().unwrap());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&found[key], value, "{key} of {expected}");
        }
    }
}

/// Fails with the first lines that differ.
#[track_caller]
fn assert_same(found: &str, expected: &str, what: &str) {
    let differing = found.lines().zip(expected.lines()).find(|(one, two)| one != two);
    assert!(found == expected, "{what} differs: {differing:?}");
}

/// The program's commands that open a repository, as its help names them, with arguments that fit.
fn commands(world: &World) -> Vec<Vec<&'static str>> {
    let help = world.ok(&["--help"]).text();
    let (_, listed) = help.split_once("Commands:").unwrap();
    let lines = listed.lines().skip(1).take_while(|line| !line.is_empty());
    let words =
        lines.filter(|line| !line.starts_with("     ")).filter_map(|line| line.split_whitespace().next());
    let known: Vec<Vec<&str>> = vec![
        vec!["backup", "file", "vm"],
        vec!["check", "--repair"],
        vec!["copy", "--all", "--to", "second"],
        vec!["diff", "vm@1", "0"],
        vec!["dump", "vm"],
        vec!["find", "home", "*"],
        vec!["forget", "vm@2"],
        vec!["gc"],
        vec!["history", "home", "none"],
        vec!["list"],
        vec!["ls", "home"],
        vec!["mount", "mnt"],
        vec!["protect", "vm"],
        vec!["restore", "vm", "out"],
        vec!["scrub"],
        vec!["status"],
        vec!["stream", "list"],
        vec!["tag", "vm", "--add", "new"],
        vec!["unprotect", "vm"],
    ];
    let opening = words.filter(|word| !["init", "unmount", "completions", "man"].contains(word));
    let with_arguments = |word: &str| {
        let found = known.iter().find(|command| command[0] == word);
        found.unwrap_or_else(|| panic!("which arguments fit `{word}`?")).clone()
    };
    opening.map(with_arguments).collect()
}

/// Fails unless all commands refuse the repository with these words, and change nothing.
fn assert_refused_by_all(world: &World, words: &[&str]) {
    fs::write(world.path("file"), "a source").unwrap();
    fs::create_dir_all(world.path("mnt")).unwrap();
    world.ok(&["init", "second"]);
    let before = stored(world);
    let commands = commands(world);
    assert!(commands.len() >= 14);
    for command in commands {
        let run = world.fails(1, &command, &[words, &["hint:", "install that version"]].concat());
        assert!(!run.stderr.contains("damaged"), "{}", run.stderr);
        assert!(stored(world) == before, "{command:?} changes the repository");
    }
}

/// All files of the repository and what they hold.
fn stored(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let files = world.stored_files("").into_iter();
    files.map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn a_repository_of_a_newer_version_is_refused_by_every_command() {
    let world = world_of("v1");
    set_version_of_sealed(&world.repository().join("treering-repository"), 2);
    assert_refused_by_all(&world, &["repository header", "format version 2", "supports only version 1"]);
}

#[test]
fn a_repository_with_an_unknown_feature_is_refused_by_every_command() {
    let world = world_of("v1");
    add_feature(&world.repository().join("treering-repository"), "time-travel");
    assert_refused_by_all(&world, &["the repository", "the feature 'time-travel'", "without it"]);
}

#[test]
fn what_is_newer_inside_a_repository_is_refused_by_name_and_number() {
    let newer = "format version 2";
    for (area, set_version, command) in [
        ("index", set_version_of_table as fn(&Path, u8), &["dump", "vm"][..]),
        ("index", set_version_of_table, &["backup", "file", "vm"]),
        ("index", set_version_of_table, &["status"]),
        ("revisions", set_version_of_sealed, &["dump", "vm"]),
        ("revisions", set_version_of_sealed, &["scrub"]),
        ("packs/data", set_version_of_pack_trailer, &["scrub"]),
        ("packs/data", set_version_of_pack_header, &["scrub"]),
        ("packs/metadata", set_version_of_pack_trailer, &["scrub"]),
        ("streams", set_version_of_sealed, &["backup", "file", "vm"]),
        ("labels", set_version_of_sealed, &["tag", "vm@all", "--add", "new"]),
    ] {
        let world = world_of("v1");
        fs::write(world.path("file"), "a source").unwrap();
        let files = world.stored_files(area);
        files.iter().for_each(|file| set_version(file, 2));
        let run = world.fails(1, command, &[newer, "hint:", "install that version"]);
        let names = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
        let is_named = names.into_iter().any(|name| run.stderr.contains(name))
            || ["vm@", "home@", "'vm'"].iter().any(|name| run.stderr.contains(name));
        assert!(is_named && !run.stderr.contains("damaged"), "{command:?}: {}", run.stderr);
    }
}
