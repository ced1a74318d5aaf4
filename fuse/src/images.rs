//! Finds records and opens images, each once however many ask; logs once what can't be opened.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use treering_engine::{Error, Record, RecordKey, RevisionId, Stream, StreamId};

use crate::catalogue::Catalogue;
use crate::errno::Errno;
use crate::image::OpenImage;
use crate::inode::ImageInfo;

/// The images that are open, and those that could not be opened.
#[derive(Default)]
pub(crate) struct Images {
    /// All handles of a revision share one reader, and so one pin.
    open: Mutex<HashMap<RevisionId, Weak<OpenImage>>>,
    /// Revisions of which a line was logged.
    reported: Mutex<HashSet<RevisionId>>,
}

impl Images {
    /// What the record tells of an image.
    pub(crate) fn info(
        &self,
        catalogue: &Catalogue,
        stream: StreamId,
        revision: RevisionId,
    ) -> Result<ImageInfo, Errno> {
        let (stream, key, record) = self.record(catalogue, stream, revision)?;
        let content = record.image().map_err(|error| self.report(&stream, &key, &error))?;
        let (size, data_bytes) = (content.size, content.data_bytes);
        Ok(ImageInfo { size, data_bytes, modified: record.time().to_system_time() })
    }

    /// The image of a revision, shared with the handles that are open.
    pub(crate) fn open(
        &self,
        catalogue: &Catalogue,
        stream: StreamId,
        revision: RevisionId,
    ) -> Result<Arc<OpenImage>, Errno> {
        if let Some(open) = lock(&self.open).get(&revision).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let (stream, key, record) = self.record(catalogue, stream, revision)?;
        let reader = catalogue.repository().open_image(&record).map_err(|error| {
            self.report(&stream, &key, &error);
            // What the record names must be there, so "not found" is damage here.
            Errno::Unreadable
        })?;
        let image = Arc::new(OpenImage::new(reader, format!("{}@{}", stream.name, key.name)));
        let mut all = lock(&self.open);
        // Another thread may have been faster.
        if let Some(open) = all.get(&revision).and_then(Weak::upgrade) {
            return Ok(open);
        }
        all.insert(revision, Arc::downgrade(&image));
        Ok(image)
    }

    /// Forgets images that nobody has open any more.
    pub(crate) fn sweep(&self) {
        lock(&self.open).retain(|_, image| image.strong_count() > 0);
    }

    fn record(
        &self,
        catalogue: &Catalogue,
        stream: StreamId,
        revision: RevisionId,
    ) -> Result<(Stream, RecordKey, Record), Errno> {
        let unlisted = |error: Error| Errno::from(&error);
        let revisions = catalogue.revisions(stream).map_err(unlisted)?;
        let key = revisions.find(revision).cloned().ok_or(Errno::NotFound)?;
        let stream = catalogue.stream(stream).map_err(unlisted)?;
        match catalogue.repository().record(&stream, &key) {
            Ok(record) => Ok((stream, key, record)),
            Err(error) => Err(self.report(&stream, &key, &error)),
        }
    }

    /// Logs once that a revision can't be opened.
    fn report(&self, stream: &Stream, key: &RecordKey, error: &Error) -> Errno {
        let errno = Errno::from(error);
        if !error.is_not_found() && lock(&self.reported).insert(key.id) {
            log::error!("cannot open {}@{}: {error}", stream.name, key.name);
        }
        errno
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
