//! Records of both kinds, and what is asked of the wrong one.

use super::BadSearch;
use super::test_maps::absent;
use super::test_trees::{self, Trees, data, entry};
use crate::error::Error;
use crate::format::{
    Attributes, BadObject, Content, Damage, DirectoryTop, EntryContent, FileData, ImageContent, Kind, Record,
    Timestamp, TreeContent, TreeRoot, TreeTotals,
};
use crate::id::ObjectId;
use crate::repository::{CreateOptions, Repository, Stream};

const ROOT: ObjectId = ObjectId::from_bytes([7; 32]);

fn image() -> Content {
    Content::Image(ImageContent { root: ROOT, size: 10, data_bytes: 10 })
}

fn tree() -> Content {
    Content::Tree(TreeContent { root: ROOT, entries: 3, bytes: 10 })
}

/// Stores the first record of a stream, whatever it says.
fn commit(repository: &Repository, stream: &Stream, content: Content) -> Record {
    test_trees::commit(repository, stream, 1, content)
}

fn repository_with(kind: Kind) -> (tempfile::TempDir, Repository, Stream) {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::create(&directory.path().join("r"), &CreateOptions::default()).unwrap();
    let stream = repository.stream_for_backup("home", kind, "/home", false).unwrap();
    (directory, repository, stream)
}

#[test]
fn a_tree_is_not_opened_as_an_image() {
    let (_directory, repository, stream) = repository_with(Kind::Tree);
    let committed = commit(&repository, &stream, tree());
    let record = repository.latest(&stream).unwrap().unwrap();
    assert_eq!(record, committed);
    let error = repository.open_image(&record).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
    assert_eq!(error.to_string(), format!("revision {} is a tree, not an image", record.name));
}

#[test]
fn a_record_whose_content_is_not_of_its_streams_kind_is_damaged() {
    for (kind, content) in [(Kind::Tree, image()), (Kind::Image, tree())] {
        let (_directory, repository, stream) = repository_with(kind);
        commit(&repository, &stream, content);
        let error = repository.latest(&stream).unwrap_err();
        assert!(error.is_damage(), "{error}");
    }
}

#[test]
fn an_image_is_not_opened_as_a_tree() {
    let (_directory, repository, stream) = repository_with(Kind::Image);
    let record = commit(&repository, &stream, image());
    let error = repository.open_tree(&record).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::NotATree { .. }), "{error}");
    assert_eq!(error.to_string(), format!("revision {} is an image, not a tree", record.name));
}

#[test]
fn a_tree_is_opened_if_the_record_says_of_it_what_its_root_does() {
    let trees = Trees::new();
    let stream = trees.stream();
    let root = trees.root(trees.directory(&test_trees::numbered(0..5)));
    let record = trees.commit(&stream, 1, &root);
    let tree = trees.repository.open_tree(&record).unwrap();
    assert_eq!(tree.totals(), TreeTotals { files: 5, directories: 1, others: 0, bytes: 5 });
    assert_eq!(tree.root(), &root.entry);
    assert!(tree.find(b"000003").unwrap().is_some());
    let Content::Tree(content) = record.content.clone() else { panic!("it is a tree") };
    for wrong in [TreeContent { entries: 5, ..content }, TreeContent { bytes: 6, ..content }] {
        let record = Record { content: Content::Tree(wrong), ..record.clone() };
        assert!(trees.repository.open_tree(&record).map(|_| ()).unwrap_err().is_damage());
    }
}

#[test]
fn a_forgotten_tree_is_not_opened() {
    let trees = Trees::new();
    let stream = trees.stream();
    let record = trees.commit(&stream, 1, &trees.root(None));
    let key = crate::backend::Key::record(stream.id, &record.key());
    trees.repository.backend().remove(&key).unwrap();
    let error = trees.repository.open_tree(&record).map(|_| ()).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn a_tree_whose_root_is_lost_is_damaged_whatever_is_asked_about() {
    let (_directory, repository, stream) = repository_with(Kind::Tree);
    let record = commit(&repository, &stream, tree());
    for bad in [ROOT, absent(1)] {
        let affected = damaged_by(&repository, &[bad], std::slice::from_ref(&record));
        assert_eq!(affected, [vec![ROOT]]);
    }
}

/// The bad objects that each record reaches, if these are bad.
fn damaged_by(repository: &Repository, bad: &[ObjectId], records: &[Record]) -> Vec<Vec<ObjectId>> {
    let bad_object = |id: &ObjectId| BadObject {
        id: *id,
        type_code: 3,
        found: Timestamp::now(),
        reason: "flipped".to_owned(),
    };
    let damage = Damage { objects: bad.iter().map(bad_object).collect() };
    let damaged = repository.damaged_revisions(&damage, records).unwrap();
    let mut search = BadSearch::new(repository, &damage);
    let mut reached = |record: &Record| {
        let mut reached = search.reached_from(record.kind(), &record.root()).unwrap();
        reached.sort();
        assert_eq!(damaged.contains(&record.id), !reached.is_empty());
        reached
    };
    records.iter().map(&mut reached).collect()
}

#[test]
fn a_tree_is_damaged_if_anything_is_that_it_reaches() {
    let trees = Trees::new();
    let stream = trees.stream();
    // The names of these chunks end leaves early.
    let map = trees.file(&(10..100).map(|number| data(absent(number), 9)).collect::<Vec<_>>());
    let FileData::Map { subtree, level: 1 } = map else { panic!("{map:?}") };
    let file_leaf = trees.store().file_inner(&subtree.id).unwrap().children[1].id;
    let mut fifo = entry("fifo", EntryContent::Fifo);
    fifo.attributes = Attributes::Chunk(absent(1));
    let sub = trees.directory(&[fifo, entry("map", EntryContent::File(map))]).unwrap();
    let root_of = |last: ObjectId| {
        let slice = FileData::Slice { chunk: last, offset: 0, length: 1 };
        let entries = [
            entry("a", EntryContent::Directory(Some(sub))),
            // Right behind a directory that both trees have: it must not count as a part of that.
            entry("b", EntryContent::File(slice)),
            entry("c", EntryContent::Directory(Some(sub))),
        ];
        trees.root(trees.directory(&entries))
    };
    let top_of = |root: &TreeRoot| match &root.entry.content {
        EntryContent::Directory(Some(DirectoryTop { id, .. })) => *id,
        other => panic!("{other:?}"),
    };
    let roots = [root_of(absent(2)), root_of(absent(3))];
    let records = [trees.commit(&stream, 1, &roots[0]), trees.commit(&stream, 2, &roots[1])];
    let reached = |bad: &[ObjectId]| damaged_by(&trees.repository, bad, &records);
    for shared in [sub.id, subtree.id, file_leaf, absent(1), absent(10), absent(99)] {
        assert_eq!(reached(&[shared]), [[shared], [shared]]);
    }
    for own in [records[0].content.root(), top_of(&roots[0]), absent(2)] {
        assert_eq!(reached(&[own]), [vec![own], vec![]]);
    }
    assert_eq!(reached(&[absent(1), absent(3)]), [vec![absent(1)], vec![absent(1), absent(3)]]);
    assert_eq!(reached(&[absent(4)]), [vec![], vec![]]);
}

#[test]
fn a_tree_is_damaged_if_a_node_of_it_is_lost_listed_or_not() {
    let trees = Trees::new();
    let lost = DirectoryTop { level: 0, id: absent(5), entry_count: 1 };
    let top = trees.directory(&[
        entry("a", EntryContent::Directory(Some(lost))),
        entry("b", EntryContent::File(FileData::Slice { chunk: absent(6), offset: 0, length: 1 })),
    ]);
    let record = trees.commit(&trees.stream(), 1, &trees.root(top));
    let reached = damaged_by(&trees.repository, &[absent(6)], std::slice::from_ref(&record));
    assert_eq!(reached, [vec![absent(5), absent(6)]]);
}
