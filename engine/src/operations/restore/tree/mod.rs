//! Restore of a tree, or a part of one.
//!
//! Everything is reached by descriptors of directories, each opened by its name in its parent, so no symlink in or below
//! the target is ever followed and nothing outside of it is written, whatever a hostile repository holds and whoever
//! changes the target meanwhile. A directory that is made belongs to us alone until all in it is done; a file that takes
//! the place of another, or is large, is written under a name of its own and then renamed. What is there already and has
//! further names is never changed but replaced: these may lie outside of the target.

mod access;
mod content;
mod context;
mod directory;
mod entry;
mod extras;
mod file;
mod hard_links;
mod large;
mod linking;
mod metadata;
mod names;
mod owners;
mod partial;
mod problems;
mod remove;
mod rest;
mod target;
#[cfg(test)]
mod tests;
mod trust;
mod verify;
mod walk;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;

use context::{Context, Counters, Task};
use owners::Owners;
use problems::{Problems, shown};
use target::Target;

use crate::error::{Error, Result, ranges_text};
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::revision::TreeReader;

/// What of a tree is restored, and how what is there is treated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeRestoreOptions {
    /// The path in the revision of what is put at the target; empty for all.
    pub path: Vec<u8>,
    /// Compare with what is there and write only what differs; continues an interrupted restore.
    pub in_place: bool,
    /// Replace entries that are there by the revision's.
    pub overwrite: bool,
    /// Remove what the revision does not have.
    pub delete: bool,
    /// Read everything back and compare.
    pub verify: bool,
    /// Owners keep their numbers, whoever has their names here.
    pub numeric_owner: bool,
}

/// Something that has no intact copy in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its path from the root of the revision's tree.
    pub path: Vec<u8>,
    /// What of a file is lost, in bytes; without any, all of it.
    pub ranges: Vec<Range<u64>>,
    /// Why, and what became of the rest.
    pub detail: String,
}

impl fmt::Display for DamagedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the tree's root".to_owned() } else { shown(&self.path) };
        match self.ranges.as_slice() {
            [] => write!(f, "{path} is damaged: {}", self.detail),
            ranges => write!(f, "{path} is damaged: {} are lost; {}", ranges_text(ranges), self.detail),
        }
    }
}

/// What the restore of a tree did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeRestoreReport {
    /// Files that are as they should be.
    pub files: u64,
    /// Directories, likewise.
    pub directories: u64,
    /// Everything else, likewise.
    pub others: u64,
    /// How many of these were so before.
    pub unchanged: u64,
    /// Sizes of the files together.
    pub bytes: u64,
    /// Bytes that were written to files.
    pub bytes_written: u64,
    /// Bytes of the target that were read and compared, to write only what differs.
    pub bytes_compared: u64,
    /// Bytes of what was verified, holes and each name of a file included.
    pub bytes_verified: u64,
    /// Entries that were removed, as the revision does not have them.
    pub removed: u64,
    /// Entries whose owner or group could not be set.
    pub owners_skipped: u64,
    /// Entries with privileged attributes that could not be set.
    pub attributes_skipped: u64,
    /// Device nodes that could not be made.
    pub devices_skipped: u64,
    /// What could not be restored as it should, for other reasons; the first of them.
    pub problems: Vec<String>,
    /// How many there are.
    pub problem_count: u64,
    /// What has no intact copy in the repository; the first of it.
    pub damaged: Vec<DamagedEntry>,
    /// How many entries there are.
    pub damaged_count: u64,
    /// How many of the problems are differences that verifying found.
    pub differing_count: u64,
}

/// Restores a tree, or the part of it that the options name. `revision` names it in messages.
///
/// What can't be restored is told to the monitor and stands in the report; all else is restored.
///
/// # Errors
/// [`Error::UnusableTarget`], [`Error::NoSuchPath`] before anything is written; what ends the whole run, such as a full
/// disk.
pub fn restore_tree(
    tree: &TreeReader,
    revision: &str,
    repository: &Repository,
    target: &Path,
    options: &TreeRestoreOptions,
    monitor: &dyn Monitor,
) -> Result<TreeRestoreReport> {
    let no_such_path = || Error::NoSuchPath { revision: revision.to_owned(), path: shown(&options.path) };
    let entry = tree.find(&options.path)?.ok_or_else(no_such_path)?;
    let target = Target::open(target, repository, &entry, options)?;
    let owners = Owners::new(tree, options.numeric_owner);
    let problems = Problems::new(monitor);
    let run = Run { tree, options, owners: &owners, problems: &problems, target: &target, monitor };
    let mut report = TreeRestoreReport::default();
    run.restore(&mut report)?;
    // What is known to be wrong was told, and needs no second look.
    if options.verify && problems.is_empty() {
        report.bytes_verified = run.verify()?;
    }
    problems.finish(&mut report);
    Ok(report)
}

/// What both passes share.
struct Run<'a> {
    tree: &'a TreeReader,
    options: &'a TreeRestoreOptions,
    owners: &'a Owners<'a>,
    problems: &'a Problems<'a>,
    target: &'a Target,
    monitor: &'a dyn Monitor,
}

impl Run<'_> {
    fn context(&self, task: Task) -> Context<'_> {
        let forbidden = self.target.forbidden.clone();
        Context::new(self.tree, self.options, task, self.owners, self.problems, self.monitor, forbidden)
    }

    fn total_bytes(&self) -> Option<u64> {
        self.options.path.is_empty().then(|| self.tree.totals().bytes)
    }

    fn restore(&self, report: &mut TreeRestoreReport) -> Result<()> {
        self.monitor.begin("restoring", self.total_bytes());
        let context = self.context(Task::Restore);
        walk::run(&context, self.target.directory(&context, true)?, self.target.single.as_ref())?;
        // Nothing is synced by itself: that would take a disk's turn for each file.
        self.target.sync()?;
        context.sync_others()?;
        self.owners.tell_failures(self.problems);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { files, directories, others, unchanged, removed, bytes, written, compared, untracked } =
            &context.counters;
        if count(untracked) > 0 {
            self.problems.tell(format!(
                "{} names were made files of their own instead of hard links: no such link could be made there, or there \
                 were too many to remember",
                count(untracked)
            ));
        }
        *report = TreeRestoreReport {
            files: count(files),
            directories: count(directories),
            others: count(others),
            unchanged: count(unchanged),
            bytes: count(bytes),
            bytes_written: count(written),
            bytes_compared: count(compared),
            removed: count(removed),
            ..TreeRestoreReport::default()
        };
        Ok(())
    }

    /// Reads all back, files with several names once. Returns how many bytes that stands for.
    fn verify(&self) -> Result<u64> {
        self.monitor.begin("verifying", self.total_bytes());
        let context = self.context(Task::Verify);
        walk::run(&context, self.target.directory(&context, false)?, self.target.single.as_ref())?;
        Ok(context.counters.bytes.load(Ordering::Relaxed))
    }
}

/// Reads back what is at a target, without restoring anything.
#[cfg(test)]
fn verify_alone(
    tree: &TreeReader,
    repository: &Repository,
    target: &Path,
    options: &TreeRestoreOptions,
) -> Result<TreeRestoreReport> {
    let monitor = &crate::monitor::SilentMonitor;
    let target = Target::open(target, repository, tree.root(), options)?;
    let (owners, problems) = (Owners::new(tree, false), Problems::new(monitor));
    let mut report = TreeRestoreReport::default();
    Run { tree, options, owners: &owners, problems: &problems, target: &target, monitor }.verify()?;
    problems.finish(&mut report);
    Ok(report)
}
