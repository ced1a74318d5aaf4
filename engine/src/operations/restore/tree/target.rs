//! Where a tree, or a part of one, is put, and why that may not be.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, sync, syncfs};
use rustix::io::Errno;

use super::super::place::{identities, identity, lies_in, refuse};
use super::TreeRestoreOptions;
use super::access::{OpenDirectory, Work, open_file};
use super::context::Context;
use super::directory::{Root, TargetDirectory};
use super::entry::type_of;
use crate::error::{Error, Result};
use crate::format::{Entry, EntryContent, EntryName};
use crate::repository::Repository;
use crate::source::tree::{EntryStat, EntryType};

/// An open target.
pub(super) struct Target {
    /// What users call the directory that the tree's is, or that a single entry is put into.
    path: PathBuf,
    /// The same, open; only held, if a single entry is put into a directory that this user may not list.
    pub(super) descriptor: OwnedFd,
    /// The mode that it had before it was opened up, if it was.
    mode_before: Option<u16>,
    /// What the revision says of it; `None` where a single entry is put into it.
    entry: Option<Entry>,
    /// It was just made.
    is_made: bool,
    /// There is nothing in it.
    is_new: bool,
    /// The single entry, with its name here.
    pub(super) single: Option<Entry>,
    /// Directories that must not be entered.
    pub(super) forbidden: Vec<(u64, u64)>,
}

/// What stands in the root of a file system.
pub(super) const LOST_AND_FOUND: &[u8] = b"lost+found";

/// A path whose last part is not followed.
struct Place {
    /// What users call it.
    path: PathBuf,
    /// The directory that it lies in; `None` of what has no name, such as the root of all.
    parent: Option<OwnedFd>,
    name: Vec<u8>,
    there: Option<EntryStat>,
}

impl Target {
    /// Opens a target for an entry of a tree, after all that speaks against it was looked for.
    pub(super) fn open(
        path: &Path,
        repository: &Repository,
        entry: &Entry,
        options: &TreeRestoreOptions,
    ) -> Result<Self> {
        let place = Place::look(path)?;
        let directory = repository.directory();
        if let Some(directory) = &directory {
            place.refuse_repository(directory)?;
        }
        let forbidden = directory.as_deref().map(identities).unwrap_or_default();
        match &entry.content {
            EntryContent::Directory(_) => Self::open_tree(&place, entry, options, forbidden),
            _ => Self::open_single(&place, entry, options, forbidden),
        }
    }

    fn open_tree(
        place: &Place,
        entry: &Entry,
        options: &TreeRestoreOptions,
        forbidden: Vec<(u64, u64)>,
    ) -> Result<Self> {
        let is_made = place.there.is_none();
        if let Some(stat) = &place.there
            && stat.kind != EntryType::Directory
        {
            return Err(
                place.refuse("it is no directory", "choose a directory, or one that is not there yet")
            );
        }
        if is_made {
            place.make()?;
        }
        let opened = place.open()?;
        let is_new = place.look_into(&opened, options).inspect_err(|_| opened.give_back())?;
        let OpenDirectory { descriptor, mode_before } = opened;
        // What is not empty is not what was made.
        let is_made = is_made && is_new;
        let (path, entry) = (place.path.clone(), Some(entry.clone()));
        Ok(Self { path, descriptor, mode_before, entry, is_made, is_new, single: None, forbidden })
    }

    /// The directory to begin in; the first time with what is known of its being new.
    pub(super) fn directory(&self, context: &Context<'_>, is_first: bool) -> Result<Arc<TargetDirectory>> {
        let failed = |error| Error::io("open", self.path.display())(error);
        let descriptor = self.descriptor.try_clone().map_err(failed)?;
        let stat = EntryStat::of(&descriptor).map_err(|errno| failed(errno.into()))?;
        let mode_before = self.mode_before.filter(|_| is_first);
        let mut opened = OpenDirectory { descriptor, mode_before };
        let mut is_narrowed = false;
        if let Some(entry) = &self.entry {
            opened.open_up(if is_first { Work::Change } else { Work::Look });
            is_narrowed = is_first && opened.narrow(context.mode_meanwhile(entry, &opened.descriptor));
        }
        let root = Root {
            path: self.path.as_os_str().as_bytes(),
            opened,
            stat,
            is_made: is_first && self.is_made,
            is_new: is_first && self.is_new,
            is_narrowed,
        };
        Ok(TargetDirectory::root(root, self.entry.clone()))
    }

    /// Makes durable what was written to its file system.
    pub(super) fn sync(&self) -> Result<()> {
        let outcome = match (syncfs(&self.descriptor), &self.single) {
            (Err(Errno::BADF), Some(entry)) => self.sync_by(entry),
            (outcome, _) => outcome,
        };
        outcome.map_err(|errno| Error::io("sync", "the target")(errno.into()))
    }

    /// The same by what was put into it. If that can't be opened, all file systems are synced, and none tells how that went.
    fn sync_by(&self, entry: &Entry) -> rustix::io::Result<()> {
        let is_file = type_of(&entry.content) == EntryType::File;
        match is_file.then(|| open_file(&self.descriptor, entry.name.as_bytes())) {
            Some(Ok(file)) => syncfs(file),
            _ => {
                sync();
                Ok(())
            }
        }
    }

    /// Something that is no directory is put under the target's name.
    fn open_single(
        place: &Place,
        entry: &Entry,
        options: &TreeRestoreOptions,
        forbidden: Vec<(u64, u64)>,
    ) -> Result<Self> {
        match &place.there {
            Some(stat) if stat.kind == EntryType::Directory => {
                return Err(
                    place.refuse("it is a directory, and what is restored is none", "name a file in it")
                );
            }
            // Who names /dev/null or a disk wants the bytes there, and not a file in its place.
            Some(stat) if stat.kind != EntryType::File && stat.kind != type_of(&entry.content) => {
                return Err(place.refuse(
                    "it is a device, a pipe or a socket, and what is restored is not",
                    "choose another target; `treering dump` writes to anything",
                ));
            }
            Some(_) if !options.in_place && !options.overwrite => {
                return Err(place.refuse(
                    "it exists",
                    "--overwrite replaces it; --in-place writes only what differs, also after an interrupted restore",
                ));
            }
            _ => {}
        }
        let (Some(parent), Some(name)) = (&place.parent, EntryName::new(&place.name)) else {
            return Err(place.refuse("it has no name", "choose another target"));
        };
        let descriptor = match openat(parent, ".", DIRECTORY, Mode::empty()) {
            // To put something into it is allowed all the same.
            Err(Errno::ACCESS) => openat(parent, ".", DIRECTORY | OFlags::PATH, Mode::empty()),
            opened => opened,
        };
        let descriptor = descriptor.map_err(place.failed("open the directory of"))?;
        let single = Some(Entry { name, has_other_names: false, ..entry.clone() });
        let (path, entry) = (parent_of(&place.path), None);
        let mode_before = None;
        Ok(Self { path, descriptor, mode_before, entry, is_made: false, is_new: false, single, forbidden })
    }
}

impl Place {
    fn nameless(path: &Path) -> Self {
        Self { path: path.to_owned(), parent: None, name: b".".to_vec(), there: None }
    }

    fn look(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).map_err(Error::io("find", path.display()))?;
        let (Some(_), Some(name)) = (absolute.parent(), absolute.file_name()) else {
            // The root, or a path that ends in `..`.
            let resolved = absolute.canonicalize().map_err(Error::io("find", path.display()))?;
            return Self::of_directory(&resolved);
        };
        let parent = parent_of(&absolute);
        // Only held: who may not list it may still have something in it.
        let opened = openat(CWD, &parent, DIRECTORY | OFlags::PATH, Mode::empty());
        let opened = opened.map_err(|errno| Error::io("find directory", parent.display())(errno.into()))?;
        let there = match EntryStat::at(&opened, name.as_bytes()) {
            Err(Errno::NOENT) => None,
            found => Some(found.map_err(|errno| Error::io("look at", path.display())(errno.into()))?),
        };
        let place =
            Self { path: path.to_owned(), parent: Some(opened), name: name.as_bytes().to_vec(), there };
        match &place.there {
            Some(stat) if stat.kind == EntryType::Symlink => {
                Err(place.refuse("it is a symbolic link, and none is followed", "name what it leads to"))
            }
            _ => Ok(place),
        }
    }

    fn of_directory(path: &Path) -> Result<Self> {
        let place = Self::nameless(path);
        let stat = openat(CWD, path, DIRECTORY | OFlags::PATH, Mode::empty()).and_then(EntryStat::of);
        let stat = stat.map_err(place.failed("open"))?;
        Ok(Self { there: Some(stat), ..place })
    }

    fn refuse(&self, reason: &str, hint: &'static str) -> Error {
        refuse(&self.path, reason, hint)
    }

    fn failed(&self, action: &'static str) -> impl Fn(Errno) -> Error {
        let path = self.path.display().to_string();
        move |errno| Error::io(action, &path)(errno.into())
    }

    /// Neither what lies in the repository nor what it lies in may be changed.
    fn refuse_repository(&self, directory: &Path) -> Result<()> {
        let resolved = match self.there {
            Some(_) => self.path.canonicalize(),
            None => parent_of(&self.path).canonicalize(),
        };
        let resolved = resolved.map_err(Error::io("find", self.path.display()))?;
        if lies_in(&resolved, directory) {
            return Err(self.refuse("it lies in the repository", "choose a place outside of it"));
        }
        let own = self.there.as_ref().map(|stat| (stat.identity.device, stat.identity.inode));
        let repository = directory.canonicalize().map_err(Error::io("find", directory.display()))?;
        if own.is_some() && repository.ancestors().any(|above| identity(above) == own) {
            return Err(self.refuse("the repository lies in it", "choose a place beside the repository"));
        }
        Ok(())
    }

    fn make(&self) -> Result<()> {
        let Some(parent) = &self.parent else { return Ok(()) };
        mkdirat(parent, self.name.as_slice(), Mode::RWXU).map_err(self.failed("create directory"))
    }

    fn open(&self) -> Result<OpenDirectory> {
        let opened = match &self.parent {
            Some(parent) => OpenDirectory::open(parent, &self.name),
            None => openat(CWD, &self.path, DIRECTORY, Mode::empty())
                .map(|descriptor| OpenDirectory { descriptor, mode_before: None }),
        };
        opened.map_err(self.failed("open"))
    }

    /// Refuses a directory that another restore works in, or in which there is something that no option allows to change.
    /// Says whether it is empty.
    fn look_into(&self, opened: &OpenDirectory, options: &TreeRestoreOptions) -> Result<bool> {
        self.lock(&opened.descriptor)?;
        let names = opened.first_names().map_err(self.failed("list"))?;
        let is_fresh = names.iter().all(|name| name == LOST_AND_FOUND);
        if !is_fresh && !options.in_place && !options.overwrite {
            return Err(self.refuse(
                "it is not empty",
                "--in-place writes only what differs, also after an interrupted restore; --overwrite replaces what the \
                 revision has, too; both leave other entries alone unless --delete is given",
            ));
        }
        Ok(names.is_empty())
    }

    /// Keeps a second restore to the same directory out.
    fn lock(&self, descriptor: &OwnedFd) -> Result<()> {
        match flock(descriptor, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                Err(self.refuse("another restore to it is running", "wait for it, or choose another target"))
            }
            // Not every file system has locks.
            _ => Ok(()),
        }
    }
}

/// How directories are opened that users name: what leads there is theirs to choose.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory that a path lies in.
fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
