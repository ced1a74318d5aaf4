//! What all threads of a restore share.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::syncfs;

use super::TreeRestoreOptions;
use super::access::Work;
use super::directory::TargetDirectory;
use super::hard_links::HardLinks;
use super::metadata::{Changes, GROUP, Handle, LeftOut, Wanted};
use super::owners::{Owners, is_acl_alias};
use super::problems::{Attempt, Problems, Skipped, Trouble, shown};
use crate::error::{Corrupt, Error, Result};
use crate::format::{Entry, EntryContent};
use crate::monitor::Monitor;
use crate::revision::TreeReader;
use crate::source::tree::{Attribute, EntryStat, EntryType};

/// So many file systems are remembered, to be synced at the end.
const FILE_SYSTEMS_MAX: usize = 64;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Restore,
    /// Reads back what was restored.
    Verify,
}

/// Counters of a run.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) files: AtomicU64,
    pub(super) directories: AtomicU64,
    pub(super) others: AtomicU64,
    pub(super) unchanged: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) compared: AtomicU64,
    pub(super) untracked: AtomicU64,
}

/// What all threads of a run share.
pub(super) struct Context<'a> {
    pub(super) tree: &'a TreeReader,
    pub(super) options: &'a TreeRestoreOptions,
    pub(super) task: Task,
    pub(super) owners: &'a Owners<'a>,
    pub(super) problems: &'a Problems<'a>,
    pub(super) links: Arc<HardLinks>,
    pub(super) counters: Counters,
    pub(super) monitor: &'a dyn Monitor,
    /// The path in the revision of what is put at the target.
    base: &'a [u8],
    /// Directories that must not be entered: the repository's.
    forbidden: Vec<(u64, u64)>,
    is_stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// File systems below the target other than its own.
    file_systems: Mutex<HashMap<u64, Arc<OwnedFd>>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        tree: &'a TreeReader,
        options: &'a TreeRestoreOptions,
        task: Task,
        owners: &'a Owners<'a>,
        problems: &'a Problems<'a>,
        monitor: &'a dyn Monitor,
        forbidden: Vec<(u64, u64)>,
    ) -> Self {
        Self {
            tree,
            options,
            task,
            owners,
            problems,
            links: Arc::default(),
            counters: Counters::default(),
            monitor,
            base: &options.path,
            forbidden,
            is_stopped: AtomicBool::new(false),
            failure: Mutex::default(),
            file_systems: Mutex::default(),
        }
    }

    pub(super) fn verifies(&self) -> bool {
        self.task == Task::Verify
    }

    /// Whether what is there may be replaced.
    pub(super) fn replaces(&self) -> bool {
        self.options.in_place || self.options.overwrite
    }

    pub(super) fn is_forbidden(&self, stat: &EntryStat) -> bool {
        self.forbidden.contains(&(stat.identity.device, stat.identity.inode))
    }

    /// Whether something belongs to whoever runs this.
    pub(super) fn is_own(&self, stat: &EntryStat) -> bool {
        stat.uid == rustix::process::geteuid().as_raw()
    }

    /// Fails when the run has to end.
    pub(super) fn go_on(&self) -> Result<()> {
        match self.is_stopped() || self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Ends the run; the first reason is the one that is told.
    pub(super) fn stop(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Why the run was ended, if it was.
    pub(super) fn failure(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    /// What is to be done in directories of the target.
    pub(super) fn work(&self) -> Work {
        match self.task {
            Task::Restore => Work::Change,
            Task::Verify => Work::Look,
        }
    }

    /// What an entry is to have.
    pub(super) fn wanted(&self, entry: &Entry) -> Attempt<Wanted> {
        let (list, lost) = match self.tree.attributes(entry) {
            Ok(list) => (Some(list), None),
            Err(error) if error.is_loss() => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let attribute = |(name, value): (&[u8], &[u8])| Attribute {
            name: name.to_vec(),
            value: self.owners.attribute(name, value),
        };
        let metadata = &entry.metadata;
        Ok(Wanted {
            uid: self.owners.user(metadata.uid),
            gid: self.owners.group(metadata.gid),
            mode: metadata.mode,
            mtime: metadata.mtime,
            attributes: list.map(|list| {
                let stored = list.iter().flat_map(|list| list.iter());
                stored.filter(|(name, _)| !is_acl_alias(name)).map(attribute).collect()
            }),
            lost,
        })
    }

    /// The mode that keeps out of a directory, while it is worked in, whom the revision keeps out of it.
    pub(super) fn mode_meanwhile(&self, entry: &Entry, descriptor: &OwnedFd) -> u16 {
        match self.wanted(entry) {
            Ok(wanted) => wanted.mode_meanwhile(descriptor.as_fd()),
            // Why will be met again when it is finished.
            Err(_) => entry.metadata.mode & !GROUP,
        }
    }

    /// Sets what an entry is to have, and tells what could not be set. Attributes that are lost are left alone.
    pub(super) fn set(
        &self,
        directory: &TargetDirectory,
        name: &[u8],
        (handle, kind): (Handle<'_>, EntryType),
        wanted: &Wanted,
        changes: &Changes,
    ) {
        if let Some(error) = &wanted.lost {
            let acl = match kind {
                EntryType::Symlink => "",
                _ => {
                    ", and with them its ACL if it had one, so its group gets no rights that it did not have"
                }
            };
            let detail = format!("its extended attributes are lost{acl}: {error}");
            self.problems.tell_damage(self.path_in_revision(directory, name), Vec::new(), detail);
        }
        let left_out = changes.apply(handle, kind, wanted);
        self.note_left_out(directory, name, left_out);
    }

    /// Counts an entry that is as it should be.
    pub(super) fn count(&self, entry: &Entry, is_unchanged: bool) {
        let counters = &self.counters;
        let (counter, bytes) = match &entry.content {
            EntryContent::File(data) => (&counters.files, data.size()),
            EntryContent::Directory(_) => (&counters.directories, 0),
            _ => (&counters.others, 0),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.unchanged.fetch_add(is_unchanged.into(), Ordering::Relaxed);
    }

    /// Tells why an entry, or the directory itself, could not be restored, or ends the run.
    pub(super) fn fail(&self, directory: &TargetDirectory, name: &[u8], trouble: Trouble) {
        let target = || shown(&self.path_in_target(directory, name));
        let ends_run = trouble.ends_run();
        match trouble {
            Trouble::Engine(error) if error.is_loss() => {
                self.problems.tell_damage(
                    self.path_in_revision(directory, name),
                    Vec::new(),
                    error.to_string(),
                );
            }
            Trouble::Engine(error) => self.stop(error),
            Trouble::System { action, errno } if ends_run => {
                self.stop(Error::io(action, target())(errno.into()));
            }
            Trouble::System { action, errno } => {
                let message = format!("cannot {action} {}: {}", target(), std::io::Error::from(errno));
                self.tell(message);
            }
            Trouble::Refused(reason) => self.tell(format!("cannot restore {}: {reason}", target())),
        }
    }

    fn tell(&self, message: String) {
        match self.task {
            Task::Restore => self.problems.tell(message),
            Task::Verify => self.problems.tell_difference(message),
        }
    }

    /// Tells what could not be set of an entry.
    fn note_left_out(&self, directory: &TargetDirectory, name: &[u8], left_out: LeftOut) {
        let path = || shown(&self.path_in_target(directory, name));
        if left_out.owner {
            self.problems.skip(Skipped::Owner, path);
        }
        if left_out.attributes {
            self.problems.skip(Skipped::Attributes, path);
        }
        if left_out.unsupported {
            self.problems.skip(Skipped::Unsupported, path);
        }
        if let Some(trouble) = left_out.trouble {
            self.fail(directory, name, trouble);
        }
    }

    /// The path of an entry below the root of the revision's tree.
    pub(super) fn path_in_revision(&self, directory: &TargetDirectory, name: &[u8]) -> Vec<u8> {
        if directory.is_outside() {
            return self.base.to_vec();
        }
        let below = directory.place.relative_path(name);
        let parts = self.base.split(|&byte| byte == b'/').chain([&below[..]]).filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(&b'/')
    }

    /// The path of an entry in the target.
    pub(super) fn path_in_target(&self, directory: &TargetDirectory, name: &[u8]) -> Vec<u8> {
        directory.place.path(name)
    }

    /// Notes another file system, to be synced at the end.
    pub(super) fn note_file_system(&self, stat: &EntryStat, descriptor: &Arc<OwnedFd>) {
        let mut file_systems = self.file_systems.lock().unwrap_or_else(PoisonError::into_inner);
        if file_systems.len() < FILE_SYSTEMS_MAX {
            file_systems.entry(stat.identity.device).or_insert_with(|| Arc::clone(descriptor));
        }
    }

    /// Makes durable what was written to other file systems than the target's own.
    pub(super) fn sync_others(&self) -> Result<()> {
        let file_systems = self.file_systems.lock().unwrap_or_else(PoisonError::into_inner);
        let failed =
            |errno: rustix::io::Errno| Error::io("sync", "a file system below the target")(errno.into());
        file_systems.values().try_for_each(|descriptor| syncfs(descriptor).map_err(failed))
    }

    /// Counts along, so that a revision that says less than it holds comes to an end.
    pub(super) fn too_many(&self) -> Error {
        Corrupt::new("the tree", "it holds more entries than its root says").into()
    }
}
