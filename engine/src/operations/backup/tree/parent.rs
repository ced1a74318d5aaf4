//! The parent's tree: what stands in it for an entry that the walk meets, and whether that can be taken over unread.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::hard_links::Inode;
use super::item::Found;
use crate::error::{Error, Result};
use crate::format::{Attributes, DirectoryTop, Entry, EntryContent, EntryName, FileData, Slot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::revision::{EntryRun, EntryRuns, TreeReader};
use crate::source::tree::{EntryStat, EntryType};
use crate::store::{Presence, Store};

/// So many directories are known by their inodes at most, in tens of MiB.
const MOVED_MAX: usize = 400_000;

/// The parent's tree.
pub(super) struct Parent<'a> {
    pub(super) reader: &'a TreeReader,
    pub(super) store: &'a Store,
    /// Tells what may be relied upon.
    pub(super) presence: Presence<'a>,
    /// Where the first damage is noted: what can't be read of the parent is read from the source.
    pub(super) damage: &'a Mutex<Option<Error>>,
    pub(super) monitor: &'a dyn Monitor,
}

/// Directories that are not empty, by their inodes.
pub(super) type Directories = HashMap<Inode, DirectoryTop>;

impl Parent<'_> {
    /// The entries of a directory of the parent.
    pub(super) fn list(&self, top: Option<&DirectoryTop>) -> Listing {
        Listing { runs: top.map(|top| self.reader.entry_runs(Some(top), None)), run: None, passed: 0 }
    }

    /// Notes damage; other errors are passed on.
    pub(super) fn note(&self, error: Error) -> Result<()> {
        if !error.is_loss() {
            return Err(error);
        }
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        Ok(())
    }

    /// What is stored of an entry that is as it was; its metadata are those of now.
    pub(super) fn take_over(&self, known: Entry, found: &Found) -> Result<Option<Entry>> {
        let stat = &found.entry.stat;
        if !is_unchanged(&known, found) || self.reaches_bad(&known)? {
            return Ok(None);
        }
        Ok(Some(found.stored(stat, known.content, known.attributes, false)))
    }

    /// The attributes of a directory that are as they were.
    pub(super) fn attributes(&self, known: &Entry, found: &Found) -> Result<Option<Attributes>> {
        let stands = is_unchanged(known, found) && !self.has_bad_attributes(known)?;
        Ok(stands.then(|| known.attributes.clone()))
    }

    /// All directories of the parent, for those that have moved. What can't be read is not among them.
    pub(super) fn directories(&self) -> Result<Directories> {
        let mut directories = Directories::new();
        let mut seen = HashSet::new();
        let mut waiting: Vec<DirectoryTop> = top_of(self.reader.root()).into_iter().collect();
        while let Some(top) = waiting.pop() {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            // Directories may share nodes: each is read once.
            if !seen.insert(top.id) {
                continue;
            }
            for run in self.reader.entry_runs(Some(&top), None) {
                match run {
                    Ok(run) => add_directories(&run, &mut directories, &mut waiting),
                    Err(error) => self.note(error)?,
                }
            }
        }
        Ok(directories)
    }

    fn reaches_bad(&self, known: &Entry) -> Result<bool> {
        if self.has_bad_attributes(known)? {
            return Ok(true);
        }
        match &known.content {
            EntryContent::File(FileData::Slice { chunk, .. }) => self.is_bad(chunk),
            EntryContent::File(FileData::Map { level, subtree }) => self.map_reaches_bad(*level, subtree.id),
            _ => Ok(false),
        }
    }

    fn is_bad(&self, id: &ObjectId) -> Result<bool> {
        Ok(!self.presence.stands(id)?)
    }

    fn has_bad_attributes(&self, known: &Entry) -> Result<bool> {
        match &known.attributes {
            Attributes::Chunk(id) => self.is_bad(id),
            Attributes::None | Attributes::Inline(_) => Ok(false),
        }
    }

    fn map_reaches_bad(&self, level: u8, top: ObjectId) -> Result<bool> {
        let mut seen = HashSet::new();
        let mut waiting = vec![(level, top)];
        while let Some((level, id)) = waiting.pop() {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            // Maps may share nodes: each is looked at once.
            if !seen.insert(id) {
                continue;
            }
            if self.is_bad(&id)? {
                return Ok(true);
            }
            // Else the top tells enough.
            if !self.presence.is_anything_lost() {
                return Ok(false);
            }
            match self.look_into(level, &id, &mut waiting) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(error) => {
                    self.note(error)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether a leaf has a bad chunk; the children of an inner node wait for their turn.
    fn look_into(&self, level: u8, id: &ObjectId, waiting: &mut Vec<(u8, ObjectId)>) -> Result<bool> {
        let Some(below) = level.checked_sub(1) else {
            for slot in &self.store.file_leaf(id)?.slots {
                if let Slot::Chunk(chunk) = &slot.content
                    && self.is_bad(chunk)?
                {
                    return Ok(true);
                }
            }
            return Ok(false);
        };
        waiting.extend(self.store.file_inner(id)?.children.iter().map(|child| (below, child.id)));
        Ok(false)
    }
}

fn add_directories(run: &EntryRun, directories: &mut Directories, waiting: &mut Vec<DirectoryTop>) {
    for entry in run.iter() {
        let Some(top) = top_of(entry) else { continue };
        if directories.len() < MOVED_MAX {
            let inode = Inode { mount: entry.metadata.mount, number: entry.metadata.inode };
            directories.insert(inode, top);
            waiting.push(top);
        }
    }
}

/// The top of a directory that is not empty.
pub(super) fn top_of(entry: &Entry) -> Option<DirectoryTop> {
    match &entry.content {
        EntryContent::Directory(top) => *top,
        _ => None,
    }
}

/// Whether what was recorded of an entry says that it is the same, and unchanged since.
fn is_unchanged(known: &Entry, found: &Found) -> bool {
    let (stat, metadata) = (&found.entry.stat, &known.metadata);
    let is_same = (metadata.mount, metadata.inode) == (found.mount, stat.identity.inode);
    found.is_believed
        && is_same
        && metadata.ctime == stat.ctime
        && !known.unsettled
        && has_same_content(known, stat)
}

fn has_same_content(known: &Entry, stat: &EntryStat) -> bool {
    let device = |major: u32, minor: u32| stat.device_number == (major, minor);
    match (&known.content, stat.kind) {
        (EntryContent::File(data), EntryType::File) => {
            data.size() == stat.size && known.metadata.mtime == stat.mtime
        }
        (EntryContent::BlockDevice { major, minor }, EntryType::BlockDevice)
        | (EntryContent::CharacterDevice { major, minor }, EntryType::CharacterDevice) => {
            device(*major, *minor)
        }
        (EntryContent::Directory(_), EntryType::Directory)
        | (EntryContent::Symlink(_), EntryType::Symlink)
        | (EntryContent::Fifo, EntryType::Fifo)
        | (EntryContent::Socket, EntryType::Socket) => true,
        _ => false,
    }
}

/// The entries of one directory of the parent, passed by in the order of their names.
#[derive(Default)]
pub(super) struct Listing {
    runs: Option<EntryRuns>,
    run: Option<EntryRun>,
    /// Entries of the run that were passed.
    passed: usize,
}

impl Listing {
    /// The entry of this name. Names must be asked for in ascending order.
    pub(super) fn find(&mut self, name: &EntryName, parent: &Parent<'_>) -> Result<Option<Entry>> {
        loop {
            if let Some(run) = &self.run {
                let rest = run.get(self.passed..).unwrap_or_default();
                let before = rest.iter().take_while(|entry| entry.name < *name).count();
                self.passed += before;
                if let Some(entry) = rest.get(before) {
                    return Ok((entry.name == *name).then(|| entry.clone()));
                }
            }
            (self.run, self.passed) = (None, 0);
            match self.runs.as_mut().and_then(Iterator::next) {
                None => return Ok(None),
                Some(Ok(run)) => self.run = Some(run),
                Some(Err(error)) => parent.note(error)?,
            }
        }
    }
}
