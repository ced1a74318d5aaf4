//! Trees of one stream that are looked at together.

use std::sync::Arc;

use super::pinned_set::{LostRevision, PinnedSet};
use super::tree_reader::TreeReader;
use crate::error::{Error, Result};
use crate::format::{Kind, RecordKey};
use crate::id::ObjectId;
use crate::repository::{Repository, Stream};
use crate::store::Store;

/// Trees of one stream, the oldest first. What is held of each is a few bytes: roots are read when they are asked for.
pub(crate) struct TreeSet {
    store: Arc<Store>,
    set: PinnedSet,
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
        let set = PinnedSet::hold(repository, stream, keys, purpose)?;
        Ok(Self { store: Arc::clone(repository.store()), set })
    }

    /// The revisions, in the order of their numbers.
    pub(crate) fn trees(&self) -> &[(RecordKey, ObjectId)] {
        self.set.revisions()
    }

    /// The revisions whose records can't be read.
    pub(crate) fn take_lost(&mut self) -> Vec<LostRevision> {
        self.set.take_lost()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Opens one of the trees, which this keeps.
    pub(crate) fn tree(&self, root: &ObjectId) -> Result<TreeReader> {
        TreeReader::open_unpinned(&self.store, root)
    }
}
