//! A repository as a whole: making and opening it, its streams, claims and damage list.
//!
//! Who may run beside whom, and why, is the table of `docs/format.md` section 5. What of it lies here:
//!
//! | operation | takes | before |
//! | --- | --- | --- |
//! | backup | [`Claimed`] under `sessions/`, then the stream's lock | it lists revisions to choose a parent |
//! | copy, of its target | [`Claimed`] under `sessions/`, then the stream's lock | it lists revisions, and relies on any object |
//! | copy, of its source | [`Claimed`] under `pins/`, where one can be written | it looks again whether the records are there |
//! | mount, restore, dump, ls, find, history, diff, scrub | [`Claimed`] under `pins/`, where one can be written | it looks again whether the record is there |
//! | changing labels, and the commit of a backup or copy | the lock `history` of the stream | it reads what it changes |
//! | making a stream | the lock `streams` | it lists the streams |
//! | changing the damage list | the lock `damage` | it reads the list |
//! | changing the scrub ledger | the lock `scrub` | it reads the ledger |
//! | check | [`Claimed`] under `pins/` while it follows a revision | it looks again whether the record is there |
//! | repair | the lock `gc`, then sees that no session lives; the lock `index` while it makes tables | it lists the tables |
//! | merging tables | the lock `index`, or leaves it to the holder | it lists the tables |

mod claims;
mod copy_target;
mod damage;
mod scrub_ledger;
mod stream_copies;
mod streams;

pub(crate) use claims::{Claimed, StreamLock, host_name};
pub use scrub_ledger::ScrubState;
pub use streams::{DamagedStream, LostPart, Stream, StreamList, validate_label, validate_stream_name};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::{Area, Backend, Key, LocalBackend};
use crate::error::{Error, Result};
use crate::format::{
    Compression, FORMAT_VERSION, Header, MAX_SEALED_SIZE, PackKind, Timestamp, open, seal, validate_defaults,
};
use crate::id::RepositoryId;
use crate::monitor::Monitor;
use crate::store::Store;

/// Memory for decoded chunks and nodes where the caller says nothing else.
pub const DEFAULT_CACHE_BYTES: u64 = 64 << 20;

/// Chunk size of images where the caller says nothing else; measured, see `docs/decisions.md`.
pub const DEFAULT_CHUNK_SIZE: u32 = 64 << 10;

/// Compression of chunks where the caller says nothing else; measured, see `docs/decisions.md`.
pub const DEFAULT_COMPRESSION: Compression = Compression::Zstd(1);

/// What a new repository is to be like.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Chunk size of images in bytes: a power of two from 4 KiB to 8 MiB.
    pub chunk_size: u32,
    /// Compression of chunks.
    pub compression: Compression,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { chunk_size: DEFAULT_CHUNK_SIZE, compression: DEFAULT_COMPRESSION }
    }
}

/// An open repository of kind `chunks`. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    store: Arc<Store>,
}

impl Repository {
    /// Makes a repository in a directory that is empty or not there.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] if anything lies there, [`Error::BadParameter`] for options that can't be.
    pub fn create(path: &Path, options: &CreateOptions) -> Result<Self> {
        validate_defaults(options.chunk_size, options.compression)?;
        refuse_place(path)?;
        std::fs::create_dir_all(path).map_err(Error::io("create directory", path.display()))?;
        refuse_occupied(path)?;
        Self::create_on(LocalBackend::new(settled(path)?), options)
    }

    /// Makes a repository in a directory that is there: first all that it consists of, then the header that says so.
    pub(crate) fn create_on(backend: LocalBackend, options: &CreateOptions) -> Result<Self> {
        let header = Header {
            id: RepositoryId::random(),
            created: Timestamp::now(),
            chunk_size: options.chunk_size,
            compression: options.compression,
            features: Vec::new(),
        };
        backend.create_areas(&Area::fixed())?;
        backend.directory().map_or(Ok(()), sync_parent)?;
        match backend.create(&Key::header(), &seal(&header)?) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::NotEmpty { path: backend.location(), found: "a repository".into() });
            }
            other => other?,
        }
        Ok(Self { store: Arc::new(Store::new(Arc::new(backend), header, DEFAULT_CACHE_BYTES)) })
    }

    /// Opens a repository; `cache_bytes` bounds the memory for decoded chunks and nodes.
    ///
    /// # Errors
    /// [`Error::NotARepository`], [`Error::Incompatible`] for one of a newer program, [`Error::MissingDirectories`] for one
    /// that is not whole.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        let path = match settled(path) {
            Err(error) if error.is_not_found() => {
                return Err(Error::NotARepository { path: path.display().to_string() });
            }
            path => path?,
        };
        Self::open_backend(Arc::new(LocalBackend::new(path)), cache_bytes)
    }

    pub(crate) fn open_backend(backend: Arc<dyn Backend>, cache_bytes: u64) -> Result<Self> {
        let bytes = match backend.read(&Key::header(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => {
                return Err(Error::NotARepository { path: backend.location() });
            }
            other => other?,
        };
        let header: Header = open("the repository header", &bytes)?;
        header.check()?;
        backend.require_areas(&Area::required())?;
        Ok(Self { store: Arc::new(Store::new(backend, header, cache_bytes)) })
    }

    /// From now on this monitor is told what is waited for longer than a moment, and may end such a wait: the locks of those
    /// who change a little thing of the repository. The first one that is given stays.
    pub fn tell_waits(&self, monitor: Arc<dyn Monitor>) {
        self.store.locks().tell(monitor);
    }

    /// Id, version and defaults.
    pub fn header(&self) -> &Header {
        self.store.header()
    }

    /// The version of the repository's format. One of another version is not opened.
    pub fn format_version(&self) -> u16 {
        FORMAT_VERSION
    }

    /// What users call the place.
    pub fn location(&self) -> String {
        self.backend().location()
    }

    /// The repository's directory, for one that lies in a file system.
    pub fn directory(&self) -> Option<PathBuf> {
        self.backend().directory().map(Path::to_owned)
    }

    /// The directories that the repository consists of, its own first, for one that lies in a file system.
    pub fn directories(&self) -> Vec<PathBuf> {
        let Some(root) = self.directory() else { return Vec::new() };
        let areas = Area::known().into_iter().flat_map(|area| area.with_parents());
        let mut below: Vec<PathBuf> = areas.map(|area| root.join(area.path())).collect();
        below.sort();
        below.dedup();
        below.retain(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir()));
        std::iter::once(root).chain(below).collect()
    }

    /// Bytes of all packs and tables.
    pub fn size_bytes(&self) -> Result<u64> {
        let areas = PackKind::ALL.map(Area::packs).into_iter().chain([Area::index()]);
        areas.map(|area| self.sizes_in(&area)).sum()
    }

    fn sizes_in(&self, area: &Area) -> Result<u64> {
        Ok(self.backend().list(area)?.iter().map(|listed| listed.size).sum())
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(crate) fn backend(&self) -> &Arc<dyn Backend> {
        self.store.backend()
    }
}

/// The path from the root of the file system, without links and `..`: no later change of the current directory, or of a
/// link, leads anywhere else.
fn settled(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(Error::io("find", path.display()))
}

fn sync_parent(path: &Path) -> Result<()> {
    let path = settled(path)?;
    let parent = path.parent().unwrap_or(&path);
    let sync = std::fs::File::open(parent).and_then(|directory| directory.sync_all());
    sync.map_err(Error::io("sync directory", parent.display()))
}

/// Refuses what no directory can be, and a place in another repository, which is nobody else's to use.
fn refuse_place(path: &Path) -> Result<()> {
    let refuse = |reason: String| Err(Error::BadParameter { what: "place of the repository", reason });
    let shown = path.display();
    if path.exists() && !path.is_dir() {
        return refuse(format!("{shown} is no directory; choose one that is empty or not there yet"));
    }
    if path.is_symlink() && !path.exists() {
        return refuse(format!("{shown} is a symbolic link to something that is not there"));
    }
    let absolute = std::path::absolute(path).map_err(Error::io("find", path.display()))?;
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok());
    let header = Key::header().to_string();
    // A repository in the place itself is told of by its own name.
    let above =
        there.as_deref().into_iter().flat_map(Path::ancestors).filter(|above| !is_same_place(above, path));
    match above.into_iter().find(|above| above.join(&header).is_file()) {
        Some(other) => refuse(format!("{shown} lies in the repository {}", other.display())),
        None => Ok(()),
    }
}

fn is_same_place(a: &Path, b: &Path) -> bool {
    b.canonicalize().is_ok_and(|b| a == b)
}

/// Refuses a directory that holds anything but what an `init` that was cut off leaves: directories without files.
fn refuse_occupied(path: &Path) -> Result<()> {
    if path.join(Key::header().name).exists() {
        return Err(Error::NotEmpty { path: path.display().to_string(), found: "a repository".into() });
    }
    let areas = Area::fixed();
    let is_ours = |name: &str| areas.iter().any(|area| area.path().split('/').next() == Some(name));
    for name in names_in(path)? {
        // A fresh ext4 has this directory.
        let harmless = name == "lost+found" || is_ours(&name) && holds_no_files(&path.join(&name), &name)?;
        if !harmless {
            return Err(Error::NotEmpty { path: path.display().to_string(), found: name });
        }
    }
    Ok(())
}

fn holds_no_files(path: &Path, name: &str) -> Result<bool> {
    if !path.is_dir() || name == Area::incoming().path() {
        return Ok(path.is_dir());
    }
    for below in names_in(path)? {
        if !path.join(&below).is_dir() || !names_in(&path.join(below))?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn names_in(path: &Path) -> Result<Vec<String>> {
    let failed = || Error::io("list", path.display());
    let entries = std::fs::read_dir(path).map_err(failed())?;
    entries.map(|entry| Ok(entry.map_err(failed())?.file_name().to_string_lossy().into_owned())).collect()
}
