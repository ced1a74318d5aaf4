//! Copies of trees and streams that no backup makes at once.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::backend::Key;
use crate::format::{Attributes, Entry, EntryContent, FileData, ObjectType, Record, StreamObject, seal};
use crate::id::ObjectId;
use crate::monitor::SilentMonitor;
use crate::operations::forget::{ForgetScope, delete_stream, forget, undelete_stream, undo_forget};
use crate::repository::CreateOptions;
use crate::revision::test_trees::{Trees, data, entry};
use crate::revision::{TreePart, TreeReader};
use crate::store::StoreWriter;

/// A source with trees, and a target.
struct World {
    source: Trees,
    stream: Stream,
    target: Repository,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let source = Trees::new();
        let directory = tempfile::tempdir().unwrap();
        let target = Repository::create(&directory.path().join("target"), &CreateOptions::default()).unwrap();
        Self { stream: source.stream(), source, target, directory }
    }

    fn content(number: u64) -> Vec<u8> {
        format!("the content of chunk {number}").into_bytes()
    }

    fn slice(&self, number: u64) -> EntryContent {
        let content = Self::content(number);
        let chunk = self.source.chunk(&content);
        EntryContent::File(FileData::Slice { chunk, offset: 0, length: content.len() as u32 })
    }

    /// A directory of files with these contents.
    fn directory_of(&self, numbers: &[u64]) -> EntryContent {
        let files: Vec<Entry> =
            numbers.iter().map(|&number| entry(format!("{number:06}"), self.slice(number))).collect();
        EntryContent::Directory(self.source.directory(&files))
    }

    /// Commits a tree with these entries in its root.
    fn commit(&self, sequence: u64, entries: &[Entry]) -> Record {
        let root = self.source.root(self.source.directory(entries));
        let record = self.source.commit(&self.stream, sequence, &root);
        self.source.repository.note_revisions(&self.stream).unwrap();
        record
    }

    fn copy(&self, named: &[&Record]) -> CopyReport {
        let named: Vec<RecordKey> = named.iter().map(|record| record.key()).collect();
        let request = CopyRequest { stream: self.stream.clone(), whole: named.is_empty(), named };
        let source = self.source.reopened();
        let options = CopyOptions::default();
        copy(&source, &self.target, &[request], &options, &SilentMonitor).unwrap()
    }

    /// Forgets a revision.
    fn forget(&self, repository: &Repository, record: &Record) {
        let _history = repository.lock_history(&self.stream).unwrap();
        repository.move_to_trash(&self.stream, &[record.key()]).unwrap();
    }

    fn change_stream(&self, repository: &Repository, change: impl FnOnce(&mut StreamObject)) {
        let mut object = repository.stream_object(self.stream.id).unwrap();
        change(&mut object);
        repository.backend().put(&Key::stream(object.id), &seal(&object).unwrap()).unwrap();
    }

    /// Flips a bit of the one pack that holds a chunk, in a place that is told from where the chunk lies and how long the
    /// pack is.
    fn flip(&self, number: u64, place: impl Fn(usize, usize) -> usize) {
        let chunk = self.source.store().hasher().id(ObjectType::Chunk, &Self::content(number));
        assert_eq!(self.source.store().index().locate_in_tables(&chunk).unwrap().len(), 1);
        let (pack, offset) = self.source.place(&chunk);
        let mut bytes = std::fs::read(&pack).unwrap();
        let place = place(offset as usize, bytes.len());
        bytes[place] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }

    /// Fails unless all that a revision reaches can be read in the target.
    fn assert_whole(&self, record: &Record) {
        let target = Repository::open(&self.target_path(), 1 << 20).unwrap();
        let tree = target.open_tree(&target.record(&self.stream, &record.key()).unwrap()).unwrap();
        let read = |part: TreePart<'_>| -> Result<bool> {
            match part {
                TreePart::Node { .. } => Ok(true),
                TreePart::Unreadable { error, .. } => Err(error),
                TreePart::Chunk { id, .. } => target.store().read_object(ObjectType::Chunk, id).map(|_| true),
            }
        };
        TreeReader::walk(&tree, &mut { read }).unwrap();
    }

    fn target_path(&self) -> PathBuf {
        self.directory.path().join("target")
    }
}

fn outcomes(report: &CopyReport) -> Vec<&'static str> {
    let revisions = report.streams.iter().flat_map(|stream| &stream.revisions);
    let outcome = |revision: &RevisionCopy| match revision.outcome {
        CopyOutcome::Copied => "copied",
        CopyOutcome::Present { .. } => "present",
        CopyOutcome::Forgotten => "forgotten",
        CopyOutcome::Unreadable(_) => "unreadable",
    };
    revisions.map(outcome).collect()
}

/// A copy that is cut off may have published a node before what lies below it.
#[test]
fn that_the_target_knows_a_node_does_not_tell_of_what_lies_below_it() {
    let world = World::new();
    let content = world.directory_of(&[1, 2, 3]);
    let record = world.commit(1, &[entry("d", content.clone())]);
    let EntryContent::Directory(Some(top)) = content else { panic!("{content:?}") };
    let mut writer = StoreWriter::new(world.target.store(), Default::default(), false).unwrap();
    for id in [record.root(), top.id] {
        let node = world.source.store().read_object(ObjectType::Directory, &id).unwrap();
        assert_eq!(writer.add_directory(&node).unwrap(), id);
    }
    writer.finish().unwrap();
    let report = world.copy(&[]);
    assert_eq!((outcomes(&report), report.sent().chunks), (vec!["copied"], 3));
    world.assert_whole(&record);
}

#[test]
fn all_that_an_entry_names_is_sent() {
    let world = World::new();
    let mut fifo = entry("attributes", EntryContent::Fifo);
    fifo.attributes = Attributes::Chunk(world.source.chunk(b"attributes of a fifo"));
    let chunks: Vec<ObjectId> =
        (100..900).map(|number| world.source.chunk(&World::content(number))).collect();
    let slots: Vec<_> =
        (100..).zip(&chunks).map(|(number, id)| data(*id, World::content(number).len() as u64)).collect();
    let large = entry("large", EntryContent::File(world.source.file(&slots)));
    let empty = entry("empty", EntryContent::Directory(None));
    let record = world.commit(1, &[fifo, entry("d", world.directory_of(&[1, 2])), empty, large]);
    let report = world.copy(&[]);
    assert_eq!((outcomes(&report), report.sent().chunks), (vec!["copied"], 803));
    world.assert_whole(&record);
    // One chunk in the middle of the large file is another one.
    let mut changed = slots;
    changed[400] = data(world.source.chunk(b"another chunk"), 13);
    let large = entry("large", EntryContent::File(world.source.file(&changed)));
    let record = world.commit(2, &[entry("d", world.directory_of(&[1, 2])), large]);
    let sent = world.copy(&[]).sent();
    assert_eq!(sent.chunks, 1);
    assert!(sent.nodes <= 6, "{sent:?}");
    world.assert_whole(&record);
}

#[test]
fn of_a_large_directory_the_nodes_that_differ_are_sent() {
    let world = World::new();
    let numbers: Vec<u64> = (0..5000).collect();
    let shared = world.slice(1);
    let files = |changed: u64| -> Vec<Entry> {
        let content = |number| if number == changed { world.slice(2) } else { shared.clone() };
        numbers.iter().map(|&number| entry(format!("{number:06}"), content(number))).collect()
    };
    world.commit(1, &files(u64::MAX));
    let all = world.copy(&[]).sent();
    let record = world.commit(2, &files(2500));
    let sent = world.copy(&[]).sent();
    assert!(all.nodes > 15, "{all:?}");
    assert_eq!((sent.chunks, sent.nodes), (1, 3), "a leaf, the node above, and the root");
    world.assert_whole(&record);
}

#[test]
fn what_was_forgotten_in_the_target_comes_back_only_by_name() {
    let world = World::new();
    let records: Vec<Record> = (1..=3)
        .map(|number| {
            std::thread::sleep(std::time::Duration::from_millis(1010));
            world.commit(number, &[entry("f", world.slice(number))])
        })
        .collect();
    world.copy(&[]);
    world.forget(&world.target, &records[1]);
    assert_eq!(outcomes(&world.copy(&[])), ["present", "forgotten", "present"]);
    assert_eq!(outcomes(&world.copy(&[&records[1], &records[2]])), ["copied", "present"]);
    records.iter().for_each(|record| world.assert_whole(record));
    assert_eq!(outcomes(&world.copy(&[])), ["present"; 3]);
}

#[test]
fn names_and_numbers_that_were_given_are_not_given_again_in_the_target() {
    let world = World::new();
    let first = world.commit(1, &[entry("f", world.slice(1))]);
    std::thread::sleep(std::time::Duration::from_millis(1010));
    let newest = world.commit(2, &[entry("f", world.slice(2))]);
    world.forget(&world.source.repository, &newest);
    assert_eq!(outcomes(&world.copy(&[])), ["copied"]);
    let object = world.target.stream_object(world.stream.id).unwrap();
    assert_eq!((object.sequence_floor, &object.retired_names), (2, &vec![newest.name.clone()]));
    assert_eq!(world.target.lost_revisions(&world.stream).unwrap(), []);
    world.assert_whole(&first);
    // What is forgotten here stays there.
    world.forget(&world.source.repository, &first);
    let report = world.copy(&[]);
    assert!(report.streams[0].error.is_none() && report.streams[0].revisions.is_empty());
    world.assert_whole(&first);
}

#[test]
fn a_stream_whose_revisions_were_all_forgotten_leaves_none_in_the_target() {
    let world = World::new();
    let only = world.commit(1, &[entry("f", world.slice(1))]);
    world.forget(&world.source.repository, &only);
    let report = world.copy(&[]);
    assert!(report.streams[0].error.is_none() && report.streams[0].revisions.is_empty());
    assert_eq!(world.target.list_streams().unwrap(), crate::repository::StreamList::default());
}

#[test]
fn a_part_of_a_history_does_not_look_like_one_that_lost_its_newest_revision() {
    let world = World::new();
    let first = world.commit(1, &[entry("f", world.slice(1))]);
    world.commit(2, &[entry("f", world.slice(2))]);
    assert_eq!(outcomes(&world.copy(&[&first])), ["copied"]);
    assert_eq!(world.target.lost_revisions(&world.stream).unwrap(), []);
    let object = world.target.stream_object(world.stream.id).unwrap();
    assert_eq!((object.sequence_floor, object.revisions.len()), (2, 1));
}

#[test]
fn a_stream_that_was_renamed_goes_on_under_its_name_there() {
    let world = World::new();
    world.commit(1, &[entry("f", world.slice(1))]);
    world.copy(&[]);
    world.change_stream(&world.target, |object| object.name = "old-home".to_owned());
    world.change_stream(&world.source.repository, |object| object.name = "new-home".to_owned());
    let record = world.commit(2, &[entry("f", world.slice(2))]);
    let report = world.copy(&[]);
    assert_eq!(outcomes(&report), ["present", "copied"]);
    assert_eq!(report.streams[0].target_stream.as_deref(), Some("old-home"));
    assert_eq!(world.target.streams().unwrap()[0].name, "old-home");
    world.assert_whole(&record);
}

/// The content is right all the same: it is compressed anew, and what the target has is whole.
#[test]
fn what_is_not_as_it_was_written_but_right_is_sent_anew() {
    let world = World::new();
    let record = world.commit(1, &[entry("f", world.slice(1)), entry("g", world.slice(2))]);
    // In the trailer: which checksums the blobs have is not known any more.
    world.flip(1, |_, pack_len| pack_len - 60);
    assert_eq!(outcomes(&world.copy(&[])), ["copied"]);
    world.assert_whole(&record);
}

/// What was seen below a node that can't be read was once taken for sent by the next revision that has it.
#[test]
fn what_a_damaged_revision_left_behind_is_sent_with_the_next_one() {
    let world = World::new();
    let shared = entry("b", world.directory_of(&[1, 2, 3]));
    world.commit(1, &[entry("a", world.directory_of(&[4])), shared.clone()]);
    let second = world.commit(2, &[shared]);
    world.flip(4, |blob_offset, _| blob_offset + 5);
    let report = world.copy(&[]);
    assert_eq!(outcomes(&report), ["unreadable", "copied"]);
    assert!(report.streams[0].has_damage());
    world.assert_whole(&second);
}

/// It was once left out for ever, as its name was taken over as a retired one.
#[test]
fn what_was_brought_back_in_the_source_is_copied() {
    let world = World::new();
    let first = world.commit(1, &[entry("a", world.slice(1))]);
    // The next name.
    std::thread::sleep(std::time::Duration::from_millis(1010));
    world.commit(2, &[entry("a", world.slice(2))]);
    let source = &world.source.repository;
    forget(source, &world.stream, &ForgetScope::Revisions(&[first.key()]), false).unwrap();
    assert_eq!(outcomes(&world.copy(&[])), ["copied"]);
    undo_forget(source, &world.stream, &[first.key()]).unwrap();
    assert_eq!(outcomes(&world.copy(&[])), ["copied", "present"]);
}

/// Its object once came back over the new one, with the old name and numbers.
#[test]
fn what_was_deleted_does_not_come_over_what_was_copied_anew() {
    let world = World::new();
    let first = world.commit(1, &[entry("a", world.slice(1))]);
    world.copy(&[]);
    let deleted = world.target.streams().unwrap().remove(0);
    delete_stream(&world.target, &deleted).unwrap();
    world.copy(&[&first]);
    let anew = world.target.streams().unwrap().remove(0);
    world.target.rename_stream(&anew, "renamed").unwrap();
    assert_eq!(world.target.deleted_streams().unwrap(), []);
    undelete_stream(&world.target, &deleted).unwrap();
    let streams = world.target.streams().unwrap();
    assert_eq!((streams.len(), streams[0].name.as_str()), (1, "renamed"));
    assert_eq!(world.target.revisions(&streams[0]).unwrap().len(), 1);
}
