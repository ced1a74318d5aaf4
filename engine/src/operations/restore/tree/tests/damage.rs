//! What becomes of files of which parts are lost.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::revision::test_maps::absent;
use crate::revision::test_trees::data;

/// A file of which the end is lost.
fn without_end(scene: &Scene, content: &[u8], lost: u64) -> Entry {
    let slots = [data(scene.trees.chunk(content), content.len() as u64), data(absent(1), lost)];
    entry("file", EntryContent::File(scene.trees.file(&slots)))
}

/// Makes the target, with something that is there already.
fn put(scene: &Scene, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = scene.target().join(name);
    fs::create_dir_all(scene.target()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn half_a_mended_program_has_no_privileges() {
    let scene = Scene::new();
    let content = vec![7; 5_000_000];
    let mut program = without_end(&scene, &content, 9);
    program.metadata.mode = 0o4755;
    let path = put(&scene, "file", &vec![1; 5_000_009], 0o4755);
    let report = scene.restore(&[program]);
    assert_eq!((report.damaged_count, report.bytes_written), (1, 5_000_000));
    assert!(fs::read(&path).unwrap() == [&content[..], &[1; 9]].concat());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_program_that_is_right_keeps_its_privileges_all_the_time() {
    let scene = Scene::new();
    let content = vec![7; 5_000_000];
    let slots = [data(scene.trees.chunk(&content), 5_000_000)];
    let mut program = entry("file", EntryContent::File(scene.trees.file(&slots)));
    program.metadata.mode = 0o4755;
    (program.metadata.uid, program.metadata.gid) = own_ids();
    scene.restore(std::slice::from_ref(&program));
    let before = fs::metadata(scene.target().join("file")).unwrap();
    assert_eq!(before.mode() & 0o7777, 0o4755);
    scene.restore(std::slice::from_ref(&program));
    let after = fs::metadata(scene.target().join("file")).unwrap();
    assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
    // And gets them again when it was mended.
    fs::write(scene.target().join("file"), vec![1; 5_000_000]).unwrap();
    scene.restore(&[program]);
    assert!(fs::read(scene.target().join("file")).unwrap() == content);
    assert_eq!(fs::metadata(scene.target().join("file")).unwrap().mode() & 0o7777, 0o4755);
}

fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

#[test]
fn nothing_of_an_earlier_run_stands_for_what_is_lost() {
    let scene = Scene::new();
    let content = vec![7; 5_000_000];
    let partial = super::super::names::partial_name(b".treering-partial-", b"file");
    put(&scene, std::str::from_utf8(&partial).unwrap(), &[&content[..], &[5; 10_000]].concat(), 0o600);
    let report = scene.restore(&[without_end(&scene, &content, 10_000)]);
    assert_eq!((report.damaged_count, report.bytes_written), (1, 0), "it was continued");
    assert_eq!(names(&scene.target()), ["file.treering-damaged"]);
    let rest = fs::read(scene.target().join("file.treering-damaged")).unwrap();
    assert!(rest == [&content[..], &[0; 10_000]].concat());
}

#[test]
fn what_could_be_read_takes_no_name_from_anything() {
    for length in [1000, 6_000_000] {
        let scene = Scene::new();
        let content = vec![7; length];
        let precious = put(&scene, "file.treering-damaged", b"precious", 0o644);
        // The same again makes no further one.
        for _ in 0..2 {
            let report = scene.restore(&[without_end(&scene, &content, 9)]);
            assert_eq!((report.files, report.damaged_count), (0, 1));
            assert!(report.damaged[0].detail.contains("file.treering-damaged-2"), "{:?}", report.damaged);
            assert_eq!(names(&scene.target()), ["file.treering-damaged", "file.treering-damaged-2"]);
            assert_eq!(fs::read(&precious).unwrap(), b"precious");
            let rest = fs::read(scene.target().join("file.treering-damaged-2")).unwrap();
            assert!(rest == [&content[..], &[0; 9]].concat());
        }
    }
}

#[test]
fn every_name_of_a_damaged_file_is_told_and_what_could_be_read_is_kept_once() {
    let scene = Scene::new();
    let one = without_end(&scene, &[7; 1000], 9);
    let linked = |name: &str| Entry {
        name: crate::format::EntryName::new(name.as_bytes()).unwrap(),
        has_other_names: true,
        metadata: crate::format::Metadata { links: 3, ..one.metadata },
        ..one.clone()
    };
    let report = scene.restore(&[linked("a"), linked("b"), linked("c")]);
    assert_eq!((report.files, report.damaged_count, report.problem_count), (0, 3, 0));
    assert_eq!(names(&scene.target()).len(), 1, "{:?}", names(&scene.target()));
}

/// The group's bits of its mode may be the mask of an ACL that was in what is lost.
#[test]
fn damage_gives_a_group_no_rights() {
    let scene = Scene::new();
    let without_list = |name: &str, content| Entry {
        attributes: crate::format::Attributes::Chunk(crate::id::ObjectId::from_bytes([9; 32])),
        metadata: crate::format::Metadata { mode: 0o674, ..entry(name, EntryContent::Fifo).metadata },
        ..entry(name, content)
    };
    let there = put(&scene, "there", b"", 0o640);
    let entries = [
        without_list("directory", EntryContent::Directory(None)),
        without_list("file", EntryContent::File(FileData::Empty)),
        without_list("pipe", EntryContent::Fifo),
        without_list("there", EntryContent::File(FileData::Empty)),
    ];
    for _ in 0..2 {
        let report = scene.restore(&entries);
        assert_eq!(report.damaged_count, 4);
        assert!(
            report.damaged.iter().all(|damaged| damaged.detail.contains("group")),
            "{:?}",
            report.damaged
        );
        for name in ["directory", "file", "pipe"] {
            assert_eq!(fs::metadata(scene.target().join(name)).unwrap().mode() & 0o777, 0o604, "{name}");
        }
        assert_eq!(fs::metadata(&there).unwrap().mode() & 0o777, 0o644, "it had that");
    }
}
