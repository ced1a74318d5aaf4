//! What changed between two revisions of a tree. Descends only where directories differ, and in large ones reads only the
//! nodes that do.

mod changes;
mod moves;
#[cfg(test)]
mod tests;

pub use changes::{Change, ChangeKind};

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Result};
use crate::format::{DirectoryTop, Entry, EntryContent, EntryType, FileData, Record};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::revision::{
    Met, SharedDirectory, TreeNumbers, TreeReader, TreesWalk, both_sides, counting_metadata,
    differing_directories, no_such_path, on_each_side, same_content, same_metadata, tidy_path,
};
use changes::Changes;
use moves::{Candidate, MAX_CANDIDATES, moved_directories, pair, pair_files};

/// 0 for the first tree, 1 for the second.
type Side = usize;

/// How trees are compared.
#[derive(Clone, Debug, Default)]
pub struct TreeDiffOptions {
    /// Only this path and what is below it; all if it is empty.
    pub path: Vec<u8>,
    /// Inode, ctime, links and the times of directories count as metadata.
    pub all_metadata: bool,
}

/// What changed between two trees.
pub struct TreeDiff {
    changes: Changes,
    /// What could not be compared, as it can't be read: nothing is told of what is there.
    pub lost: Vec<LostPlace>,
    /// Nodes of directories that were read to find what differs and what was moved: one that is read for both counts twice.
    pub nodes_read: u64,
}

/// A directory, or a part of it, or a file that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPlace {
    /// Its path from the root on; that of the root is empty.
    pub path: Vec<u8>,
    /// In which of the two trees.
    pub sides: TreeNumbers,
    /// Why.
    pub reason: String,
}

/// So many lost places are told at most.
const MAX_LOST: usize = 10_000;

impl TreeDiff {
    /// The paths that differ, in the order of trees: by their names, with what is below a directory right behind it. What
    /// was renamed stands where it went.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.changes.iter()
    }
}

/// Compares the trees of two revisions.
///
/// The bytes of a file count, and not how they are stored or where it has holes. A file or directory that is gone while
/// another one holds the same was renamed, maybe with other metadata of its own, and of such a directory nothing else is
/// told.
///
/// # Errors
/// [`Error::NotATree`], [`Error::NoSuchPath`] if neither has the path, [`Error::TooManyChanges`], [`Error::Cancelled`].
pub fn diff_trees(
    repository: &Repository,
    a: &Record,
    b: &Record,
    options: &TreeDiffOptions,
    monitor: &dyn Monitor,
) -> Result<TreeDiff> {
    let trees = [repository.open_tree(a)?, repository.open_tree(b)?];
    let path = tidy_path(&options.path);
    let starts = [trees[0].find(&path)?, trees[1].find(&path)?];
    let on_sides = [starts[0].as_ref(), starts[1].as_ref()];
    if on_sides == [None, None] {
        return Err(no_such_path(&path, format!("each of {} and {}", a.name, b.name)));
    }
    let directories = differing_directories(on_sides);
    let (moved, nodes_read) = moved_directories(&trees, directories.clone(), monitor)?;
    let mut comparison = Comparison {
        trees: &trees,
        all_metadata: options.all_metadata,
        metadata_hasher: RandomState::new(),
        monitor,
        moved,
        nodes_read,
        changes: Changes::default(),
        files: Default::default(),
        directories: Default::default(),
        lost: Vec::new(),
    };
    comparison.run(&path, on_sides, directories)
}

struct Comparison<'a> {
    trees: &'a [TreeReader; 2],
    all_metadata: bool,
    metadata_hasher: RandomState,
    monitor: &'a dyn Monitor,
    /// Directories that are gone in one place and new in another.
    moved: HashSet<ObjectId>,
    changes: Changes,
    /// Of each side, what may have been renamed.
    files: [Vec<Candidate<FileData>>; 2],
    directories: [Vec<Candidate<DirectoryTop>>; 2],
    lost: Vec<LostPlace>,
    nodes_read: u64,
}

impl Comparison<'_> {
    fn run(
        &mut self,
        path: &[u8],
        on_sides: [Option<&Entry>; 2],
        directories: Vec<SharedDirectory>,
    ) -> Result<TreeDiff> {
        let goes_on = self.compare(path, on_sides, &TreeNumbers::default())?;
        let mut walk = TreesWalk::new(self.trees[0].store(), self.monitor).passing_by(both_sides());
        if goes_on {
            walk.run(path, directories, &mut |met| self.visit(met))?;
        }
        self.nodes_read += walk.nodes_read();
        self.find_renamed()?;
        self.look_into_what_stayed()?;
        Ok(TreeDiff {
            changes: std::mem::take(&mut self.changes),
            lost: std::mem::take(&mut self.lost),
            nodes_read: self.nodes_read,
        })
    }

    fn visit(&mut self, met: Met<'_>) -> Result<bool> {
        match met {
            Met::Entries { path, variants, unknown } => self.compare(path, on_each_side(variants), unknown),
            Met::Lost { path, trees, error } => {
                self.lose(path, trees.clone(), &error);
                Ok(false)
            }
        }
    }

    fn lose(&mut self, path: &[u8], sides: TreeNumbers, error: &Error) {
        if self.lost.len() < MAX_LOST {
            self.lost.push(LostPlace { path: path.to_vec(), sides, reason: error.to_string() });
        }
    }

    /// Compares what the sides have under a path; says whether to go on below it.
    fn compare(&mut self, path: &[u8], on_sides: [Option<&Entry>; 2], unknown: &TreeNumbers) -> Result<bool> {
        match on_sides {
            [Some(a), Some(b)] => self.compare_entries(path, a, b),
            // The other side may have it as well.
            [Some(_), None] | [None, Some(_)] if !unknown.is_empty() => Ok(false),
            [Some(entry), None] => self.one_sided(0, path, entry),
            [None, Some(entry)] => self.one_sided(1, path, entry),
            [None, None] => Ok(false),
        }
    }

    fn compare_entries(&mut self, path: &[u8], a: &Entry, b: &Entry) -> Result<bool> {
        let is_directory = matches!(b.content, EntryContent::Directory(_));
        let same_type = EntryType::from(&a.content) == EntryType::from(&b.content);
        let kind = match self.same_content(a, b) {
            _ if !same_type => Some(ChangeKind::TypeChanged),
            Ok(false) => Some(ChangeKind::Modified),
            Ok(true) => (!same_metadata(a, b, self.all_metadata)).then_some(ChangeKind::Metadata),
            Err(error) if error.is_loss() => {
                self.lose(path, both_sides(), &error);
                None
            }
            Err(error) => return Err(error),
        };
        if let Some(kind) = kind {
            self.changes.push(kind, is_directory, path)?;
        }
        Ok(is_directory || matches!(a.content, EntryContent::Directory(_)))
    }

    /// Whether two entries hold the same, what is below directories aside.
    fn same_content(&self, a: &Entry, b: &Entry) -> Result<bool> {
        match (&a.content, &b.content) {
            (EntryContent::File(in_a), EntryContent::File(in_b)) => {
                same_content(&self.trees[0], in_a, in_b, self.monitor)
            }
            (EntryContent::Directory(_), EntryContent::Directory(_)) => Ok(true),
            (in_a, in_b) => Ok(in_a == in_b),
        }
    }

    fn one_sided(&mut self, side: Side, path: &[u8], entry: &Entry) -> Result<bool> {
        let kind = if side == 0 { ChangeKind::Removed } else { ChangeKind::Added };
        let is_directory = matches!(entry.content, EntryContent::Directory(_));
        let number = self.changes.push(kind, is_directory, path)?;
        let metadata = || self.metadata_hasher.hash_one(counting_metadata(entry, self.all_metadata));
        match entry.content {
            EntryContent::File(data)
                if data != FileData::Empty && self.files[side].len() < MAX_CANDIDATES =>
            {
                let file = Candidate { content: data, number, metadata: metadata() };
                self.files[side].push(file);
            }
            EntryContent::Directory(Some(top)) if self.moved.contains(&top.id) => {
                let directory = Candidate { content: top, number, metadata: metadata() };
                self.directories[side].push(directory);
                return Ok(false);
            }
            _ => {}
        }
        Ok(is_directory)
    }

    fn find_renamed(&mut self) -> Result<()> {
        let keys = |side: Side| self.directories[side].iter().map(|it| it.with(it.content.id)).collect();
        pair(&[keys(0), keys(1)], &mut self.changes);
        let mut lost = Vec::new();
        let mut lose = |side: Side, number: u32, error: Error| lost.push((side, number, error));
        pair_files(self.trees, &self.files, &mut self.changes, self.monitor, &mut lose)?;
        for (side, number, error) in lost {
            let path = self.changes.path(number).to_vec();
            // There are two sides.
            self.lose(&path, TreeNumbers::one(side as u32), &error);
        }
        Ok(())
    }

    /// Adds what is below directories that looked moved, when there were more on one side than on the other.
    fn look_into_what_stayed(&mut self) -> Result<()> {
        let all = self.directories.iter().flatten();
        let left: HashMap<u32, DirectoryTop> = all
            .filter(|directory| !self.changes.is_renamed(directory.number))
            .map(|directory| (directory.number, directory.content))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        let before = std::mem::take(&mut self.changes);
        self.changes = before.with_more(|number, kind, all| match left.get(&number) {
            Some(top) => self.add_all_below(before.path(number), kind, *top, all),
            None => Ok(()),
        })?;
        Ok(())
    }

    fn add_all_below(
        &mut self,
        path: &[u8],
        kind: ChangeKind,
        top: DirectoryTop,
        changes: &mut Changes,
    ) -> Result<()> {
        let side = u32::from(kind == ChangeKind::Added);
        let start = vec![SharedDirectory { top, trees: TreeNumbers::one(side) }];
        let mut walk = TreesWalk::new(self.trees[0].store(), self.monitor);
        let mut visit = |met: Met<'_>| -> Result<bool> {
            match met {
                Met::Entries { path, variants, .. } => {
                    let is_directory =
                        variants.iter().any(|it| matches!(it.entry.content, EntryContent::Directory(_)));
                    changes.push(kind, is_directory, path)?;
                    Ok(is_directory)
                }
                Met::Lost { path, trees, error } => {
                    self.lose(path, trees.clone(), &error);
                    Ok(false)
                }
            }
        };
        let walked = walk.run(path, start, &mut visit);
        self.nodes_read += walk.nodes_read();
        walked
    }
}
