//! Has file systems write back what programs hold of their files, before these are read.
//!
//! Linux sets the times of a file that is written through a mapping when a page becomes dirty, and not again until that page
//! was written back: what is written to it after it was read would show no other time, ever. Once its file system was
//! written back, a file with older times has no such page.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::syncfs;

use crate::format::Timestamp;

/// The file systems of a walk that were written back, each once. Used by several threads at once.
#[derive(Default)]
pub(super) struct WriteBacks {
    /// By `st_dev`.
    systems: Mutex<HashMap<u64, Arc<OnceLock<Option<Timestamp>>>>>,
}

impl WriteBacks {
    /// Writes back the file system of an open file, unless that was done: who comes first does it, and all others wait.
    ///
    /// Tells when that began. `None` if the system can't: then there may be dirty pages, however old the times of a file.
    pub(super) fn ensure(&self, device: u64, file: impl AsFd) -> Option<Timestamp> {
        let mut systems = self.systems.lock().unwrap_or_else(PoisonError::into_inner);
        let system = Arc::clone(systems.entry(device).or_default());
        drop(systems);
        *system.get_or_init(|| {
            let begin = Timestamp::now();
            // What fails to be written is told to those who wrote it; it can be read all the same.
            syncfs(file).is_ok().then_some(begin)
        })
    }
}
