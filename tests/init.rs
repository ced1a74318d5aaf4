//! `treering init`, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;

use support::{World, assert_keys};

#[test]
fn a_repository_is_made_where_nothing_is() {
    let world = World::without_repository();
    let said = world.json(&["init"]);
    assert_keys(&said["repository"], &["path", "id", "kind", "chunk_size", "compression"]);
    assert_eq!(said["repository"]["path"], world.repository().to_str().unwrap());
    assert_eq!(world.json(&["status"])["repository"]["id"], said["repository"]["id"]);
}

#[test]
fn the_place_may_be_an_argument_or_an_option() {
    let world = World::without_repository();
    world.ok(&["init", "a"]);
    world.ok(&["init", "-r", "b", "--chunk-size", "1M", "--compression", "none"]);
    assert_eq!(world.json(&["status", "-r", "b"])["repository"]["chunk_size"], 1 << 20);
    assert_eq!(world.json(&["-r", "a", "status"])["repository"]["chunk_size"], 64 << 10);
}

#[test]
fn a_place_that_holds_anything_is_refused_and_left_alone() {
    let world = World::without_repository();
    fs::create_dir(world.repository()).unwrap();
    fs::write(world.path("repo/precious"), "x").unwrap();
    world.fails(1, &["init"], &["cannot create a repository", "it holds precious", "hint:"]);
    assert_eq!(fs::read_dir(world.repository()).unwrap().count(), 1);
}

#[test]
fn a_repository_is_never_made_over_another() {
    let world = World::new();
    let id = world.json(&["status"])["repository"]["id"].clone();
    world.fails(1, &["init"], &["it holds a repository", "hint:", "can be used as it is"]);
    assert_eq!(world.json(&["status"])["repository"]["id"], id);
}

#[test]
fn the_lost_and_found_of_a_fresh_file_system_is_no_content() {
    let world = World::without_repository();
    fs::create_dir_all(world.path("repo/lost+found")).unwrap();
    world.ok(&["init"]);
}

#[test]
fn options_that_cannot_be_are_usage_errors() {
    let world = World::without_repository();
    for (arguments, word) in [
        (["--chunk-size", "100"], "chunk"),
        (["--chunk-size", "65537"], "chunk"),
        (["--chunk-size", "16M"], "chunk"),
        (["--chunk-size", "much"], "not a size"),
        (["--compression", "gzip"], "zstd:N"),
        (["--compression", "zstd:99"], "compression"),
        (["--kind", "btrfs"], "chunks"),
    ] {
        let arguments = [&["init"], arguments.as_slice()].concat();
        world.fails(2, &arguments, &["treering: error:", word]);
        assert!(!world.repository().exists(), "{arguments:?}");
    }
}

#[test]
fn places_on_other_hosts_are_refused_as_long_as_they_do_not_work() {
    let world = World::without_repository();
    world.fails(2, &["init", "ssh://host/path"], &["ssh://host/path", "hint:"]);
    world.fails(2, &["list", "-r", "s3://bucket/prefix"], &["s3://bucket/prefix", "hint:"]);
}

#[test]
fn what_is_no_place_for_a_repository_is_said() {
    let world = World::new();
    std::fs::write(world.path("file"), "").unwrap();
    std::os::unix::fs::symlink("missing", world.path("link")).unwrap();
    world.fails(2, &["init", "file"], &["file is no directory"]);
    world.fails(2, &["init", "link"], &["link is a symbolic link to something that is not there"]);
    for inside in ["repo/sub", "repo/packs/data", "repo/sub/deep/er"] {
        world.fails(2, &["init", inside], &["lies in the repository"]);
        assert!(!world.path("repo/sub").exists());
    }
    world.fails(1, &["init", "repo"], &["it holds a repository"]);
}

/// A directory of that name was once made.
#[test]
fn a_hyphen_is_no_place_for_a_repository_and_a_directory_of_that_name_is() {
    let world = World::without_repository();
    for arguments in [&["init", "-"][..], &["init", "-r", "-"]] {
        world.fails(2, arguments, &["REPO is a directory", "hint:", "./-"]);
    }
    assert!(!world.path("-").exists());
    world.ok(&["init", "./-"]);
    assert!(world.path("-").is_dir());
}

/// It was once said to run the command again, which can only fail.
#[test]
fn who_can_not_be_told_of_a_repository_has_it_all_the_same() {
    let world = World::without_repository();
    for options in [&["init", "repo"][..], &["init", "other", "--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = world.command(options).stdout(full).output().unwrap();
        let run = support::Run::of(options, output).expect_code(1);
        run.says(&["No space left", "made all the same"]);
    }
    world.ok(&["list"]);
}
