//! What was moved: found by what it holds, among what is gone and what is new.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Side;
use super::changes::Changes;
use crate::error::{Error, Result};
use crate::format::{DirectoryTop, Entry, EntryContent, FileData, ObjectType};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::revision::{Met, SharedDirectory, TreeNumbers, TreeReader, TreesWalk, both_sides, on_each_side};

/// Directories or files on each side that are held to find moved ones; more are told as gone and new.
pub(super) const MAX_CANDIDATES: usize = 500_000;

/// Of what is found by the same content, so many are looked through for one of the same name.
const NAMES_COMPARED: usize = 16;

/// The ids of directories that are gone in one place and new in another, and how many nodes were read to find them. Only
/// what is on one side alone is looked at, and of directories that were moved nothing but their ids.
pub(super) fn moved_directories(
    trees: &[TreeReader; 2],
    common: Vec<SharedDirectory>,
    monitor: &dyn Monitor,
) -> Result<(HashSet<ObjectId>, u64)> {
    let mut outermost: [HashMap<ObjectId, DirectoryTop>; 2] = Default::default();
    let mut visit = |met: Met<'_>| -> Result<bool> {
        let Met::Entries { variants, unknown, .. } = met else { return Ok(false) };
        let on_sides = on_each_side(variants);
        for (side, top) in one_sided(on_sides, unknown) {
            if outermost[side].len() < MAX_CANDIDATES {
                outermost[side].insert(top.id, top);
            }
        }
        Ok(on_sides.iter().flatten().filter(|entry| is_directory(entry)).count() == 2)
    };
    let mut walk = TreesWalk::new(trees[0].store(), monitor).passing_by(both_sides());
    walk.run(b"", common, &mut visit)?;
    let mut nodes_read = walk.nodes_read();
    let [removed, added] = &outermost;
    if removed.is_empty() || added.is_empty() {
        return Ok((HashSet::new(), nodes_read));
    }
    let mut all_below = |directories, is_found: &dyn Fn(&ObjectId) -> bool| {
        with_all_below(&trees[0], directories, is_found, &mut nodes_read, monitor)
    };
    let all_added = all_below(added, &|id| removed.contains_key(id))?;
    let all_removed = all_below(removed, &|id| all_added.contains(id))?;
    let moved = all_added.intersection(&all_removed).copied().collect();
    Ok((moved, nodes_read))
}

fn is_directory(entry: &Entry) -> bool {
    matches!(entry.content, EntryContent::Directory(_))
}

/// The directory that is on one side where on the other there is none.
fn one_sided(
    on_sides: [Option<&Entry>; 2],
    unknown: &TreeNumbers,
) -> impl Iterator<Item = (Side, DirectoryTop)> {
    let is_one = on_sides.iter().flatten().filter(|entry| is_directory(entry)).count() == 1;
    let told = [0, 1].into_iter().filter(move |_| is_one && unknown.is_empty());
    told.filter_map(move |side: Side| Some((side, top_of(on_sides[side]?)?)))
}

fn top_of(entry: &Entry) -> Option<DirectoryTop> {
    match entry.content {
        EntryContent::Directory(top) => top,
        _ => None,
    }
}

/// The ids of these directories and of those below, without what is below one that `is_found`. Each is looked into once,
/// in however many places it is.
fn with_all_below(
    tree: &TreeReader,
    directories: &HashMap<ObjectId, DirectoryTop>,
    is_found: &dyn Fn(&ObjectId) -> bool,
    nodes_read: &mut u64,
    monitor: &dyn Monitor,
) -> Result<HashSet<ObjectId>> {
    let mut ids = HashSet::new();
    for top in directories.values() {
        let mut is_to_be_looked_into =
            |top: &DirectoryTop| ids.len() < MAX_CANDIDATES && ids.insert(top.id) && !is_found(&top.id);
        if !is_to_be_looked_into(top) {
            continue;
        }
        let mut visit = |met: Met<'_>| -> Result<bool> {
            let Met::Entries { variants, .. } = met else { return Ok(false) };
            let mut tops = variants.iter().filter_map(|variant| top_of(variant.entry));
            Ok(tops.any(|top| is_to_be_looked_into(&top)))
        };
        let start = vec![SharedDirectory { top: *top, trees: TreeNumbers::one(0) }];
        let mut walk = TreesWalk::new(tree.store(), monitor);
        walk.run(b"", start, &mut visit)?;
        *nodes_read += walk.nodes_read();
    }
    Ok(ids)
}

/// What is gone or new, and may have been renamed.
pub(super) struct Candidate<T> {
    /// What it holds, or what tells whether another one holds the same.
    pub(super) content: T,
    /// Its number among the changes.
    pub(super) number: u32,
    /// A hash of its metadata that count.
    pub(super) metadata: u64,
}

impl<T> Candidate<T> {
    pub(super) fn with<U>(&self, content: U) -> Candidate<U> {
        Candidate { content, number: self.number, metadata: self.metadata }
    }
}

/// Finds files that were renamed: of the same object where that is the file's alone, else of the same bytes. Only files
/// of a size that is there on both sides are read.
pub(super) fn pair_files(
    trees: &[TreeReader; 2],
    files: &[Vec<Candidate<FileData>>; 2],
    changes: &mut Changes,
    monitor: &dyn Monitor,
    lose: &mut dyn FnMut(Side, u32, Error),
) -> Result<()> {
    let sizes = |side: Side| files[side].iter().map(|file| file.content.size()).collect::<HashSet<u64>>();
    let (gone, new) = (sizes(0), sizes(1));
    let mut keys: [Vec<Candidate<ObjectId>>; 2] = Default::default();
    for side in [0, 1] {
        let is_on_both = |size: u64| gone.contains(&size) && new.contains(&size);
        for file in files[side].iter().filter(|file| is_on_both(file.content.size())) {
            if monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match content_key(&trees[side], &file.content) {
                Ok(key) => keys[side].push(file.with(key)),
                Err(error) if error.is_loss() => lose(side, file.number, error),
                Err(error) => return Err(error),
            }
        }
    }
    pair(&keys, changes);
    Ok(())
}

/// What files of the same content have in common. A part of a chunk that others share is read, since it lies elsewhere
/// when it is stored again; it has 8 MiB at most.
fn content_key(tree: &TreeReader, data: &FileData) -> Result<ObjectId> {
    if let FileData::Map { subtree, .. } = data {
        return Ok(subtree.id);
    }
    let mut content = vec![0; usize::try_from(data.size()).unwrap_or_default()];
    tree.open_file(data).read_at(0, &mut content)?;
    Ok(tree.store().hasher().id(ObjectType::Chunk, &content))
}

/// Makes renamed ones of what is gone and what is new with the same key: one by one, and of several preferably one of the
/// same name.
pub(super) fn pair(keys: &[Vec<Candidate<ObjectId>>; 2], changes: &mut Changes) {
    let mut gone: HashMap<ObjectId, VecDeque<&Candidate<ObjectId>>> = HashMap::new();
    for removed in &keys[0] {
        gone.entry(removed.content).or_default().push_back(removed);
    }
    for added in &keys[1] {
        let Some(queue) = gone.get_mut(&added.content) else { continue };
        let name = name_of(changes.path(added.number));
        let mut compared = queue.iter().take(NAMES_COMPARED);
        let same_name = compared.position(|removed| name_of(changes.path(removed.number)) == name);
        if let Some(removed) = queue.remove(same_name.unwrap_or(0)) {
            changes.rename(removed.number, added.number, removed.metadata != added.metadata);
        }
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}
