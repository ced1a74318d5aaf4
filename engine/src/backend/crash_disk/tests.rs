//! The model itself: it must lose what may be lost, and nothing else.

use std::fs;
use std::path::Path;

use super::*;

/// What lies under a name after a power cut now: `None` if it is absent.
fn left(disk: &CrashDisk, outcome: Outcome, name: &str) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    disk.medium(disk.change_count()).after_power_cut(outcome).write_to(directory.path());
    fs::read(directory.path().join(name)).ok()
}

fn lefts(disk: &CrashDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    let mut lefts: Vec<_> = (0..100).map(|seed| left(disk, Outcome::Mixed(seed), name)).collect();
    lefts.sort();
    lefts.dedup();
    lefts
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

fn disk(test: impl FnOnce(&CrashDisk, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("old"), "old").unwrap();
    test(&CrashDisk::new(directory.path()), directory.path());
}

#[test]
fn a_name_and_its_bytes_survive_each_by_its_own_sync() {
    disk(|disk, root| {
        let mut file = disk.create(&root.join("a")).unwrap();
        file.write(b"12").unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "a"), None);
        assert_eq!(left(disk, Outcome::NamesOnly, "a"), bytes(""));
        assert_eq!(left(disk, Outcome::Everything, "a"), bytes("12"));
        let torn = lefts(disk, "a");
        for expected in [None, bytes(""), bytes("1"), bytes("12"), bytes("1\0"), bytes("\0\0")] {
            assert!(torn.contains(&expected), "{expected:?}");
        }
        file.sync().unwrap();
        assert_eq!(lefts(disk, "a"), [None, bytes("12")]);
        file.write(b"3").unwrap();
        disk.sync_directory(root).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "a"), bytes("12"));
        assert!(
            lefts(disk, "a").iter().all(|left| left.as_ref().is_some_and(|left| left.starts_with(b"12")))
        );
    });
}

#[test]
fn a_rename_or_removal_may_be_undone_until_its_directory_is_synced() {
    disk(|disk, root| {
        let mut file = disk.create(&root.join("new")).unwrap();
        file.write(b"new").unwrap();
        file.sync().unwrap();
        disk.rename(&root.join("new"), &root.join("old"), true).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "old"), bytes("old"));
        assert_eq!(lefts(disk, "old"), [bytes("new"), bytes("old")]);
        disk.sync_directory(root).unwrap();
        assert_eq!(lefts(disk, "old"), [bytes("new")]);
        disk.remove(&root.join("old")).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "old"), bytes("new"));
        assert_eq!(lefts(disk, "old"), [None, bytes("new")]);
    });
}

#[test]
fn a_file_that_is_moved_to_another_directory_is_in_either_or_both_and_never_in_none() {
    disk(|disk, root| {
        disk.create_directory(&root.join("d")).unwrap();
        disk.sync_directory(root).unwrap();
        disk.rename(&root.join("old"), &root.join("d/new"), false).unwrap();
        let places = |seed| ["old", "d/new"].map(|name| left(disk, Outcome::Mixed(seed), name).is_some());
        let found: std::collections::BTreeSet<_> = (0..50).map(places).collect();
        assert_eq!(found, [[false, true], [true, false], [true, true]].into());
        disk.sync_directory(root).unwrap();
        assert_eq!(lefts(disk, "d/new"), [bytes("old")]);
        assert_eq!(left(disk, Outcome::Nothing, "old"), None);
    });
}

#[test]
fn a_directory_whose_name_is_lost_takes_along_what_was_synced_in_it() {
    disk(|disk, root| {
        disk.create_directory(&root.join("d")).unwrap();
        disk.create(&root.join("d/a")).unwrap();
        disk.sync_directory(&root.join("d")).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "d/a"), None);
        disk.sync_directory(root).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "d/a"), bytes(""));
        disk.remove(&root.join("d/a")).unwrap();
        disk.remove_directory(&root.join("d")).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "d/a"), bytes(""));
        disk.sync_directory(root).unwrap();
        assert_eq!(lefts(disk, "d/a"), [None]);
    });
}

#[test]
fn a_file_that_failed_to_be_synced_is_made_durable_by_no_later_sync_and_a_name_is() {
    disk(|disk, root| {
        let mut file = disk.create(&root.join("a")).unwrap();
        file.write(b"12").unwrap();
        disk.fail(Fault { at: 0, kind: FaultKind::Error });
        assert!(file.sync().is_err() && disk.mend());
        disk.fail(Fault { at: 0, kind: FaultKind::Error });
        assert!(disk.sync_directory(root).is_err() && disk.mend());
        assert_eq!(left(disk, Outcome::Nothing, "a"), None);
        file.sync().unwrap();
        disk.sync_directory(root).unwrap();
        assert_eq!(left(disk, Outcome::Nothing, "a"), bytes(""));
        assert_eq!(left(disk, Outcome::Everything, "a"), bytes("12"));
    });
}

#[test]
fn calls_fail_as_the_fault_says() {
    for (kind, removes, creates) in [
        (FaultKind::Error, [false, true], [true, true]),
        (FaultKind::Full, [true, true], [false, false]),
        (FaultKind::Dead, [false, false], [false, false]),
    ] {
        disk(|disk, root| {
            fs::write(root.join("b"), "").unwrap();
            disk.fail(Fault { at: 0, kind });
            assert_eq!(["old", "b"].map(|name| disk.remove(&root.join(name)).is_ok()), removes);
            assert_eq!(["c", "d"].map(|name| disk.create(&root.join(name)).is_ok()), creates);
            assert!(disk.mend());
        });
    }
    disk(|disk, root| {
        disk.fail(Fault { at: 0, kind: FaultKind::Denial });
        assert!(disk.rename(&root.join("old"), &root.join("new"), false).is_err());
        assert!(root.join("new").exists() && left(disk, Outcome::Everything, "new").is_some());
    });
}
