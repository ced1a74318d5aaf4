//! Where in a revision bad objects are: ranges of an image, files of a tree. Nodes below which nothing is bad are passed by.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::extent::push_joined;
use crate::format::{Attributes, DirectoryTop, Entry, EntryContent, FileData, ImageContent};
use crate::id::ObjectId;
use crate::repository::Repository;
use crate::revision::{BadSearch, MapPart, MapReader, TreePart, TreeReader, span_of, walk_file};

/// Places that are named of one revision; of more it is counted how many.
pub(super) const MAX_PLACES: usize = 2_000;

/// Paths that are longer are counted and not named.
const MAX_PATH: usize = 4 << 10;

/// So much is looked at in one revision: far more than a hundred thousand bad objects want. A hostile one names its few nodes
/// in more places than can ever be visited.
const MAX_VISITS: u64 = 50_000_000;

/// What of a revision can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// Ranges of an image, in bytes.
    Ranges(Vec<Range<u64>>),
    /// Files and directories of a tree.
    Files(Vec<AffectedFile>),
}

/// A file or directory of which something can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedFile {
    /// Its path from the root of the tree; the root's is empty.
    pub path: Vec<u8>,
    /// What of it.
    pub part: FilePart,
}

/// What of a file or directory can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePart {
    /// Some of its bytes, or all.
    Content,
    /// Its extended attributes.
    Attributes,
    /// Some of its entries, or all, with what lies below them.
    Entries,
}

/// The places in a revision, and how many more there are than are named.
pub(super) type Found<T> = (Vec<T>, u64);

/// Finds the bad ranges of an image.
pub(super) fn ranges_of(
    repository: &Repository,
    search: &BadSearch<'_>,
    image: &ImageContent,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Found<Range<u64>>> {
    let whole = || (std::iter::once(0..image.size).collect(), 0);
    if search.is_bad(&image.root) {
        return Ok(whole());
    }
    let map = match MapReader::open(repository.store(), &image.root) {
        Err(error) if error.is_loss() => return Ok(whole()),
        map => map?,
    };
    let bytes_of = |first_slot: u64, slots: u64| {
        let chunk_size = u64::from(map.root().chunk_size);
        let end = first_slot.saturating_add(slots).saturating_mul(chunk_size);
        first_slot.saturating_mul(chunk_size)..end.min(map.root().size)
    };
    let (mut ranges, mut more) = (Vec::new(), 0);
    let mut note = |range: Range<u64>| {
        let follows = ranges.last().is_some_and(|last: &Range<u64>| last.end == range.start);
        match ranges.len() < MAX_PLACES || follows {
            true => push_joined(&mut ranges, range),
            false => more += 1,
        }
    };
    let mut visits = 0;
    map.walk(&mut |part| -> Result<bool> {
        go_on()?;
        visits += 1;
        match part {
            _ if visits > MAX_VISITS => Ok(false),
            MapPart::Node { id, level, first_slot } if search.is_bad(id) => {
                note(bytes_of(first_slot, span_of(level)));
                Ok(false)
            }
            MapPart::Node { id, .. } => Ok(!search.has_none_below(id)),
            MapPart::Unreadable { level, first_slot, error, .. } => {
                unless_lost(error)?;
                note(bytes_of(first_slot, span_of(level)));
                Ok(false)
            }
            MapPart::Chunk { id, slot } => {
                if search.is_bad(id) {
                    note(bytes_of(slot, 1));
                }
                Ok(true)
            }
        }
    })?;
    Ok((ranges, more + visits.saturating_sub(MAX_VISITS)))
}

/// Finds the bad files of a tree.
pub(super) fn files_of(
    repository: &Repository,
    search: &BadSearch<'_>,
    root: &ObjectId,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Found<AffectedFile>> {
    let whole = || (vec![AffectedFile { path: Vec::new(), part: FilePart::Entries }], 0);
    if search.is_bad(root) {
        return Ok(whole());
    }
    let tree = match TreeReader::open_unpinned(repository.store(), root) {
        Err(error) if error.is_loss() => return Ok(whole()),
        tree => tree?,
    };
    let mut walk =
        TreeSearch { tree: &tree, search, go_on, pending: Vec::new(), files: Vec::new(), more: 0, visits: 0 };
    walk.look_at(tree.root(), Vec::new())?;
    while let Some((path, top)) = walk.pending.pop() {
        walk.look_into(&path, &top)?;
    }
    walk.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((walk.files, walk.more))
}

/// A search through the directories of a tree.
struct TreeSearch<'a> {
    tree: &'a TreeReader,
    search: &'a BadSearch<'a>,
    go_on: &'a dyn Fn() -> Result<()>,
    /// Directories that are still to be looked into.
    pending: Vec<(Vec<u8>, DirectoryTop)>,
    files: Vec<AffectedFile>,
    more: u64,
    visits: u64,
}

impl TreeSearch<'_> {
    fn look_into(&mut self, path: &[u8], top: &DirectoryTop) -> Result<()> {
        (self.go_on)()?;
        for run in self.tree.entry_runs(Some(top), None) {
            match run {
                Ok(run) => run.iter().try_for_each(|entry| self.look_at(entry, join(path, entry)))?,
                Err(error) => {
                    unless_lost(error)?;
                    self.note(path.to_vec(), FilePart::Entries);
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, entry: &Entry, path: Vec<u8>) -> Result<()> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            self.pending.clear();
            self.more += 1;
            return Ok(());
        }
        if let Attributes::Chunk(id) = &entry.attributes
            && self.search.is_bad(id)
        {
            self.note(path.clone(), FilePart::Attributes);
        }
        match &entry.content {
            EntryContent::Directory(Some(top)) if self.search.is_bad(&top.id) => {
                self.note(path, FilePart::Entries);
            }
            EntryContent::Directory(Some(top)) if self.search.has_none_below(&top.id) => {}
            EntryContent::Directory(Some(_)) if path.len() > MAX_PATH => self.more += 1,
            EntryContent::Directory(Some(top)) => self.pending.push((path, *top)),
            EntryContent::File(data) if self.has_bad(data)? => self.note(path, FilePart::Content),
            _ => {}
        }
        Ok(())
    }

    fn has_bad(&self, data: &FileData) -> Result<bool> {
        let mut is_any_bad = false;
        walk_file(self.tree.store(), data, &mut |part| -> Result<bool> {
            (self.go_on)()?;
            match part {
                TreePart::Node { id, .. } | TreePart::Chunk { id, .. } if self.search.is_bad(id) => {
                    is_any_bad = true;
                }
                TreePart::Node { id, .. } => return Ok(!is_any_bad && !self.search.has_none_below(id)),
                TreePart::Unreadable { error, .. } => {
                    unless_lost(error)?;
                    is_any_bad = true;
                }
                TreePart::Chunk { .. } => {}
            }
            Ok(!is_any_bad)
        })?;
        Ok(is_any_bad)
    }

    fn note(&mut self, path: Vec<u8>, part: FilePart) {
        match self.files.len() < MAX_PLACES && path.len() <= MAX_PATH {
            true => self.files.push(AffectedFile { path, part }),
            false => self.more += 1,
        }
    }
}

fn join(path: &[u8], entry: &Entry) -> Vec<u8> {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, separator, entry.name.as_bytes()].concat()
}

/// Fails with an error that says nothing of what is stored.
fn unless_lost(error: Error) -> Result<()> {
    if error.is_loss() { Ok(()) } else { Err(error) }
}
