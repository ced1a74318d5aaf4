//! What was forgotten: records lie in the trash until gc takes them, and can be brought back until then.

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
        let after = self.noting_all(&before)?.without(keys);
        self.put_noted(&before, &after)?;
        self.backend().move_objects(&Area::revisions(stream.id), &Area::trash(stream.id), &names_of(keys))
    }

    /// Sets records aside that can't be read. As when they are forgotten, their names are retired first, and a stream that
    /// has lost its newest revision so can be backed up to.
    pub(crate) fn set_records_aside(&self, stream: &Stream, keys: &[RecordKey], to: &Area) -> Result<()> {
        let _history = self.lock_history(stream)?;
        let before = self.stream_object(stream.id)?;
        let after = self.noting_all(&before)?.without(keys);
        self.put_noted(&before, &after)?;
        self.backend().move_objects(&Area::revisions(stream.id), to, &names_of(keys))
    }

    /// Brings revisions back from the trash, as far as gc has not taken them; returns which. The caller has the stream's
    /// history locked.
    pub(crate) fn bring_back(&self, stream: &Stream, keys: &[RecordKey]) -> Result<Vec<RecordKey>> {
        let there = self.forgotten_revisions(stream)?;
        let keys: Vec<RecordKey> = keys.iter().filter(|key| there.contains(key)).cloned().collect();
        if keys.is_empty() {
            return Ok(keys);
        }
        self.backend().move_objects(
            &Area::trash(stream.id),
            &Area::revisions(stream.id),
            &names_of(&keys),
        )?;
        // They are found without it: who is killed before this leaves the records to tell.
        self.note_revisions(stream)?;
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

fn names_of(keys: &[RecordKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}
