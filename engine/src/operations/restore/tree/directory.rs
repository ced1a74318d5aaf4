//! Directories of the target: open by descriptor, and finished when everything in them is.
//!
//! One that is made here belongs to us alone, mode 0700, until it is finished. Then it gets its owner, mode, attributes
//! and last its time. One that is found in its place instead, or in which others may put something, is treated like any that
//! was there before.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, getxattr, mkdirat, openat2, removexattr, unlinkat};
use rustix::io::Errno;

use super::access::{DIRECTORY, OTHERS, OpenDirectory, Work, give_back};
use super::context::Context;
use super::extras::remove_extras;
use super::metadata::{Before, Changes, Handle};
use super::names::{partial_name, partial_prefix};
use super::owners::{ACL_ACCESS, ACL_DEFAULT};
use super::problems::{Attempt, Trouble};
use super::remove::clear_way;
use crate::error::Result;
use crate::format::{DirectoryTop, Entry, EntryContent};
use crate::source::tree::{Directory, EntryStat, EntryType};

/// A directory of the target.
pub(super) struct TargetDirectory {
    pub(super) place: Arc<Directory>,
    parent: Option<Arc<TargetDirectory>>,
    /// What the revision says of it; `None` if it is only where a single entry is put.
    entry: Option<Entry>,
    pub(super) traits: Traits,
    /// The mode that it had before it was opened up, until it gets its own.
    mode_before: Mutex<Option<u16>>,
    /// What is under way in it, the walk included.
    pending: AtomicUsize,
    /// What names of what is being written begin with.
    prefix: OnceLock<Vec<u8>>,
}

/// What matters of how a directory came to be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// It was made by this run.
    is_made: bool,
    /// There was nothing in it, and nobody else can put anything into it, so all names are new.
    pub(super) is_new: bool,
    /// What is made in it may get an ACL from it.
    pub(super) passes_acl: bool,
    /// It lies on another file system than the target's root, or behind a mount point.
    pub(super) is_foreign: bool,
    /// Somebody was kept out of it already.
    is_narrowed: bool,
}

/// The directory that a restore begins in.
pub(super) struct Root<'a> {
    /// What users call it.
    pub(super) path: &'a [u8],
    pub(super) opened: OpenDirectory,
    pub(super) stat: EntryStat,
    /// It was just made.
    pub(super) is_made: bool,
    /// There is nothing in it.
    pub(super) is_new: bool,
    /// Somebody was kept out of it already.
    pub(super) is_narrowed: bool,
}

/// What is found where a directory is to be.
struct Opened {
    descriptor: Arc<OwnedFd>,
    stat: EntryStat,
    mode_before: Option<u16>,
    is_new: bool,
    is_foreign: bool,
    is_narrowed: bool,
}

impl TargetDirectory {
    /// The directory that the restore begins in.
    pub(super) fn root(root: Root<'_>, entry: Option<Entry>) -> Arc<Self> {
        let Root {
            path,
            opened: OpenDirectory { descriptor, mode_before },
            stat,
            is_made,
            is_new,
            is_narrowed,
        } = root;
        let is_made = is_made && is_ours(&stat, OTHERS);
        let is_new = is_new && is_ours(&stat, OTHERS_WRITE);
        if is_made {
            forget_acls(Handle::Open(descriptor.as_fd()));
        }
        let passes_acl = passes_acl(&descriptor, &stat);
        let place = Directory::root(path, descriptor, &stat);
        let entry = entry.map(without_name);
        let traits = Traits { is_made, is_new, passes_acl, is_foreign: false, is_narrowed };
        Self::at(place, None, entry, (traits, mode_before))
    }

    /// Whether it is only where a single entry is put.
    pub(super) fn is_outside(&self) -> bool {
        self.entry.is_none()
    }

    /// Whether it is the target itself.
    pub(super) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    fn at(
        place: Arc<Directory>,
        parent: Option<Arc<Self>>,
        entry: Option<Entry>,
        (traits, mode_before): (Traits, Option<u16>),
    ) -> Arc<Self> {
        let (pending, prefix, mode_before) = (AtomicUsize::new(1), OnceLock::new(), Mutex::new(mode_before));
        Arc::new(Self { place, parent, entry, traits, mode_before, pending, prefix })
    }

    /// The directory of an entry in this one, made or opened. Whoever calls this must call [`TargetDirectory::done`].
    pub(super) fn enter(self: &Arc<Self>, context: &Context<'_>, entry: &Entry) -> Attempt<Arc<Self>> {
        let above = self.open()?;
        let name = entry.name.as_bytes();
        let opened = match self.traits.is_new {
            true => make(context, &above, entry, true)?,
            false => self.open_or_make(context, &above, entry)?,
        };
        let Opened { descriptor, stat, mode_before, is_new, is_foreign, is_narrowed } = opened;
        let place = self.place.open_child(name, stat.identity, &descriptor);
        let is_foreign = self.traits.is_foreign || is_foreign;
        if is_foreign {
            context.note_file_system(&stat, &descriptor);
        }
        let passes_acl = !is_new && passes_acl(&descriptor, &stat);
        let traits = Traits { is_made: is_new, is_new, passes_acl, is_foreign, is_narrowed };
        self.begin();
        Ok(Self::at(place, Some(Arc::clone(self)), Some(entry.clone()), (traits, mode_before)))
    }

    fn open_or_make(&self, context: &Context<'_>, above: &OwnedFd, entry: &Entry) -> Attempt<Opened> {
        let name = entry.name.as_bytes();
        match EntryStat::at(above, name) {
            Ok(stat) if context.is_forbidden(&stat) => Err(REPOSITORY),
            Ok(stat) if stat.kind == EntryType::Directory => open_existing(context, above, entry),
            Ok(_) if context.verifies() => Err(Trouble::Refused("it is no directory")),
            Ok(_) if !context.replaces() => Err(Trouble::Refused("it exists")),
            Ok(_) => {
                unlinkat(above, name, AtFlags::empty()).map_err(Trouble::of("remove"))?;
                make(context, above, entry, false)
            }
            Err(Errno::NOENT) if !context.verifies() => make(context, above, entry, false),
            Err(errno) => Err(Trouble::of("look at")(errno)),
        }
    }

    /// Removes what the revision does not have, where that is wanted.
    pub(super) fn remove_extras(&self, context: &Context<'_>) -> Result<()> {
        let leaves_all = self.traits.is_new || self.traits.is_foreign || self.is_outside();
        if leaves_all || !context.options.delete || context.verifies() {
            return Ok(());
        }
        remove_extras(context, self)
    }

    /// Makes way for something that is no directory.
    pub(super) fn clear_way(&self, context: &Context<'_>, above: &OwnedFd, name: &[u8]) -> Attempt<()> {
        clear_way(context, self, above, name)
    }

    /// The directory, open.
    pub(super) fn open(&self) -> Attempt<Arc<OwnedFd>> {
        self.place.open().map_err(|cause| match cause {
            crate::source::tree::Cause::System(errno) => Trouble::of("open the directory of")(errno),
            _ => Trouble::Refused("its directory was moved or replaced while it was restored"),
        })
    }

    /// How something that is our own came to be in it.
    pub(super) fn before(&self, is_continued: bool) -> Before<'static> {
        match self.traits.passes_acl || is_continued {
            true => Before::Touched,
            false => Before::New,
        }
    }

    /// Whether the revision does not have all that was in it.
    pub(super) fn is_partly_stored(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.left_out)
    }

    /// The top node of the revision's directory.
    pub(super) fn top(&self) -> Option<&DirectoryTop> {
        match self.entry.as_ref().map(|entry| &entry.content) {
            Some(EntryContent::Directory(top)) => top.as_ref(),
            _ => None,
        }
    }

    /// The name that `name` has here until it is complete.
    pub(super) fn partial_name(&self, context: &Context<'_>, name: &[u8]) -> Attempt<Vec<u8>> {
        if let Some(prefix) = self.prefix.get() {
            return Ok(partial_name(prefix, name));
        }
        let prefix = partial_prefix(context.tree, self.top())?
            .ok_or(Trouble::Refused("there is no free name to write it under"))?;
        Ok(partial_name(self.prefix.get_or_init(|| prefix), name))
    }

    /// Whether the revision has a name here.
    pub(super) fn has_entry(&self, context: &Context<'_>, name: &[u8]) -> Attempt<bool> {
        Ok(context.tree.lookup(self.top(), name)?.is_some())
    }

    /// Something begins in it.
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// Something in it, or the walk through it, is done. The last one finishes it, and then its parent if it was the last
    /// there, and so on.
    pub(super) fn done(self: &Arc<Self>, context: &Context<'_>) {
        let mut directory = Arc::clone(self);
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            directory.finish(context);
            match &directory.parent {
                Some(parent) => directory = Arc::clone(parent),
                None => return,
            }
        }
    }

    fn finish(&self, context: &Context<'_>) {
        let Some(entry) = &self.entry else { return };
        if context.is_stopped() {
            return;
        }
        let finished = match context.verifies() {
            true => Ok(true),
            false => self.set_metadata(context, entry),
        };
        match finished {
            Ok(is_unchanged) => context.count(entry, is_unchanged),
            Err(trouble) => context.fail(self, b"", trouble),
        }
        self.give_back();
    }

    /// Gives it the mode again that it had, if it got none.
    fn give_back(&self) {
        let Some(mode) = self.take_mode_before() else { return };
        if let Ok(descriptor) = self.place.open() {
            give_back(&descriptor, mode);
        }
    }

    fn take_mode_before(&self) -> Option<u16> {
        self.mode_before.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says whether it had all of it already.
    fn set_metadata(&self, context: &Context<'_>, entry: &Entry) -> Attempt<bool> {
        let descriptor = self.open()?;
        self.place.keep_parent_open();
        let wanted = context.wanted(entry)?;
        let handle = Handle::Open(descriptor.as_fd());
        let stat = handle.stat()?;
        let before = if self.traits.is_made { Before::New } else { Before::There(&stat) };
        let changes = Changes::plan(handle, &wanted, before)?;
        self.take_mode_before();
        context.set(self, b"", (handle, EntryType::Directory), &wanted, &changes);
        Ok(changes.is_empty() && !self.traits.is_narrowed)
    }
}

impl Drop for TargetDirectory {
    fn drop(&mut self) {
        self.give_back();
        // One after the other: as many calls in each other as the tree is deep would exhaust the stack.
        let mut parent = self.parent.take();
        while let Some(mut last) = parent.and_then(Arc::into_inner) {
            parent = last.parent.take();
        }
    }
}

/// The name of the root at the source says nothing here.
fn without_name(entry: Entry) -> Entry {
    Entry { name: crate::format::EntryName::of_root(), ..entry }
}

pub(super) const REPOSITORY: Trouble = Trouble::Refused("it is the repository");

/// Makes a directory that is ours alone, without what the one above would pass on. Unless that one is `private`, whoever may
/// write to it may put another one in its place.
fn make(context: &Context<'_>, above: &OwnedFd, entry: &Entry, private: bool) -> Attempt<Opened> {
    let name = entry.name.as_bytes();
    mkdirat(above, name, Mode::RWXU).map_err(Trouble::of("create directory"))?;
    let mut opened = OpenDirectory::open(above, name).map_err(Trouble::of("open"))?;
    let stat = EntryStat::of(&opened.descriptor).map_err(Trouble::of("look at"))?;
    let is_empty = private || opened.first_names().map_err(Trouble::of("list"))?.is_empty();
    if !is_empty || context.is_forbidden(&stat) {
        opened.give_back();
        return Err(Trouble::Refused("it was replaced at once when it was made"));
    }
    let is_new = is_ours(&stat, OTHERS);
    let is_foreign = !is_new && is_mount_point(above, name).map_err(Trouble::of("open"))?;
    if is_new && !private && has_default_acl(&opened.descriptor) {
        forget_acls(Handle::Open(opened.descriptor.as_fd()));
    }
    opened.open_up(Work::Change);
    let is_narrowed = !is_new && opened.narrow(context.mode_meanwhile(entry, &opened.descriptor));
    // What a new one is short of was taken by the umask, and is not to come back.
    let mode_before = opened.mode_before.filter(|_| !is_new);
    let descriptor = Arc::new(opened.descriptor);
    Ok(Opened { descriptor, stat, mode_before, is_new, is_foreign, is_narrowed })
}

/// Opens a directory that is there, and opens it up as far as that is needed.
fn open_existing(context: &Context<'_>, above: &OwnedFd, entry: &Entry) -> Attempt<Opened> {
    let name = entry.name.as_bytes();
    let is_foreign = is_mount_point(above, name).map_err(Trouble::of("open"))?;
    let mut opened = OpenDirectory::open(above, name).map_err(Trouble::of("open"))?;
    let stat = EntryStat::of(&opened.descriptor).map_err(Trouble::of("look at"))?;
    if context.is_forbidden(&stat) {
        opened.give_back();
        return Err(REPOSITORY);
    }
    opened.open_up(context.work());
    let is_narrowed = !context.verifies() && opened.narrow(context.mode_meanwhile(entry, &opened.descriptor));
    let OpenDirectory { descriptor, mode_before } = opened;
    Ok(Opened { descriptor: Arc::new(descriptor), stat, mode_before, is_new: false, is_foreign, is_narrowed })
}

/// What of a mode lets others than the owner change a directory.
const OTHERS_WRITE: u16 = 0o022;

/// Whether a directory belongs to who runs this, and gives nobody else some of these rights.
fn is_ours(stat: &EntryStat, others: u16) -> bool {
    stat.uid == rustix::process::geteuid().as_raw() && stat.mode & others == 0
}

/// Whether what lies in a directory is another file system's, or another part of one that is mounted there. A subvolume
/// counts as one, as for a backup.
pub(super) fn is_mount_point(above: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(above, name, DIRECTORY | OFlags::PATH, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Ok(true),
        // The last two: not known, or not allowed in a sandbox.
        Ok(_) | Err(Errno::NOSYS | Errno::PERM) => {
            let (inside, outside) = (EntryStat::at(above, name)?, EntryStat::of(above)?);
            Ok(inside.identity.device != outside.identity.device)
        }
        Err(errno) => Err(errno),
    }
}

/// Whether what is made in a directory that was there may get an ACL from it: its owner may give it one at any time.
fn passes_acl(descriptor: &OwnedFd, stat: &EntryStat) -> bool {
    !is_ours(stat, 0) || has_default_acl(descriptor)
}

fn has_default_acl(descriptor: &OwnedFd) -> bool {
    let mut short = [0; 128];
    // By a path, as it may be only held.
    match getxattr(Handle::Held(descriptor.as_fd()).path(), ACL_DEFAULT, &mut short[..]) {
        Ok(length) => length > 0,
        Err(errno) => errno == Errno::RANGE,
    }
}

/// Takes from what was just made what its directory passed on.
fn forget_acls(handle: Handle<'_>) {
    let path = handle.path();
    for name in [ACL_ACCESS, ACL_DEFAULT] {
        let _ = removexattr(&path, name);
    }
}
