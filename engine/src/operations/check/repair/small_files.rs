//! Sets damaged small files aside, and makes those anew that can be.

use super::Repair;
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{Kind, MAX_SEALED_SIZE, RecordKey};
use crate::id::StreamId;
use crate::repository::Stream;

impl Repair<'_> {
    pub(super) fn repair_small_files(&mut self) -> Result<()> {
        let mut damaged: Vec<Key> =
            self.check.check_small_files()?.damaged.into_iter().map(|(key, _)| key).collect();
        // Streams first: when a record is set aside, its stream's object is changed.
        damaged.sort_by_key(|key| (key.area != Area::streams(), key.to_string()));
        damaged.iter().try_for_each(|key| self.repair_small_file(key))
    }

    fn repair_small_file(&mut self, key: &Key) -> Result<()> {
        let place = key.area.path().split('/').next().unwrap_or_default();
        match (place, key.area.path().split('/').nth(1).and_then(StreamId::parse)) {
            ("streams", _) => self.renew_stream(key),
            ("revisions", Some(stream)) => self.set_record_aside(key, stream),
            _ => {
                self.set_aside(key)?;
                self.note(key, self.moved(key), loss_of(key));
                Ok(())
            }
        }
    }

    /// Makes a stream's object anew from its records.
    fn renew_stream(&mut self, key: &Key) -> Result<()> {
        let Some(id) = StreamId::parse(&key.name) else { return Ok(()) };
        let is_renewed =
            self.check.repository.renew_stream_object(id, || self.copy_aside(key).map(|_| ()))?;
        if is_renewed {
            let action = "made anew from the stream's records; what was there is set aside";
            let loss = "the stream's name is lost, and it has its id for a name: `treering stream rename` gives it another";
            self.note(key, action, Some(loss));
        } else {
            self.set_aside(key)?;
            self.note(key, self.moved(key), Some("it was that of a stream without revisions"));
        }
        Ok(())
    }

    /// Copies a file to the quarantine if it can be read, so that its name is never without one; else moves it.
    fn copy_aside(&self, key: &Key) -> Result<()> {
        let backend = self.check.repository.backend();
        match backend.read(key, MAX_SEALED_SIZE) {
            Ok(bytes) => backend.put(&key.area.quarantined(self.id).key(&key.name), &bytes),
            Err(error) if error.is_not_found() => Ok(()),
            Err(_) => self.set_aside(key),
        }
    }

    fn set_record_aside(&mut self, key: &Key, stream: StreamId) -> Result<()> {
        let Some(record) = RecordKey::parse(&key.name) else { return Ok(()) };
        // Its kind does not matter here.
        let stream = Stream { id: stream, name: stream.to_string(), kind: Kind::Image };
        let to = key.area.quarantined(self.id);
        self.check.repository.set_records_aside(&stream, &[record], &to)?;
        let loss = "the revision is lost: put the file back from a copy of the repository before the next gc, which \
                    frees what only it needs";
        self.note(key, self.moved(key), Some(loss));
        Ok(())
    }
}

/// What is lost with a small file.
fn loss_of(key: &Key) -> Option<&'static str> {
    let place = key.area.path().split('/').next().unwrap_or_default();
    match (place, key.name.as_str()) {
        ("labels", _) => Some("the revision has no tags now and is not protected"),
        ("trash", "stream") => Some("the stream that was deleted can't be brought back"),
        ("trash", _) => Some("the revision that was forgotten can't be brought back"),
        ("", "copy-target") => Some("where copies go is forgotten: `treering copy --to REPO --remember`"),
        ("", "damage") => {
            Some("what was known to be bad is forgotten: a full `treering scrub` finds it again")
        }
        // The next gc and the next scrub make them anew, and nobody misses anything until then.
        _ => None,
    }
}
