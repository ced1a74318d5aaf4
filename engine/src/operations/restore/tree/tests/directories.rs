//! Directories that were there before: who gets into them, and what goes from them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;

fn in_place(delete: bool) -> TreeRestoreOptions {
    TreeRestoreOptions { in_place: true, delete, ..TreeRestoreOptions::default() }
}

/// Looks at the modes of directories whenever a file is done.
struct Watch {
    directories: Vec<PathBuf>,
    seen: Mutex<Vec<u32>>,
}

impl Monitor for Watch {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {
        let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        self.seen.lock().unwrap().extend(self.directories.iter().map(mode));
    }
    fn warn(&self, _message: &str) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// What lies in a private directory may be readable by all, since nobody gets there.
#[test]
fn whom_the_revision_keeps_out_is_out_before_anything_is_restored() {
    let scene = Scene::new();
    let mut private = directory("private", scene.trees.directory(&[empty_file("file")]));
    private.metadata.mode = 0o750;
    let tree = scene.open(scene.trees.directory(&[private]));
    let directories = vec![scene.target(), scene.target().join("private")];
    for (before, meanwhile, after) in [(0o777, 0o750, 0o750), (0o700, 0o700, 0o750), (0o750, 0o750, 0o750)] {
        fs::create_dir_all(&directories[1]).unwrap();
        fs::write(directories[1].join("file"), b"to be replaced").unwrap();
        let set = |path: &PathBuf| fs::set_permissions(path, fs::Permissions::from_mode(before)).unwrap();
        directories.iter().for_each(set);
        let watch = Watch { directories: directories.clone(), seen: Mutex::default() };
        let report = scene.restore_with(&tree, &in_place(false), &watch).unwrap();
        assert_eq!((report.files, report.problem_count), (1, 0));
        // The root's is 0755.
        assert_eq!(*watch.seen.lock().unwrap(), [before & 0o755, meanwhile]);
        let metadata = fs::metadata(&directories[1]).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, after);
        fs::remove_dir_all(scene.target()).unwrap();
    }
}

/// What the backup did not store may have its only copy here.
#[test]
fn nothing_is_removed_where_something_was_left_out() {
    let scene = Scene::new();
    let known = scene.trees.directory(&[empty_file("a"), empty_file("way")]);
    let partly = Entry { left_out: true, ..directory("partly", known) };
    let tree = scene.open(scene.trees.directory(&[partly, directory("whole", known)]));
    for name in ["partly", "whole"] {
        let path = scene.target().join(name);
        fs::create_dir_all(path.join("way")).unwrap();
        fs::write(path.join("way/kept"), b"kept").unwrap();
        fs::write(path.join("extra"), b"extra").unwrap();
    }
    let monitor = CollectingMonitor::default();
    let report = scene.restore_with(&tree, &in_place(true), &monitor).unwrap();
    assert_eq!((report.removed, report.problem_count), (3, 2), "{:?}", report.problems);
    assert_eq!(names(&scene.target().join("partly")), ["a", "extra", "way"]);
    assert_eq!(names(&scene.target().join("partly/way")), ["kept"]);
    assert_eq!(names(&scene.target().join("whole")), ["a", "way"]);
    let told = monitor.warnings();
    assert!(
        told.iter().any(|line| line.starts_with("1 name that the revision does not have is kept in")),
        "{told:?}"
    );
}

/// Wants to end from the begin on.
struct Cancelled;

impl Monitor for Cancelled {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, _message: &str) {}
    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn who_interrupts_a_removal_does_not_wait_for_its_end() {
    let scene = Scene::new();
    fs::create_dir(scene.target()).unwrap();
    (0..100).for_each(|number| fs::write(scene.target().join(number.to_string()), b"").unwrap());
    let tree = scene.open(scene.trees.directory(&[empty_file("a")]));
    let error = scene.restore_with(&tree, &in_place(true), &Cancelled).unwrap_err();
    assert!(matches!(error, crate::error::Error::Cancelled), "{error}");
    assert_eq!(names(&scene.target()).len(), 100);
}
