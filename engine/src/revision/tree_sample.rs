//! Draws objects of a tree at random, for who asks whether what it reaches is still there.

use super::TreeReader;
use super::file_map::FileMap;
use crate::error::Result;
use crate::format::{Attributes, DirectoryTop, Entry, EntryContent, FileData, Slot};
use crate::id::ObjectId;
use crate::random::Random;

/// So deep a way down is followed: directories lie in each other as deep as who wrote them liked.
const DEPTH_MAX: usize = 256;

/// Slots of a file among which the next chunk is looked for.
const SLOTS_MAX: usize = 64;

impl TreeReader {
    /// What is met on so many ways from the root down, each through entries drawn at random: tops of directories and of
    /// files, and chunks. What can't be read ends its way.
    pub(crate) fn random_objects(&self, ways: usize) -> Result<Vec<ObjectId>> {
        let mut random = Random::new();
        let mut objects = Vec::new();
        for _ in 0..ways {
            match self.follow_way(&mut random, &mut objects) {
                Err(error) if error.is_loss() => {}
                followed => followed?,
            }
        }
        Ok(objects)
    }

    fn follow_way(&self, random: &mut Random, objects: &mut Vec<ObjectId>) -> Result<()> {
        let mut entry = self.root().clone();
        for _ in 0..DEPTH_MAX {
            if let Attributes::Chunk(id) = &entry.attributes {
                objects.push(*id);
            }
            let top = match &entry.content {
                EntryContent::Directory(Some(top)) => *top,
                EntryContent::File(data) => return self.draw_of_file(data, random, objects),
                _ => return Ok(()),
            };
            objects.push(top.id);
            match self.draw_entry(&top, random)? {
                Some(drawn) => entry = drawn,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn draw_entry(&self, top: &DirectoryTop, random: &mut Random) -> Result<Option<Entry>> {
        let run = self.entry_runs_from(Some(top), random.below(top.entry_count)).next().transpose()?;
        Ok(run.and_then(|run| run.first().cloned()))
    }

    fn draw_of_file(&self, data: &FileData, random: &mut Random, objects: &mut Vec<ObjectId>) -> Result<()> {
        match data {
            FileData::Empty => {}
            FileData::Slice { chunk, .. } => objects.push(*chunk),
            FileData::Map { level, subtree } => {
                objects.push(subtree.id);
                let map = FileMap { store: self.store(), level: *level, top: *subtree };
                for (_, slot) in map.slots_from(random.below(subtree.bytes)).take(SLOTS_MAX) {
                    if let Slot::Chunk(id) = slot? {
                        objects.push(id);
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::format::AttributeList;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, data, entry, hole, numbered};

    fn sampled(tree: &TreeReader, ways: usize) -> HashSet<ObjectId> {
        tree.random_objects(ways).unwrap().into_iter().collect()
    }

    /// Only what a walk meets first was asked for, so that nobody noticed when all behind it was lost.
    #[test]
    fn every_part_of_a_tree_is_drawn_sooner_or_later() {
        let trees = Trees::new();
        let slice =
            |number| EntryContent::File(FileData::Slice { chunk: absent(number), offset: 0, length: 1 });
        let map = trees.file(&[data(absent(10), 500), hole(100), data(absent(11), 500)]);
        let FileData::Map { subtree, .. } = map else { panic!("{map:?}") };
        let list = AttributeList::new(vec![(b"user.a", &[2; 4000])]).unwrap();
        let attributes = trees.chunk(list.encoded());
        let mut with_attributes = entry("fifo", EntryContent::Fifo);
        with_attributes.attributes = Attributes::Chunk(attributes);
        let files: Vec<Entry> = (0..9).map(|number| entry(format!("{number}"), slice(number))).collect();
        let sub = trees.directory(&files);
        let entries = [
            entry("empty", EntryContent::Directory(None)),
            with_attributes,
            entry("map", EntryContent::File(map)),
            entry("sub", EntryContent::Directory(sub)),
        ];
        let top = trees.directory(&entries);
        let tree = trees.open(top);
        let mut expected: HashSet<ObjectId> = (0..9).chain(10..12).map(absent).collect();
        expected.extend([attributes, subtree.id, sub.unwrap().id, top.unwrap().id]);
        assert_eq!(sampled(&tree, 2000), expected);
        assert_eq!(sampled(&trees.open(None), 10), HashSet::new());
    }

    #[test]
    fn what_cannot_be_read_ends_its_way_and_depth_has_a_bound() {
        let trees = Trees::new();
        let lost = DirectoryTop { level: 0, id: absent(1), entry_count: 5 };
        let mut top = trees.directory(&[entry("lost", EntryContent::Directory(Some(lost)))]);
        let found = sampled(&trees.open(top), 5);
        assert_eq!(found, HashSet::from([lost.id, top.unwrap().id]));
        for _ in 0..DEPTH_MAX + 50 {
            top = trees.directory(&[entry("x", EntryContent::Directory(top))]);
        }
        assert_eq!(trees.open(top).random_objects(1).unwrap().len(), DEPTH_MAX);
        let many = trees.directory(&numbered(0..3000));
        assert_eq!(sampled(&trees.open(many), 20), HashSet::from([many.unwrap().id]));
    }
}
