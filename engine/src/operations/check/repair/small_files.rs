//! Sets damaged small files aside, and makes those anew that can be.

use super::Repair;
use crate::backend::{Area, Key, LockGuard};
use crate::error::Result;
use crate::format::{Kind, MAX_SEALED_SIZE, RecordKey};
use crate::id::{RevisionId, StreamId};
use crate::repository::Stream;

impl Repair<'_> {
    pub(super) fn repair_small_files(&mut self) -> Result<()> {
        let found = self.check.check_small_files()?.damaged;
        let mut damaged: Vec<Key> = found.into_iter().map(|(key, _)| key).collect();
        // All of them before the first is moved.
        for key in &damaged {
            self.is_damaged(key)?;
        }
        // Streams first: when a record is set aside, its stream's object is changed.
        damaged.sort_by_key(|key| (key.area != Area::streams(), key.to_string()));
        damaged.iter().try_for_each(|key| self.repair_small_file(key))?;
        self.give_up_lost_revisions()
    }

    /// Takes for forgotten what is lost of streams that have other revisions: their directories are there, so it is not a
    /// medium that is missing.
    fn give_up_lost_revisions(&mut self) -> Result<()> {
        let repository = self.check.repository;
        let list = repository.list_streams()?;
        let is_there = |stream: &&Stream| !list.damaged.iter().any(|damaged| damaged.id == stream.id);
        for stream in list.streams.iter().filter(is_there) {
            for lost in repository.give_up_revisions(stream)? {
                let action = format!("{}: its name is retired", lost.reason);
                let loss = format!("the revision is lost: {}", way_back(&lost.file));
                self.note(lost.file, action, Some(&loss));
            }
        }
        Ok(())
    }

    /// Whether a small file is damaged still.
    ///
    /// # Errors
    /// The medium does not give it back, which may pass; or it is the header, without which nothing can be done.
    fn is_damaged(&self, key: &Key) -> Result<bool> {
        match self.check.repository.read_small_file(key) {
            Err(error) if error.is_of_medium() || *key == Key::header() => Err(error),
            Err(error) if error.is_damage() => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            other => other.map(|()| false),
        }
    }

    fn repair_small_file(&mut self, key: &Key) -> Result<()> {
        match key.area.place() {
            ("streams", _) => self.renew_stream(key),
            ("revisions", Some(stream)) => self.set_record_aside(key, stream),
            ("labels", Some(stream)) => self.set_labels_aside(key, stream),
            _ => self.set_small_file_aside(key),
        }
    }

    fn set_small_file_aside(&mut self, key: &Key) -> Result<()> {
        let _lock = self.lock_of(key)?;
        if self.is_damaged(key)? && self.set_aside(key)? {
            self.note(key, self.moved(key), loss_of(key));
        }
        Ok(())
    }

    /// Sets labels aside that can't be read, or gives up those that are gone.
    fn set_labels_aside(&mut self, key: &Key, stream: StreamId) -> Result<()> {
        let Some(revision) = RevisionId::parse(&key.name) else { return Ok(()) };
        let stream = stream_of(stream);
        let _history = self.check.repository.lock_history(&stream)?;
        if !self.is_damaged(key)? {
            return Ok(());
        }
        let action = match self.set_aside(key)? {
            true => self.moved(key),
            false => "given up, as it is gone".to_owned(),
        };
        self.check.repository.give_up_labels(&stream, revision)?;
        self.note(key, action, loss_of(key));
        Ok(())
    }

    /// Keeps others from changing a small file meanwhile. That of gc is held by every repair, and where copies go is changed
    /// by hand alone.
    fn lock_of(&self, key: &Key) -> Result<Option<LockGuard>> {
        let repository = self.check.repository;
        let go_on = || self.check.go_on().map(|()| true);
        let lock = match key.area.place() {
            ("", _) if *key == Key::damage() => repository.lock("damage", "the damage list", go_on)?,
            ("", _) if *key == Key::scrub_ledger() => repository.lock("scrub", "the scrub ledger", go_on)?,
            ("trash", Some(stream)) => repository.lock_history(&stream_of(stream))?,
            _ => return Ok(None),
        };
        Ok(Some(lock))
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
        } else if self.set_aside(key)? {
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
            // It is no file.
            Err(error) if error.is_damage() && !error.is_of_medium() => self.set_aside(key).map(|_| ()),
            Err(error) => Err(error),
        }
    }

    fn set_record_aside(&mut self, key: &Key, stream: StreamId) -> Result<()> {
        let Some(record) = RecordKey::parse(&key.name) else { return Ok(()) };
        if !self.is_damaged(key)? {
            return Ok(());
        }
        let to = key.area.quarantined(self.id);
        self.check.repository.set_records_aside(&stream_of(stream), &[record], &to)?;
        if self.is_set_aside(key)? {
            let loss = format!("the revision is lost: {}", way_back(&key.to_string()));
            self.note(key, self.moved(key), Some(&loss));
        }
        Ok(())
    }
}

/// A stream of which only its id matters.
fn stream_of(id: StreamId) -> Stream {
    Stream { id, name: id.to_string(), kind: Kind::Image }
}

/// How a record comes back that was given up.
fn way_back(file: &str) -> String {
    format!(
        "put the file back as {file} from a copy of the repository before the next gc, which frees what only it needs"
    )
}

/// What is lost with a small file.
fn loss_of(key: &Key) -> Option<&'static str> {
    let (place, _) = key.area.place();
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
