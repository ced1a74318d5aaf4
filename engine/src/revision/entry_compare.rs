//! What makes two states of an entry the same one.

use super::file_compare::same_content;
use super::tree_reader::TreeReader;
use crate::error::Result;
use crate::format::{Attributes, DirectoryTop, Entry, EntryContent, Metadata, Timestamp};
use crate::monitor::Monitor;

/// The metadata of an entry that count when states of it are compared.
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct CountingMetadata<'a> {
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: Option<Timestamp>,
    /// Lists that are too long to stand in an entry have ids, which are the same if and only if the lists are.
    attributes: &'a Attributes,
    all: Option<(Metadata, bool)>,
}

/// What counts: mode, owner, group, time of modification and extended attributes. The time of a directory follows from
/// what is made and removed in it, and does not count; so don't inode, ctime and links, which change when a tree is copied
/// or restored, unless `all` does.
pub(crate) fn counting_metadata(entry: &Entry, all: bool) -> CountingMetadata<'_> {
    let Metadata { mode, uid, gid, mtime, .. } = entry.metadata;
    let is_directory = matches!(entry.content, EntryContent::Directory(_));
    CountingMetadata {
        mode,
        uid,
        gid,
        mtime: (all || !is_directory).then_some(mtime),
        attributes: &entry.attributes,
        all: all.then_some((entry.metadata, entry.has_other_names)),
    }
}

/// Whether two entries of one type have the same metadata, as [`counting_metadata`] has it.
pub(crate) fn same_metadata(a: &Entry, b: &Entry, all: bool) -> bool {
    counting_metadata(a, all) == counting_metadata(b, all)
}

/// Whether two entries are of one type, have the same metadata as [`same_metadata`] has it, and hold the same; of what is
/// below directories nothing counts but the number of entries.
///
/// # Errors
/// Damage of what must be read to tell.
pub(crate) fn same_itself(tree: &TreeReader, a: &Entry, b: &Entry, monitor: &dyn Monitor) -> Result<bool> {
    let count = |top: &Option<DirectoryTop>| top.map_or(0, |top| top.entry_count);
    match (&a.content, &b.content) {
        _ if !same_metadata(a, b, false) => Ok(false),
        (EntryContent::File(in_a), EntryContent::File(in_b)) => same_content(tree, in_a, in_b, monitor),
        (EntryContent::Directory(in_a), EntryContent::Directory(in_b)) => Ok(count(in_a) == count(in_b)),
        (in_a, in_b) => Ok(in_a == in_b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{AttributeList, FileData};
    use crate::revision::test_trees::entry;

    #[test]
    fn only_what_somebody_changed_counts_unless_all_does() {
        let file = entry("x", EntryContent::File(FileData::Empty));
        let changed = |change: &dyn Fn(&mut Entry)| {
            let mut other = file.clone();
            change(&mut other);
            (same_metadata(&file, &other, false), same_metadata(&file, &other, true))
        };
        let list = AttributeList::new(vec![(b"user.a", b"b")]).unwrap();
        let later = Timestamp { seconds: 9, nanoseconds: 0 };
        let visible: [&dyn Fn(&mut Entry); 5] = [
            &|entry| entry.metadata.mode = 0o600,
            &|entry| entry.metadata.uid = 7,
            &|entry| entry.metadata.gid = 7,
            &|entry| entry.metadata.mtime = later,
            &|entry| entry.attributes = Attributes::Inline(list.clone()),
        ];
        for change in visible {
            assert_eq!(changed(change), (false, false));
        }
        let followers: [&dyn Fn(&mut Entry); 5] = [
            &|entry| entry.metadata.inode = 99,
            &|entry| entry.metadata.ctime = later,
            &|entry| entry.metadata.links = 2,
            &|entry| entry.metadata.mount = 1,
            &|entry| entry.has_other_names = true,
        ];
        for change in followers {
            assert_eq!(changed(change), (true, false));
        }
        assert_eq!(changed(&|entry| entry.unsettled = true), (true, true));
        let directory = entry("x", EntryContent::Directory(None));
        let mut touched = directory.clone();
        touched.metadata.mtime = later;
        assert!(same_metadata(&directory, &touched, false) && !same_metadata(&directory, &touched, true));
    }
}
