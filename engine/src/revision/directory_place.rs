//! The nodes of a directory, each held to what was said of it where it is named.
//!
//! So a directory can be read as if one hand had written all of it: names ascend over all its nodes, the counts are
//! right, and no node stands in two places, which bounds every walk by what is stored.

use std::sync::Arc;

use crate::error::{Corrupt, Error, Result};
use crate::format::{DirectoryInner, DirectoryLeaf, DirectoryTop, EntryName};
use crate::id::ObjectId;
use crate::store::Store;

/// Where a node of a directory stands.
#[derive(Clone, Debug)]
pub(super) struct DirectoryPlace {
    pub(super) id: ObjectId,
    pub(super) level: u8,
    entry_count: u64,
    /// The name before its first one, unless it begins the directory.
    pub(super) after: Option<EntryName>,
    /// Its last name; of the top nobody says it.
    pub(super) last: Option<EntryName>,
}

impl DirectoryPlace {
    /// The place of a directory's top node.
    pub(super) fn top(top: &DirectoryTop) -> Self {
        let DirectoryTop { level, id, entry_count } = *top;
        Self { id, level, entry_count, after: None, last: None }
    }

    /// The place of a child of the inner node that is here, counted from the left; `None` behind the last one.
    pub(super) fn child(&self, inner: &DirectoryInner, index: usize) -> Option<Self> {
        let child = inner.children.get(index)?;
        let before = index.checked_sub(1).and_then(|before| inner.children.get(before));
        let after = before.map(|before| &before.last_name).or(self.after.as_ref());
        Some(Self {
            id: child.id,
            // No inner node has level 0.
            level: inner.level.saturating_sub(1),
            entry_count: child.entry_count,
            after: after.cloned(),
            last: Some(child.last_name.clone()),
        })
    }

    /// Loads the leaf that must be here.
    pub(super) fn leaf(&self, store: &Store) -> Result<Arc<DirectoryLeaf>> {
        let leaf = store.directory_leaf(&self.id)?;
        let names = leaf.entries.first().zip(leaf.entries.last());
        let names_fit = names.is_some_and(|(first, last)| self.fits(&first.name, &last.name));
        let fits = self.level == 0 && leaf.entries.len() as u64 == self.entry_count && names_fit;
        fits.then_some(leaf).ok_or_else(|| self.misfit())
    }

    /// Loads the inner node that must be here.
    pub(super) fn inner(&self, store: &Store) -> Result<Arc<DirectoryInner>> {
        let inner = store.directory_inner(&self.id)?;
        let names = inner.children.first().zip(inner.children.last());
        let names_fit = names.is_some_and(|(first, last)| self.fits(&first.last_name, &last.last_name));
        // With one child the top would be that.
        let is_needed = self.last.is_some() || inner.children.len() > 1;
        let sums_fit = inner.level == self.level && inner.entry_count() == Some(self.entry_count);
        (names_fit && is_needed && sums_fit).then_some(inner).ok_or_else(|| self.misfit())
    }

    fn fits(&self, first: &EntryName, last: &EntryName) -> bool {
        let follows = self.after.as_ref().is_none_or(|after| after < first);
        follows && self.last.as_ref().is_none_or(|expected| expected == last)
    }

    fn misfit(&self) -> Error {
        Corrupt::new(format!("directory {}", self.id), "it does not fit its place").into()
    }
}
