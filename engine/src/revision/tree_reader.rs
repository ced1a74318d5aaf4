//! Reads the tree of a revision: its entries by name or in order, their attributes, and their files.

use std::sync::Arc;

use super::directory_reader::{self, EntryPlace, EntryRun, EntryRuns};
use super::file_reader::FileReader;
use super::tree_path::names_on;
use crate::error::{Corrupt, Result};
use crate::format::{
    AttributeList, Attributes, DirectoryTop, Entry, EntryContent, EntryName, FileData, Record, TreeContent,
    TreeRoot, TreeTotals,
};
use crate::id::ObjectId;
use crate::repository::{Claimed, Repository};
use crate::store::Store;

/// An open tree. Cheap to clone, and shared between threads; while one lives, or what was opened from it, gc keeps what
/// it reads.
#[derive(Clone)]
pub struct TreeReader {
    open: Arc<OpenTree>,
}

struct OpenTree {
    store: Arc<Store>,
    root_id: ObjectId,
    root: TreeRoot,
    pin: Option<Claimed>,
}

impl TreeReader {
    pub(super) fn open(repository: &Repository, record: &Record, content: &TreeContent) -> Result<Self> {
        let pin = repository.pin_revision("reader", record)?;
        let tree = Self::open_root(repository.store(), content.root, pin)?;
        let totals = tree.totals();
        if (totals.entries(), totals.bytes) != (Some(content.entries), content.bytes) {
            let object = format!("the record of {}", record.name);
            return Err(Corrupt::new(object, "its totals are not those of its tree").into());
        }
        Ok(tree)
    }

    /// Opens a tree that is kept in another way: by a session, or by a pin that the caller holds.
    pub(crate) fn open_unpinned(store: &Arc<Store>, root: &ObjectId) -> Result<Self> {
        Self::open_root(store, *root, None)
    }

    fn open_root(store: &Arc<Store>, root_id: ObjectId, pin: Option<Claimed>) -> Result<Self> {
        let root = store.tree_root(&root_id)?;
        Ok(Self { open: Arc::new(OpenTree { store: Arc::clone(store), root_id, root, pin }) })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.open.store
    }

    pub(super) fn root_id(&self) -> &ObjectId {
        &self.open.root_id
    }

    /// Whether it holds a pin, so that gc keeps what it reads also when the revision is forgotten.
    pub fn is_pinned(&self) -> bool {
        self.open.pin.is_some()
    }

    /// The root directory's own entry; its name is empty.
    pub fn root(&self) -> &Entry {
        &self.open.root.entry
    }

    /// What the tree holds. Taken at its word: who relies on it counts along.
    pub fn totals(&self) -> TreeTotals {
        self.open.root.totals
    }

    /// Whether the run that stored it could see the extended attributes of all namespaces.
    pub(crate) fn sees_all_attributes(&self) -> bool {
        self.open.root.sees_all_attributes
    }

    /// The name that a user's number had at the source.
    pub fn user_name(&self, uid: u32) -> Option<&[u8]> {
        self.open.root.users.get(uid)
    }

    /// The name that a group's number had at the source.
    pub fn group_name(&self, gid: u32) -> Option<&[u8]> {
        self.open.root.groups.get(gid)
    }

    /// The entry of this name in a directory; an empty directory has no top. Reads one node for each level.
    pub fn lookup(&self, directory: Option<&DirectoryTop>, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.locate(directory, name)?.map(|(_, entry)| entry))
    }

    /// The same, and where the entry is stored.
    pub fn locate(
        &self,
        directory: Option<&DirectoryTop>,
        name: &[u8],
    ) -> Result<Option<(EntryPlace, Entry)>> {
        directory.map_or(Ok(None), |top| directory_reader::lookup(self.store(), top, name))
    }

    /// The entry at a place that was found before, in a directory of this tree.
    pub fn entry_at(&self, place: &EntryPlace) -> Result<Entry> {
        directory_reader::entry_at(self.store(), place)
    }

    /// The entry of a path from the root, whatever it is; links are not followed. Slashes at the begin and doubled ones
    /// count for nothing, nor does `.`; nothing is called `..`.
    pub fn find(&self, path: &[u8]) -> Result<Option<Entry>> {
        let mut entry = self.root().clone();
        for name in names_on(path) {
            let EntryContent::Directory(top) = &entry.content else { return Ok(None) };
            match self.lookup(top.as_ref(), name)? {
                Some(found) => entry = found,
                None => return Ok(None),
            }
        }
        Ok(Some(entry))
    }

    /// The entries of a directory in the order of their names, from behind a name on. Without copies, and so the way to
    /// list many.
    pub fn entry_runs(&self, directory: Option<&DirectoryTop>, after: Option<&EntryName>) -> EntryRuns {
        EntryRuns::new(self.clone(), directory, after)
    }

    /// The entries of a directory in the order of their names, from one on that is counted from 0.
    pub fn entry_runs_from(&self, directory: Option<&DirectoryTop>, position: u64) -> EntryRuns {
        EntryRuns::from_position(self.clone(), directory, position)
    }

    /// The entries of a directory in the order of their names, from behind a name on. A part of the directory that can't
    /// be read gives one error, and the entries behind it still come.
    pub fn entries(
        &self,
        directory: Option<&DirectoryTop>,
        after: Option<&EntryName>,
    ) -> impl Iterator<Item = Result<Entry>> + use<> {
        let copies = |run: Result<EntryRun>| {
            let (entries, failure) = match run {
                Ok(run) => (run.to_vec(), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            entries.into_iter().map(Ok).chain(failure)
        };
        self.entry_runs(directory, after).flat_map(copies)
    }

    /// The extended attributes of an entry, `None` if it has none.
    pub fn attributes(&self, entry: &Entry) -> Result<Option<AttributeList>> {
        match &entry.attributes {
            Attributes::None => Ok(None),
            Attributes::Inline(list) => Ok(Some(list.clone())),
            Attributes::Chunk(id) => {
                let list = AttributeList::from_chunk(&self.store().chunk(id)?);
                let not_a_list = || Corrupt::new(format!("chunk {id}"), "it is no list of attributes").into();
                list.map(Some).ok_or_else(not_a_list)
            }
        }
    }

    /// Opens a file of the tree. Reads nothing yet.
    pub fn open_file(&self, data: &FileData) -> FileReader {
        FileReader::new(self.clone(), *data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::SymlinkTarget;
    use crate::revision::test_maps::absent;
    use crate::revision::test_trees::{Trees, entry};

    fn with(entry: Entry, attributes: Attributes) -> Entry {
        Entry { attributes, ..entry }
    }

    #[test]
    fn a_path_is_found_as_it_is_written() {
        let trees = Trees::new();
        let empty = entry("empty", EntryContent::Directory(None));
        let link = entry("link", EntryContent::Symlink(SymlinkTarget::new(b"dir").unwrap()));
        let deep = entry("f", EntryContent::File(FileData::Empty));
        let inner = entry("sub", EntryContent::Directory(trees.directory(std::slice::from_ref(&deep))));
        let directory = entry("dir", EntryContent::Directory(trees.directory(std::slice::from_ref(&inner))));
        let tree = trees.open(trees.directory(&[directory.clone(), empty.clone(), link.clone()]));
        let find = |path: &str| tree.find(path.as_bytes()).unwrap();
        assert_eq!(find("").as_ref(), Some(tree.root()));
        assert_eq!(find("///").as_ref(), Some(tree.root()));
        for path in ["dir", "/dir", "//dir//", "dir/", "./dir", "dir/."] {
            assert_eq!(find(path).as_ref(), Some(&directory), "{path}");
        }
        assert_eq!(find("dir/sub"), Some(inner));
        assert_eq!(find("dir//sub/f"), Some(deep));
        assert_eq!(find("link"), Some(link));
        assert_eq!(find("empty"), Some(empty));
        for path in ["x", "empty/x", "link/sub", "dir/sub/f/g", "..", "dir/..", "dir/../dir", ".dir", "di"] {
            assert_eq!(find(path), None, "{path}");
        }
    }

    #[test]
    fn owners_have_the_names_that_the_root_gives_them() {
        let tree = Trees::new().open(None);
        assert_eq!(tree.user_name(1000), Some(&b"alice"[..]));
        assert_eq!(tree.group_name(100), Some(&b"users"[..]));
        assert_eq!((tree.user_name(100), tree.group_name(1000)), (None, None));
    }

    #[test]
    fn attributes_are_read_from_where_they_are() {
        let trees = Trees::new();
        let tree = trees.open(None);
        let list = |length| AttributeList::new(vec![(b"user.a", &vec![7; length])]).unwrap();
        let fifo = |attributes| with(entry("x", EntryContent::Fifo), attributes);
        assert_eq!(tree.attributes(&fifo(Attributes::None)).unwrap(), None);
        assert_eq!(tree.attributes(&fifo(Attributes::Inline(list(5)))).unwrap(), Some(list(5)));
        let long = fifo(Attributes::Chunk(trees.chunk(list(5000).encoded())));
        assert_eq!(tree.attributes(&long).unwrap(), Some(list(5000)));
        for bad in [absent(1), trees.chunk(b"no list"), trees.chunk(list(5).encoded())] {
            let error = tree.attributes(&fifo(Attributes::Chunk(bad))).unwrap_err();
            assert!(error.is_damage(), "{error}");
        }
    }

    #[test]
    fn what_is_no_root_is_not_opened() {
        let trees = Trees::new();
        let leaf = trees.leaf(&[entry("x", EntryContent::Fifo)]);
        for id in [absent(1), leaf.id, trees.directory_node(b"nonsense")] {
            let error = TreeReader::open_unpinned(trees.store(), &id).map(|_| ()).unwrap_err();
            assert!(error.is_damage(), "{error}");
        }
    }
}
