//! Opens the trees of revisions, and lets go of those that nobody has used for a while, so that gc may have them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use treering_engine::{Error, RevisionId, StreamId, TreeReader};

use crate::errno::Errno;
use crate::images::Images;
use crate::inode::Ino;
use crate::reports::{Piece, WHOLE};

/// So long a tree stays open that nobody reads: the requests of one command come closer together.
const IDLE: Duration = Duration::from_secs(5);

/// The tree of a revision, as entries remember it.
#[derive(Debug)]
pub(crate) struct TreeKey {
    pub(super) stream: StreamId,
    pub(super) revision: RevisionId,
    /// The number of its root.
    pub(super) root: Ino,
}

/// An open tree. While it lives, gc keeps what it reads.
pub(crate) struct OpenTree {
    pub(super) key: Arc<TreeKey>,
    pub(super) reader: TreeReader,
    /// As `stream@revision`.
    name: String,
    images: Arc<Images>,
}

impl OpenTree {
    /// Logs that a part of a piece can't be read, once until that is read well.
    pub(super) fn report(&self, piece: Piece, part: Range<u64>, error: &Error) -> Errno {
        let TreeKey { stream, revision, .. } = *self.key;
        let line = format_args!("{}: {error}", self.name);
        self.images.reports().report_part(revision, &self.name, piece, part, line);
        self.images.failure(stream, revision, self.reader.is_pinned())
    }

    /// Notes that a part of a piece was read well.
    pub(super) fn read_well(&self, piece: Piece, part: Range<u64>) {
        self.images.reports().read_part_well(self.key.revision, piece, part);
    }

    /// Notes or logs what became of something that is read as a whole, or of which nobody knows what part was read.
    pub(super) fn judged<T>(&self, piece: Piece, read: Result<T, Error>) -> Result<T, Errno> {
        match read {
            Ok(read) => {
                self.read_well(piece, WHOLE);
                Ok(read)
            }
            Err(error) => Err(self.report(piece, WHOLE, &error)),
        }
    }
}

/// The trees that are open.
pub(crate) struct Trees {
    images: Arc<Images>,
    open: Mutex<HashMap<RevisionId, Kept>>,
}

/// A tree, held as long as it is in use, and a little longer.
struct Kept {
    tree: Weak<OpenTree>,
    held: Option<Arc<OpenTree>>,
    used: Instant,
}

impl Trees {
    pub(crate) fn new(images: Arc<Images>) -> Self {
        Self { images, open: Mutex::default() }
    }

    /// The tree of entries that the kernel holds.
    pub(super) fn open_key(self: &Arc<Self>, key: &TreeKey) -> Result<Arc<OpenTree>, Errno> {
        let opened = self.open(key.stream, key.revision, key.root);
        opened.map_err(|errno| if errno == Errno::NotFound { Errno::Stale } else { errno })
    }

    /// The tree of a revision, shared by all who read it.
    pub(super) fn open(
        self: &Arc<Self>,
        stream: StreamId,
        revision: RevisionId,
        root: Ino,
    ) -> Result<Arc<OpenTree>, Errno> {
        if let Some(tree) = self.known(revision) {
            return Ok(tree);
        }
        let tree = self.open_anew(stream, revision, root)?;
        // Another thread may have been faster.
        if let Some(tree) = self.known(revision) {
            return Ok(tree);
        }
        let kept = Kept { tree: Arc::downgrade(&tree), held: Some(Arc::clone(&tree)), used: Instant::now() };
        let mut open = self.lock();
        let is_first = open.is_empty();
        open.insert(revision, kept);
        drop(open);
        if is_first {
            self.start_janitor();
        }
        Ok(tree)
    }

    /// The same to look at its root alone: it does not stay open for that.
    pub(super) fn look_at(
        &self,
        stream: StreamId,
        revision: RevisionId,
        root: Ino,
    ) -> Result<Arc<OpenTree>, Errno> {
        self.known(revision).map_or_else(|| self.open_anew(stream, revision, root), Ok)
    }

    fn open_anew(&self, stream: StreamId, revision: RevisionId, root: Ino) -> Result<Arc<OpenTree>, Errno> {
        let (name, reader) = self.images.open_tree(stream, revision)?;
        let key = Arc::new(TreeKey { stream, revision, root });
        Ok(Arc::new(OpenTree { key, reader, name, images: Arc::clone(&self.images) }))
    }

    fn known(&self, revision: RevisionId) -> Option<Arc<OpenTree>> {
        let mut open = self.lock();
        let kept = open.get_mut(&revision)?;
        let tree = kept.tree.upgrade()?;
        kept.used = Instant::now();
        kept.held = Some(Arc::clone(&tree));
        Some(tree)
    }

    /// Lets go of idle trees until none is left; whoever opens the next one starts it again.
    fn start_janitor(self: &Arc<Self>) {
        let trees = Arc::downgrade(self);
        let work = move || {
            while trees.upgrade().is_some_and(|trees| trees.let_go_of_idle(Instant::now())) {
                std::thread::sleep(IDLE / 2);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("treering-trees".to_owned()).spawn(work) {
            // They stay open then: a gc elsewhere keeps what they read, and names this mount.
            log::warn!("trees that nobody reads stay open: {error}");
        }
    }

    /// Whether any tree is left.
    fn let_go_of_idle(&self, now: Instant) -> bool {
        let mut idle = Vec::new();
        let mut open = self.lock();
        for kept in open.values_mut() {
            if now.duration_since(kept.used) >= IDLE {
                idle.push(kept.held.take());
            }
        }
        drop(open);
        // Not under the lock: a pin is a file that is removed.
        drop(idle);
        let mut open = self.lock();
        // What is open in a handle is found again, however long that lasts.
        open.retain(|_, kept| kept.tree.strong_count() > 0);
        !open.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RevisionId, Kept>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
