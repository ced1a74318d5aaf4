//! What an image is restored to, and why it may not be.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, SeekFrom, seek};

use super::super::RestoreOptions;
use super::super::place::{lies_in, refuse, resolve};
use super::block_devices::{Backing, below, is_device, is_read_only, mountpoint_of, other_user};
use super::write::{Before, Writer};
use crate::backend::rename_new;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::repository::Repository;

/// No name is longer, in bytes.
const NAME_MAX: usize = 255;

/// Stands behind a target's name while it is written.
const PARTIAL_SUFFIX: &str = ".treering-partial";

const DETACH: &str = "detach that loop device first (losetup -d)";
const END_USE: &str = "unmount its partitions, and end what has it open (lsblk shows it)";

/// An open target.
pub(super) struct Target {
    path: PathBuf,
    /// Where a new file is written until it is complete.
    partial: Option<PathBuf>,
    /// What was there, where it is to be replaced.
    replaced: Option<fs::Metadata>,
    writer: Writer,
    tail_bytes: u64,
    /// What a device lies on: nobody is to mount that as long as it is written through the target.
    _held: Vec<File>,
}

impl Target {
    /// Opens a target for an image of `size` bytes, after all that speaks against it was looked for.
    pub(super) fn open(
        path: &Path,
        repository: &Repository,
        size: u64,
        options: &RestoreOptions,
    ) -> Result<Self> {
        let named = path;
        let path = resolve(named)?;
        let refuse = |reason: &str, hint| refuse(&path, reason, hint);
        if named.as_os_str().as_bytes().ends_with(b"/") && !path.is_dir() {
            return Err(refuse(
                "it is named as a directory is",
                "leave the slash at its end out: an image becomes a file",
            ));
        }
        if repository.directory().is_some_and(|directory| lies_in(&path, &directory)) {
            return Err(refuse("it lies in the repository", "choose a place outside of it"));
        }
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            other => Some(other.map_err(Error::io("look at", path.display()))?),
        };
        let Some(metadata) = metadata else {
            if path.is_symlink() {
                return Err(refuse(
                    "it is a symbolic link to something that is not there",
                    "remove the link, or name the file itself",
                ));
            }
            return Self::open_new(path, size, options, None);
        };
        if repository.directory().is_some_and(|directory| is_linked_from(&metadata, &directory)) {
            return Err(refuse("it is a hard link to a file of the repository", "choose another target"));
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(refuse("it is a directory", "name a file in it: an image is restored to one file"));
        }
        if kind.is_block_device() {
            refuse_device(&path, &metadata)?;
            let held = hold_below(&path, &metadata, repository.directory().as_deref())?;
            return Self::open_device(path, size, options, held);
        }
        if !kind.is_file() {
            return Err(refuse(
                "it is neither a file nor a block device",
                "choose another target, or use dump",
            ));
        }
        if let Some(user) = other_user(&Backing::whole(&path)) {
            return Err(refuse(&format!("it is in use by {user}"), DETACH));
        }
        match (options.in_place, options.overwrite) {
            (true, _) => Self::open_existing(path, size),
            (false, true) => Self::open_new(path, size, options, Some(metadata)),
            (false, false) => Err(refuse(
                "it exists",
                "--overwrite replaces it; --in-place writes only what differs, also after an interrupted restore",
            )),
        }
    }

    /// A file that is not there, or is to be replaced as a whole.
    fn open_new(
        path: PathBuf,
        size: u64,
        options: &RestoreOptions,
        replaced: Option<fs::Metadata>,
    ) -> Result<Self> {
        let partial = partial_of(&path);
        let failed = || Error::io("create", partial.display());
        let file = open_partial(&path, &partial)?;
        // What an interrupted restore has written is used again only on request.
        let continues = options.in_place && file.metadata().map_err(failed())?.len() > 0;
        if !continues {
            file.set_len(0).map_err(failed())?;
        }
        file.set_len(size).map_err(failed())?;
        let before = if continues { Before::Compare } else { Before::Empty };
        let writer = Writer::file(file, partial.clone(), before);
        Ok(Self { path, partial: Some(partial), replaced, writer, tail_bytes: 0, _held: Vec::new() })
    }

    fn open_existing(path: PathBuf, size: u64) -> Result<Self> {
        let failed = || Error::io("open", path.display());
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed())?;
        lock(&file, &path)?;
        file.set_len(size).map_err(failed())?;
        let writer = Writer::file(file, path.clone(), Before::Compare);
        Ok(Self { path, partial: None, replaced: None, writer, tail_bytes: 0, _held: Vec::new() })
    }

    fn open_device(path: PathBuf, size: u64, options: &RestoreOptions, held: Vec<File>) -> Result<Self> {
        let refuse = |reason: &str, hint| refuse(&path, reason, hint);
        let Some(file) = open_exclusive(&path, OpenOptions::new().read(true).write(true))? else {
            return Err(refuse("it is in use", END_USE));
        };
        let device_size = seek(&file, SeekFrom::End(0))
            .map_err(|error| Error::io("look at", path.display())(error.into()))?;
        if device_size < size {
            let reason = format!("it has {device_size} bytes, and the image needs {size}");
            return Err(refuse(&reason, "choose a larger device"));
        }
        let untouched = !options.overwrite && !options.in_place;
        if untouched && !looks_empty(&file, device_size).map_err(Error::io("read", path.display()))? {
            return Err(refuse(
                "there is something on it",
                "--overwrite writes it whole; --in-place only what differs",
            ));
        }
        let before = if options.in_place { Before::Compare } else { Before::Stale };
        let writer = Writer::device(file, path.clone(), before);
        Ok(Self { path, partial: None, replaced: None, writer, tail_bytes: device_size - size, _held: held })
    }

    /// Whether what is there is compared first.
    pub(super) fn compares(&self) -> bool {
        self.writer.before() == Before::Compare
    }

    /// Bytes of a device behind the image.
    pub(super) fn tail_bytes(&self) -> u64 {
        self.tail_bytes
    }

    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.writer.write_at(offset, bytes)
    }

    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.writer.read_at(offset, bytes)
    }

    /// Whether a range is a hole, as far as the file system tells.
    pub(super) fn is_hole(&self, offset: u64, length: u64) -> bool {
        match seek(self.writer.handle(), SeekFrom::Data(offset)) {
            Ok(data) => data >= offset.saturating_add(length),
            Err(rustix::io::Errno::NXIO) => true,
            Err(_) => false,
        }
    }

    /// Makes a range read as zeros: a hole where that can be.
    pub(super) fn make_zero(&self, offset: u64, length: u64, monitor: &dyn Monitor) -> Result<()> {
        self.writer.make_zero(offset, length, monitor)
    }

    /// Sends what was written so far to the medium. Only [`Target::sync`] tells whether it arrived.
    pub(super) fn start_sync(&self) {
        self.writer.start_sync();
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.writer.sync()
    }

    /// Lets later reads come from the medium instead of from memory.
    pub(super) fn forget_cached(&self) {
        self.writer.forget_cached();
    }

    /// Gives the new file the owner, as far as the system lets us, and the mode of the one that it replaces.
    fn take_over(&self, replaced: &fs::Metadata) -> std::io::Result<()> {
        let file = self.writer.handle();
        // The owner first: a change of it can clear bits of the mode.
        let _ = fchown(file, Some(replaced.uid()), Some(replaced.gid()));
        file.set_permissions(replaced.permissions())?;
        file.sync_all()
    }

    /// Gives a new file its name.
    pub(super) fn publish(self) -> Result<()> {
        let Some(partial) = &self.partial else { return Ok(()) };
        let failed = || Error::io("create", self.path.display());
        if let Some(replaced) = &self.replaced {
            self.take_over(replaced).map_err(failed())?;
            fs::rename(partial, &self.path).map_err(failed())?;
        } else {
            rename_new(partial, &self.path).map_err(failed())?;
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let sync = File::open(directory).and_then(|directory| directory.sync_all());
        sync.map_err(Error::io("sync directory", directory.display()))
    }
}

/// The unfinished file that a restore to a new file at `target`, or one that replaces it, has left; `None` if there is
/// none.
pub fn partial_file(target: &Path) -> Option<PathBuf> {
    let partial = partial_of(&resolve(target).ok()?);
    partial.is_file().then_some(partial)
}

fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_bytes().to_vec();
    if name.len() + PARTIAL_SUFFIX.len() > NAME_MAX {
        // Cut, a name may be that of another target, too: its hash tells them apart.
        let hash = blake3::hash(&name).to_hex();
        name.truncate(NAME_MAX - PARTIAL_SUFFIX.len() - 17);
        name.push(b'-');
        name.extend_from_slice(hash.as_bytes().get(..16).unwrap_or_default());
    }
    name.extend_from_slice(PARTIAL_SUFFIX.as_bytes());
    path.with_file_name(OsStr::from_bytes(&name))
}

/// Whether a file has another name in the repository. Only what has several names is looked for.
fn is_linked_from(metadata: &fs::Metadata, repository: &Path) -> bool {
    if !metadata.is_file() || metadata.nlink() < 2 {
        return false;
    }
    let mut directories = vec![repository.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(there) = entry.metadata() else { continue };
            if there.is_dir() {
                directories.push(entry.path());
            } else if (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()) {
                return true;
            }
        }
    }
    false
}

/// Opens the file that is written until it is complete: ours alone, and not led elsewhere by links.
fn open_partial(path: &Path, partial: &Path) -> Result<File> {
    let refuse_it = || {
        let reason = format!("{} is not a plain file with one name", partial.display());
        refuse(path, &reason, "remove it, or choose another target")
    };
    let mut open = OpenOptions::new();
    // As private as what it holds may be; a replaced file's mode is taken over at the end.
    open.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match open.custom_flags(OFlags::NOFOLLOW.bits() as i32).open(partial) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(refuse_it());
        }
        other => other.map_err(Error::io("create", partial.display()))?,
    };
    let look = |error| Error::io("look at", partial.display())(error);
    let opened = file.metadata().map_err(look)?;
    if !opened.is_file() {
        return Err(refuse_it());
    }
    lock(&file, path)?;
    // Who held the lock until now may have given the file its name: it must not be written any more.
    let same = |there: fs::Metadata| (there.dev(), there.ino()) == (opened.dev(), opened.ino());
    if !fs::symlink_metadata(partial).is_ok_and(same) {
        return Err(refuse(path, "another restore to it has just ended", "look at what it made"));
    }
    match file.metadata().map_err(look)?.nlink() {
        1 => Ok(file),
        _ => Err(refuse_it()),
    }
}

/// Keeps a second restore to the same file out.
fn lock(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(refuse(path, "another restore to it is running", "wait for it, or choose another target"))
        }
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path.display())(error)),
    }
}

/// Opens a block device, unless a file system, swap, another driver, or somebody else who wants it alone has it or a
/// partition of it: then `None`.
fn open_exclusive(path: &Path, options: &mut OpenOptions) -> Result<Option<File>> {
    // For block devices O_EXCL means just that.
    match options.custom_flags(OFlags::EXCL.bits() as i32).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => Ok(None),
        other => other.map(Some).map_err(Error::io("open", path.display())),
    }
}

/// Refuses a device that can't be written, or that something else depends on.
fn refuse_device(path: &Path, device: &fs::Metadata) -> Result<()> {
    let refuse = |reason: &str, hint| Err(refuse(path, reason, hint));
    if is_read_only(device.rdev()) {
        return refuse("it is read-only", "make it writable (blockdev --setrw), or choose another device");
    }
    if let Some(mountpoint) = mountpoint_of(device.rdev()) {
        return refuse(&format!("it is mounted on {mountpoint}"), "unmount it first");
    }
    match other_user(&Backing::whole(path)) {
        Some(user) => refuse(&format!("it is in use by {user}"), DETACH),
        None => Ok(()),
    }
}

/// Opens the devices that one lies on through loop devices, so that nobody else takes them; refuses it if somebody has, or if what
/// it lies on is the repository's.
fn hold_below(path: &Path, device: &fs::Metadata, repository: Option<&Path>) -> Result<Vec<File>> {
    let (mut held, mut numbers) = (Vec::new(), Vec::new());
    for backing in below(device.rdev()) {
        refuse_backing(path, &backing, repository)?;
        let there = fs::metadata(&backing.path).ok().filter(|there| is_device(there) && !backing.is_held);
        // Several loop devices may lie on one.
        let Some(number) = there.map(|there| there.rdev()).filter(|number| !numbers.contains(number)) else {
            continue;
        };
        let shown = backing.path.display();
        let cannot_hold = |error: Error| {
            let reason = format!("{shown}, which it lies on, can't be held meanwhile ({error})");
            refuse(path, &reason, "see that it can be opened for reading, as root if need be")
        };
        let opened = open_exclusive(&backing.path, OpenOptions::new().read(true)).map_err(cannot_hold)?;
        let in_use = || refuse(path, &format!("{shown}, which it lies on, is in use"), END_USE);
        held.push(opened.ok_or_else(in_use)?);
        numbers.push(number);
    }
    Ok(held)
}

/// Refuses a device if what it lies on is the repository's, or visibly in use.
fn refuse_backing(path: &Path, backing: &Backing, repository: Option<&Path>) -> Result<()> {
    const CHOOSE: &str = "choose another target";
    let shown = backing.path.display();
    let there = fs::metadata(&backing.path).ok();
    let refuse = |reason: String, hint| Err(refuse(path, &reason, hint));
    if repository.is_some_and(|repository| lies_in(&backing.path, repository)) {
        return refuse(format!("it lies on {shown}, which lies in the repository"), CHOOSE);
    }
    let is_linked = |repository| there.as_ref().is_some_and(|there| is_linked_from(there, repository));
    if repository.is_some_and(is_linked) {
        return refuse(format!("it lies on {shown}, a hard link to a file of the repository"), CHOOSE);
    }
    if let Some(user) = other_user(backing) {
        return refuse(format!("{shown}, which it lies on, is in use by {user} as well"), DETACH);
    }
    match there.filter(is_device).and_then(|there| mountpoint_of(there.rdev())) {
        Some(mountpoint) => {
            refuse(format!("{shown}, which it lies on, is mounted on {mountpoint}"), "unmount that first")
        }
        None => Ok(()),
    }
}

/// Whether the first and last MiB of a device are zero: partition tables and file systems leave marks there.
fn looks_empty(file: &File, size: u64) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    const LOOKED_AT: u64 = 1 << 20;
    let mut bytes = vec![0; LOOKED_AT.min(size) as usize];
    for offset in [0, size - bytes.len() as u64] {
        file.read_exact_at(&mut bytes, offset)?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
