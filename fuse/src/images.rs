//! Finds records and opens images, each once however many ask; logs once what can't be opened.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use treering_engine::{Error, Record, RevisionId, StreamId, TreeReader};

use crate::catalogue::Catalogue;
use crate::errno::Errno;
use crate::image::OpenImage;
use crate::inode::ImageInfo;
use crate::reports::{Piece, Reports};

/// The images that are open, and what was logged of those that are damaged.
pub(crate) struct Images {
    catalogue: Arc<Catalogue>,
    /// All handles of a revision share one reader, and so one pin.
    open: Mutex<HashMap<RevisionId, Weak<OpenImage>>>,
    reports: Arc<Reports>,
}

impl Images {
    pub(crate) fn new(catalogue: Arc<Catalogue>) -> Self {
        Self { catalogue, open: Mutex::default(), reports: Arc::default() }
    }

    /// What the record tells of an image.
    pub(crate) fn info(&self, stream: StreamId, revision: RevisionId) -> Result<ImageInfo, Errno> {
        let (name, record) = self.record(stream, revision)?;
        let content = record.image().map_err(|error| self.report(revision, &name, Piece::Record, &error))?;
        let (size, data_bytes) = (content.size, content.data_bytes);
        Ok(ImageInfo { size, data_bytes, modified: record.time().to_system_time() })
    }

    /// The image of a revision, shared with the handles that are open.
    pub(crate) fn open(&self, stream: StreamId, revision: RevisionId) -> Result<Arc<OpenImage>, Errno> {
        if let Some(open) = self.lock().get(&revision).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let (name, record) = self.record(stream, revision)?;
        let reader = self.catalogue.repository().open_image(&record);
        let reader = reader.map_err(|error| self.report(revision, &name, Piece::Map, &error))?;
        self.reports.read_well(revision, Piece::Map..=Piece::Map);
        let (catalogue, reports) = (Arc::clone(&self.catalogue), Arc::clone(&self.reports));
        let image = Arc::new(OpenImage::new(reader, stream, revision, name, catalogue, reports));
        let mut all = self.lock();
        // Another thread may have been faster.
        if let Some(open) = all.get(&revision).and_then(Weak::upgrade) {
            return Ok(open);
        }
        all.insert(revision, Arc::downgrade(&image));
        Ok(image)
    }

    /// The tree of a revision, and its name as `stream@revision`.
    pub(crate) fn open_tree(
        &self,
        stream: StreamId,
        revision: RevisionId,
    ) -> Result<(String, TreeReader), Errno> {
        let (name, record) = self.record(stream, revision)?;
        let reader = self.catalogue.repository().open_tree(&record);
        let reader = reader.map_err(|error| self.report(revision, &name, Piece::Map, &error))?;
        self.reports.read_well(revision, Piece::Map..=Piece::Map);
        Ok((name, reader))
    }

    /// What was logged of damage.
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// What a read of an open revision fails with.
    pub(crate) fn failure(&self, stream: StreamId, revision: RevisionId, is_pinned: bool) -> Errno {
        self.catalogue.failure(stream, revision, is_pinned)
    }

    /// Forgets images that nobody has open any more.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, image| image.strong_count() > 0);
    }

    /// A revision's name, as `stream@revision`, and its record.
    fn record(&self, stream: StreamId, revision: RevisionId) -> Result<(String, Record), Errno> {
        let unlisted = |error: Error| Errno::from(&error);
        let revisions = self.catalogue.revisions(stream).map_err(unlisted)?;
        let key = revisions.find(revision).ok_or(Errno::NotFound)?;
        let stream = self.catalogue.stream(stream).map_err(unlisted)?;
        let name = format!("{}@{}", stream.name, key.name);
        match self.catalogue.repository().record(&stream, key) {
            Ok(record) => {
                self.reports.read_well(revision, Piece::Record..=Piece::Record);
                Ok((name, record))
            }
            // Forgotten since it was listed.
            Err(error) if error.is_not_found() => Err(Errno::NotFound),
            Err(error) => Err(self.report(revision, &name, Piece::Record, &error)),
        }
    }

    /// Logs once that a revision can't be opened.
    fn report(&self, revision: RevisionId, name: &str, piece: Piece, error: &Error) -> Errno {
        let line = format_args!("cannot open {name}: {error}");
        self.reports.report(revision, name, piece, line);
        // Also where something is not found: what a record names must be there.
        Errno::Unreadable
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Weak<OpenImage>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
