//! Directories of the tree, each known by its place below the root, and opened anew when it is needed.
//!
//! Trees can be deeper than a process may have open files, so only the descriptors that were used last are kept. A
//! directory is opened by its name in its parent, never by a longer path: no symlink is ever followed, and what is
//! opened must be what was listed.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::problem::{Cause, EntryError};
use super::stat::{EntryStat, EntryType, Identity};
use super::write_back::WriteBacks;

/// How many directories are kept open.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(128).unwrap();

/// A directory of the tree.
pub(crate) struct Directory {
    parent: Option<Arc<Directory>>,
    /// Its name in its parent; the root's is the path that the user gave.
    name: Vec<u8>,
    depth: usize,
    identity: Identity,
    key: u64,
    descriptors: Arc<Descriptors>,
    write_backs: Arc<WriteBacks>,
}

/// The open descriptors of a tree's directories.
struct Descriptors {
    root: Arc<OwnedFd>,
    recent: Mutex<LruCache<u64, Arc<OwnedFd>>>,
    next_key: AtomicU64,
}

impl Directory {
    /// The root of a tree, open already.
    pub(crate) fn root(path: &[u8], descriptor: OwnedFd, stat: &EntryStat) -> Arc<Self> {
        let descriptors = Descriptors {
            root: Arc::new(descriptor),
            recent: Mutex::new(LruCache::new(OPEN_MAX)),
            next_key: AtomicU64::new(1),
        };
        let (name, identity) = (path.to_vec(), stat.identity);
        let (descriptors, write_backs) = (Arc::new(descriptors), Arc::default());
        Arc::new(Self { parent: None, name, depth: 0, identity, key: 0, descriptors, write_backs })
    }

    /// A directory that was listed in this one. It is not opened yet.
    pub(crate) fn child(self: &Arc<Self>, name: &[u8], identity: Identity) -> Arc<Self> {
        let descriptors = Arc::clone(&self.descriptors);
        let key = descriptors.next_key.fetch_add(1, Ordering::Relaxed);
        let (parent, depth) = (Some(Arc::clone(self)), self.depth + 1);
        let (name, write_backs) = (name.to_vec(), Arc::clone(&self.write_backs));
        Arc::new(Self { parent, name, depth, identity, key, descriptors, write_backs })
    }

    /// A directory in this one that is open already.
    pub(crate) fn open_child(
        self: &Arc<Self>,
        name: &[u8],
        identity: Identity,
        descriptor: &Arc<OwnedFd>,
    ) -> Arc<Self> {
        let child = self.child(name, identity);
        child.descriptors.keep(child.key, descriptor);
        child
    }

    /// The file systems of this tree that were written back.
    pub(super) fn write_backs(&self) -> &WriteBacks {
        &self.write_backs
    }

    /// Names below the root up to here.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The directory, open for listing and for what lies in it.
    pub(crate) fn open(&self) -> Result<Arc<OwnedFd>, Cause> {
        // From the nearest ancestor that is open, downwards.
        let mut missing = Vec::new();
        let mut above = self;
        let mut descriptor = loop {
            match (above.descriptors.get(above.key), &above.parent) {
                (Some(open), _) => break open,
                (None, Some(parent)) => {
                    missing.push(above);
                    above = parent;
                }
                (None, None) => return Err(Cause::Vanished),
            }
        };
        for directory in missing.into_iter().rev() {
            descriptor = Arc::new(directory.open_in(&descriptor)?);
            directory.descriptors.keep(directory.key, &descriptor);
        }
        Ok(descriptor)
    }

    /// Lets the directory above be found open, for who goes up a tree deeper than descriptors are kept: from the root it
    /// would be opened level by level.
    pub(crate) fn keep_parent_open(&self) {
        let Some(parent) = &self.parent else { return };
        let own = self.descriptors.get(self.key);
        let (None, Some(own)) = (self.descriptors.get(parent.key), own) else { return };
        let Ok(above) = open_quietly(&own, b"..", OFlags::DIRECTORY) else { return };
        // This one may have been moved.
        if EntryStat::of(&above).is_ok_and(|stat| stat.identity == parent.identity) {
            self.descriptors.keep(parent.key, &Arc::new(above));
        }
    }

    fn open_in(&self, parent: &OwnedFd) -> Result<OwnedFd, Cause> {
        let descriptor = open_quietly(parent, &self.name, OFlags::DIRECTORY)?;
        let found = EntryStat::of(&descriptor)?;
        (found.identity == self.identity).then_some(descriptor).ok_or(Cause::Replaced)
    }

    /// The path of an entry of this directory, or its own if `name` is empty, below the root.
    pub(crate) fn relative_path(&self, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        names.extend(self.ancestors().filter(|above| above.parent.is_some()).map(|above| &above.name[..]));
        names.retain(|name| !name.is_empty());
        names.reverse();
        names.join(&b'/')
    }

    /// Tells what went wrong with an entry of this directory, or with itself if `name` is empty.
    pub(super) fn error(&self, name: &[u8], action: &'static str, cause: Cause) -> EntryError {
        EntryError { path: self.path(name), action, cause }
    }

    /// The path of an entry of this directory, or its own if `name` is empty, beginning with the root's.
    pub(crate) fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.ancestors().last().map(|root| root.name.clone()).unwrap_or_default();
        let below = self.relative_path(name);
        if !below.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path.extend(below);
        path
    }

    /// This directory, its parent and so on, to the root.
    fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |directory| directory.parent.as_deref())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.descriptors.forget(self.key);
        // One after the other: as many calls in each other as the tree is deep would exhaust the stack.
        let mut parent = self.parent.take();
        while let Some(mut last) = parent.and_then(Arc::into_inner) {
            parent = last.parent.take();
        }
    }
}

impl Descriptors {
    fn get(&self, key: u64) -> Option<Arc<OwnedFd>> {
        match key {
            0 => Some(Arc::clone(&self.root)),
            _ => self.recent().get(&key).cloned(),
        }
    }

    fn keep(&self, key: u64, descriptor: &Arc<OwnedFd>) {
        // What falls out is closed after the lock is given back.
        let _evicted = self.recent().push(key, Arc::clone(descriptor));
    }

    fn forget(&self, key: u64) {
        let _forgotten = self.recent().pop(&key);
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, LruCache<u64, Arc<OwnedFd>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Longer than the system gives the holder of a lease to let go (`/proc/sys/fs/lease-break-time`, 45 s).
const LEASE_PATIENCE: Duration = Duration::from_secs(60);

/// Opens an entry of a directory for reading, without following it, waiting for its other end, or changing its time of
/// access. Only a lease is waited for that another process has on it, as file servers do; the first try asks for it back.
pub(crate) fn open_quietly(directory: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match try_open_quietly(&directory, name, flags) {
            Err(Errno::AGAIN) if start.elapsed() < LEASE_PATIENCE => std::thread::sleep(pause),
            opened => return opened,
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn try_open_quietly(directory: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    open_unnoticed(directory, name, flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Opens for reading without changing the time of access, where that may be.
pub(super) fn open_unnoticed(
    directory: impl AsFd,
    name: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only for the owner, and for root.
        Err(Errno::PERM) => openat(&directory, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Whether what was found may stand for what was listed: of the same type, and for a directory the very same.
pub(super) fn is_in_place_of(listed: &EntryStat, found: &EntryStat) -> bool {
    listed.kind == found.kind && (found.kind != EntryType::Directory || listed.identity == found.identity)
}
