//! Sessions and pins: they live as long as their process, and a dead one is in nobody's way.

#![allow(clippy::unwrap_used, reason = "a failure of a test's own means is a failure of the test")]

use std::fs;
use std::path::Path;

use treering_engine::operations::backup::{BackupOptions, backup};
use treering_engine::{CreateOptions, FileSource, Repository, SilentMonitor, Source};

fn back_up(repository: &Repository, image: &Path) {
    let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
    let source = Source::Image(Box::new(FileSource::open(image).unwrap()));
    backup(repository, source, &options, &SilentMonitor).unwrap();
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn what_dead_processes_have_claimed_is_removed_and_living_pins_stay() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let image = directory.path().join("image");
    fs::write(&image, vec![1; 100_000]).unwrap();
    let repository = Repository::create(&root, &CreateOptions::default()).unwrap();
    back_up(&repository, &image);
    assert_eq!(count(&root.join("sessions")), 0, "a session ends with its backup");

    // A file without a lock is what a killed process leaves.
    fs::write(root.join("sessions/018f2f6e-7b5c-4c3a-9d1e-0123456789ab"), b"dead").unwrap();
    fs::write(root.join("pins/018f2f6e-7b5c-4c3a-9d1e-0123456789ab"), b"dead").unwrap();
    let stream = repository.stream("vm").unwrap();
    let reader = repository.open_image(&repository.latest(&stream).unwrap().unwrap()).unwrap();
    back_up(&repository, &image);
    assert_eq!(count(&root.join("sessions")), 0);
    assert_eq!(count(&root.join("pins")), 1, "the reader's pin lives");
    drop(reader);
    assert_eq!(count(&root.join("pins")), 0);
}

/// Who was not told read on without a pin, although the medium would have taken one.
#[test]
fn a_reader_that_gets_no_pin_for_a_reason_that_goes_by_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    let image = directory.path().join("image");
    fs::write(&image, vec![1; 100_000]).unwrap();
    let repository = Repository::create(&root, &CreateOptions::default()).unwrap();
    back_up(&repository, &image);
    let newest = repository.latest(&repository.stream("vm").unwrap()).unwrap().unwrap();
    fs::remove_dir(root.join("pins")).unwrap();
    fs::write(root.join("pins"), "in the way").unwrap();
    assert!(repository.open_image(&newest).is_err());
    fs::remove_file(root.join("pins")).unwrap();
    Repository::open(&root, 1 << 20).unwrap().open_image(&newest).unwrap();
}
