//! Small trees to be restored, and what a restore leaves of its own.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::system::system;
use super::{World, noise, settle};

pub(crate) const MIB: usize = 1 << 20;

/// A world with a revision of a few files, a link and a large file.
pub(crate) fn small() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("home/dir/sub")).unwrap();
    fs::write(world.path("home/a"), b"the first").unwrap();
    fs::write(world.path("home/dir/b"), b"the second").unwrap();
    fs::write(world.path("home/dir/sub/c"), noise(1, 100_000)).unwrap();
    fs::write(world.path("home/large"), noise(2, 12 * MIB)).unwrap();
    symlink("dir/b", world.path("home/link")).unwrap();
    settle();
    world.ok(&["backup", "home"]);
    world
}

/// Lets the normal user read the repository, and gives him the directory `his`.
pub(crate) fn let_user_in(world: &World) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    system("chmod", &["-R", "a+rX", world.repository().to_str().unwrap()]);
    let his = world.path("his");
    fs::create_dir(&his).unwrap();
    give_to_user(&his);
    his
}

/// Gives something to the normal user, with all that is in it.
pub(crate) fn give_to_user(path: &Path) {
    let user = format!("{0}:{0}", super::USER);
    system("chown", &["-hR", &user, path.to_str().unwrap()]);
}

pub(crate) fn number(said: &Value, key: &str) -> u64 {
    said[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {said:#}"))
}

/// Fails unless a directory has these names and no others.
#[track_caller]
pub(crate) fn assert_names(directory: &Path, expected: &[&str]) {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, expected, "{}", directory.display());
}

/// The name that a file of a tree has until it is complete.
pub(crate) fn partial_name(name: &str) -> String {
    format!(".treering-partial-{}", &blake3::hash(name.as_bytes()).to_hex()[..32])
}

/// Names of our own that were left behind.
pub(crate) fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let found = system("find", &[directory.to_str().unwrap(), "-name", "*treering*"]);
    found.lines().map(PathBuf::from).collect()
}
