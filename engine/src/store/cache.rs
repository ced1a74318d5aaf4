//! The one cache: decoded chunks and nodes, least recently used out first, bounded in bytes.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use crate::error::Result;
use crate::format::{
    ALLOCATION_BYTES, Child, DirectoryInner, DirectoryLeaf, DirectorySubtree, Entry, FileInner, FileLeaf,
    FileSlot, FileSubtree, Inner, Leaf, Slot,
};
use crate::id::ObjectId;

/// Something verified and decoded.
#[derive(Clone)]
pub(crate) enum Cached {
    Chunk(Arc<Vec<u8>>),
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
    FileLeaf(Arc<FileLeaf>),
    FileInner(Arc<FileInner>),
    DirectoryLeaf(Arc<DirectoryLeaf>),
    DirectoryInner(Arc<DirectoryInner>),
}

impl Cached {
    /// About how many bytes of memory it takes.
    fn size_bytes(&self) -> u64 {
        const OVERHEAD: usize = 128;
        let content = match self {
            Self::Chunk(bytes) => bytes.capacity(),
            Self::Leaf(leaf) => leaf.slots.capacity() * size_of::<Slot>(),
            Self::Inner(inner) => inner.children.capacity() * size_of::<Child>(),
            Self::FileLeaf(leaf) => leaf.slots.capacity() * size_of::<FileSlot>(),
            Self::FileInner(inner) => inner.children.capacity() * size_of::<FileSubtree>(),
            Self::DirectoryLeaf(leaf) => {
                let unused = leaf.entries.capacity() - leaf.entries.len();
                unused * size_of::<Entry>() + leaf.entries.iter().map(Entry::memory_bytes).sum::<usize>()
            }
            Self::DirectoryInner(inner) => {
                let own = inner.children.capacity() * size_of::<DirectorySubtree>();
                let name = |child: &DirectorySubtree| child.last_name.as_bytes().len() + ALLOCATION_BYTES;
                own + inner.children.iter().map(name).sum::<usize>()
            }
        };
        (content + OVERHEAD) as u64
    }
}

pub(crate) struct Cache {
    capacity_bytes: u64,
    state: Mutex<State>,
    loaded: Condvar,
}

struct State {
    /// Each with its size.
    entries: LruCache<ObjectId, (Cached, u64)>,
    size_bytes: u64,
    /// Objects that some thread is loading: the others wait for it instead of doing the same.
    loading: HashSet<ObjectId>,
}

impl Cache {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            state: Mutex::new(State {
                entries: LruCache::unbounded(),
                size_bytes: 0,
                loading: HashSet::new(),
            }),
            loaded: Condvar::new(),
        }
    }

    /// What the cache has under this id, or will have in a moment, as another thread is loading it.
    pub(crate) fn get(&self, id: &ObjectId) -> Option<Cached> {
        let mut state = self.lock();
        while state.loading.contains(id) {
            state = self.loaded.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.entries.get(id).map(|(cached, _)| cached.clone())
    }

    /// What the cache has, or else what `load` gives; of several threads one loads. Failures are not kept.
    pub(crate) fn get_or_load(&self, id: &ObjectId, load: impl FnOnce() -> Result<Cached>) -> Result<Cached> {
        let mut state = self.lock();
        loop {
            if let Some((cached, _)) = state.entries.get(id) {
                return Ok(cached.clone());
            }
            if state.loading.insert(*id) {
                break;
            }
            state = self.loaded.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let _ended = LoadEnds { cache: self, id };
        let cached = load()?;
        self.insert(*id, cached.clone());
        Ok(cached)
    }

    fn insert(&self, id: ObjectId, cached: Cached) {
        // Before the lock: of a directory every entry is looked at.
        let size_bytes = cached.size_bytes();
        let mut state = self.lock();
        state.size_bytes += size_bytes;
        if let Some((_, replaced)) = state.entries.put(id, (cached, size_bytes)) {
            state.size_bytes -= replaced;
        }
        while state.size_bytes > self.capacity_bytes {
            let Some((_, (_, evicted))) = state.entries.pop_lru() else { break };
            state.size_bytes -= evicted;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the waiting threads go on, also when loading failed or panicked.
struct LoadEnds<'a> {
    cache: &'a Cache,
    id: &'a ObjectId,
}

impl Drop for LoadEnds<'_> {
    fn drop(&mut self) {
        self.cache.lock().loading.remove(self.id);
        self.cache.loaded.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        AttributeList, Attributes, EntryContent, EntryName, Metadata, SymlinkTarget, Timestamp,
    };

    fn id(byte: u8) -> ObjectId {
        ObjectId::from_bytes([byte; 32])
    }

    fn chunk(length: usize) -> Cached {
        Cached::Chunk(Arc::new(vec![0; length]))
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_bound_holds() {
        let cache = Cache::new(3000);
        for byte in 0..2 {
            cache.get_or_load(&id(byte), || Ok(chunk(1000))).unwrap();
        }
        assert!(cache.get(&id(0)).is_some());
        cache.get_or_load(&id(2), || Ok(chunk(1000))).unwrap();
        assert!(cache.get(&id(1)).is_none());
        assert!(cache.get(&id(0)).is_some());
        assert!(cache.lock().size_bytes <= 3000);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let cache = Cache::new(3000);
        assert!(cache.get_or_load(&id(0), || Err(crate::Error::missing(&id(0)))).is_err());
        assert!(cache.get_or_load(&id(0), || Ok(chunk(1))).is_ok());
    }

    #[test]
    fn many_threads_load_one_object_once() {
        let cache = Cache::new(3000);
        let loads = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let load = || {
                        loads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        Ok(chunk(10))
                    };
                    cache.get_or_load(&id(9), load).unwrap();
                });
            }
        });
        assert_eq!(loads.into_inner(), 1);
    }

    #[test]
    fn a_directory_counts_with_all_that_its_entries_hold() {
        let leaf = |targets: &[usize]| {
            let entry = |(number, length): (usize, &usize)| Entry {
                name: EntryName::new(number.to_string().as_bytes()).unwrap(),
                metadata: Metadata {
                    mode: 0,
                    uid: 0,
                    gid: 0,
                    links: 1,
                    mount: 0,
                    inode: 1,
                    mtime: Timestamp::now(),
                    ctime: Timestamp::now(),
                },
                content: EntryContent::Symlink(SymlinkTarget::new(&vec![b'x'; *length]).unwrap()),
                attributes: Attributes::Inline(AttributeList::new(vec![(b"a", &vec![0; *length])]).unwrap()),
                has_other_names: false,
                unsettled: false,
                left_out: false,
            };
            let entries = targets.iter().enumerate().map(entry).collect();
            Cached::DirectoryLeaf(Arc::new(DirectoryLeaf { entries })).size_bytes()
        };
        let small = leaf(&[1; 10]);
        assert!(small >= 10 * size_of::<Entry>() as u64);
        assert_eq!(leaf(&[1001; 10]), small + 10 * 2000);
    }
}
