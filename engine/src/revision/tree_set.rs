//! Trees of one stream that are looked at together, held by one pin whatever their number.

use std::sync::Arc;

use super::tree_reader::TreeReader;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{Kind, RecordKey};
use crate::id::ObjectId;
use crate::repository::{Claimed, Repository, Stream};
use crate::store::Store;

/// A revision whose record or root can't be read.
#[derive(Debug)]
pub(crate) struct LostTree {
    pub(crate) key: RecordKey,
    pub(crate) error: Error,
}

/// Trees of one stream, the oldest first. What is held of each is a few bytes: roots are read when they are asked for.
pub(crate) struct TreeSet {
    store: Arc<Store>,
    trees: Vec<(RecordKey, ObjectId)>,
    lost: Vec<LostTree>,
    _pin: Option<Claimed>,
}

impl TreeSet {
    /// Opens the revisions of these keys. One that was forgotten since it was listed is left out.
    ///
    /// # Errors
    /// [`Error::NotATree`] if the stream holds images.
    pub(crate) fn open(
        repository: &Repository,
        stream: &Stream,
        keys: &[RecordKey],
        purpose: &str,
    ) -> Result<Self> {
        if let (Kind::Image, Some(key)) = (stream.kind, keys.last()) {
            return Err(Error::NotATree { revision: format!("{}@{}", stream.name, key.name) });
        }
        let (mut trees, mut lost) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            match repository.record(stream, key).and_then(|record| Ok(record.tree()?.root)) {
                Ok(root) => trees.push((key.clone(), root)),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => lost.push(LostTree { key: key.clone(), error }),
                Err(error) => return Err(error),
            }
        }
        let (ids, roots) = trees.iter().map(|(key, root)| (key.id, *root)).unzip();
        let pin = if trees.is_empty() { None } else { repository.pin(purpose, ids, roots)? };
        if pin.is_some() {
            trees = still_there(repository, stream, trees)?;
        }
        Ok(Self { store: Arc::clone(repository.store()), trees, lost, _pin: pin })
    }

    /// The revisions, in the order of their numbers.
    pub(crate) fn trees(&self) -> &[(RecordKey, ObjectId)] {
        &self.trees
    }

    /// The revisions whose records can't be read.
    pub(crate) fn take_lost(&mut self) -> Vec<LostTree> {
        std::mem::take(&mut self.lost)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Opens one of the trees, which this keeps.
    pub(crate) fn tree(&self, root: &ObjectId) -> Result<TreeReader> {
        TreeReader::open_unpinned(&self.store, root)
    }
}

/// Only of a revision that is still there gc has seen the record, or sees the pin (docs/format.md, section 5).
fn still_there(
    repository: &Repository,
    stream: &Stream,
    trees: Vec<(RecordKey, ObjectId)>,
) -> Result<Vec<(RecordKey, ObjectId)>> {
    let mut there = Vec::with_capacity(trees.len());
    for (key, root) in trees {
        match repository.backend().open(&Key::record(stream.id, &key)) {
            Ok(_) => there.push((key, root)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(there)
}
