//! Records of both kinds, and what is asked of the wrong one.

use crate::backend::Key;
use crate::error::Error;
use crate::format::{
    BadObject, Content, Counters, Damage, ImageContent, Kind, Method, Record, Timestamp, TreeContent, seal,
};
use crate::id::{ObjectId, RevisionId};
use crate::repository::{CreateOptions, Repository, Stream};

const ROOT: ObjectId = ObjectId::from_bytes([7; 32]);

fn image() -> Content {
    Content::Image(ImageContent { root: ROOT, size: 10, data_bytes: 10 })
}

fn tree() -> Content {
    Content::Tree(TreeContent { root: ROOT, entries: 3, bytes: 10 })
}

/// Stores a record, whatever it says.
fn commit(repository: &Repository, stream: &Stream, content: Content) -> Record {
    let now = Timestamp::now();
    let record = Record {
        stream: stream.id,
        sequence: 1,
        id: RevisionId::random(),
        name: now.to_revision_name(),
        snapshot_time: None,
        start: now,
        end: now,
        host: "host".to_owned(),
        program: "test".to_owned(),
        source: "/home".to_owned(),
        source_snapshot: None,
        evidence: None,
        parent: None,
        method: Method::Read,
        hints: None,
        counters: Counters::default(),
        warnings: Vec::new(),
        content,
    };
    let key = Key::record(stream.id, &record.key());
    repository.backend().create(&key, &seal(&record).unwrap()).unwrap();
    record
}

fn repository_with(kind: Kind) -> (tempfile::TempDir, Repository, Stream) {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::create(&directory.path().join("r"), &CreateOptions::default()).unwrap();
    let stream = repository.stream_for_backup("home", kind, "/home").unwrap();
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
fn a_tree_is_damaged_if_its_root_is() {
    let (_directory, repository, stream) = repository_with(Kind::Tree);
    let record = commit(&repository, &stream, tree());
    let damaged = |id| {
        let bad = BadObject { id, type_code: 3, found: Timestamp::now(), reason: "flipped".to_owned() };
        let damage = Damage { objects: vec![bad] };
        repository.damaged_revisions(&damage, std::slice::from_ref(&record)).unwrap()
    };
    assert_eq!(damaged(ROOT).get(&record.id), Some(&vec![ROOT]));
    assert!(damaged(ObjectId::from_bytes([8; 32])).is_empty());
}
