//! One directory as several trees have it: all its names in order, with what each tree has under them.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::held_leaf::HeldLeaf;
use super::numbers::TreeNumbers;
use super::walk::SharedDirectory;
use crate::error::{Error, Result};
use crate::format::{DirectoryInner, DirectoryLeaf, Entry, EntryName};
use crate::id::ObjectId;
use crate::revision::directory_place::DirectoryPlace;
use crate::store::Store;

/// An entry, and which trees have it so in a place.
#[derive(Clone, Copy)]
pub(crate) struct Variant<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) trees: &'a TreeNumbers,
}

/// Reads nodes, and counts them.
pub(super) struct Nodes<'a> {
    pub(super) store: &'a Store,
    /// What all of these trees have in common is passed by.
    pub(super) passed_by: Option<TreeNumbers>,
    /// Nodes that were read, each once for all trees that have it in one place, and again with each further piece of a leaf.
    pub(super) read_count: u64,
    /// What the entries that a sweep holds may take, about.
    pub(super) room_bytes: usize,
    /// Where the nodes are noted that one of the trees has, before they are read.
    pub(super) noted: Option<(u32, &'a RefCell<Vec<ObjectId>>)>,
}

enum Node {
    Leaf(Arc<DirectoryLeaf>),
    Inner(Arc<DirectoryInner>),
}

impl Nodes<'_> {
    fn note(&self, id: &ObjectId, trees: &TreeNumbers) {
        if let Some((_, noted)) = self.noted.filter(|(tree, _)| trees.contains(*tree)) {
            noted.borrow_mut().push(*id);
        }
    }

    fn open(&self, place: &DirectoryPlace) -> Result<Node> {
        match place.level {
            0 => place.leaf(self.store).map(Node::Leaf),
            _ => place.inner(self.store).map(Node::Inner),
        }
    }
}

/// Trees that have one and the same directory, and where they are in it.
struct Member {
    trees: TreeNumbers,
    /// The inner nodes from the top down, each with the number of its next child. They are asked for again when their
    /// turn comes: there may be very many members.
    open: Vec<(DirectoryPlace, usize)>,
}

/// A leaf that is being read, for all members that have it here.
struct Track {
    leaf: HeldLeaf,
    trees: TreeNumbers,
    /// Each with the place that it has the leaf in.
    members: Vec<(DirectoryPlace, Member)>,
}

/// What a step of a sweep came upon.
pub(super) enum Step {
    /// Nothing to be told.
    On,
    /// A part of the directory that can't be read.
    Lost(TreeNumbers, Error),
    /// The next name: [`Sweep::variants`] has it until [`Sweep::consume`] leaves it behind.
    Entries,
    Done,
}

/// Goes through a directory name by name.
pub(super) struct Sweep {
    /// Names up to this one are left out.
    after: Option<EntryName>,
    /// Who is about to read a node, by the name before the first one there.
    waiting: BTreeMap<Option<EntryName>, Vec<(DirectoryPlace, Member)>>,
    tracks: Vec<Track>,
    lost: Vec<(TreeNumbers, Error)>,
    /// Up to which names nobody knows what these trees have, because it can't be read; all names if none is said.
    blind: Vec<(TreeNumbers, Option<EntryName>)>,
    /// What was told to be lost, so that it is told once.
    told: HashSet<ObjectId>,
}

impl Sweep {
    /// Begins behind a name; what was told to be lost before is not told again.
    pub(super) fn new(
        directories: &[SharedDirectory],
        after: Option<EntryName>,
        told: HashSet<ObjectId>,
    ) -> Self {
        let member = |directory: &SharedDirectory| {
            let member = Member { trees: directory.trees.clone(), open: Vec::new() };
            (DirectoryPlace::top(&directory.top), member)
        };
        let waiting = BTreeMap::from([(None, directories.iter().map(member).collect())]);
        Self { after, waiting, tracks: Vec::new(), lost: Vec::new(), blind: Vec::new(), told }
    }

    /// What was told to be lost.
    pub(super) fn into_told(self) -> HashSet<ObjectId> {
        self.told
    }

    /// About how much memory the entries take that it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        self.tracks.iter().map(|track| track.leaf.memory_bytes()).sum()
    }

    fn name(&self) -> Option<&EntryName> {
        self.tracks.iter().filter_map(|track| track.leaf.name()).min()
    }

    /// Reads on, up to the next thing that is to be told.
    pub(super) fn step(&mut self, nodes: &mut Nodes<'_>) -> Result<Step> {
        if let Some((trees, error)) = self.lost.pop() {
            return Ok(Step::Lost(trees, error));
        }
        let name = self.name();
        // A node can have names that come first only if its first one is not known to come later.
        let is_due = |after: &Option<EntryName>| name.is_none_or(|name| after.as_ref() < Some(name));
        if self.waiting.first_key_value().is_some_and(|(after, _)| is_due(after)) {
            return self.open_first(nodes).map(|()| Step::On);
        }
        Ok(if name.is_some() { Step::Entries } else { Step::Done })
    }

    /// What the trees have under the next name.
    pub(super) fn variants(&self) -> Vec<Variant<'_>> {
        let name = self.name();
        let here = self.tracks.iter().filter(|track| track.leaf.name() == name);
        here.filter_map(|track| Some(Variant { entry: track.leaf.entry()?, trees: &track.trees })).collect()
    }

    /// The trees of which nobody knows what they have under the next name.
    pub(super) fn unknown(&self) -> TreeNumbers {
        TreeNumbers::union(self.blind.iter().map(|(trees, _)| trees))
    }

    /// Leaves the next name behind.
    pub(super) fn consume(&mut self, nodes: &mut Nodes<'_>) -> Result<()> {
        let Some(name) = self.name().cloned() else { return Ok(()) };
        for track in self.tracks.iter_mut().filter(|track| track.leaf.name() == Some(&name)) {
            track.leaf.advance();
        }
        self.blind.retain(|(_, last)| last.as_ref().is_none_or(|last| *last > name));
        let room_bytes = self.room_for_each(nodes, 0);
        let used_up: Vec<Track> = self.tracks.extract_if(.., |track| track.leaf.entry().is_none()).collect();
        used_up.into_iter().try_for_each(|track| self.read_on(nodes, track, room_bytes))
    }

    /// How much memory each leaf may take, if so many come to those that are held.
    fn room_for_each(&self, nodes: &Nodes<'_>, new_count: usize) -> usize {
        nodes.room_bytes / (self.tracks.len() + new_count).max(1)
    }

    /// Goes on behind the entries of a leaf that were held: in the same leaf, or if it is done, in the next one of each
    /// member.
    fn read_on(&mut self, nodes: &mut Nodes<'_>, mut track: Track, room_bytes: usize) -> Result<()> {
        if track.leaf.is_done() {
            return track.members.into_iter().try_for_each(|(_, member)| self.go_on(nodes, member));
        }
        nodes.read_count += 1;
        // It was held to all its places before.
        match nodes.store.directory_leaf(&track.leaf.id) {
            Ok(leaf) => {
                track.leaf.read_on(&leaf, room_bytes);
                self.tracks.push(track);
                Ok(())
            }
            Err(error) if error.is_loss() => self.lose(nodes, track.members, error),
            Err(error) => Err(error),
        }
    }

    /// Opens the highest of the nodes that begin first: below them may be what others wait for.
    fn open_first(&mut self, nodes: &mut Nodes<'_>) -> Result<()> {
        let Some((after, waiting)) = self.waiting.pop_first() else { return Ok(()) };
        let level = waiting.iter().map(|(place, _)| place.level).max().unwrap_or(0);
        let mut groups: BTreeMap<ObjectId, Vec<(DirectoryPlace, Member)>> = BTreeMap::new();
        let mut lower = Vec::new();
        for (place, member) in waiting {
            match place.level == level {
                true => groups.entry(place.id).or_default().push((place, member)),
                false => lower.push((place, member)),
            }
        }
        if !lower.is_empty() {
            self.waiting.insert(after, lower);
        }
        let room_bytes = self.room_for_each(nodes, groups.len());
        groups.into_values().try_for_each(|group| self.open_group(nodes, group, room_bytes))
    }

    /// Opens a node for all who have it here.
    fn open_group(
        &mut self,
        nodes: &mut Nodes<'_>,
        group: Vec<(DirectoryPlace, Member)>,
        room_bytes: usize,
    ) -> Result<()> {
        let trees = TreeNumbers::union(group.iter().map(|(_, member)| &member.trees));
        if nodes.passed_by.as_ref() == Some(&trees) {
            return group.into_iter().try_for_each(|(_, member)| self.go_on(nodes, member));
        }
        nodes.read_count += 1;
        if let Some((place, _)) = group.first() {
            nodes.note(&place.id, &trees);
        }
        let (mut read, mut readers) = (None, Vec::new());
        let (mut why, mut lost) = (None, Vec::new());
        for (place, member) in group {
            match nodes.open(&place) {
                Ok(Node::Leaf(leaf)) => {
                    readers.push((place, member));
                    read = Some(leaf);
                }
                Ok(Node::Inner(inner)) => self.enter(nodes, place, &inner, member)?,
                Err(error) if error.is_loss() => {
                    lost.push((place, member));
                    why.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        read.map_or(Ok(()), |leaf| self.read(nodes, &leaf, readers, room_bytes))?;
        why.map_or(Ok(()), |error| self.lose(nodes, lost, error))
    }

    /// Begins to read a leaf.
    fn read(
        &mut self,
        nodes: &Nodes<'_>,
        leaf: &Arc<DirectoryLeaf>,
        members: Vec<(DirectoryPlace, Member)>,
        room_bytes: usize,
    ) -> Result<()> {
        let index = leaf.entries.partition_point(|entry| self.is_passed(&entry.name));
        if index == leaf.entries.len() {
            return members.into_iter().try_for_each(|(_, member)| self.go_on(nodes, member));
        }
        let Some(id) = members.first().map(|(place, _)| place.id) else { return Ok(()) };
        let trees = TreeNumbers::union(members.iter().map(|(_, member)| &member.trees));
        self.tracks.push(Track { leaf: HeldLeaf::new(id, leaf, index, room_bytes), trees, members });
        Ok(())
    }

    fn is_passed(&self, name: &EntryName) -> bool {
        self.after.as_ref().is_some_and(|after| name <= after)
    }

    /// Enters an inner node.
    fn enter(
        &mut self,
        nodes: &Nodes<'_>,
        place: DirectoryPlace,
        inner: &DirectoryInner,
        mut member: Member,
    ) -> Result<()> {
        let index = inner.children.partition_point(|child| self.is_passed(&child.last_name));
        member.open.push((place, index));
        self.go_on(nodes, member)
    }

    /// Lets a member wait for its next node, if it has one.
    fn go_on(&mut self, nodes: &Nodes<'_>, mut member: Member) -> Result<()> {
        while let Some((place, next)) = member.open.pop() {
            match place.inner(nodes.store) {
                Ok(inner) => {
                    if let Some(child) = place.child(&inner, next) {
                        member.open.push((place, next + 1));
                        self.waiting.entry(child.after.clone()).or_default().push((child, member));
                        return Ok(());
                    }
                }
                Err(error) if error.is_loss() => {
                    self.make_blind(&place, &member.trees);
                    self.tell_loss(&place, &member.trees, error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Leaves out a node that can't be read.
    fn lose(&mut self, nodes: &Nodes<'_>, lost: Vec<(DirectoryPlace, Member)>, error: Error) -> Result<()> {
        let trees = TreeNumbers::union(lost.iter().map(|(_, member)| &member.trees));
        if let Some((place, _)) = lost.first() {
            self.tell_loss(place, &trees, error);
        }
        for (place, member) in lost {
            self.make_blind(&place, &trees);
            self.go_on(nodes, member)?;
        }
        Ok(())
    }

    fn make_blind(&mut self, place: &DirectoryPlace, trees: &TreeNumbers) {
        self.blind.push((trees.clone(), place.last.clone()));
    }

    fn tell_loss(&mut self, place: &DirectoryPlace, trees: &TreeNumbers, error: Error) {
        if self.told.insert(place.id) {
            self.lost.push((trees.clone(), error));
        }
    }
}
