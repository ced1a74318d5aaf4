//! The walk of the source, beside the same directories of the parent.
//!
//! Both come in the order of names, so an entry's predecessor is found in passing. A directory that is not at the place
//! where the parent has it is looked for by its inode: so one that was moved or renamed is compared with what it was.

use std::collections::HashMap;

use super::item::{Found, path_of};
use super::parent::{Directories, Listing, Parent, top_of};
use crate::error::{Error, Result};
use crate::format::{Attributes, DirectoryTop, Entry, EntryName};
use crate::source::tree::{Entry as SourceEntry, EntryError, Step, Walk};

/// A step of the walk, with what the parent knows.
pub(super) enum Met {
    /// A directory begins; its attributes, if they are as they were.
    Enter(Found, Option<Attributes>),
    /// The directory that was entered last ends; whether something of it was left out.
    Leave { left_out: bool },
    /// Anything else; what to store of it, if it is as it was.
    Entry(Found, Option<Entry>),
    /// Something could not be looked at.
    Failed(EntryError),
}

/// The walk and the parent, side by side.
pub(super) struct Merge<'a> {
    walk: Walk,
    parent: Option<Parent<'a>>,
    /// The directories of the parent that stand for those that were entered and not left.
    levels: Vec<Listing>,
    /// Made when it is first wanted.
    moved: Option<Directories>,
    /// The file systems that were met, each with its ordinal and whether it can be believed.
    mounts: HashMap<u64, (u32, bool)>,
}

impl<'a> Merge<'a> {
    pub(super) fn new(walk: Walk, parent: Option<Parent<'a>>) -> Self {
        Self { walk, parent, levels: Vec::new(), moved: None, mounts: HashMap::new() }
    }

    /// The next step; `None` at the end.
    pub(super) fn step(&mut self) -> Result<Option<Met>> {
        let Some(step) = self.walk.next() else { return Ok(None) };
        Ok(Some(match step {
            Step::Failed(error) => Met::Failed(error),
            Step::Leave { left_out } => {
                self.levels.pop();
                Met::Leave { left_out }
            }
            Step::Entry(entry) => {
                let found = self.found(entry)?;
                let unchanged = self.unchanged(&found)?;
                Met::Entry(found, unchanged)
            }
            Step::Enter(entry) => {
                let found = self.found(entry)?;
                let attributes = self.enter(&found)?;
                Met::Enter(found, attributes)
            }
        }))
    }

    fn found(&mut self, entry: SourceEntry) -> Result<Found> {
        let name = match self.levels.is_empty() {
            true => Some(EntryName::of_root()),
            false => EntryName::new(entry.name()),
        };
        let name = name.ok_or_else(|| {
            let reason = "the system gave it a name that no file can have".to_owned();
            Error::UnusableSource { path: path_of(&entry), reason }
        })?;
        let next = u32::try_from(self.mounts.len()).unwrap_or(u32::MAX);
        let of_device = self.mounts.entry(entry.stat.identity.device);
        let (mount, is_believed) = *of_device.or_insert_with(|| (next, entry.is_believed()));
        Ok(Found { entry, name, mount, is_believed, link: None })
    }

    fn unchanged(&mut self, found: &Found) -> Result<Option<Entry>> {
        let (Some(parent), Some(level)) = (&self.parent, self.levels.last_mut()) else { return Ok(None) };
        match level.find(&found.name, parent)? {
            Some(known) => parent.take_over(known, found),
            None => Ok(None),
        }
    }

    /// Goes down in the parent as well, if it has this directory.
    fn enter(&mut self, found: &Found) -> Result<Option<Attributes>> {
        let Some(parent) = &self.parent else {
            self.levels.push(Listing::default());
            return Ok(None);
        };
        let at_path = match self.levels.last_mut() {
            Some(level) => level.find(&found.name, parent)?,
            None => Some(parent.reader.root().clone()),
        };
        let attributes = match &at_path {
            Some(known) => parent.attributes(known, found)?,
            None => None,
        };
        let top = match at_path.as_ref() {
            Some(known) if is_same_inode(known, found) => top_of(known),
            known => moved_top(&mut self.moved, parent, found)?.or(known.and_then(top_of)),
        };
        self.levels.push(parent.list(top.as_ref()));
        Ok(attributes)
    }
}

fn is_same_inode(known: &Entry, found: &Found) -> bool {
    (known.metadata.mount, known.metadata.inode) == (found.mount, found.entry.stat.identity.inode)
}

/// What the parent has of a directory somewhere else.
fn moved_top(
    moved: &mut Option<Directories>,
    parent: &Parent<'_>,
    found: &Found,
) -> Result<Option<DirectoryTop>> {
    let directories = match moved {
        Some(directories) => directories,
        None => moved.insert(parent.directories()?),
    };
    Ok(directories.get(&found.inode()).copied())
}
