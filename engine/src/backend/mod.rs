//! Keeps opaque bytes under keys. Knows no chunk, no pack and no revision.
//!
//! A [`Backend`] promises what `docs/format.md` section 4 asks for: an object that is visible under its key is
//! whole and durable, except that names of objects made by [`ObjectWriter::finish`] become durable with the next
//! [`Backend::sync_area`].

#[cfg(test)]
pub(crate) mod crash_disk;
mod disk;
mod key;
mod local;
#[cfg(test)]
pub(crate) mod recording;

#[cfg(test)]
pub(crate) use disk::DiskFile;
pub(crate) use disk::{Disk, SystemDisk, rename_new};
pub(crate) use key::{Area, Key};
pub(crate) use local::LocalBackend;

use std::sync::Arc;

use crate::error::Result;

/// An object's name within its area, and its size in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) size: u64,
}

/// Where the bytes of a repository lie.
pub(crate) trait Backend: Send + Sync {
    /// The whole object. Fails if it is longer than `limit` bytes.
    fn read(&self, key: &Key, limit: u64) -> Result<Vec<u8>>;

    /// Opens an object for reads at any place. It stays readable while it is open, also when it is removed.
    fn open(&self, key: &Key) -> Result<Arc<dyn ObjectReader>>;

    /// The objects of an area and their sizes, in no order; none if the area may be absent and is ([`Area::may_be_absent`]).
    fn list(&self, area: &Area) -> Result<Vec<Listed>>;

    /// The same without the sizes, which costs less.
    fn names(&self, area: &Area) -> Result<Vec<String>>;

    /// The names of the areas directly below an area.
    fn areas_below(&self, area: &Area) -> Result<Vec<String>>;

    /// The names of what lies in an area and is no object: directories, pipes and the like.
    fn strangers(&self, area: &Area) -> Result<Vec<String>>;

    /// Whether an area has an object whose name is wanted. Need not look at all of a large area.
    fn holds(&self, area: &Area, wanted: &dyn Fn(&str) -> bool) -> Result<bool>;

    /// Creates or replaces an object, atomically and durably.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()>;

    /// Creates an object, atomically and durably; fails with `AlreadyExists` if there is one.
    fn create(&self, key: &Key, bytes: &[u8]) -> Result<()>;

    /// Begins an object that is written in pieces and seen by nobody before it is finished.
    fn write(&self, key: &Key) -> Result<Box<dyn ObjectWriter>>;

    /// Makes areas, also those without which there is no repository, so that their names are durable before anything lies
    /// in them. All other calls make only areas that may be absent, and fail where another one is.
    fn create_areas(&self, areas: &[Area]) -> Result<()>;

    /// Fails if any of these areas is not there.
    ///
    /// # Errors
    /// [`MissingDirectories`](crate::Error::MissingDirectories) names all that are missing.
    fn require_areas(&self, areas: &[Area]) -> Result<()>;

    /// Makes the names of an area durable.
    fn sync_area(&self, area: &Area) -> Result<()>;

    /// Makes an object durable that another process has written, or was about to. Its name is after the next
    /// [`Backend::sync_area`].
    fn sync_object(&self, key: &Key) -> Result<()>;

    /// Moves objects to another area, and makes that durable, there first. One that is not there is no error, nor is one
    /// that is there already: it is removed here.
    fn move_objects(&self, from: &Area, to: &Area, names: &[String]) -> Result<()>;

    /// Removes an object; one that is not there is no error.
    fn remove(&self, key: &Key) -> Result<()>;

    /// Tries to lock a name against all other processes; `None` if another holds it.
    fn try_lock(&self, name: &str) -> Result<Option<LockGuard>>;

    /// Creates an object that is removed when the guard is dropped, and is known to be dead when its process is.
    fn claim(&self, key: &Key, bytes: &[u8]) -> Result<Box<dyn ClaimGuard>>;

    /// Whether the maker of a claim, or of what lies in [`Area::incoming`], still lives.
    fn claim_state(&self, key: &Key) -> Result<ClaimState>;

    /// Removes what the maker of a claim, or of what lies in [`Area::incoming`], left behind when it died; says whether it
    /// did. One that lives, or that others have removed, is left.
    fn remove_if_dead(&self, key: &Key) -> Result<bool>;

    /// Removes an area in which nothing lies; another one is left.
    fn remove_area(&self, area: &Area) -> Result<()>;

    /// Bytes that can still be stored by everybody, where that can be told. Root may have more, and others may store some
    /// meanwhile.
    fn free_bytes(&self) -> Option<u64>;

    /// What users call the place.
    fn location(&self) -> String;

    /// The directory, for backends that have one.
    fn directory(&self) -> Option<&std::path::Path>;
}

/// An open object.
pub(crate) trait ObjectReader: Send + Sync {
    /// Fills `buffer` from `offset` on. An object that ends earlier is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Size in bytes, now.
    fn size(&self) -> Result<u64>;
}

/// An object that is being written. Dropped without [`ObjectWriter::finish`] it leaves nothing.
pub(crate) trait ObjectWriter: Send {
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the bytes durable and the object visible. Its name is durable after [`Backend::sync_area`].
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A lock that is held; it ends when this is dropped, or with the process.
pub(crate) struct LockGuard {
    _file: Box<dyn std::any::Any + Send + Sync>,
}

impl LockGuard {
    fn new(file: impl std::any::Any + Send + Sync) -> Self {
        Self { _file: Box::new(file) }
    }
}

/// What has become of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimState {
    /// Its maker lives.
    Living,
    /// Its maker died and left it behind.
    Dead,
    /// It was given up.
    Gone,
}

/// A claim that is held; dropped, it is removed.
pub(crate) trait ClaimGuard: Send + Sync {
    /// Replaces the claim's content. Who reads it meanwhile may find it damaged, and reads it again.
    fn update(&self, bytes: &[u8]) -> Result<()>;
}
