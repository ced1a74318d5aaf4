//! Walks several trees at once, from the same directory in each of them down.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use super::numbers::TreeNumbers;
use super::sweep::{Nodes, Step, Sweep, Variant};
use crate::error::Error;
use crate::format::{DirectoryTop, EntryContent, EntryName};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::store::Store;

/// A directory, and which trees have it so in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedDirectory {
    pub(crate) top: DirectoryTop,
    pub(crate) trees: TreeNumbers,
}

/// What a walk comes upon. Paths go from the root on and begin without a slash.
pub(crate) enum Met<'a> {
    /// A path, and what trees have there: at least one has something.
    Entries {
        path: &'a [u8],
        variants: &'a [Variant<'a>],
        /// Trees that may have something there, too: it can't be read.
        unknown: &'a TreeNumbers,
    },
    /// A part of the directory of this path that can't be read, or all of it.
    Lost { path: &'a [u8], trees: &'a TreeNumbers, error: Error },
}

/// What is told of all that is met. Of entries it says whether to go on below them.
pub(crate) type Visit<'v, E> = &'v mut dyn FnMut(Met<'_>) -> Result<bool, E>;

/// The directories among variants of an entry, each once.
pub(crate) fn directories_of(variants: &[Variant<'_>]) -> Vec<SharedDirectory> {
    let mut found: BTreeMap<(ObjectId, u8, u64), (DirectoryTop, Vec<&TreeNumbers>)> = BTreeMap::new();
    for Variant { entry, trees } in variants {
        if let EntryContent::Directory(Some(top)) = entry.content {
            let same = found.entry((top.id, top.level, top.entry_count));
            same.or_insert_with(|| (top, Vec::new())).1.push(trees);
        }
    }
    let directory = |(top, sets)| SharedDirectory { top, trees: TreeNumbers::union::<'_>(sets) };
    found.into_values().map(directory).collect()
}

/// What the entries may take that are held of the directory that is being walked.
pub(super) const SWEEP_BYTES: usize = 32 << 20;

/// The same of all directories that are to be gone on with; what goes beyond is read again. Trees may be as deep as who
/// wrote them liked.
const ASIDE_BYTES: usize = 32 << 20;

/// A directory that is walked.
struct Level {
    /// Length of its path.
    path_len: usize,
    directories: Vec<SharedDirectory>,
}

/// A directory that is to be gone on with when what is below one of its names is done.
enum Aside {
    /// With the memory that it counts for.
    Held(Level, Sweep, usize),
    FromBehind {
        level: Level,
        name: EntryName,
        told: HashSet<ObjectId>,
    },
}

/// Walks several trees: names of a directory in order, and what lies below a name before the next one.
pub(crate) struct TreesWalk<'a> {
    nodes: Nodes<'a>,
    monitor: &'a dyn Monitor,
    aside_bytes: usize,
    max_aside_bytes: usize,
}

impl<'a> TreesWalk<'a> {
    pub(crate) fn new(store: &'a Store, monitor: &'a dyn Monitor) -> Self {
        let nodes = Nodes { store, passed_by: None, read_count: 0, room_bytes: SWEEP_BYTES, noted: None };
        Self { nodes, monitor, aside_bytes: 0, max_aside_bytes: ASIDE_BYTES }
    }

    /// Holds less.
    #[cfg(test)]
    pub(super) fn in_room(mut self, room_bytes: usize) -> Self {
        (self.nodes.room_bytes, self.max_aside_bytes) = (room_bytes, room_bytes);
        self
    }

    /// Passes by what all of these trees have in common.
    pub(crate) fn passing_by(mut self, trees: TreeNumbers) -> Self {
        self.nodes.passed_by = Some(trees);
        self
    }

    /// Notes the nodes of directories that a tree has, but for those that are passed by: each before what it holds is
    /// visited.
    pub(crate) fn noting(mut self, tree: u32, noted: &'a RefCell<Vec<ObjectId>>) -> Self {
        self.nodes.noted = Some((tree, noted));
        self
    }

    /// How many nodes were read.
    pub(crate) fn nodes_read(&self) -> u64 {
        self.nodes.read_count
    }

    /// Visits all that is below a path in trees that have these directories there.
    ///
    /// # Errors
    /// What `visit` fails with, [`Error::Cancelled`], and what says nothing of the stored bytes.
    pub(crate) fn run<E: From<Error>>(
        &mut self,
        path: &[u8],
        directories: Vec<SharedDirectory>,
        visit: Visit<'_, E>,
    ) -> Result<(), E> {
        let mut path = path.to_vec();
        let mut aside: Vec<Aside> = Vec::new();
        let mut sweep = Sweep::new(&directories, None, HashSet::new());
        let mut level = Level { path_len: path.len(), directories };
        loop {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled.into());
            }
            match sweep.step(&mut self.nodes)? {
                Step::On => {}
                Step::Lost(trees, error) => {
                    visit(Met::Lost { path: &path, trees: &trees, error })?;
                }
                Step::Entries => {
                    let (name, directories) = self.visit_entries(&sweep, &mut path, visit)?;
                    if directories.is_empty() {
                        path.truncate(level.path_len);
                        sweep.consume(&mut self.nodes)?;
                        continue;
                    }
                    aside.push(self.put_aside(level, sweep, name)?);
                    sweep = Sweep::new(&directories, None, HashSet::new());
                    level = Level { path_len: path.len(), directories };
                }
                Step::Done => {
                    let Some(above) = aside.pop() else { return Ok(()) };
                    (level, sweep) = self.take_up(above);
                    path.truncate(level.path_len);
                }
            }
        }
    }

    /// Visits what stands under the next name, appends that to the path, and returns which directories there are to be
    /// gone on with.
    fn visit_entries<E>(
        &self,
        sweep: &Sweep,
        path: &mut Vec<u8>,
        visit: Visit<'_, E>,
    ) -> Result<(EntryName, Vec<SharedDirectory>), E> {
        let variants = sweep.variants();
        let name = variants.first().map_or_else(EntryName::of_root, |variant| variant.entry.name.clone());
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        let unknown = sweep.unknown();
        let goes_on = visit(Met::Entries { path, variants: &variants, unknown: &unknown })?;
        let mut below = if goes_on { directories_of(&variants) } else { Vec::new() };
        below.retain(|directory| self.nodes.passed_by.as_ref() != Some(&directory.trees));
        Ok((name, below))
    }

    fn put_aside(&mut self, level: Level, mut sweep: Sweep, name: EntryName) -> Result<Aside, Error> {
        if self.aside_bytes + sweep.memory_bytes() > self.max_aside_bytes {
            return Ok(Aside::FromBehind { level, name, told: sweep.into_told() });
        }
        sweep.consume(&mut self.nodes)?;
        let memory_bytes = sweep.memory_bytes();
        self.aside_bytes += memory_bytes;
        Ok(Aside::Held(level, sweep, memory_bytes))
    }

    fn take_up(&mut self, aside: Aside) -> (Level, Sweep) {
        match aside {
            Aside::Held(level, sweep, memory_bytes) => {
                self.aside_bytes -= memory_bytes;
                (level, sweep)
            }
            Aside::FromBehind { level, name, told } => {
                let sweep = Sweep::new(&level.directories, Some(name), told);
                (level, sweep)
            }
        }
    }
}
