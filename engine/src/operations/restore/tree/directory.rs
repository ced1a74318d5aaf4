//! Directories of the target: open by descriptor, and finished when everything in them is.
//!
//! One that is made here belongs to us alone, mode 0700, until it is finished. Then it gets its owner, mode, attributes
//! and last its time.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, fgetxattr, mkdirat, openat, openat2, removexattr, unlinkat,
};
use rustix::io::Errno;

use super::context::Context;
use super::metadata::{Before, Changes, Handle, make_accessible};
use super::names::{partial_name, partial_prefix};
use super::owners::{ACL_ACCESS, ACL_DEFAULT};
use super::problems::{Attempt, Trouble};
use super::remove::{clear_way, remove_extras};
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
    /// There was nothing in it, so all names are new.
    pub(super) is_new: bool,
    /// What is made in it gets its ACL.
    pub(super) passes_acl: bool,
    /// It lies on another file system than the target's root, or behind a mount point.
    pub(super) is_foreign: bool,
}

/// The directory that a restore begins in.
pub(super) struct Root<'a> {
    /// What users call it.
    pub(super) path: &'a [u8],
    pub(super) descriptor: OwnedFd,
    pub(super) stat: EntryStat,
    /// It was just made.
    pub(super) is_made: bool,
    /// There is nothing in it.
    pub(super) is_new: bool,
}

/// What is found where a directory is to be.
struct Opened {
    descriptor: Arc<OwnedFd>,
    stat: EntryStat,
    is_new: bool,
    is_foreign: bool,
}

impl TargetDirectory {
    /// The directory that the restore begins in.
    pub(super) fn root(root: Root<'_>, entry: Option<Entry>) -> Arc<Self> {
        let Root { path, descriptor, stat, is_made, is_new } = root;
        if is_made {
            forget_acls(Handle::Open(descriptor.as_fd()));
        }
        let passes_acl = has_default_acl(&descriptor);
        let place = Directory::root(path, descriptor, &stat);
        let entry = entry.map(without_name);
        let traits = Traits { is_made, is_new, passes_acl, is_foreign: false };
        Self::at(place, None, entry, traits)
    }

    /// Whether it is only where a single entry is put.
    pub(super) fn is_outside(&self) -> bool {
        self.entry.is_none()
    }

    fn at(
        place: Arc<Directory>,
        parent: Option<Arc<Self>>,
        entry: Option<Entry>,
        traits: Traits,
    ) -> Arc<Self> {
        let (pending, prefix) = (AtomicUsize::new(1), OnceLock::new());
        Arc::new(Self { place, parent, entry, traits, pending, prefix })
    }

    /// The directory of an entry in this one, made or opened. Whoever calls this must call [`TargetDirectory::done`].
    pub(super) fn enter(self: &Arc<Self>, context: &Context<'_>, entry: &Entry) -> Attempt<Arc<Self>> {
        let above = self.open()?;
        let name = entry.name.as_bytes();
        let opened = match self.traits.is_new {
            true => make(&above, name, self.traits.passes_acl)?,
            false => self.open_or_make(context, &above, name)?,
        };
        if context.is_forbidden(&opened.stat) {
            return Err(Trouble::Refused("it is the repository"));
        }
        let place = self.place.open_child(name, opened.stat.identity, &opened.descriptor);
        let is_foreign = self.traits.is_foreign || opened.is_foreign;
        if is_foreign {
            context.note_file_system(&opened.stat, &opened.descriptor);
        }
        let passes_acl = !opened.is_new && has_default_acl(&opened.descriptor);
        let traits = Traits { is_made: opened.is_new, is_new: opened.is_new, passes_acl, is_foreign };
        self.begin();
        Ok(Self::at(place, Some(Arc::clone(self)), Some(entry.clone()), traits))
    }

    fn open_or_make(&self, context: &Context<'_>, above: &OwnedFd, name: &[u8]) -> Attempt<Opened> {
        match EntryStat::at(above, name) {
            Ok(stat) if stat.kind == EntryType::Directory => {
                let (descriptor, is_foreign) = open_existing(above, name).map_err(Trouble::of("open"))?;
                let stat = EntryStat::of(&descriptor).map_err(Trouble::of("look at"))?;
                Ok(Opened { descriptor: Arc::new(descriptor), stat, is_new: false, is_foreign })
            }
            Ok(_) if context.verifies() => Err(Trouble::Refused("it is no directory")),
            Ok(_) => {
                unlinkat(above, name, AtFlags::empty()).map_err(Trouble::of("remove"))?;
                make(above, name, self.traits.passes_acl)
            }
            Err(Errno::NOENT) if !context.verifies() => make(above, name, self.traits.passes_acl),
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
    }

    /// Says whether it had all of it already.
    fn set_metadata(&self, context: &Context<'_>, entry: &Entry) -> Attempt<bool> {
        let descriptor = self.open()?;
        self.place.keep_parent_open();
        let wanted = context.wanted(self, b"", entry)?;
        let handle = Handle::Open(descriptor.as_fd());
        let stat = handle.stat()?;
        let before = if self.traits.is_made { Before::New } else { Before::There(&stat) };
        let changes = Changes::plan(handle, &wanted, before)?;
        if changes.is_empty() {
            return Ok(true);
        }
        let left_out = changes.apply(handle, EntryType::Directory, &wanted);
        context.note_left_out(self, b"", left_out);
        Ok(false)
    }
}

impl Drop for TargetDirectory {
    fn drop(&mut self) {
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

/// Makes a directory that is ours alone, without what the one above would pass on.
fn make(above: &OwnedFd, name: &[u8], passes_acl: bool) -> Attempt<Opened> {
    mkdirat(above, name, Mode::RWXU).map_err(Trouble::of("create directory"))?;
    let descriptor = open_directory(above, name).map_err(Trouble::of("open"))?;
    if passes_acl {
        forget_acls(Handle::Open(descriptor.as_fd()));
    }
    let stat = EntryStat::of(&descriptor).map_err(Trouble::of("look at"))?;
    Ok(Opened { descriptor: Arc::new(descriptor), stat, is_new: true, is_foreign: false })
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a directory by its name, also one that its owner may not work in.
pub(super) fn open_directory(above: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let opened = openat(&above, name, DIRECTORY, Mode::empty());
    let may_work = |descriptor: &OwnedFd| {
        let stat = EntryStat::of(descriptor);
        rustix::process::geteuid().is_root() || stat.is_ok_and(|stat| stat.mode & 0o700 == 0o700)
    };
    match opened {
        Ok(descriptor) if may_work(&descriptor) => return Ok(descriptor),
        Ok(_) | Err(Errno::ACCESS) => {}
        Err(errno) => return Err(errno),
    }
    let held = openat(&above, name, DIRECTORY | OFlags::PATH, Mode::empty())?;
    // Where that is forbidden, what is tried in it says so.
    let _ = make_accessible(held.as_fd());
    openat(held, ".", DIRECTORY, Mode::empty())
}

/// Opens a directory, and says whether a mount point was crossed.
fn open_existing(above: &OwnedFd, name: &[u8]) -> Result<(OwnedFd, bool), Errno> {
    let is_foreign = is_mount_point(above, name)?;
    Ok((open_directory(above, name)?, is_foreign))
}

/// Whether something else is mounted on a directory, be it another part of the same file system.
pub(super) fn is_mount_point(above: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(above, name, DIRECTORY | OFlags::PATH, Mode::empty(), resolve) {
        Ok(_) => Ok(false),
        Err(Errno::XDEV) => Ok(true),
        // Not known, or not allowed in a sandbox.
        Err(Errno::NOSYS | Errno::PERM) => {
            let (inside, outside) = (EntryStat::at(above, name)?, EntryStat::of(above)?);
            Ok(inside.identity.device != outside.identity.device)
        }
        Err(errno) => Err(errno),
    }
}

fn has_default_acl(descriptor: &OwnedFd) -> bool {
    let mut short = [0; 128];
    match fgetxattr(descriptor, ACL_DEFAULT, &mut short[..]) {
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
