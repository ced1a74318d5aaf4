//! Streams that are renamed, deleted and brought back, cut off by power cuts and faults: no revision is lost, and the stream
//! has one of the names that it was given.

use super::content::read;
use super::faults::every_fault;
use super::power::every_power_cut;
use super::scenarios::three_images;
use super::stage::{IMAGE, Stage, Template};
use crate::error::Result;
use crate::operations::forget::{delete_stream, undelete_stream, undo_forget};
use crate::repository::{Repository, Stream};

const RENAMED: &str = "machine";

fn rename_delete_and_undelete(stage: &Stage) -> Result<()> {
    let repository = stage.repository()?;
    repository.rename_stream(&repository.stream(IMAGE)?, RENAMED)?;
    let repository = stage.repository()?;
    delete_stream(&repository, &repository.stream(RENAMED)?)?;
    let repository = stage.repository()?;
    undelete_stream(&repository, &repository.deleted_streams()?[0])?;
    Ok(())
}

/// The stream, brought back if it was deleted.
fn stream_of(repository: &Repository) -> Stream {
    let living = || repository.list_streams().unwrap();
    assert_eq!(living().damaged, []);
    if living().streams.is_empty() {
        undelete_stream(repository, &repository.deleted_streams().unwrap()[0]).unwrap();
    }
    let streams = living().streams;
    assert_eq!(streams.len(), 1);
    streams[0].clone()
}

/// All that was forgotten with the stream comes back, and is what it was; the next backups work.
fn assert_whole(mut stage: Stage, is_done: bool) {
    let repository = stage.repository().unwrap();
    let stream = stream_of(&repository);
    assert!(stream.name == RENAMED || (stream.name == IMAGE && !is_done), "{}", stream.name);
    undo_forget(&repository, &stream, &repository.forgotten_revisions(&stream).unwrap()).unwrap();
    let repository = stage.repository().unwrap();
    assert_eq!(repository.lost_revisions(&stream).unwrap(), []);
    let keys = repository.revisions(&stream).unwrap();
    assert_eq!(keys.len(), stage.truth.standing.len());
    for (key, known) in keys.iter().zip(&stage.truth.standing) {
        assert_eq!((key.id, key.sequence, &key.name), (known.id, known.sequence, &known.name));
        let content = read(&repository, &repository.record(&stream, key).unwrap()).unwrap();
        assert!(content == known.content, "{} is another", key.name);
    }
    if stream.name != IMAGE {
        repository.rename_stream(&stream, IMAGE).unwrap();
    }
    stage.look_and_settle();
    stage.go_on().unwrap();
}

#[test]
fn renaming_and_deleting_streams_survive_power_cuts() {
    let stage = Template::after(three_images).stage();
    rename_delete_and_undelete(&stage).unwrap();
    every_power_cut(&stage, |after, cut| assert_whole(after, cut.is_at_end));
}

#[test]
fn renaming_and_deleting_streams_survive_faults() {
    every_fault(
        &Template::after(three_images),
        |stage| rename_delete_and_undelete(stage),
        |stage, _| assert_whole(stage, false),
    );
}
