//! Scrubs of trees that were stored piece by piece, and of nothing at all.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::format::{
    AttributeList, Attributes, BadObject, DirectoryTop, EntryContent, FileData, FileSubtree, Timestamp,
};
use crate::monitor::SilentMonitor;
use crate::repository::CreateOptions;
use crate::revision::test_trees::{Trees, data, entry};

const ALL: ScrubOptions = ScrubOptions { percent: 100.0, source: None };

#[test]
fn a_full_scrub_takes_off_the_list_what_is_not_stored_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
    let gone = BadObject {
        id: ObjectId::from_bytes([7; 32]),
        type_code: ObjectType::Chunk.code(),
        found: Timestamp::now(),
        reason: String::new(),
    };
    repository.change_damage(vec![gone], &[], false).unwrap();
    let options = ScrubOptions { percent: 1.0, source: None };
    for (scope, listed) in [(ScrubScope::Revisions(Vec::new()), 1), (ScrubScope::Everything, 0)] {
        scrub(&repository, &scope, &options, &SilentMonitor).unwrap();
        assert_eq!(repository.damage().unwrap().objects.len(), listed);
    }
}

/// A repository with one revision of a tree that has something of everything.
struct World {
    trees: Trees,
    revision: (Stream, Record),
    /// Slice, attributes, and a chunk of a map.
    chunks: [ObjectId; 3],
    file_leaf: ObjectId,
    sub: ObjectId,
}

const CHUNK_BYTES: u64 = 300 + 4000 + 8 + 500;

impl World {
    fn new() -> Self {
        let trees = Trees::new();
        let shared = trees.chunk(&[1; 300]);
        let list = AttributeList::new(vec![(b"a", &[2; 4000])]).unwrap();
        let attributes = trees.chunk(list.encoded());
        let mapped = trees.chunk(&[3; 500]);
        let map = trees.file(&[data(mapped, 500)]);
        let FileData::Map { subtree: FileSubtree { id: file_leaf, .. }, .. } = map else { panic!("{map:?}") };
        let slice = |offset| EntryContent::File(FileData::Slice { chunk: shared, offset, length: 10 });
        let mut first = entry("a", slice(0));
        first.attributes = Attributes::Chunk(attributes);
        let sub = trees.directory(&[first, entry("b", slice(10)), entry("c", EntryContent::File(map))]);
        let top = trees.directory(&[entry("sub", EntryContent::Directory(sub))]);
        let stream = trees.stream();
        let record = trees.commit(&stream, 1, &trees.root(top));
        let sub = sub.map(|DirectoryTop { id, .. }| id).unwrap();
        Self { trees, revision: (stream, record), chunks: [shared, attributes, mapped], file_leaf, sub }
    }

    fn scopes(&self) -> [ScrubScope; 2] {
        [ScrubScope::Everything, ScrubScope::Revisions(vec![self.revision.clone()])]
    }

    fn scrub(&self, scope: &ScrubScope) -> ScrubReport {
        scrub(&self.trees.reopened(), scope, &ALL, &SilentMonitor).unwrap()
    }

    fn name(&self) -> String {
        format!("{}@{}", self.revision.0.name, self.revision.1.name)
    }
}

#[test]
fn all_chunks_of_a_tree_are_read_each_once() {
    let world = World::new();
    for scope in world.scopes() {
        let report = world.scrub(&scope);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.chunks_checked, report.bytes_checked), (3, CHUNK_BYTES));
    }
}

#[test]
fn a_percentage_that_draws_no_chunk_of_a_tree_checks_one() {
    let world = World::new();
    let options = ScrubOptions { percent: 1e-7, source: None };
    let [_, revisions] = world.scopes();
    let report = scrub(&world.trees.reopened(), &revisions, &options, &SilentMonitor).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.chunks_checked, 1);
}

#[test]
fn whatever_of_a_tree_is_flipped_is_found_and_named() {
    let world = World::new();
    let root = world.revision.1.root();
    let chunks = world.chunks.map(|id| (id, ObjectType::Chunk));
    let nodes = [
        (world.file_leaf, ObjectType::Node),
        (world.sub, ObjectType::Directory),
        (root, ObjectType::Directory),
    ];
    for (id, object_type) in chunks.into_iter().chain(nodes) {
        for scope in world.scopes() {
            let (pack, offset) = world.trees.place(&id);
            let file = fs::File::options().read(true).write(true).open(pack).unwrap();
            let flip = || {
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset + 3).unwrap();
                file.write_all_at(&[byte[0] ^ 1], offset + 3).unwrap();
            };
            flip();
            let report = world.scrub(&scope);
            flip();
            let bad: Vec<_> = report.bad.iter().map(|bad| (bad.id, bad.object_type)).collect();
            assert_eq!(bad, [(id, object_type)]);
            assert_eq!(report.bad[0].revisions, Some(vec![world.name()]));
            let listed = world.trees.repository.damage().unwrap();
            assert_eq!(listed.objects.iter().map(|bad| bad.id).collect::<Vec<_>>(), [id]);
            assert!(world.scrub(&scope).is_clean(), "{object_type:?} {id}");
            assert!(world.trees.repository.damage().unwrap().objects.is_empty(), "it is good again");
        }
    }
}

#[test]
fn of_a_pack_that_is_gone_what_revisions_reach_is_told_as_what_it_is() {
    let world = World::new();
    let root = world.revision.1.root();
    fs::remove_file(world.trees.place(&root).0).unwrap();
    for scope in world.scopes() {
        let report = world.scrub(&scope);
        let bad = report.bad.iter().find(|bad| bad.id == root).unwrap();
        assert_eq!((bad.object_type, &bad.revisions), (ObjectType::Directory, &Some(vec![world.name()])));
    }
}
