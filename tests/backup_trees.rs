//! `treering backup` of directory trees, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::system::{Requirement, can_use};
use support::{USER, World, settle};

/// A world with a directory `home`.
fn world() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/sub/cache")).unwrap();
    fs::write(world.path("home/a.txt"), b"text").unwrap();
    fs::write(world.path("home/b.tmp"), b"temporary").unwrap();
    fs::write(world.path("home/sub/c.log"), b"log").unwrap();
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    fs::write(world.path("home/sub/cache/CACHEDIR.TAG"), tag).unwrap();
    fs::write(world.path("home/sub/cache/data"), b"can be made again").unwrap();
    settle();
    world
}

#[test]
fn a_directory_is_a_tree_and_its_name_the_streams() {
    let world = world();
    let first = world.json(&["backup", "home"]);
    assert_eq!((&first["stream"], &first["kind"]), (&"home".into(), &"tree".into()));
    assert_eq!((&first["warnings"], &first["problems"]), (&serde_json::json!([]), &0.into()));
    let second = world.json(&["backup", "home/", "--kind", "tree"]);
    assert_eq!((&second["stream"], &second["parent"]), (&"home".into(), &first["id"]));
    assert_eq!((&second["bytes_read"], &second["chunks_new"]), (&0.into(), &0.into()));
    let text = world.ok(&["backup", "home"]).text();
    assert!(text.contains("in 8 entries"), "{text}");
}

#[test]
fn what_is_excluded_is_left_out() {
    let world = world();
    fs::write(world.path("patterns"), "# of the user\n*.tmp\n\n*.log\n").unwrap();
    let size =
        |arguments: &[&str]| world.json(&[&["backup", "home"][..], arguments].concat())["size"].clone();
    assert_eq!(size(&["--exclude", "sub"]), 4 + 9);
    assert_eq!(size(&["--exclude", "sub", "--exclude", "/b.*"]), 4);
    assert_eq!(size(&["--exclude-from", "patterns", "--exclude-caches"]), 4 + 44);
    assert_eq!(size(&["--exclude-from", "patterns", "--exclude", "!*.log", "--exclude", "cache"]), 4 + 3);
    world.fails(1, &["backup", "home", "--exclude-from", "missing"], &["exclude patterns", "missing"]);
    world.fails(2, &["backup", "home", "--exclude", "a[z-a]"], &["a[z-a]"]);
}

#[test]
fn the_repository_is_never_walked_into() {
    let world = world();
    let said = world.json(&["backup", world.directory().to_str().unwrap(), "all"]);
    let again = world.json(&["backup", world.directory().to_str().unwrap(), "all"]);
    assert_eq!(said["size"], again["size"], "what was stored is not in it");
    let inside = world.repository().join("packs");
    world.fails(1, &["backup", inside.to_str().unwrap(), "packs"], &["the repository"]);
}

#[test]
fn what_cannot_be_read_is_named_and_ends_with_3() {
    let system = Path::new("/sys/bus/cpu");
    if fs::File::open(system.join("uevent")).is_ok() || !system.join("uevent").exists() {
        println!("SKIPPED: /sys/bus/cpu/uevent is not there, or can be read");
        return;
    }
    let world = World::new();
    let run = world.run(&["backup", "/sys/bus/cpu", "system"]).expect_code(3);
    run.says(&["cannot open /sys/bus/cpu/uevent"]);
    let revision = world.revisions("system").remove(0);
    let warnings = revision["warnings"].as_array().unwrap();
    let named = |warning: &serde_json::Value| warning.as_str().unwrap().contains("/sys/bus/cpu/uevent");
    assert!(warnings.iter().any(named), "{warnings:?}");
}

/// Root may list every directory, so this is a normal user's backup.
#[test]
fn a_directory_that_cannot_be_listed_is_kept_empty_and_named() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = world();
    fs::create_dir(world.path("home/closed")).unwrap();
    fs::write(world.path("home/closed/file"), b"content").unwrap();
    fs::set_permissions(world.path("home/closed"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(world.directory(), Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(world.directory(), Some(USER), Some(USER)).unwrap();
    world.run_as_user(&["init", "his"]).expect_code(0);
    let run = world.run_as_user(&["-r", "his", "backup", "home"]).expect_code(3);
    run.says(&["home/closed", "Permission denied"]);
    let listed = world.json(&["-r", "his", "ls", "home@latest", "--recursive"]);
    let paths: Vec<_> =
        listed["entries"].as_array().unwrap().iter().map(|entry| entry["path"].clone()).collect();
    assert!(paths.contains(&"closed".into()) && !paths.contains(&"closed/file".into()), "{paths:?}");
    assert!(paths.contains(&"sub/c.log".into()), "{paths:?}");
}

#[test]
fn a_stream_has_one_kind_for_ever() {
    let world = world();
    world.small_image("vm1.img");
    world.backup("vm1.img", "vm1");
    world.backup("home", "home");
    world.fails(1, &["backup", "home", "vm1"], &["holds images"]);
    world.fails(1, &["backup", "vm1.img", "home"], &["holds trees"]);
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let world = world();
    world.small_image("vm1.img");
    for option in [&["--exclude", "x"][..], &["--exclude-caches"], &["--one-file-system"]] {
        world.fails(2, &[&["backup", "vm1.img"][..], option].concat(), &[option[0]]);
    }
    world.fails(2, &["backup", "-", "s", "--kind", "tree"], &["stdin"]);
    world.fails(1, &["backup", "vm1.img", "--kind", "tree"], &["cannot use vm1.img as a source"]);
    fs::write(world.path("hints"), "[]").unwrap();
    world.fails(1, &["backup", "home", "--hints", "hints"], &["hints", "directory tree"]);
}
