//! Visits every object of a tree, for who asks what a revision reaches.
//!
//! Directories lie in each other as deep as who wrote them liked, so the walk keeps a few bytes for each level and no
//! node: one that it comes back to is asked for again, which the cache mostly has. What a caller does not want to see
//! twice it must prune: a tree may name one directory in very many places.

use super::TreeReader;
use super::directory_place::DirectoryPlace;
use super::file_map::FileMap;
use crate::error::{Error, Result};
use crate::format::{
    Attributes, DirectoryInner, DirectoryLeaf, Entry, EntryContent, FileData, FileLeaf, FileSubtree,
    ObjectType, Slot,
};
use crate::id::ObjectId;
use crate::store::Store;

/// What [`TreeReader::walk`] comes upon. The root has depth 0, and what a node names is deeper by 1.
pub(crate) enum TreePart<'a> {
    /// A node that is about to be read, of a directory or a file.
    Node { id: &'a ObjectId, object_type: ObjectType, depth: usize },
    /// A node that could not be read: all below it is unknown, or the rest of it.
    Unreadable { id: &'a ObjectId, object_type: ObjectType, depth: usize, error: Error },
    /// A chunk, and how many bytes it gives the file here.
    Chunk { id: &'a ObjectId, depth: usize, length: u64 },
}

/// What is told of each part; says whether to go on below it.
type Visit<'v, E> = &'v mut dyn FnMut(TreePart<'_>) -> Result<bool, E>;

impl TreeReader {
    /// Calls `visit` for the root and all objects below it, each before what it names, without what lies below those
    /// for which it says `false`. Fails with nothing but what `visit` fails with.
    pub(crate) fn walk<E>(&self, visit: Visit<'_, E>) -> Result<(), E> {
        let root = TreePart::Node { id: self.root_id(), object_type: ObjectType::Directory, depth: 0 };
        if !visit(root)? {
            return Ok(());
        }
        let mut walk = Walk { store: self.store(), visit, open: Vec::new() };
        walk.attributes(self.root(), 1)?;
        if let EntryContent::Directory(Some(top)) = &self.root().content {
            walk.enter(DirectoryPlace::top(top))?;
        }
        while walk.step()? {}
        Ok(())
    }
}

/// Calls `visit` for the nodes and chunks of one file, as [`TreeReader::walk`] does; the top node has depth 0.
pub(crate) fn walk_file<E>(store: &Store, data: &FileData, visit: Visit<'_, E>) -> Result<(), E> {
    Walk { store, visit, open: Vec::new() }.file(data, 0)
}

struct Walk<'t, 'v, E> {
    store: &'t Store,
    visit: Visit<'v, E>,
    /// The nodes of directories from the top down to where the walk is, each with the number of what is next in it.
    open: Vec<(DirectoryPlace, usize)>,
}

impl<E> Walk<'_, '_, E> {
    /// Depth of what is to be entered next.
    fn depth(&self) -> usize {
        self.open.len() + 1
    }

    fn enter(&mut self, place: DirectoryPlace) -> Result<(), E> {
        let part = TreePart::Node { id: &place.id, object_type: ObjectType::Directory, depth: self.depth() };
        if (self.visit)(part)? {
            self.open.push((place, 0));
        }
        Ok(())
    }

    /// Goes on in the innermost node, up to the next one; `false` at the end.
    fn step(&mut self) -> Result<bool, E> {
        let Some((place, next)) = self.open.pop() else { return Ok(false) };
        let (store, id, depth) = (self.store, place.id, self.depth());
        let stepped = match place.level {
            0 => place.leaf(store).map(|leaf| self.step_in_leaf(place, &leaf, next)),
            _ => place.inner(store).map(|inner| self.step_in_inner(place, &inner, next)),
        };
        stepped.unwrap_or_else(|error| self.unreadable(&id, ObjectType::Directory, depth, error))?;
        Ok(true)
    }

    /// Enters the next child.
    fn step_in_inner(&mut self, place: DirectoryPlace, inner: &DirectoryInner, next: usize) -> Result<(), E> {
        let Some(child) = place.child(inner, next) else { return Ok(()) };
        self.open.push((place, next + 1));
        self.enter(child)
    }

    /// Visits entries up to the next directory, and enters that.
    fn step_in_leaf(&mut self, place: DirectoryPlace, leaf: &DirectoryLeaf, next: usize) -> Result<(), E> {
        let depth = self.depth() + 1;
        for (index, entry) in leaf.entries.iter().enumerate().skip(next) {
            self.attributes(entry, depth)?;
            match &entry.content {
                EntryContent::File(data) => self.file(data, depth)?,
                EntryContent::Directory(Some(top)) => {
                    self.open.push((place, index + 1));
                    return self.enter(DirectoryPlace::top(top));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn attributes(&mut self, entry: &Entry, depth: usize) -> Result<(), E> {
        match &entry.attributes {
            Attributes::Chunk(id) => self.chunk(id, depth, 0),
            Attributes::None | Attributes::Inline(_) => Ok(()),
        }
    }

    fn file(&mut self, data: &FileData, depth: usize) -> Result<(), E> {
        match data {
            FileData::Empty => Ok(()),
            FileData::Slice { chunk, length, .. } => self.chunk(chunk, depth, (*length).into()),
            FileData::Map { level, subtree } => {
                let map = FileMap { store: self.store, level: *level, top: *subtree };
                self.file_node(&map, subtree, *level, depth)
            }
        }
    }

    /// Visits a node of a file and all below it, which is few levels deep whatever the file.
    fn file_node(
        &mut self,
        map: &FileMap<'_>,
        subtree: &FileSubtree,
        level: u8,
        depth: usize,
    ) -> Result<(), E> {
        let (id, object_type) = (&subtree.id, ObjectType::Node);
        if !(self.visit)(TreePart::Node { id, object_type, depth })? {
            return Ok(());
        }
        let visited = match level {
            0 => map.leaf(subtree).map(|leaf| self.slots(&leaf, depth + 1)),
            _ => map.inner(subtree, level).map(|inner| {
                let mut children = inner.children.iter();
                children.try_for_each(|child| self.file_node(map, child, level - 1, depth + 1))
            }),
        };
        visited.unwrap_or_else(|error| self.unreadable(id, object_type, depth, error))
    }

    fn slots(&mut self, leaf: &FileLeaf, depth: usize) -> Result<(), E> {
        leaf.slots.iter().try_for_each(|slot| match &slot.content {
            Slot::Chunk(id) => self.chunk(id, depth, slot.length),
            Slot::Hole | Slot::Zeros => Ok(()),
        })
    }

    fn chunk(&mut self, id: &ObjectId, depth: usize, length: u64) -> Result<(), E> {
        (self.visit)(TreePart::Chunk { id, depth, length }).map(|_| ())
    }

    fn unreadable(
        &mut self,
        id: &ObjectId,
        object_type: ObjectType,
        depth: usize,
        error: Error,
    ) -> Result<(), E> {
        (self.visit)(TreePart::Unreadable { id, object_type, depth, error }).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::format::{DirectorySubtree, DirectoryTop};
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, canonical_directory, data, entry, hole, numbered, zeros};
    use ObjectType::{Chunk, Directory, Node};

    /// An object that a walk came upon, and its depth.
    type Met = (ObjectType, ObjectId, usize);

    /// What a walk comes upon if it goes on where it is told to, and what it could not read.
    fn walk(tree: &TreeReader, goes_on: impl Fn(&ObjectId) -> bool) -> (Vec<Met>, Vec<ObjectId>) {
        let (mut met, mut lost) = (Vec::new(), Vec::new());
        tree.walk(&mut |part| -> Result<bool> {
            match part {
                TreePart::Node { id, object_type, depth } => {
                    met.push((object_type, *id, depth));
                    return Ok(goes_on(id));
                }
                TreePart::Unreadable { id, object_type, depth, error } => {
                    assert!(error.is_damage(), "{error}");
                    assert!(met.contains(&(object_type, *id, depth)));
                    lost.push(*id);
                }
                TreePart::Chunk { id, depth, .. } => met.push((Chunk, *id, depth)),
            }
            Ok(true)
        })
        .unwrap();
        (met, lost)
    }

    fn directory(name: &str, top: DirectoryTop) -> Entry {
        entry(name, EntryContent::Directory(Some(top)))
    }

    fn file(name: &str, data: FileData) -> Entry {
        entry(name, EntryContent::File(data))
    }

    fn top_of(data: FileData) -> ObjectId {
        match data {
            FileData::Map { subtree, .. } => subtree.id,
            other => panic!("{other:?} has no map"),
        }
    }

    fn chunks(numbers: Range<u64>, depth: usize) -> impl Iterator<Item = Met> {
        numbers.map(move |number| (Chunk, absent(number), depth))
    }

    #[test]
    fn everything_is_visited_in_order_before_what_it_names_and_nothing_below_what_is_pruned() {
        let trees = Trees::new();
        let middle = trees.file(&[data(absent(2), 100), hole(7), data(absent(3), 4), zeros(1)]);
        // These ids end a leaf at the 64th slot.
        let slots: Vec<_> = (1000..1100).map(|number| data(absent(number), 9)).collect();
        let large = trees.file(&slots);
        let leaves: Vec<ObjectId> =
            trees.store().file_inner(&top_of(large)).unwrap().children.iter().map(|leaf| leaf.id).collect();
        let mut fifo = entry("c", EntryContent::Fifo);
        fifo.attributes = Attributes::Chunk(absent(4));
        let sub = trees.directory(&[fifo, file("m", middle)]).unwrap();
        let small = FileData::Slice { chunk: absent(1), offset: 5, length: 3 };
        let empty = entry("e", EntryContent::Directory(None));
        let top = trees
            .directory(&[
                directory("a", sub),
                empty,
                file("f", FileData::Empty),
                file("l", large),
                file("s", small),
            ])
            .unwrap();
        let tree = trees.open(Some(top));
        let begin = [(Directory, *tree.root_id(), 0), (Directory, top.id, 1), (Directory, sub.id, 2)];
        let in_sub =
            [(Chunk, absent(4), 3), (Node, top_of(middle), 3), (Chunk, absent(2), 4), (Chunk, absent(3), 4)];
        let (met, lost) = walk(&tree, |_| true);
        let mut expected: Vec<Met> = begin.into_iter().chain(in_sub).collect();
        expected.push((Node, top_of(large), 2));
        expected.push((Node, leaves[0], 3));
        expected.extend(chunks(1000..1064, 4));
        expected.push((Node, leaves[1], 3));
        expected.extend(chunks(1064..1100, 4));
        expected.push((Chunk, absent(1), 2));
        assert_eq!((met, lost.len()), (expected, 0));
        let (met, _) = walk(&tree, |id| *id != sub.id && *id != leaves[0]);
        let mut expected = begin.to_vec();
        expected.extend([(Node, top_of(large), 2), (Node, leaves[0], 3), (Node, leaves[1], 3)]);
        expected.extend(chunks(1064..1100, 4));
        expected.push((Chunk, absent(1), 2));
        assert_eq!(met, expected);
        let (met, _) = walk(&tree, |_| false);
        assert_eq!(met, begin[..1]);
    }

    #[test]
    fn a_large_directory_is_left_as_it_was_entered() {
        let trees = Trees::new();
        let mut entries = numbered(0..3000);
        let sub = trees.directory(&numbered(0..5)).unwrap();
        for index in [10, 1500, 2999] {
            entries[index].content = EntryContent::Directory(Some(sub));
        }
        let top = trees.directory(&entries).unwrap();
        let (met, _) = walk(&trees.open(Some(top)), |_| true);
        let children = trees.store().directory_inner(&top.id).unwrap().children.clone();
        assert!(children.len() > 3);
        let leaves: Vec<ObjectId> = met.iter().filter(|met| met.2 == 2).map(|met| met.1).collect();
        assert_eq!(leaves, children.iter().map(|child| child.id).collect::<Vec<_>>());
        assert_eq!(met.iter().filter(|met| **met == (Directory, sub.id, 3)).count(), 3);
        assert_eq!(met.len(), 2 + children.len() + 3);
    }

    #[test]
    fn what_lies_behind_a_lost_node_is_visited() {
        let trees = Trees::new();
        let lost_file = trees.file(&[data(absent(1), 5)]);
        let FileData::Map { level, subtree } = lost_file else { panic!("{lost_file:?}") };
        let lost_file = FileData::Map { level, subtree: FileSubtree { id: absent(2), ..subtree } };
        let lost_sub = DirectoryTop { level: 0, id: absent(3), entry_count: 9 };
        let leaf = trees.leaf(&[
            file("m", lost_file),
            directory("n", lost_sub),
            file("o", FileData::Slice { chunk: absent(4), offset: 0, length: 1 }),
        ]);
        let last_name = numbered(0..1)[0].name.clone();
        let lost_leaf = DirectorySubtree { id: absent(5), entry_count: 7, last_name };
        let inner = DirectoryInner { level: 1, children: vec![lost_leaf, leaf.clone()] };
        let top = DirectoryTop { level: 1, id: trees.directory_node(&inner.encode()), entry_count: 10 };
        let tree = trees.open(Some(top));
        let (met, lost) = walk(&tree, |_| true);
        let expected = [
            (Directory, *tree.root_id(), 0),
            (Directory, top.id, 1),
            (Directory, absent(5), 2),
            (Directory, leaf.id, 2),
            (Node, absent(2), 3),
            (Directory, absent(3), 3),
            (Chunk, absent(4), 3),
        ];
        assert_eq!(met, expected);
        assert_eq!(lost, [absent(5), absent(2), absent(3)]);
    }

    /// A walk that went into each directory by a call of its own would need a stack without end.
    #[test]
    fn directories_may_lie_in_each_other_as_deep_as_they_like() {
        const DEPTH: usize = 20_000;
        let trees = Trees::new();
        let top = trees.write(|writer| {
            let mut top = None;
            for _ in 0..DEPTH {
                top = canonical_directory(&[entry("d", EntryContent::Directory(top))], writer);
            }
            top
        });
        let tree = trees.open(top);
        let walked = std::thread::Builder::new().stack_size(256 << 10).spawn(move || walk(&tree, |_| true));
        let (met, lost) = walked.unwrap().join().unwrap();
        assert_eq!((met.len(), lost.len()), (DEPTH + 1, 0));
        assert_eq!(met.last().unwrap().2, DEPTH);
    }
}
