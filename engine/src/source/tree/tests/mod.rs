//! The walk on real file systems.

mod entries;
mod git;
mod limits;
mod races;
mod selection;

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;

/// A temporary directory, however deep it gets.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap().keep())
    }

    /// The same for what would keep a disk busy for long.
    fn in_memory() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").unwrap().keep())
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Makes files with their path as content, and directories where a path ends with a slash.
    fn with(self, paths: &[&str]) -> Self {
        for path in paths {
            if path.ends_with('/') {
                fs::create_dir_all(self.at(path)).unwrap();
            } else {
                fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
                fs::write(self.at(path), path).unwrap();
            }
        }
        self
    }

    fn special(&self, name: &str, kind: FileType, device: (u32, u32)) {
        mknodat(CWD, self.at(name), kind, Mode::from_raw_mode(0o644), makedev(device.0, device.1)).unwrap();
    }

    fn source(&self) -> TreeSource {
        TreeSource::open(self.path(), TreeOptions::default()).unwrap()
    }

    /// The entry of that path, as it is listed.
    fn entry(&self, path: impl AsRef<Path>) -> Entry {
        let path = path.as_ref().as_os_str().as_bytes().to_vec();
        entries(&self.source()).into_iter().find(|entry| entry.path() == path).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // The standard library's own removal keeps a descriptor for each level.
        assert!(Command::new("rm").arg("-rf").arg(&self.0).status().unwrap().success());
    }
}

/// All entries of a tree that can be read without an error.
fn entries(source: &TreeSource) -> Vec<Entry> {
    source
        .walk()
        .unwrap()
        .filter_map(|step| match step {
            Step::Enter(entry) | Step::Entry(entry) => Some(entry),
            Step::Leave { .. } => None,
            Step::Failed(error) => panic!("{error}"),
        })
        .collect()
}

/// The steps of a walk: `name/` and `..` around a directory, `name`, `!error`, without the root's own.
fn steps(source: &TreeSource) -> Vec<String> {
    let text = |entry: Entry| readable(entry.name()).to_string();
    let mut steps: Vec<String> = source
        .walk()
        .unwrap()
        .map(|step| match step {
            Step::Enter(entry) => text(entry) + "/",
            Step::Entry(entry) => text(entry),
            Step::Leave { .. } => "..".to_owned(),
            Step::Failed(error) => format!("!{error}").replace(&source.name(), ""),
        })
        .collect();
    assert_eq!(steps.remove(0), "/");
    assert_eq!(steps.pop().unwrap(), "..");
    steps
}

fn with_options(tree: &Tree, options: TreeOptions) -> Vec<String> {
    steps(&TreeSource::open(tree.path(), options).unwrap())
}

/// Whether a test that needs root can run. Says so if not.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        writeln!(std::io::stderr(), "SKIPPED {test}: needs root").unwrap();
    }
    is_root
}
