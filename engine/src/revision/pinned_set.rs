//! Revisions of one stream that are looked at together, held by one pin whatever their number.

use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::RecordKey;
use crate::id::ObjectId;
use crate::repository::{Claimed, Repository, Stream};

/// A revision whose record or root can't be read.
#[derive(Debug)]
pub(crate) struct LostRevision {
    pub(crate) key: RecordKey,
    pub(crate) error: Error,
}

/// Revisions of one stream in the order of their keys, and their roots. What is held of each is a few bytes.
pub(crate) struct PinnedSet {
    revisions: Vec<(RecordKey, ObjectId)>,
    lost: Vec<LostRevision>,
    _pin: Option<Claimed>,
}

impl PinnedSet {
    /// Pins the revisions of these keys, where the medium takes a pin. One that was forgotten since it was listed is left
    /// out.
    pub(crate) fn hold(
        repository: &Repository,
        stream: &Stream,
        keys: &[RecordKey],
        purpose: &str,
    ) -> Result<Self> {
        let (mut revisions, mut lost) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            match repository.record(stream, key) {
                Ok(record) => revisions.push((key.clone(), record.root())),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => lost.push(LostRevision { key: key.clone(), error }),
                Err(error) => return Err(error),
            }
        }
        let (ids, roots) = revisions.iter().map(|(key, root)| (key.id, *root)).unzip();
        let pin = if revisions.is_empty() { None } else { repository.pin(purpose, ids, roots)? };
        if pin.is_some() {
            revisions = still_there(repository, stream, revisions)?;
        }
        Ok(Self { revisions, lost, _pin: pin })
    }

    pub(crate) fn revisions(&self) -> &[(RecordKey, ObjectId)] {
        &self.revisions
    }

    /// The revisions whose records can't be read.
    pub(crate) fn take_lost(&mut self) -> Vec<LostRevision> {
        std::mem::take(&mut self.lost)
    }
}

/// Only of a revision that is still there gc has seen the record, or sees the pin (docs/format.md, section 5).
fn still_there(
    repository: &Repository,
    stream: &Stream,
    revisions: Vec<(RecordKey, ObjectId)>,
) -> Result<Vec<(RecordKey, ObjectId)>> {
    let mut there = Vec::with_capacity(revisions.len());
    for (key, root) in revisions {
        match repository.backend().open(&Key::record(stream.id, &key)) {
            Ok(_) => there.push((key, root)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}
