//! Which revisions a stream has, as its own object notes it: what is noted and not there is lost.
//!
//! Invariant: a revision is noted only when its record is durable, and is no longer noted before its record is moved away. Who
//! is killed in between leaves a revision that is there and not noted yet, which the next change of the stream notes.

use std::collections::HashSet;

use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{NotedRevision, RecordKey, StreamObject};
use crate::id::RevisionId;
use crate::repository::{Repository, Stream};

/// A revision that was neither forgotten nor is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// The revision.
    pub key: RecordKey,
    /// Its record's file, from the repository's directory on.
    pub file: String,
    /// What that means.
    pub reason: String,
}

impl Repository {
    /// The revisions of a stream that are lost, the oldest first. Of a stream whose own file can't be read nobody knows, and
    /// of one that has lost all of them it is told of the stream itself.
    pub fn lost_revisions(&self, stream: &Stream) -> Result<Vec<LostRecord>> {
        let first = self.noted_and_absent(stream)?;
        if first.is_empty() {
            return Ok(Vec::new());
        }
        // Looked for a second time: they may be forgotten by now.
        let mut lost = self.noted_and_absent(stream)?;
        lost.retain(|noted| first.contains(noted));
        Ok(lost.into_iter().map(|noted| self.lost(stream, noted.key())).collect())
    }

    fn lost(&self, stream: &Stream, key: RecordKey) -> LostRecord {
        let reason = format!("revision {}@{}, number {}, is lost", stream.name, key.name, key.sequence);
        LostRecord { file: Key::record(stream.id, &key).to_string(), key, reason }
    }

    /// What is wrong if the newest revision of a stream is lost.
    pub fn lost_newest(&self, stream: &Stream) -> Result<Option<LostRecord>> {
        let Some(lost) = self.lost_revisions(stream)?.pop() else { return Ok(None) };
        let newest = self.revisions(stream)?.pop();
        Ok(newest.is_none_or(|newest| newest < lost.key).then_some(lost))
    }

    fn noted_and_absent(&self, stream: &Stream) -> Result<Vec<NotedRevision>> {
        let noted = match self.stream_object(stream.id) {
            // That is told of the stream itself.
            Err(error) if error.is_loss() => return Ok(Vec::new()),
            object => object?.revisions,
        };
        // Listed after the object was read: what is noted was there before.
        let there: HashSet<RevisionId> = self.revisions(stream)?.into_iter().map(|key| key.id).collect();
        if there.is_empty() {
            return Ok(Vec::new());
        }
        Ok(noted.into_iter().filter(|noted| !there.contains(&noted.id)).collect())
    }

    /// Notes which revisions a stream has, and which of them have labels, so that their loss is seen. The caller has the
    /// stream's history locked.
    pub(crate) fn note_revisions(&self, stream: &Stream) -> Result<()> {
        let before = self.stream_object(stream.id)?;
        self.put_noted(&before, &self.noting_all(&before)?)
    }

    /// What a stream's object is to say now, with all that is there.
    pub(super) fn noting_all(&self, object: &StreamObject) -> Result<StreamObject> {
        let labelled = self.backend().names(&Area::labels(object.id))?;
        let labelled = labelled.iter().filter_map(|name| RevisionId::parse(name)).collect();
        Ok(object.noting(&self.records_in(&Area::revisions(object.id))?, &labelled))
    }

    /// Changes what a stream's object notes. What is new in it is made durable first: who made it may have been killed
    /// before that, and then it is no loss.
    pub(super) fn put_noted(&self, before: &StreamObject, after: &StreamObject) -> Result<()> {
        let known: HashSet<(RevisionId, bool)> = noted(before).collect();
        let new: Vec<bool> =
            noted(after).filter(|one| !known.contains(one)).map(|(_, has_labels)| has_labels).collect();
        if !new.is_empty() {
            self.backend().sync_area(&Area::revisions(after.id))?;
        }
        if new.contains(&true) {
            self.backend().sync_area(&Area::labels(after.id))?;
        }
        self.replace_stream_object(before, after)
    }

    /// The revisions that have labels, as is noted.
    pub(super) fn noted_labels(&self, stream: &Stream) -> Result<Vec<RevisionId>> {
        match self.stream_object(stream.id) {
            Err(error) if error.is_loss() => Ok(Vec::new()),
            object => {
                let labelled = object?.revisions.into_iter().filter(|noted| noted.has_labels);
                Ok(labelled.map(|noted| noted.id).collect())
            }
        }
    }

    /// Gives up the labels of a revision, which are lost. The caller has the stream's history locked.
    pub(crate) fn give_up_labels(&self, stream: &Stream, revision: RevisionId) -> Result<()> {
        let before = match self.stream_object(stream.id) {
            Err(error) if error.is_not_found() => return Ok(()),
            object => object?,
        };
        let mut after = before.clone();
        let own = after.revisions.iter_mut().filter(|noted| noted.id == revision);
        own.for_each(|noted| noted.has_labels = false);
        self.replace_stream_object(&before, &after)
    }

    /// Gives up lost revisions: as if they were forgotten, their names are retired. Those that are back are left. Returns
    /// which were given up.
    pub(crate) fn give_up_revisions(&self, stream: &Stream) -> Result<Vec<LostRecord>> {
        let _history = self.lock_history(stream)?;
        let lost = self.lost_revisions(stream)?;
        let keys: Vec<RecordKey> = lost.iter().map(|lost| lost.key.clone()).collect();
        if !keys.is_empty() {
            let before = self.stream_object(stream.id)?;
            self.put_noted(&before, &self.noting_all(&before)?.without(&keys))?;
        }
        Ok(lost)
    }
}

impl StreamObject {
    /// The same with revisions that are there, of which some have labels. None is taken out: what is not there is lost.
    fn noting(&self, there: &[RecordKey], labelled: &HashSet<RevisionId>) -> Self {
        let mut after = self.clone();
        let known: HashSet<RevisionId> = self.revisions.iter().map(|noted| noted.id).collect();
        let new = there.iter().filter(|key| !known.contains(&key.id));
        after.revisions.extend(new.map(NotedRevision::without_labels));
        after.revisions.sort_by_key(|noted| (noted.sequence, noted.id));
        let ids: HashSet<RevisionId> = there.iter().map(|key| key.id).collect();
        for noted in after.revisions.iter_mut().filter(|noted| ids.contains(&noted.id)) {
            noted.has_labels |= labelled.contains(&noted.id);
        }
        after.sequence_floor = highest(after.sequence_floor, there);
        after
    }

    /// What it says when some revisions are forgotten. One that is lost stays lost.
    pub(super) fn without(&self, forgotten: &[RecordKey]) -> Self {
        let mut after = self.clone();
        let ids: HashSet<RevisionId> = forgotten.iter().map(|key| key.id).collect();
        after.revisions.retain(|noted| !ids.contains(&noted.id));
        after.sequence_floor = highest(after.sequence_floor, forgotten);
        let retired: HashSet<&str> = self.retired_names.iter().map(String::as_str).collect();
        let names = forgotten.iter().map(|key| &key.name).filter(|name| !retired.contains(name.as_str()));
        after.retired_names.extend(names.cloned());
        after
    }
}

/// The revisions that an object notes, and whether with labels.
fn noted(object: &StreamObject) -> impl Iterator<Item = (RevisionId, bool)> {
    object.revisions.iter().map(|noted| (noted.id, noted.has_labels))
}

fn highest(floor: u64, keys: &[RecordKey]) -> u64 {
    keys.iter().map(|key| key.sequence).fold(floor, u64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, Timestamp};
    use crate::id::StreamId;

    fn object(noted: &[u64], retired: &[&str]) -> StreamObject {
        StreamObject {
            id: StreamId::random(),
            name: "vm".to_owned(),
            kind: Kind::Image,
            created: Timestamp::now(),
            sequence_floor: 9,
            revisions: keys(noted).iter().map(NotedRevision::without_labels).collect(),
            retired_names: retired.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn keys(sequences: &[u64]) -> Vec<RecordKey> {
        let key = |&sequence: &u64| {
            let mut id = [0; 16];
            id[0] = sequence as u8;
            RecordKey { sequence, id: RevisionId::from_bytes(id), name: format!("name-{sequence}") }
        };
        sequences.iter().map(key).collect()
    }

    fn sequences(object: &StreamObject) -> Vec<u64> {
        object.revisions.iter().map(|noted| noted.sequence).collect()
    }

    #[test]
    fn what_is_forgotten_is_noted_no_more_and_what_is_lost_stays_lost() {
        // What the object says, what is there, what is forgotten, what it says then.
        for (said, there, forgotten, left) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], &[1][..], &[2, 3][..]),
            (&[1, 2, 3], &[1, 2, 3], &[1, 2, 3], &[]),
            // The third is lost, and the first.
            (&[1, 2, 3], &[1, 2], &[2], &[1, 3]),
            (&[1, 2, 3], &[2, 3], &[2, 3], &[1]),
            // Who made the fourth was killed before it was noted.
            (&[3], &[3, 4], &[3], &[4]),
            (&[3], &[3, 4], &[4], &[3]),
        ] {
            let after = object(said, &[]).noting(&keys(there), &HashSet::new()).without(&keys(forgotten));
            assert_eq!(sequences(&after), left, "{said:?} {there:?} {forgotten:?}");
        }
    }

    #[test]
    fn names_are_retired_once_and_no_number_is_given_again() {
        let after = object(&[3, 12], &["name-3", "old"]).without(&keys(&[3, 12]));
        assert_eq!(after.retired_names, ["name-3", "old", "name-12"]);
        assert_eq!(after.sequence_floor, 12);
    }

    #[test]
    fn labels_are_noted_once_there_are_any_and_until_they_are_given_up() {
        let labelled = |sequences: &[u64]| keys(sequences).iter().map(|key| key.id).collect::<HashSet<_>>();
        let noted = object(&[1], &[]).noting(&keys(&[1, 2, 3]), &labelled(&[2, 7]));
        let has_labels = |object: &StreamObject| -> Vec<bool> {
            object.revisions.iter().map(|noted| noted.has_labels).collect()
        };
        assert_eq!((sequences(&noted), has_labels(&noted)), (vec![1, 2, 3], vec![false, true, false]));
        assert_eq!(noted.noting(&keys(&[1, 2, 3]), &HashSet::new()), noted, "those that are gone are lost");
    }

    /// A backup was killed before the name of its record was durable, and a power cut came while another revision was
    /// forgotten: the first one was called lost.
    #[test]
    fn what_is_noted_was_made_durable_before() {
        use std::sync::Arc;

        use crate::backend::LocalBackend;
        use crate::backend::recording::{Call, RecordingDisk};
        use crate::format::{Content, ImageContent};
        use crate::repository::CreateOptions;
        use crate::revision::test_maps::absent;
        use crate::revision::test_trees::commit;

        type Change = fn(&Repository, &Stream, &RecordKey);
        let changes: [Change; 4] = [
            |repository, stream, key| repository.move_to_trash(stream, std::slice::from_ref(key)).unwrap(),
            |repository, stream, _| repository.note_revisions(stream).unwrap(),
            |repository, stream, key| {
                _ = repository.change_labels(stream, key, |own| own.protected = true).unwrap()
            },
            |repository, stream, key| {
                let to = Area::quarantine();
                repository.set_records_aside(stream, std::slice::from_ref(key), &to).unwrap();
            },
        ];
        for change in changes {
            let directory = tempfile::tempdir().unwrap();
            let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
            let stream = repository.stream_for_backup("vm", Kind::Image, "vm.img", false).unwrap();
            let content = || Content::Image(ImageContent { root: absent(1), size: 1, data_bytes: 1 });
            let keys = [1, 2].map(|sequence| commit(&repository, &stream, sequence, content()).key());
            let disk = RecordingDisk::new(directory.path());
            let backend = LocalBackend::on_disk(directory.path().to_owned(), Arc::new(disk.clone()));
            let repository = Repository::open_backend(Arc::new(backend), 0).unwrap();
            change(&repository, &stream, &keys[0]);
            let calls = disk.take();
            let at = |wanted: Call| calls.iter().position(|call| *call == wanted).unwrap();
            let records = Area::revisions(stream.id).path().into();
            let (synced, noted) = (at(Call::SyncDirectory(records)), at(Call::Name("streams".into())));
            assert!(synced < noted, "{calls:?}");
        }
    }
}
