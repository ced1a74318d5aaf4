//! Revisions of trees: what lies below the directory of one.
//!
//! Immutable, so the kernel may keep all of it for ever. An inode that the kernel holds costs about a hundred bytes: what
//! is stored of it is read again, mostly from the cache, when it is asked for.

mod file;
mod inodes;
mod listing;
mod open;

use std::sync::Arc;
use std::time::SystemTime;

use treering_engine::{
    AttributeList, DirectoryTop, Entry, EntryContent, EntryPlace, FileData, RevisionId, StreamId, Timestamp,
};

pub(crate) use file::OpenEntry;
use inodes::{Found, Held, TreeInodes};
pub(crate) use listing::TreeListing;
pub(crate) use open::{OpenTree, Trees};

use crate::answers::{Attributes, Owner, UNLIMITED};
use crate::errno::Errno;
use crate::inode::{Ino, RootInfo};
use crate::namespace::FileKind;
use crate::reports::{Piece, WHOLE};

/// Something in a tree that the kernel names: the directory of a revision, or an entry below it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The root of a revision's tree.
    Root(StreamId, RevisionId, Ino),
    /// An entry below it.
    Entry(Ino),
}

impl Place {
    pub(crate) fn ino(&self) -> Ino {
        match self {
            Self::Root(_, _, ino) | Self::Entry(ino) => *ino,
        }
    }
}

/// The file systems of all revisions of trees.
pub(crate) struct TreeFs {
    trees: Arc<Trees>,
    inodes: TreeInodes,
}

impl TreeFs {
    pub(crate) fn new(trees: Arc<Trees>, key: [u8; 32]) -> Self {
        Self { trees, inodes: TreeInodes::new(key) }
    }

    /// The place that a number names, if it is that of an entry.
    pub(crate) fn entry_place(ino: Ino) -> Option<Place> {
        ino.is_entry().then_some(Place::Entry(ino))
    }

    /// How many entries the kernel holds.
    pub(crate) fn held_count(&self) -> usize {
        self.inodes.held_count()
    }

    /// Takes lookups of an entry back.
    pub(crate) fn forget(&self, ino: Ino, lookup_count: u64) {
        self.inodes.release(ino, lookup_count);
    }

    /// Finds a name, and counts a lookup.
    pub(crate) fn lookup(&self, place: &Place, name: &[u8]) -> Result<Attributes, Errno> {
        let (tree, top) = self.directory(place)?;
        let found = tree.reader.locate(top.as_ref(), name);
        // That one name is found says nothing of the part of the directory where another one was not.
        let found = found.map_err(|error| tree.report(Piece::Directory(place.ino()), WHOLE, &error))?;
        let (stored, entry) = found.ok_or(Errno::NotFound)?;
        let ino = self.acquire(&tree, place.ino(), stored, &entry);
        Ok(attributes_of(&entry, ino))
    }

    /// Counts a lookup of an entry of a directory.
    fn acquire(&self, tree: &OpenTree, parent: Ino, place: EntryPlace, entry: &Entry) -> Ino {
        let found = Found { tree: &tree.key, parent, place, entry };
        self.inodes.acquire(&found)
    }

    /// The number of an entry of a directory, whether the kernel holds it or not.
    fn number(&self, tree: &OpenTree, parent: Ino, place: EntryPlace, entry: &Entry) -> Ino {
        let found = Found { tree: &tree.key, parent, place, entry };
        self.inodes.number(&found)
    }

    /// What is told of the root of a revision. Leaves no tree open: a stream that is listed may have thousands.
    pub(crate) fn root_info(
        &self,
        stream: StreamId,
        revision: RevisionId,
        ino: Ino,
    ) -> Result<RootInfo, Errno> {
        let tree = self.trees.look_at(stream, revision, ino)?;
        let root = tree.reader.root();
        let is_extended = root.attributes != treering_engine::Attributes::None;
        Ok(RootInfo { attributes: attributes_of(root, ino), is_extended })
    }

    /// The attributes of the root of a revision, or of an entry.
    pub(crate) fn attributes(&self, place: &Place) -> Result<Attributes, Errno> {
        let (_, entry) = self.entry(place)?;
        Ok(attributes_of(&entry, place.ino()))
    }

    /// Where a symbolic link leads.
    pub(crate) fn read_link(&self, place: &Place) -> Result<Vec<u8>, Errno> {
        match self.entry(place)?.1.content {
            EntryContent::Symlink(target) => Ok(target.as_bytes().to_vec()),
            _ => Err(Errno::Invalid),
        }
    }

    /// Opens a file.
    pub(crate) fn open(&self, place: &Place) -> Result<OpenEntry, Errno> {
        let (tree, entry) = self.entry(place)?;
        match &entry.content {
            EntryContent::File(data) => Ok(OpenEntry::new(tree, data, place.ino())),
            EntryContent::Directory(_) => Err(Errno::IsADirectory),
            _ => Err(Errno::Invalid),
        }
    }

    /// Opens a directory. `above` is what its `..` is if it is the root of a tree.
    pub(crate) fn open_directory(&self, place: &Place, above: Ino) -> Result<TreeListing, Errno> {
        let (tree, top) = self.directory(place)?;
        let parent = match place {
            Place::Root(..) => above,
            Place::Entry(ino) => self.held(*ino)?.of.parent,
        };
        Ok(TreeListing::new(tree, top, place.ino(), parent))
    }

    /// The value of an extended attribute.
    pub(crate) fn attribute(&self, place: &Place, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let list = self.attribute_list(place)?;
        list.as_ref().and_then(|list| list.get(name)).map(<[u8]>::to_vec).ok_or(Errno::NoAttribute)
    }

    /// The names of all extended attributes, a byte 0 behind each.
    pub(crate) fn attribute_names(&self, place: &Place, is_privileged: bool) -> Result<Vec<u8>, Errno> {
        let list = self.attribute_list(place)?;
        let mut names = Vec::new();
        let shows = |name: &[u8]| is_privileged || !name.starts_with(b"trusted.");
        for (name, _) in list.iter().flat_map(|list| list.iter()).filter(|(name, _)| shows(name)) {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }

    fn attribute_list(&self, place: &Place) -> Result<Option<AttributeList>, Errno> {
        let (tree, entry) = self.entry(place)?;
        tree.judged(Piece::Attributes(place.ino()), tree.reader.attributes(&entry))
    }

    fn held(&self, ino: Ino) -> Result<Held, Errno> {
        self.inodes.held(ino).ok_or(Errno::NotFound)
    }

    /// The tree of a place, and the top node if it is a directory.
    fn directory(&self, place: &Place) -> Result<(Arc<OpenTree>, Option<DirectoryTop>), Errno> {
        match place {
            Place::Root(stream, revision, ino) => {
                let tree = self.trees.open(*stream, *revision, *ino)?;
                match &tree.reader.root().content {
                    EntryContent::Directory(top) => Ok((Arc::clone(&tree), *top)),
                    _ => Err(Errno::NotADirectory),
                }
            }
            Place::Entry(ino) => {
                let (tree, entry) = self.entry_of(*ino)?;
                match entry.content {
                    EntryContent::Directory(top) => Ok((tree, top)),
                    _ => Err(Errno::NotADirectory),
                }
            }
        }
    }

    /// What is stored of a place.
    fn entry(&self, place: &Place) -> Result<(Arc<OpenTree>, Entry), Errno> {
        match place {
            Place::Root(stream, revision, ino) => {
                let tree = self.trees.look_at(*stream, *revision, *ino)?;
                let root = tree.reader.root().clone();
                Ok((tree, root))
            }
            Place::Entry(ino) => self.entry_of(*ino),
        }
    }

    fn entry_of(&self, ino: Ino) -> Result<(Arc<OpenTree>, Entry), Errno> {
        let held = self.held(ino)?;
        let tree = self.trees.open_key(&held.of.tree)?;
        let entry = tree.judged(Piece::Entry(ino), tree.reader.entry_at(&held.place))?;
        Ok((tree, entry))
    }
}

/// What `stat` tells of an entry.
pub(crate) fn attributes_of(entry: &Entry, ino: Ino) -> Attributes {
    let metadata = &entry.metadata;
    let (kind, size, data_bytes) = match &entry.content {
        EntryContent::File(data) => (FileKind::File, data.size(), data_bytes(data)),
        EntryContent::Directory(_) => (FileKind::Directory, 0, 0),
        EntryContent::Symlink(target) => (FileKind::Symlink, target.as_bytes().len() as u64, 0),
        EntryContent::BlockDevice { .. } => (FileKind::BlockDevice, 0, 0),
        EntryContent::CharacterDevice { .. } => (FileKind::CharacterDevice, 0, 0),
        EntryContent::Fifo => (FileKind::Fifo, 0, 0),
        EntryContent::Socket => (FileKind::Socket, 0, 0),
    };
    let device = match entry.content {
        EntryContent::BlockDevice { major, minor } | EntryContent::CharacterDevice { major, minor } => {
            (major, minor)
        }
        _ => (0, 0),
    };
    Attributes {
        ino,
        kind,
        size,
        blocks: data_bytes.min(size).div_ceil(512),
        modified: time_of(metadata.mtime),
        changed: time_of(metadata.ctime),
        mode: metadata.mode,
        links: metadata.links.max(1),
        device,
        owner: Owner { uid: metadata.uid, gid: metadata.gid },
        lifetime: UNLIMITED,
    }
}

fn data_bytes(data: &FileData) -> u64 {
    match data {
        FileData::Map { subtree, .. } => subtree.data_bytes,
        data => data.size(),
    }
}

fn time_of(time: Timestamp) -> SystemTime {
    time.to_system_time()
}
