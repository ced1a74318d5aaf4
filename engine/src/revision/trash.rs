//! What was forgotten: records lie in the trash until gc takes them, and can be brought back until then.

use std::collections::HashSet;

use crate::backend::{Area, Key};
use crate::error::{Corrupt, Result};
use crate::format::{MAX_SEALED_SIZE, Record, RecordKey, StreamObject, open, seal};
use crate::id::StreamId;
use crate::repository::{Repository, Stream};

impl Repository {
    /// The revisions of a stream that were forgotten and can be brought back, the oldest first.
    pub fn forgotten_revisions(&self, stream: &Stream) -> Result<Vec<RecordKey>> {
        self.records_in(&Area::trash(stream.id))
    }

    /// The streams that were deleted and can be brought back, sorted by name. One whose file is damaged can't.
    pub fn deleted_streams(&self) -> Result<Vec<Stream>> {
        let mut deleted = Vec::new();
        for name in self.backend().areas_below(&Area::all_trash())? {
            let Some(id) = StreamId::parse(&name) else { continue };
            match self.deleted_stream(id) {
                // One that is there was deleted half-way, or copied anew.
                Ok(_) if self.has_stream(id)? => {}
                Ok(object) => deleted.push(Stream::from(object)),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => log::warn!("{error}"),
                Err(error) => return Err(error),
            }
        }
        deleted.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Ok(deleted)
    }

    /// The record of a revision, whether it was forgotten or not. It may be moved while it is looked for.
    pub(crate) fn record_wherever(&self, stream: StreamId, key: &RecordKey) -> Result<Record> {
        let trash = self.read_record_in(&Area::trash(stream), stream, key);
        match trash {
            Err(error) if error.is_not_found() => {}
            other => return other,
        }
        match self.read_record_in(&Area::revisions(stream), stream, key) {
            Err(error) if error.is_not_found() => self.read_record_in(&Area::trash(stream), stream, key),
            other => other,
        }
    }

    pub(super) fn deleted_stream(&self, id: StreamId) -> Result<StreamObject> {
        let key = Key::deleted_stream(id);
        let object: StreamObject = open(&key.to_string(), &self.backend().read(&key, MAX_SEALED_SIZE)?)?;
        match object.id == id {
            true => Ok(object),
            false => Err(Corrupt::new(key.to_string(), "it is another stream").into()),
        }
    }

    /// Moves revisions to the trash. Their names are retired first, and for ever. The caller has the stream's history
    /// locked.
    pub(crate) fn move_to_trash(&self, stream: &Stream, keys: &[RecordKey]) -> Result<()> {
        let before = self.stream_object(stream.id)?;
        let after = without(&before, &self.revisions(stream)?, keys);
        self.replace_stream_object(&before, &after)?;
        self.backend().move_objects(&Area::revisions(stream.id), &Area::trash(stream.id), &names_of(keys))
    }

    /// Sets records aside that can't be read. As when they are forgotten, their names are retired first, and a stream that
    /// has lost its newest revision so can be backed up to.
    pub(crate) fn set_records_aside(&self, stream: &Stream, keys: &[RecordKey], to: &Area) -> Result<()> {
        let _history = self.lock_history(stream)?;
        let before = self.stream_object(stream.id)?;
        let after = without(&before, &self.revisions(stream)?, keys);
        self.replace_stream_object(&before, &after)?;
        self.backend().move_objects(&Area::revisions(stream.id), to, &names_of(keys))
    }

    /// Brings revisions back from the trash, as far as gc has not taken them; returns which. The caller has the stream's
    /// history locked.
    pub(crate) fn bring_back(&self, stream: &Stream, keys: &[RecordKey]) -> Result<Vec<RecordKey>> {
        let there = self.forgotten_revisions(stream)?;
        let keys: Vec<RecordKey> = keys.iter().filter(|key| there.contains(key)).cloned().collect();
        let Some(newest) = keys.iter().map(|key| key.sequence).max() else { return Ok(keys) };
        self.backend().move_objects(
            &Area::trash(stream.id),
            &Area::revisions(stream.id),
            &names_of(&keys),
        )?;
        // They are found without it: who is killed before this leaves the records to tell.
        self.note_use(stream.id, newest)?;
        Ok(keys)
    }

    /// Whether a stream has its object, in whatever state.
    fn has_stream(&self, id: StreamId) -> Result<bool> {
        match self.backend().open(&Key::stream(id)) {
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if !error.is_damage() => Err(error),
            _ => Ok(true),
        }
    }

    /// Moves a stream without revisions to the trash. The caller has its name, itself and its history locked.
    pub(crate) fn move_stream_to_trash(&self, stream: &Stream) -> Result<()> {
        let object = self.stream_object(stream.id)?;
        self.backend().put(&Key::deleted_stream(stream.id), &seal(&object)?)?;
        self.backend().remove(&Key::stream(stream.id))?;
        self.backend().sync_area(&Area::streams())
    }

    /// Brings a deleted stream back, without its revisions.
    ///
    /// # Errors
    /// [`NameTaken`](crate::Error::NameTaken) if another stream has its name by now.
    pub(crate) fn bring_stream_back(&self, stream: &Stream) -> Result<()> {
        let _streams = self.lock("streams", "the list of streams", || Ok(true))?;
        self.require_free_name(&stream.name, stream.id)?;
        let _history = self.lock_history(stream)?;
        if !self.has_stream(stream.id)? {
            let object = self.deleted_stream(stream.id)?;
            self.backend().put(&Key::stream(stream.id), &seal(&object)?)?;
        }
        self.backend().remove(&Key::deleted_stream(stream.id))?;
        self.backend().sync_area(&Area::trash(stream.id))
    }
}

/// What a stream's object says when some of its revisions are forgotten.
fn without(object: &StreamObject, there: &[RecordKey], forgotten: &[RecordKey]) -> StreamObject {
    let forgotten_ones: HashSet<&RecordKey> = forgotten.iter().collect();
    let newest_of =
        |keys: &mut dyn Iterator<Item = &RecordKey>| keys.map(|key| key.sequence).max().unwrap_or(0);
    let left = newest_of(&mut there.iter().filter(|key| !forgotten_ones.contains(key)));
    // One that is lost stays lost.
    let is_forgotten = forgotten.iter().any(|key| key.sequence == object.newest);
    let retired: HashSet<&str> = object.retired_names.iter().map(String::as_str).collect();
    let names = forgotten.iter().map(|key| &key.name).filter(|name| !retired.contains(name.as_str()));
    StreamObject {
        sequence_floor: object.sequence_floor.max(newest_of(&mut there.iter().chain(forgotten))),
        newest: if is_forgotten { left } else { object.newest.max(left) },
        retired_names: object.retired_names.iter().chain(names).cloned().collect(),
        ..object.clone()
    }
}

fn names_of(keys: &[RecordKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Kind, Timestamp};
    use crate::id::RevisionId;

    fn object(newest: u64, retired: &[&str]) -> StreamObject {
        StreamObject {
            id: StreamId::random(),
            name: "vm".to_owned(),
            kind: Kind::Image,
            created: Timestamp::now(),
            sequence_floor: 9,
            newest,
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

    #[test]
    fn the_newest_is_the_newest_of_what_is_left_and_what_is_lost_stays_lost() {
        // What the object says, what is there, what is forgotten, what it says then.
        for (said, there, forgotten, newest) in [
            (3, &[1, 2, 3][..], &[1][..], 3),
            (3, &[1, 2, 3], &[3], 2),
            (3, &[1, 2, 3], &[1, 2, 3], 0),
            // The third is lost.
            (3, &[1, 2], &[2], 3),
            (3, &[1, 2], &[1, 2], 3),
            // Who made the fourth was killed before it was noted.
            (3, &[3, 4], &[3], 4),
            (3, &[3, 4], &[4], 3),
        ] {
            let after = without(&object(said, &[]), &keys(there), &keys(forgotten));
            assert_eq!(after.newest, newest, "{said} {there:?} {forgotten:?}");
        }
    }

    #[test]
    fn names_are_retired_once_and_no_number_is_given_again() {
        let after = without(&object(12, &["name-3", "old"]), &keys(&[3, 12]), &keys(&[3, 12]));
        assert_eq!(after.retired_names, ["name-3", "old", "name-12"]);
        assert_eq!(after.sequence_floor, 12);
    }
}
