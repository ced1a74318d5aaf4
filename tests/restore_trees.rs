//! `treering restore` of trees, through the program.
#![allow(clippy::unwrap_used, reason = "a test that can't go on may panic")]

mod support;

use std::fs;
use std::path::Path;

use support::oracle::{Leniency, RESTORED, assert_same, differences, make_nasty_tree};
use support::system::{Requirement, can_use};
use support::{World, assert_keys, settle};

/// A world with a revision of a tree of everything.
fn nasty() -> World {
    let world = World::new();
    fs::create_dir(world.path("home")).unwrap();
    make_nasty_tree(&world.path("home"));
    settle();
    world.ok(&["backup", "home"]);
    world
}

#[test]
fn everything_comes_back_into_a_new_directory() {
    if !can_use(&[Requirement::Root]) {
        return;
    }
    let world = nasty();
    let said = world.json(&["restore", "home", "out", "--verify"]);
    assert_same(&world.path("home"), &world.path("out"), RESTORED);
    assert_keys(&said, &["files", "directories", "others", "bytes_written", "bytes_compared", "removed", "problems"]);
}
