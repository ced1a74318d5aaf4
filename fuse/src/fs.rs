//! The file system on our own types: no FUSE, no libc, no kernel. `adapter.rs` puts it on the wire.
//!
//! What it promises: names are listed without opening a record; attributes are those of the record; every byte that is
//! read has been verified; an open handle stays readable whatever happens to the repository's list of revisions.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use treering_engine::Repository;

use crate::answers::{Attributes, DirectoryEntry, NAME_LIFETIME, Owner, Room, UNLIMITED};
use crate::catalogue::Catalogue;
use crate::errno::Errno;
use crate::handle::{DirectoryHandle, FileHandle, HandleId, Handles, NamesHandle, OpenFile};
use crate::images::Images;
use crate::inode::{Ino, InodeTable, RevisionInfo};
use crate::namespace::{Child, FileKind, Node};
use crate::readahead::ReadAhead;
use crate::tree::{Place, TreeFs, Trees};

/// A repository as a file system.
pub struct FileSystem {
    catalogue: Arc<Catalogue>,
    owner: Owner,
    inodes: InodeTable,
    files: Handles<FileHandle>,
    directories: Handles<DirectoryHandle>,
    images: Arc<Images>,
    trees: TreeFs,
    read_ahead: OnceLock<ReadAhead>,
}

impl FileSystem {
    /// Serves the chosen streams of a repository, or all if none is chosen. Opens no revision.
    ///
    /// # Errors
    /// A chosen stream that is not there.
    pub fn new(repository: Repository, streams: &[String], owner: Owner) -> treering_engine::Result<Self> {
        let inodes = InodeTable::new(repository.header().id);
        let catalogue = Arc::new(Catalogue::new(repository, streams)?);
        let images = Arc::new(Images::new(Arc::clone(&catalogue)));
        Ok(Self {
            trees: TreeFs::new(Arc::new(Trees::new(Arc::clone(&images))), inodes.key()),
            images,
            catalogue,
            owner,
            inodes,
            files: Handles::default(),
            directories: Handles::default(),
            read_ahead: OnceLock::new(),
        })
    }

    /// From now on loads chunks ahead of sequential readers, on so many threads. Of use where the kernel itself asks
    /// for too little at a time to keep all cores busy.
    ///
    /// # Errors
    /// Threads that can't be started.
    pub fn start_read_ahead(&self, threads: usize) -> std::io::Result<()> {
        let started = ReadAhead::start(threads)?;
        // Started twice, the first stays.
        let _ = self.read_ahead.set(started);
        Ok(())
    }

    /// Finds a name in a directory, and counts a lookup that [`FileSystem::forget`] takes back.
    ///
    /// # Errors
    /// [`Errno::NotFound`]; [`Errno::Unreadable`] if the record is damaged.
    pub fn lookup(&self, parent: Ino, name: impl AsRef<[u8]>) -> Result<Attributes, Errno> {
        let name = name.as_ref();
        if let Some(place) = self.place_in_tree(parent)? {
            return self.trees.lookup(&place, name);
        }
        let directory = self.node(parent)?;
        // A name that is not UTF-8 is none of ours.
        let name = std::str::from_utf8(name).map_err(|_| Errno::NotFound)?;
        let node = self.catalogue.find(&directory, name)?.ok_or(Errno::NotFound)?;
        self.acquire(&node)
    }

    /// Takes lookups back.
    pub fn forget(&self, ino: Ino, lookup_count: u64) {
        match TreeFs::entry_place(ino) {
            Some(_) => self.trees.forget(ino, lookup_count),
            None => self.inodes.release(ino, lookup_count),
        }
    }

    /// How many inodes are held by lookups.
    pub fn held_count(&self) -> usize {
        self.inodes.held_count() + self.trees.held_count()
    }

    /// The attributes of an inode.
    pub fn attributes(&self, ino: Ino) -> Result<Attributes, Errno> {
        if let Some(place) = TreeFs::entry_place(ino) {
            return self.trees.attributes(&place);
        }
        let node = self.node(ino)?;
        let info = self.revision_info(&node)?;
        Ok(self.attributes_of(&node, ino, info.as_deref()))
    }

    /// Where a symbolic link leads.
    pub fn read_link(&self, ino: Ino) -> Result<Vec<u8>, Errno> {
        if let Some(place) = self.place_in_tree(ino)? {
            return self.trees.read_link(&place);
        }
        let node = self.node(ino)?;
        match node.stream().filter(|_| node.kind() == FileKind::Symlink) {
            None => Err(Errno::Invalid),
            Some(stream) => self.catalogue.link_target(stream, &node).map(String::into_bytes),
        }
    }

    /// The value of an extended attribute. Only what lies in trees has any.
    pub fn extended_attribute(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let place = self.extended_place(ino)?.ok_or(Errno::NoAttribute)?;
        self.trees.attribute(&place, name)
    }

    /// The names of all extended attributes, a byte 0 behind each.
    pub fn extended_attribute_names(&self, ino: Ino, is_privileged: bool) -> Result<Vec<u8>, Errno> {
        match self.extended_place(ino)? {
            Some(place) => self.trees.attribute_names(&place, is_privileged),
            None => Ok(Vec::new()),
        }
    }

    /// Opens an image, or a file of a tree.
    pub fn open(&self, ino: Ino) -> Result<HandleId, Errno> {
        if let Some(place) = self.place_in_tree(ino)? {
            let entry = self.trees.open(&place)?;
            return Ok(self.files.insert(FileHandle::new(OpenFile::Entry(entry))));
        }
        match self.node(ino)? {
            Node::Image(stream, revision) => {
                let image = self.images.open(stream, revision)?;
                Ok(self.files.insert(FileHandle::new(OpenFile::Image(image))))
            }
            node if node.kind() == FileKind::Directory => Err(Errno::IsADirectory),
            _ => Err(Errno::Invalid),
        }
    }

    /// Fills `buffer` from `offset` on; shorter only where the image ends.
    ///
    /// # Errors
    /// [`Errno::Unreadable`] if any of the range can't be read intact; nothing in `buffer` counts then.
    pub fn read(&self, handle: HandleId, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let file = self.files.get(handle)?;
        if let Some(read_ahead) = self.read_ahead.get()
            && let Some(range) = file.observe(offset, buffer.len() as u64)
        {
            read_ahead.load(&file.file, range);
        }
        file.file.read(offset, buffer)
    }

    /// The first byte from `offset` on that is data; [`Errno::NoSuchOffset`] if there is none.
    pub fn seek_data(&self, handle: HandleId, offset: u64) -> Result<u64, Errno> {
        self.files.get(handle)?.file.seek_data(offset)
    }

    /// The first byte from `offset` on that is in a hole, as which the end counts; [`Errno::NoSuchOffset`] beyond it.
    pub fn seek_hole(&self, handle: HandleId, offset: u64) -> Result<u64, Errno> {
        self.files.get(handle)?.file.seek_hole(offset)
    }

    /// Closes a file.
    pub fn release(&self, handle: HandleId) {
        self.files.remove(handle);
        self.images.sweep();
    }

    /// Opens a directory.
    pub fn open_directory(&self, ino: Ino) -> Result<HandleId, Errno> {
        if let Some(place) = self.place_in_tree(ino)? {
            let above = match place {
                Place::Root(..) => self.inodes.number(&self.node(ino)?.parent()),
                Place::Entry(_) => Ino::ROOT,
            };
            let listing = self.trees.open_directory(&place, above)?;
            return Ok(self.directories.insert(DirectoryHandle::Tree(Box::new(listing))));
        }
        let node = self.node(ino)?;
        match node.kind() {
            FileKind::Directory => {
                Ok(self.directories.insert(DirectoryHandle::Names(NamesHandle::new(node))))
            }
            _ => Err(Errno::NotADirectory),
        }
    }

    /// Whether what an open directory lists never changes.
    pub fn is_immutable(&self, handle: HandleId) -> bool {
        self.directories.get(handle).is_ok_and(|directory| matches!(*directory, DirectoryHandle::Tree(_)))
    }

    /// Calls `add` for the entries from `offset` on, until it says that there is no more room.
    pub fn read_directory(
        &self,
        handle: HandleId,
        offset: u64,
        add: &mut dyn FnMut(DirectoryEntry<'_>) -> Room,
    ) -> Result<(), Errno> {
        let handle = self.directories.get(handle)?;
        let directory = match &*handle {
            DirectoryHandle::Tree(listing) => return self.trees.list(listing, offset, add),
            DirectoryHandle::Names(directory) => directory,
        };
        let list = directory.list(offset == 0, || self.catalogue.list(&directory.node))?;
        for (child, next_offset) in from_offset(&list, offset) {
            let entry = DirectoryEntry {
                ino: self.inodes.number(&child.node),
                next_offset,
                kind: child.node.kind(),
                name: child.name.as_bytes(),
            };
            if add(entry) == Room::Full {
                break;
            }
        }
        Ok(())
    }

    /// Does the same with all attributes, and counts a lookup of each entry but `.` and `..`.
    ///
    /// The kernel asks for the beginning of a directory in this way also when only names are wanted, so this stops
    /// before the first revision; it goes on there if it is asked for more, which means that attributes are wanted.
    pub fn read_directory_plus(
        &self,
        handle: HandleId,
        offset: u64,
        add: &mut dyn FnMut(DirectoryEntry<'_>, &Attributes) -> Room,
    ) -> Result<(), Errno> {
        let handle = self.directories.get(handle)?;
        let directory = match &*handle {
            DirectoryHandle::Tree(listing) => return self.trees.list_plus(listing, offset, add),
            DirectoryHandle::Names(directory) => directory,
        };
        let list = directory.list(offset == 0, || self.catalogue.list(&directory.node))?;
        for (index, (child, next_offset)) in from_offset(&list, offset).enumerate() {
            let costs = child.node.is_revision() && self.inodes.info(&child.node).is_none();
            if costs && index > 0 && offset == 0 {
                break;
            }
            let attributes = self.attributes_to_list(child);
            let name = child.name.as_bytes();
            let entry = DirectoryEntry { ino: attributes.ino, next_offset, kind: attributes.kind, name };
            if add(entry, &attributes) == Room::Full {
                self.take_back(child, attributes.ino);
                break;
            }
        }
        Ok(())
    }

    /// Closes a directory.
    pub fn release_directory(&self, handle: HandleId) {
        self.directories.remove(handle);
    }

    /// The place in a tree that a number means, if it is in one.
    fn place_in_tree(&self, ino: Ino) -> Result<Option<Place>, Errno> {
        if let Some(place) = TreeFs::entry_place(ino) {
            return Ok(Some(place));
        }
        Ok(match self.node(ino)? {
            Node::Tree(stream, revision) => Some(Place::Root(stream, revision, ino)),
            _ => None,
        })
    }

    /// The same, but none for the root of a tree that has no extended attributes, which is known without opening it.
    fn extended_place(&self, ino: Ino) -> Result<Option<Place>, Errno> {
        let place = self.place_in_tree(ino)?;
        if let Some(Place::Root(..)) = place
            && let Some(RevisionInfo::Tree(root)) = self.revision_info(&self.node(ino)?)?.as_deref()
        {
            return Ok(place.filter(|_| root.is_extended));
        }
        Ok(place)
    }

    fn node(&self, ino: Ino) -> Result<Node, Errno> {
        self.inodes.node(ino).ok_or(Errno::NotFound)
    }

    /// Counts a lookup of a node.
    fn acquire(&self, node: &Node) -> Result<Attributes, Errno> {
        let info = self.revision_info(node)?;
        let ino = self.inodes.acquire(node, info.clone());
        Ok(self.attributes_of(node, ino, info.as_deref()))
    }

    /// The attributes of a listed entry, with a lookup counted where one counts.
    ///
    /// One whose record is damaged must be listed too. It gets attributes that may not be kept: whoever wants to
    /// know them asks again, and is told that they can't be read.
    fn attributes_to_list(&self, child: &Child) -> Attributes {
        if is_dot(&child.name) {
            let ino = self.inodes.number(&child.node);
            return self.attributes_of(&child.node, ino, None);
        }
        self.acquire(&child.node).unwrap_or_else(|_| {
            let ino = self.inodes.acquire(&child.node, None);
            Attributes { lifetime: Duration::ZERO, ..self.attributes_of(&child.node, ino, None) }
        })
    }

    fn take_back(&self, child: &Child, ino: Ino) {
        if !is_dot(&child.name) {
            self.inodes.release(ino, 1);
        }
    }

    fn attributes_of(&self, node: &Node, ino: Ino, info: Option<&RevisionInfo>) -> Attributes {
        let kind = node.kind();
        let image = match info {
            Some(RevisionInfo::Tree(root)) => return Attributes { ino, ..root.attributes },
            Some(RevisionInfo::Image(image)) => Some(image),
            None => None,
        };
        let changed = || self.catalogue.changed(node.stream());
        let modified = image.map_or_else(changed, |image| image.modified);
        let target_len = || {
            node.stream().and_then(|stream| self.catalogue.link_target(stream, node).ok()).map(|t| t.len())
        };
        Attributes {
            ino,
            kind,
            size: match kind {
                FileKind::Symlink => target_len().unwrap_or(0) as u64,
                FileKind::File => image.map_or(0, |image| image.size),
                _ => 0,
            },
            blocks: image.map_or(0, |image| image.data_bytes.min(image.size).div_ceil(512)),
            modified,
            changed: modified,
            mode: match kind {
                FileKind::Symlink => 0o777,
                FileKind::File => 0o440,
                _ => 0o555,
            },
            // One means for a directory that nobody has counted, and is what btrfs says too.
            links: 1,
            device: (0, 0),
            owner: self.owner,
            lifetime: if kind == FileKind::File { UNLIMITED } else { NAME_LIFETIME },
        }
    }

    /// What is told of a revision: from memory while the kernel holds it, else from what is stored. `None` for others.
    fn revision_info(&self, node: &Node) -> Result<Option<Arc<RevisionInfo>>, Errno> {
        if let Some(known) = self.inodes.info(node) {
            return Ok(Some(known));
        }
        let info = match node {
            Node::Image(stream, revision) => RevisionInfo::Image(self.images.info(*stream, *revision)?),
            Node::Tree(stream, revision) => {
                RevisionInfo::Tree(self.trees.root_info(*stream, *revision, self.inodes.number(node))?)
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(info)))
    }
}

/// The entries from an offset on, each with the offset behind it.
fn from_offset(list: &[Child], offset: u64) -> impl Iterator<Item = (&Child, u64)> {
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    list.iter().zip(1..).skip(skipped)
}

fn is_dot(name: &str) -> bool {
    matches!(name, "." | "..")
}
