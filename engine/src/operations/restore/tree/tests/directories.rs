//! Directories that were there before: who gets into them, and what goes from them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;
use crate::monitor::CancelledMonitor;

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

/// Of a directory without an ACL the group's bits are the group's own, in a revision with one they are the mask.
#[test]
fn a_mask_lets_no_group_in_while_a_directory_is_worked_in() {
    let scene = Scene::new();
    // The group may read; a named user may do what the mask says.
    let acl = |named_user: u32| {
        let entries =
            [(1, 7, u32::MAX), (2, 7, named_user), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
        let entry = |(tag, permissions, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [&[2, 0, 0, 0][..], &entries.into_iter().flat_map(entry).collect::<Vec<u8>>()].concat()
    };
    let wanted = acl(4321);
    let name = "system.posix_acl_access";
    let list = crate::format::AttributeList::new(vec![(name.as_bytes(), &wanted)]).unwrap();
    let mut shared = directory("shared", scene.trees.directory(&[empty_file("file")]));
    shared.attributes = crate::format::Attributes::Inline(list);
    shared.metadata.mode = 0o770;
    let tree = scene.open(scene.trees.directory(&[shared]));
    let path = scene.target().join("shared");
    for (there, meanwhile) in [(None, 0o740), (Some(acl(99)), 0o700), (Some(wanted.clone()), 0o770)] {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("file"), b"to be replaced").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        match there.map(|acl| rustix::fs::setxattr(&path, name, &acl, flags)) {
            Some(Err(rustix::io::Errno::OPNOTSUPP)) => return,
            set => set.unwrap_or(Ok(())).unwrap(),
        }
        let watch = Watch { directories: vec![path.clone()], seen: Mutex::default() };
        scene.restore_with(&tree, &in_place(false), &watch).unwrap();
        assert_eq!(*watch.seen.lock().unwrap(), [meanwhile]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o770);
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

#[test]
fn who_interrupts_a_removal_does_not_wait_for_its_end() {
    let scene = Scene::new();
    fs::create_dir(scene.target()).unwrap();
    (0..100).for_each(|number| fs::write(scene.target().join(number.to_string()), b"").unwrap());
    let tree = scene.open(scene.trees.directory(&[empty_file("a")]));
    let error = scene.restore_with(&tree, &in_place(true), &CancelledMonitor).unwrap_err();
    assert!(matches!(error, crate::error::Error::Cancelled), "{error}");
    assert_eq!(names(&scene.target()).len(), 100);
}
