//! Takes what was forgotten out of the trash: from then on it can't be brought back.

use super::Gc;
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{Kind, RecordKey};
use crate::id::StreamId;
use crate::repository::Stream;

impl Gc<'_> {
    /// Takes the revisions in the trash, their labels, and streams that were deleted. Who has brought back a revision
    /// meanwhile has put its record among the others, where it is found before anything is deleted.
    pub(super) fn take_trash(&mut self) -> Result<()> {
        for name in self.repository.backend().areas_below(&Area::all_trash())? {
            if let Some(id) = StreamId::parse(&name) {
                self.take_trash_of(id)?;
            }
        }
        Ok(())
    }

    fn take_trash_of(&mut self, id: StreamId) -> Result<()> {
        // The name and kind don't matter for its lock and its records.
        let stream = Stream { id, name: id.to_string(), kind: Kind::Image };
        if self.options.dry_run {
            self.report.taken_revisions += self.repository.forgotten_revisions(&stream)?.len() as u64;
            return Ok(());
        }
        let _streams = self.repository.lock("streams", "the list of streams", || Ok(true))?;
        let _history = self.repository.lock_history(&stream)?;
        let keys = self.repository.forgotten_revisions(&stream)?;
        self.report.taken_revisions += keys.len() as u64;
        self.remove_revisions(&stream, &keys)?;
        self.remove_stream(&stream)
    }

    /// Labels go first: who is killed in between finds the records in the trash still.
    fn remove_revisions(&self, stream: &Stream, keys: &[RecordKey]) -> Result<()> {
        let backend = self.repository.backend();
        let there = self.repository.revisions(stream)?;
        for key in keys.iter().filter(|key| !there.contains(key)) {
            backend.remove(&Key::labels(stream.id, key.id))?;
        }
        for key in keys {
            backend.remove(&Area::trash(stream.id).key(key))?;
        }
        match keys.is_empty() {
            true => Ok(()),
            false => backend.sync_area(&Area::trash(stream.id)),
        }
    }

    /// Removes what is left of a stream that was deleted, and of any other its empty trash.
    fn remove_stream(&self, stream: &Stream) -> Result<()> {
        let backend = self.repository.backend();
        let is_deleted = match self.repository.stream_object(stream.id) {
            Err(error) if error.is_not_found() => self.repository.revisions(stream)?.is_empty(),
            Err(error) if !error.is_damage() => return Err(error),
            _ => false,
        };
        // Of a stream that lives it was left by a deletion that was cut off, or it was copied anew.
        backend.remove(&Key::deleted_stream(stream.id))?;
        if is_deleted {
            backend.remove_area(&Area::labels(stream.id))?;
            backend.remove_area(&Area::revisions(stream.id))?;
        }
        backend.remove_area(&Area::trash(stream.id))
    }
}
