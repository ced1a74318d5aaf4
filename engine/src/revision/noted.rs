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
        // Looked for a second time: they may be forgotten by now.
        if self.noted_and_absent(stream)?.is_empty() {
            return Ok(Vec::new());
        }
        let lost = self.noted_and_absent(stream)?;
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
        let labelled: HashSet<RevisionId> = self
            .backend()
            .names(&Area::labels(stream.id))?
            .iter()
            .filter_map(|name| RevisionId::parse(name))
            .collect();
        let after = before.noting(&self.revisions(stream)?, &labelled);
        if after == before {
            return Ok(());
        }
        // Who made them may have been killed before they were durable.
        self.backend().sync_area(&Area::revisions(stream.id))?;
        if !labelled.is_empty() {
            self.backend().sync_area(&Area::labels(stream.id))?;
        }
        self.replace_stream_object(&before, &after)
    }

    /// Whether a revision has had labels that were not forgotten with it.
    pub(super) fn has_noted_labels(&self, stream: &Stream, revision: RevisionId) -> Result<bool> {
        Ok(self.noted_labels(stream)?.contains(&revision))
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
            self.replace_stream_object(&before, &before.without(&self.revisions(stream)?, &keys))?;
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

    /// What it says when some revisions are forgotten, `there` being all that are there. One that is lost stays lost.
    pub(super) fn without(&self, there: &[RecordKey], forgotten: &[RecordKey]) -> Self {
        let mut after = self.noting(there, &HashSet::new());
        let ids: HashSet<RevisionId> = forgotten.iter().map(|key| key.id).collect();
        after.revisions.retain(|noted| !ids.contains(&noted.id));
        after.sequence_floor = highest(after.sequence_floor, forgotten);
        let retired: HashSet<&str> = self.retired_names.iter().map(String::as_str).collect();
        let names = forgotten.iter().map(|key| &key.name).filter(|name| !retired.contains(name.as_str()));
        after.retired_names.extend(names.cloned());
        after
    }
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
            let after = object(said, &[]).without(&keys(there), &keys(forgotten));
            assert_eq!(sequences(&after), left, "{said:?} {there:?} {forgotten:?}");
        }
    }

    #[test]
    fn names_are_retired_once_and_no_number_is_given_again() {
        let after = object(&[3, 12], &["name-3", "old"]).without(&keys(&[3, 12]), &keys(&[3, 12]));
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
}
