//! A repository in a directory of this machine.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::disk::DiskFile;
use super::{
    Area, Backend, ClaimGuard, ClaimState, Disk, Key, Listed, LockGuard, ObjectReader, ObjectWriter,
    SystemDisk,
};
use crate::error::{Corrupt, Error, Result};

/// Keeps objects as files below a directory.
pub(crate) struct LocalBackend {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    /// Areas whose directories this process knows to be there and durable, whoever made them.
    made_areas: Mutex<HashSet<Area>>,
}

impl LocalBackend {
    /// A backend on this machine's disk.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self::on_disk(root, Arc::new(SystemDisk))
    }

    /// A backend whose changes go through `disk`.
    pub(crate) fn on_disk(root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { root, disk, made_areas: Mutex::default() }
    }

    fn area_path(&self, area: &Area) -> PathBuf {
        match area.path() {
            "" => self.root.clone(),
            path => self.root.join(path),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.area_path(&key.area).join(&key.name)
    }

    /// Makes an area's directory if it may be absent. One that every repository has is lost where it is missing, and must
    /// not come back empty.
    fn create_area(&self, area: &Area) -> Result<()> {
        self.make_area(area, Area::may_be_absent)
    }

    /// Makes those of an area's directories that `may_be_made`, and their names durable, the outermost first.
    ///
    /// A directory that is there may have been made a moment ago by a process that died before it synced the name.
    fn make_area(&self, area: &Area, may_be_made: fn(&Area) -> bool) -> Result<()> {
        if self.made_areas().contains(area) {
            return Ok(());
        }
        let mut parent = Area::root();
        for part in area.with_parents() {
            let path = self.area_path(&part);
            if may_be_made(&part) {
                let create = self.disk.create_directory(&path);
                create.map_err(Error::io("create directory", path.display()))?;
            } else if !path.is_dir() {
                return Err(self.missing("write to", &[&part]));
            }
            // Some media can't sync a directory: what passes must not fail there.
            if !area.is_passing() {
                self.sync_directory(&parent)?;
            }
            parent = part;
        }
        self.made_areas().insert(area.clone());
        Ok(())
    }

    fn made_areas(&self) -> MutexGuard<'_, HashSet<Area>> {
        self.made_areas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync_directory(&self, area: &Area) -> Result<()> {
        let path = self.area_path(area);
        self.disk.sync_directory(&path).map_err(Error::io("sync directory", path.display()))
    }

    fn move_object(&self, from: &Key, to: &Key) -> Result<()> {
        let (path, target) = (self.path(from), self.path(to));
        match self.disk.rename(&path, &target, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.remove(from),
            other => other.map_err(Error::io("move", path.display())),
        }
    }

    fn begin(&self, key: &Key) -> Result<LocalWriter> {
        let area = Area::incoming();
        self.create_area(&area)?;
        loop {
            let path = self.area_path(&area).join(uuid::Uuid::new_v4().to_string());
            let file = self.disk.create(&path).map_err(Error::io("create", path.display()))?;
            let writer = LocalWriter {
                disk: Arc::clone(&self.disk),
                target: self.path(key),
                replace: false,
                file: Some(file),
                path,
            };
            // Tells gc that the maker of this file lives. Before that it may have taken it for one that a dead one left.
            let locked = writer.file()?.lock();
            locked.map_err(Error::io("lock", writer.path.display()))?;
            if writer.is_there()? {
                return Ok(writer);
            }
        }
    }

    fn put_object(&self, key: &Key, bytes: &[u8], replace: bool) -> Result<()> {
        self.create_area(&key.area)?;
        let mut writer = self.begin(key)?;
        writer.replace = replace;
        writer.append(bytes)?;
        Box::new(writer).finish()?;
        self.sync_directory(&key.area)
    }

    /// What lies in an area's directory. Nothing if there is none that must be there.
    fn entries(&self, area: &Area) -> Result<impl Iterator<Item = Result<fs::DirEntry>> + use<>> {
        let path = self.area_path(area);
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.excuse_absence(area)?;
                None
            }
            other => Some(other.map_err(Error::io("list", path.display()))?),
        };
        let failed = move |error| Error::io("list", path.display())(error);
        Ok(entries.into_iter().flatten().map(move |entry| entry.map_err(&failed)))
    }

    /// Fails if an area that is absent must be there, or lies in one that must: a medium that is not mounted is not an
    /// empty repository.
    fn excuse_absence(&self, area: &Area) -> Result<()> {
        let absent = match area.parent() {
            _ if !area.may_be_absent() => area.clone(),
            Some(parent) if !parent.may_be_absent() && !self.area_path(&parent).is_dir() => parent,
            _ => return Ok(()),
        };
        Err(self.missing("list", &[&absent]))
    }

    /// The error for areas that must be there. Of no kind that means "removed meanwhile", or that something stored is wrong:
    /// the medium may be back in a moment.
    fn missing(&self, action: &'static str, areas: &[&Area]) -> Error {
        let directories = areas.iter().map(|area| self.area_path(area).display().to_string()).collect();
        Error::MissingDirectories { action, directories }
    }

    fn is_there(&self, area: &Area) -> Result<bool> {
        let path = self.area_path(area);
        match fs::metadata(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            found => found.map(|found| found.is_dir()).map_err(Error::io("find", path.display())),
        }
    }

    /// The names of what is of one type in an area's directory; one that is not UTF-8 is none of ours.
    fn names_of(&self, area: &Area, is_wanted: fn(&fs::FileType) -> bool) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.entries(area)? {
            let entry = entry?;
            let file_type = unless_gone(&entry, entry.file_type())?;
            if let (true, Ok(name)) =
                (file_type.as_ref().is_some_and(is_wanted), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a lock file, made if need be. For writing, without which NFS gives no exclusive lock.
    fn open_lock_file(&self, name: &str) -> Result<File> {
        let area = Area::locks();
        self.create_area(&area)?;
        let path = self.area_path(&area).join(name);
        let open = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        open.map_err(Error::io("open", path.display()))
    }
}

impl Backend for LocalBackend {
    fn read(&self, key: &Key, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(key);
        let (file, size) = open_regular("read", &path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(limit)).unwrap_or(0));
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| read_failed(&path, error))?;
        if bytes.len() as u64 > limit {
            return Err(
                Corrupt::new(path.display().to_string(), format!("it is longer than {limit} bytes")).into()
            );
        }
        Ok(bytes)
    }

    fn open(&self, key: &Key) -> Result<Arc<dyn ObjectReader>> {
        let path = self.path(key);
        let (file, _) = open_regular("open", &path)?;
        Ok(Arc::new(LocalReader { file, path }))
    }

    fn list(&self, area: &Area) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in self.entries(area)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = unless_gone(&entry, entry.metadata())?;
            if let Some(metadata) = metadata.filter(fs::Metadata::is_file) {
                listed.push(Listed { name, size: metadata.len() });
            }
        }
        Ok(listed)
    }

    fn names(&self, area: &Area) -> Result<Vec<String>> {
        self.names_of(area, fs::FileType::is_file)
    }

    fn areas_below(&self, area: &Area) -> Result<Vec<String>> {
        self.names_of(area, fs::FileType::is_dir)
    }

    fn strangers(&self, area: &Area) -> Result<Vec<String>> {
        self.names_of(area, |file_type| !file_type.is_file())
    }

    fn holds(&self, area: &Area, wanted: &dyn Fn(&str) -> bool) -> Result<bool> {
        for entry in self.entries(area)? {
            if entry?.file_name().to_str().is_some_and(wanted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.put_object(key, bytes, true)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<()> {
        self.put_object(key, bytes, false)
    }

    fn write(&self, key: &Key) -> Result<Box<dyn ObjectWriter>> {
        self.create_area(&key.area)?;
        Ok(Box::new(self.begin(key)?))
    }

    fn require_areas(&self, areas: &[Area]) -> Result<()> {
        let mut missing = Vec::new();
        for area in areas {
            if !self.is_there(area)? {
                missing.push(area);
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(self.missing("open", &missing)),
        }
    }

    fn sync_area(&self, area: &Area) -> Result<()> {
        self.create_area(area)?;
        self.sync_directory(area)
    }

    fn sync_object(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        self.disk.sync_file(&path).map_err(Error::io("sync", path.display()))
    }

    fn create_areas(&self, areas: &[Area]) -> Result<()> {
        areas.iter().try_for_each(|area| self.make_area(area, |_| true))
    }

    fn move_objects(&self, from: &Area, to: &Area, names: &[String]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.create_area(to)?;
        names.iter().try_for_each(|name| self.move_object(&from.key(name), &to.key(name)))?;
        self.sync_directory(to)?;
        self.sync_directory(from)
    }

    fn remove(&self, key: &Key) -> Result<()> {
        let path = self.path(key);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io("remove", path.display())),
        }
    }

    fn try_lock(&self, name: &str) -> Result<Option<LockGuard>> {
        let file = self.open_lock_file(name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(LockGuard::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(Error::io("lock", name)(source)),
        }
    }

    fn claim(&self, key: &Key, bytes: &[u8]) -> Result<Box<dyn ClaimGuard>> {
        self.create_area(&key.area)?;
        let mut writer = self.begin(key)?;
        writer.append(bytes)?;
        let file = writer.file()?;
        // Locked before it has its name: whoever finds the name finds the lock.
        writer.publish()?;
        Ok(Box::new(LocalClaim { disk: Arc::clone(&self.disk), path: self.path(key), file }))
    }

    fn claim_state(&self, key: &Key) -> Result<ClaimState> {
        let path = self.path(key);
        let file = match open_regular("open", &path) {
            Err(error) if error.is_not_found() => return Ok(ClaimState::Gone),
            other => other?.0,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(ClaimState::Dead),
            Err(fs::TryLockError::WouldBlock) => Ok(ClaimState::Living),
            Err(fs::TryLockError::Error(source)) => Err(Error::io("lock", path.display())(source)),
        }
    }

    fn remove_if_dead(&self, key: &Key) -> Result<bool> {
        let path = self.path(key);
        let file = match open_regular("open", &path) {
            Err(error) if error.is_not_found() => return Ok(false),
            other => other?.0,
        };
        match file.try_lock_shared() {
            // While it is locked: its maker may have made it a moment ago, and is about to lock it.
            Ok(()) => self.remove(key).map(|()| true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(source)) => Err(Error::io("lock", path.display())(source)),
        }
    }

    fn remove_area(&self, area: &Area) -> Result<()> {
        self.made_areas().remove(area);
        let path = self.area_path(area);
        match self.disk.remove_directory(&path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Ok(())
            }
            other => other.map_err(Error::io("remove directory", path.display())),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        let file_system = rustix::fs::statvfs(&self.root).ok()?;
        Some(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

/// Opens a file of the repository, and tells its size. Waits for nobody: what is no regular file, such as a pipe, is damage.
fn open_regular(action: &'static str, path: &Path) -> Result<(File, u64)> {
    let failed = || Error::io(action, path.display());
    let damaged = |what: &str| Error::from(Corrupt::new(path.display().to_string(), what));
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let open = |flags| fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let opened = match open(nonblocking) {
        // Another program has a lease on it (a file server, for a client), which the system takes back while we wait.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && path.is_file() => open(0),
        opened => opened,
    };
    let file = match opened {
        // What sockets say, and devices that are not there.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
            return Err(damaged("it is no regular file"));
        }
        other => other.map_err(failed())?,
    };
    let metadata = file.metadata().map_err(failed())?;
    match (metadata.is_file(), metadata.is_dir()) {
        (true, _) => Ok((file, metadata.len())),
        (false, true) => Err(damaged("it is a directory")),
        (false, false) => Err(damaged("it is no regular file")),
    }
}

/// What was found out about an entry of a directory; nothing if it went away meanwhile.
fn unless_gone<T>(entry: &fs::DirEntry, found: io::Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(Error::io("list", entry.path().display())),
    }
}

/// What a medium can't give back is lost like what rotted: a bad sector must not stop a scrub.
fn read_failed(path: &Path, error: io::Error) -> Error {
    let media_errors = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::REMOTEIO, Errno::NODATA];
    let lost = error
        .raw_os_error()
        .is_some_and(|code| media_errors.iter().any(|errno| errno.raw_os_error() == code));
    let object = path.display().to_string();
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Corrupt::new(object, "it is truncated").into(),
        _ if lost => Corrupt::of_medium(object, format!("the medium does not give it back: {error}")).into(),
        _ => Error::io("read", object)(error),
    }
}

struct LocalReader {
    file: File,
    path: PathBuf,
}

impl ObjectReader for LocalReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|error| read_failed(&self.path, error))
    }

    fn size(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(Error::io("read", self.path.display()))?;
        Ok(metadata.len())
    }
}

struct LocalWriter {
    disk: Arc<dyn Disk>,
    file: Option<Box<dyn DiskFile>>,
    path: PathBuf,
    target: PathBuf,
    replace: bool,
}

impl LocalWriter {
    fn file(&self) -> Result<File> {
        let file = self.file.as_ref().map(|file| file.file());
        let file = file.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        file.map_err(Error::io("open", self.path.display()))
    }

    /// Whether the file has a name.
    fn is_there(&self) -> Result<bool> {
        let metadata = self.file()?.metadata().map_err(Error::io("read", self.path.display()))?;
        Ok(metadata.nlink() > 0)
    }

    fn publish(mut self) -> Result<()> {
        let renamed = self.disk.rename(&self.path, &self.target, self.replace);
        renamed.map_err(Error::io("create", self.target.display()))?;
        self.file = None;
        Ok(())
    }
}

impl ObjectWriter for LocalWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write(bytes).map_err(Error::io("write", self.path.display()))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.sync().map_err(Error::io("sync", self.path.display()))?;
        }
        self.publish()
    }
}

struct LocalClaim {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl ClaimGuard for LocalClaim {
    fn update(&self, bytes: &[u8]) -> Result<()> {
        // In place: a file that is renamed over may be missed by who lists the directory meanwhile (seen on btrfs).
        let failed = || Error::io("write", self.path.display());
        self.file.write_all_at(bytes, 0).map_err(failed())?;
        self.file.set_len(bytes.len() as u64).map_err(failed())
    }
}

impl Drop for LocalClaim {
    fn drop(&mut self) {
        // Left behind, it is a dead claim that gc takes.
        let _ = self.disk.remove(&self.path);
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Left behind, it is a leftover that gc takes.
            let _ = self.disk.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PackKind;
    use crate::id::{PackId, StreamId};

    struct World {
        directory: tempfile::TempDir,
        backend: LocalBackend,
    }

    impl World {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let backend = LocalBackend::new(directory.path().to_owned());
            Self { directory, backend }
        }

        /// Makes a pipe in the place of an object.
        fn make_pipe(&self, key: &Key) {
            let path = self.directory.path().join(key.to_string());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
    }

    #[test]
    fn only_areas_that_may_be_absent_are_empty_without_a_directory() {
        let world = World::new();
        let stream = StreamId::random();
        let of_stream = [Area::revisions(stream), Area::labels(stream)];
        for area in [Area::index(), Area::sessions(), Area::pins(), Area::locks(), Area::incoming()] {
            assert_eq!(world.backend.list(&area).unwrap(), []);
            assert_eq!(world.backend.names(&area).unwrap(), [""; 0]);
        }
        let needed = [Area::streams(), Area::all_revisions(), Area::packs(PackKind::Data)];
        for area in needed.iter().chain(&of_stream) {
            let error = world.backend.names(area).unwrap_err();
            assert!(!error.is_not_found() && error.to_string().contains("missing"), "{error}");
            assert!(world.backend.list(area).is_err() && world.backend.areas_below(area).is_err());
            assert!(world.backend.holds(area, &|_| true).is_err());
        }
        world.backend.create_areas(&Area::fixed()).unwrap();
        for area in needed.iter().chain(&of_stream) {
            assert_eq!(world.backend.names(area).unwrap(), [""; 0]);
            assert!(!world.backend.holds(area, &|_| true).unwrap());
        }
    }

    /// A backup with a tag once made a lost `labels/` anew, and with it the loss of all others was hidden.
    #[test]
    fn what_every_repository_has_is_not_made_anew_by_who_writes_into_it() {
        let world = World::new();
        let stream = StreamId::random();
        let pack = Key::pack(PackKind::Data, PackId::random());
        for key in [Area::labels(stream).key("a"), Area::streams().key("a"), pack] {
            let missing = |error: Error| error.to_string().contains("the directory is missing");
            assert!(missing(world.backend.put(&key, b"abc").unwrap_err()));
            assert!(missing(world.backend.create(&key, b"abc").unwrap_err()));
            assert!(missing(world.backend.write(&key).err().unwrap()));
            assert!(missing(world.backend.sync_area(&key.area).unwrap_err()));
        }
        world.backend.put(&Area::index().key("a"), b"abc").unwrap();
        world.backend.create_areas(&Area::fixed()).unwrap();
        world.backend.put(&Area::labels(stream).key("a"), b"abc").unwrap();
    }

    /// A disk whose directories can't be synced, as those of squashfs.
    struct UnsyncedDirectories;

    impl Disk for UnsyncedDirectories {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            SystemDisk.create(path)
        }

        fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
            SystemDisk.rename(from, to, replace)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            SystemDisk.remove(path)
        }

        fn create_directory(&self, path: &Path) -> io::Result<()> {
            SystemDisk.create_directory(path)
        }

        fn remove_directory(&self, path: &Path) -> io::Result<()> {
            SystemDisk.remove_directory(path)
        }

        fn sync_file(&self, path: &Path) -> io::Result<()> {
            SystemDisk.sync_file(path)
        }

        fn sync_directory(&self, _path: &Path) -> io::Result<()> {
            Err(Errno::INVAL.into())
        }
    }

    /// Of the record's commit it is this that makes it one (`docs/format.md`, section 4).
    #[test]
    fn what_is_put_or_created_is_durable_before_and_its_name_after() {
        use crate::backend::recording::{Call, RecordingDisk};
        let directory = tempfile::tempdir().unwrap();
        let disk = RecordingDisk::new(directory.path());
        let backend = LocalBackend::on_disk(directory.path().to_owned(), Arc::new(disk.clone()));
        backend.create_areas(&Area::fixed()).unwrap();
        let area = Area::streams();
        let expected =
            [Call::SyncFile, Call::Name(area.path().into()), Call::SyncDirectory(area.path().into())];
        disk.take();
        backend.put(&area.key("a"), b"abc").unwrap();
        assert_eq!(disk.take(), expected);
        backend.create(&area.key("b"), b"abc").unwrap();
        assert_eq!(disk.take(), expected);
    }

    #[test]
    fn claims_and_locks_need_no_durable_directory() {
        let directory = tempfile::tempdir().unwrap();
        let backend = LocalBackend::on_disk(directory.path().to_owned(), Arc::new(UnsyncedDirectories));
        let claim = Key::pin(crate::id::ClaimId::random());
        let claimed = backend.claim(&claim, b"abc").unwrap();
        assert_eq!(backend.claim_state(&claim).unwrap(), ClaimState::Living);
        drop(claimed);
        assert!(backend.try_lock("index").unwrap().is_some());
        assert!(backend.put(&Area::index().key("a"), b"abc").is_err());
    }

    #[test]
    fn names_are_those_of_objects_and_areas_those_of_directories() {
        let world = World::new();
        let (stream, other) = (StreamId::random(), StreamId::random());
        world.backend.create_areas(&Area::fixed()).unwrap();
        world.backend.put(&Area::revisions(stream).key("a"), b"abc").unwrap();
        world
            .backend
            .create_areas(
                &[Area::revisions(stream).key("x"), Area::revisions(other).key("y")].map(|key| key.area),
            )
            .unwrap();
        assert_eq!(world.backend.names(&Area::revisions(stream)).unwrap(), ["a"]);
        assert_eq!(world.backend.names(&Area::all_revisions()).unwrap(), [""; 0]);
        let mut below = world.backend.areas_below(&Area::all_revisions()).unwrap();
        below.sort();
        let mut expected = [stream.to_string(), other.to_string()];
        expected.sort();
        assert_eq!(below, expected);
        let listed = Listed { name: "a".to_owned(), size: 3 };
        assert_eq!(world.backend.list(&Area::revisions(stream)).unwrap(), [listed]);
    }

    /// A pipe in the place of a pack once blocked its reader for ever.
    #[test]
    fn what_is_no_regular_file_is_damage_and_blocks_nobody() {
        let world = World::new();
        let pack = Key::pack(PackKind::Data, PackId::random());
        let claim = Key::session(crate::id::ClaimId::random());
        world.make_pipe(&pack);
        world.make_pipe(&claim);
        assert!(world.backend.open(&pack).err().unwrap().is_damage());
        assert!(world.backend.read(&pack, 100).unwrap_err().is_damage());
        assert!(world.backend.claim_state(&claim).is_err());
        let socket = Key::pack(PackKind::Data, PackId::random());
        let _socket =
            std::os::unix::net::UnixListener::bind(world.directory.path().join(socket.to_string())).unwrap();
        assert!(world.backend.open(&socket).err().unwrap().is_damage());
        assert!(world.backend.read(&Key::damage(), 100).unwrap_err().is_not_found());
    }
}
