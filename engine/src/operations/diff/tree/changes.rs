//! The paths that differ, in the order of trees, in little memory.

use crate::error::{Error, Result};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another content: other bytes, another target, another device.
    Modified,
    /// Its metadata alone are others.
    Metadata,
    /// It is something else now.
    TypeChanged,
    /// It has the content, or as a directory all the entries, of a path that is gone.
    Renamed,
}

/// A path that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What became of it.
    pub kind: ChangeKind,
    /// The path from the root on; that of the root is empty.
    pub path: &'a [u8],
    /// What it was called before, if it was renamed.
    pub from: Option<&'a [u8]>,
    /// Whether it was renamed and has other metadata than before.
    pub has_other_metadata: bool,
    /// Whether it is a directory, or was one if it is gone.
    pub is_directory: bool,
}

struct Item {
    /// Where its path ends; it begins where the one before ends.
    end: usize,
    /// The item that holds the former path.
    from: Option<u32>,
    kind: ChangeKind,
    is_directory: bool,
    has_other_metadata: bool,
    /// It is told with where it went.
    is_hidden: bool,
}

/// The paths that differ.
#[derive(Default)]
pub(super) struct Changes {
    items: Vec<Item>,
    paths: Vec<u8>,
}

/// Trees may name one directory in very many places, so that their paths would fill any memory.
const MAX_PATH_BYTES: usize = 1 << 30;
const MAX_CHANGES: usize = 20_000_000;

impl Changes {
    /// Adds a path; returns its number.
    pub(super) fn push(&mut self, kind: ChangeKind, is_directory: bool, path: &[u8]) -> Result<u32> {
        let fits = self.paths.len() + path.len() <= MAX_PATH_BYTES && self.items.len() < MAX_CHANGES;
        let number = u32::try_from(self.items.len()).ok().filter(|_| fits);
        let number = number.ok_or(Error::TooManyChanges { count: self.items.len() as u64 })?;
        self.paths.extend_from_slice(path);
        let end = self.paths.len();
        self.items.push(Item {
            end,
            from: None,
            kind,
            is_directory,
            has_other_metadata: false,
            is_hidden: false,
        });
        Ok(number)
    }

    /// The path of this number.
    pub(super) fn path(&self, number: u32) -> &[u8] {
        let index = number as usize;
        let end_of = |index: usize| self.items.get(index).map_or(0, |item| item.end);
        let start = index.checked_sub(1).map_or(0, end_of);
        self.paths.get(start..end_of(index)).unwrap_or_default()
    }

    /// Makes of what is gone and what is new one that was renamed.
    pub(super) fn rename(&mut self, removed: u32, added: u32, has_other_metadata: bool) {
        if let Some(item) = self.items.get_mut(removed as usize) {
            item.is_hidden = true;
        }
        if let Some(item) = self.items.get_mut(added as usize) {
            (item.kind, item.from) = (ChangeKind::Renamed, Some(removed));
            item.has_other_metadata = has_other_metadata;
        }
    }

    /// Whether this number is a part of something that was renamed.
    pub(super) fn is_renamed(&self, number: u32) -> bool {
        self.items.get(number as usize).is_some_and(|item| item.is_hidden || item.from.is_some())
    }

    /// The same with more paths behind some: `below` adds those of the number that it is given.
    pub(super) fn with_more(
        &self,
        mut below: impl FnMut(u32, ChangeKind, &mut Self) -> Result<()>,
    ) -> Result<Self> {
        let (mut all, mut numbers) = (Self::default(), Vec::with_capacity(self.items.len()));
        for (number, item) in (0..).zip(&self.items) {
            let new = all.push(item.kind, item.is_directory, self.path(number))?;
            numbers.push(new);
            if let Some(added) = all.items.last_mut() {
                (added.is_hidden, added.from) = (item.is_hidden, item.from);
                added.has_other_metadata = item.has_other_metadata;
            }
            below(number, item.kind, &mut all)?;
        }
        for &new in &numbers {
            if let Some(item) = all.items.get_mut(new as usize) {
                item.from = item.from.and_then(|old| numbers.get(old as usize)).copied();
            }
        }
        Ok(all)
    }

    /// What is to be told, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        let told = (0..).zip(&self.items).filter(|(_, item)| !item.is_hidden);
        told.map(|(number, item)| Change {
            kind: item.kind,
            path: self.path(number),
            from: item.from.map(|from| self.path(from)),
            has_other_metadata: item.has_other_metadata,
            is_directory: item.is_directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(changes: &Changes) -> Vec<String> {
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
        let line = |change: Change<'_>| {
            let from = change.from.map(|from| format!(" from {}", text(from))).unwrap_or_default();
            let metadata = if change.has_other_metadata { " with other metadata" } else { "" };
            format!("{:?} {}{from}{metadata}", change.kind, text(change.path))
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn what_was_renamed_is_told_once_also_when_more_is_added() {
        let mut changes = Changes::default();
        let mut push = |kind, path: &str| changes.push(kind, false, path.as_bytes()).unwrap();
        push(ChangeKind::Modified, "");
        let new = push(ChangeKind::Added, "a/new");
        push(ChangeKind::Removed, "b");
        let old = push(ChangeKind::Removed, "old");
        changes.rename(old, new, true);
        let expected = ["Modified ", "Renamed a/new from old with other metadata", "Removed b"];
        assert_eq!(lines(&changes), expected);
        let more = changes.with_more(|number, kind, all| match changes.path(number) {
            b"b" => all.push(kind, false, b"b/c").map(|_| ()),
            _ => Ok(()),
        });
        assert_eq!(lines(&more.unwrap()), [&expected[..], &["Removed b/c"]].concat());
    }
}
