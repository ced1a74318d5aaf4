//! Power cuts while a repository is made.

use std::collections::HashSet;
use std::sync::Arc;

use super::content::MemoryImage;
use super::stage::scratch;
use crate::backend::LocalBackend;
use crate::backend::crash_disk::{CrashDisk, Outcome, Remains};
use crate::error::Error;
use crate::monitor::SilentMonitor;
use crate::operations::backup::{BackupOptions, backup};
use crate::repository::{CreateOptions, Repository};

#[test]
fn an_init_that_a_power_cut_ended_can_be_done_again_or_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let disk = CrashDisk::new(directory.path());
    let backend = LocalBackend::on_disk(directory.path().to_owned(), Arc::new(disk.clone()));
    Repository::create_on(backend, &CreateOptions::default()).unwrap();
    let change_count = disk.change_count();
    let mut seen = HashSet::new();
    for count in 0..=change_count {
        for seed in 0..4 {
            for outcome in [Outcome::Nothing, Outcome::Everything, Outcome::NamesOnly, Outcome::Mixed(seed)] {
                let remains = disk.medium(count).after_power_cut(outcome);
                if seen.insert(remains.clone()) || count == change_count {
                    let is_done = assert_is_made_or_can_be(&remains);
                    assert!(is_done || count < change_count, "what was told to be done is undone");
                }
            }
        }
    }
}

/// Says whether it was made before the power cut.
fn assert_is_made_or_can_be(remains: &Remains) -> bool {
    let directory = scratch();
    remains.write_to(directory.path());
    let again = Repository::create(directory.path(), &CreateOptions::default());
    let is_done = matches!(&again, Err(Error::NotEmpty { found, .. }) if found == "a repository");
    let repository = if is_done { Repository::open(directory.path(), 1 << 20) } else { again };
    let options = BackupOptions { stream: "vm".to_owned(), ..BackupOptions::default() };
    backup(&repository.unwrap(), MemoryImage::source(1), &options, &SilentMonitor).unwrap();
    is_done
}
