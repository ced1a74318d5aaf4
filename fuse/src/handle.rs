//! What is open: each handle keeps what it needs alive, whatever is added to or forgotten from the repository.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::errno::Errno;
use crate::image::OpenImage;
use crate::namespace::{Child, Node};
use crate::readahead::Detector;
use crate::tree::{OpenEntry, TreeListing};

/// Names an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(u64);

impl HandleId {
    /// Takes a number that the kernel gave back.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a file handle reads.
pub(crate) enum OpenFile {
    Image(Arc<OpenImage>),
    Entry(OpenEntry),
}

impl OpenFile {
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Image(image) => image.read(offset, buffer),
            Self::Entry(entry) => entry.read(offset, buffer),
        }
    }

    pub(crate) fn seek_data(&self, offset: u64) -> Result<u64, Errno> {
        match self {
            Self::Image(image) => image.seek_data(offset),
            Self::Entry(entry) => entry.seek_data(offset),
        }
    }

    pub(crate) fn seek_hole(&self, offset: u64) -> Result<u64, Errno> {
        match self {
            Self::Image(image) => image.seek_hole(offset),
            Self::Entry(entry) => entry.seek_hole(offset),
        }
    }
}

/// An open file.
pub(crate) struct FileHandle {
    pub(crate) file: OpenFile,
    detector: Mutex<Detector>,
}

impl FileHandle {
    pub(crate) fn new(file: OpenFile) -> Self {
        Self { file, detector: Mutex::default() }
    }

    /// Takes note of a read; gives the range to load ahead of the next ones, if any.
    pub(crate) fn observe(&self, offset: u64, length: u64) -> Option<Range<u64>> {
        self.detector.lock().unwrap_or_else(PoisonError::into_inner).observe(offset, length)
    }
}

/// An open directory.
pub(crate) enum DirectoryHandle {
    /// One that may change.
    Names(NamesHandle),
    /// One of a tree.
    Tree(Box<TreeListing>),
}

/// An open directory of names. What it lists is taken once, at its beginning, so that offsets keep their meaning.
pub(crate) struct NamesHandle {
    pub(crate) node: Node,
    list: Mutex<Option<Arc<Vec<Child>>>>,
}

impl NamesHandle {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, list: Mutex::default() }
    }

    /// The list that offsets refer to; made anew when the directory is read from its beginning.
    pub(crate) fn list(
        &self,
        from_start: bool,
        list: impl FnOnce() -> Result<Vec<Child>, Errno>,
    ) -> Result<Arc<Vec<Child>>, Errno> {
        let mut known = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|_| !from_start) {
            return Ok(Arc::clone(known));
        }
        Ok(Arc::clone(known.insert(Arc::new(list()?))))
    }
}

/// The open handles of one sort.
pub(crate) struct Handles<T> {
    next: AtomicU64,
    open: RwLock<HashMap<HandleId, Arc<T>>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), open: RwLock::default() }
    }
}

impl<T> Handles<T> {
    pub(crate) fn insert(&self, value: T) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(value));
        id
    }

    pub(crate) fn get(&self, id: HandleId) -> Result<Arc<T>, Errno> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned().ok_or(Errno::BadHandle)
    }

    pub(crate) fn remove(&self, id: HandleId) {
        let removed = self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        // What ends with the handle ends after the lock: a pin is a file that is removed.
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_was_closed_is_bad() {
        let handles = Handles::default();
        let (first, second) = (handles.insert("a"), handles.insert("b"));
        handles.remove(first);
        assert_eq!(handles.get(first), Err(Errno::BadHandle));
        assert_eq!(*handles.get(second).unwrap(), "b");
    }

    #[test]
    fn a_directory_is_listed_anew_only_from_its_start() {
        let directory = NamesHandle::new(Node::Root);
        let child = || vec![Child { name: "a".into(), node: Node::Root }];
        assert_eq!(directory.list(false, || Ok(child())).unwrap().len(), 1);
        assert_eq!(directory.list(false, || Ok(Vec::new())).unwrap().len(), 1);
        assert_eq!(directory.list(true, || Ok(Vec::new())).unwrap().len(), 0);
    }
}
