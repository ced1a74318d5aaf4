//! A mount's life: made, served by several threads, detached, ended.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use fuser::{Config, Session, SessionACL};
use treering_engine::Repository;

use crate::adapter::Adapter;
use crate::answers::Owner;
use crate::attach;
use crate::error::MountError;
use crate::fs::FileSystem;
use crate::mountinfo::{MountInfo, mount_on, mounts};
use crate::mountpoint;

/// The kernel's read-ahead that root gives the mount. Measured on two cores with 128 KiB to 16 MiB: a sequential reader
/// gains a third from 128 KiB to 8 MiB, and nothing beyond.
const READ_AHEAD_KIB: u32 = 8192;

/// How a repository is to be mounted.
#[derive(Clone, Debug, Default)]
pub struct MountOptions {
    /// Streams to show; all if empty.
    pub streams: Vec<String>,
    /// Whether other users may look into the mount, as far as permissions let them.
    pub allow_other: bool,
    /// To whom the files belong; the mounting user if not said.
    pub owner: Option<Owner>,
    /// Threads that serve requests; chosen by the machine's cores if not said.
    pub threads: Option<NonZeroUsize>,
}

/// Mounts a repository. The mount answers when this returns; it is served by threads of this process, so that a
/// process which goes into the background must have done so before.
///
/// A dead mount of ours on the same directory is taken away first. Nothing of the repository is opened before
/// somebody looks into the mount.
///
/// # Errors
/// [`MountError`] names what can't be used; [`MountError::hint`] says what to do.
pub fn mount(
    repository: &Repository,
    mountpoint: &Path,
    options: &MountOptions,
) -> Result<Mount, MountError> {
    let path = mountpoint::prepare(mountpoint, repository.directory().as_deref())?;
    let owner = options.owner.unwrap_or_else(mounting_user);
    let fs = Arc::new(FileSystem::new(repository.clone(), &options.streams, owner)?);
    let device = attach::attach(&path, &repository.location(), options.allow_other)?;
    let mount = serve(&fs, device, &path, options).inspect_err(|_| {
        // What was mounted but can't be served would be in everybody's way.
        if let Err(error) = attach::detach(&path) {
            log::warn!("{error}");
        }
    });
    mount?.confirm()
}

/// Does the handshake with the kernel, and starts to serve.
fn serve(
    fs: &Arc<FileSystem>,
    device: OwnedFd,
    path: &Path,
    options: &MountOptions,
) -> Result<Mount, MountError> {
    let failed = |source: io::Error| MountError::Serving { path: path.to_owned(), source };
    let adapter = Adapter::new(Arc::clone(fs));
    let watched = device.try_clone().map_err(failed)?;
    let session = Session::from_fd(adapter, device, acl(options), config(options)).map_err(failed)?;
    let info = mount_on(path)?.filter(MountInfo::is_ours);
    let info = info.ok_or_else(|| MountError::NotMounted { path: path.to_owned() })?;
    if !raise_read_ahead(&info.device) {
        read_ahead_ourselves(fs);
    }
    Mount::serve(session, watched, path.to_owned(), info).map_err(failed)
}

/// Takes a mount off its directory, from any process; also one whose process has died. Who has files open goes on
/// reading.
///
/// # Errors
/// [`MountError::NotMounted`], and [`MountError::NotOurs`] for mounts of other programs.
pub fn unmount(mountpoint: &Path) -> Result<(), MountError> {
    let path = mountpoint::resolve(mountpoint)?;
    match mount_on(&path)? {
        None => Err(MountError::NotMounted { path }),
        Some(other) if !other.is_ours() => Err(MountError::NotOurs { path, kind: other.kind }),
        Some(_) => attach::detach(&path),
    }
}

/// A mount that is being served. Dropped, it is detached.
pub struct Mount {
    detacher: Detacher,
    ended: Receiver<io::Result<()>>,
}

impl Mount {
    fn serve(session: Session<Adapter>, device: OwnedFd, path: PathBuf, info: MountInfo) -> io::Result<Self> {
        // Two may end it: the kernel, and who aborts.
        let (end, ended) = bounded(2);
        let life = Arc::new(Life {
            path,
            info,
            device: Mutex::new(Some(device)),
            aborted: AtomicBool::new(false),
            end,
        });
        let detacher = Detacher { life };
        let served = detacher.clone();
        let serve = move || served.end_with(session.run().or_else(regular_end));
        std::thread::Builder::new().name("treering-mount".to_owned()).spawn(serve)?;
        Ok(Self { detacher, ended })
    }

    /// Waits until it answers. That it can't is known only now: `fuser` gets its descriptors and threads when it runs.
    fn confirm(self) -> Result<Self, MountError> {
        let path = &self.detacher.life.path;
        let failed = |source: io::Error| MountError::Serving { path: path.clone(), source };
        let answer = rustix::fs::statvfs(path);
        // If serving has failed, this was answered by what lies under the mount, or the failure is the better answer.
        if let Ok(ended) = self.ended.try_recv() {
            ended.map_err(failed)?;
            return Err(MountError::NotMounted { path: path.clone() });
        }
        answer.map_err(|error| failed(error.into()))?;
        Ok(self)
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.detacher.life.path
    }

    /// What ends it from another thread.
    pub fn detacher(&self) -> Detacher {
        self.detacher.clone()
    }

    /// Serves until the kernel has let go of it: it was detached, by whomever, and the last file is closed.
    ///
    /// After [`Detacher::abort`] this returns at once; threads that are stuck in a request end with the process.
    ///
    /// # Errors
    /// [`MountError::Serving`] if the connection to the kernel broke.
    pub fn wait(self) -> Result<(), MountError> {
        let ended = self.ended.recv().unwrap_or(Ok(()));
        let life = &self.detacher.life;
        if life.aborted.load(Ordering::SeqCst) {
            return Ok(());
        }
        ended.map_err(|source| MountError::Serving { path: life.path.clone(), source })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.detacher.detach() {
            log::warn!("{error}");
        }
    }
}

/// Ends a mount from another thread, as one that handles signals.
#[derive(Clone)]
pub struct Detacher {
    life: Arc<Life>,
}

/// What is known of a mount while it lives.
struct Life {
    path: PathBuf,
    info: MountInfo,
    /// Tells whether the connection lives; gone when serving has ended.
    device: Mutex<Option<OwnedFd>>,
    aborted: AtomicBool,
    end: Sender<io::Result<()>>,
}

impl Life {
    fn device(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Detacher {
    /// Called when nobody serves it any more. A mount that is still on its directory would then be in everybody's way.
    fn end_with(&self, ended: io::Result<()>) {
        let failed = ended.is_err();
        // Before it is detached, so that who asks what then lies there knows why.
        let _ = self.life.end.try_send(ended);
        if failed && let Err(error) = self.detach() {
            log::error!("{error}");
        }
        drop(self.life.device().take());
    }

    /// Takes the mount off its directory. Serving goes on until the last open file is closed. Doing it twice is
    /// no error.
    pub fn detach(&self) -> Result<(), MountError> {
        self.detach_by(attach::detach)
    }

    fn detach_by(&self, detach: fn(&Path) -> Result<(), MountError>) -> Result<(), MountError> {
        // The numbers by which the mount is known are given to others when it has ended, and only then.
        let device = self.life.device();
        if !device.as_ref().is_some_and(attach::is_connected) {
            return Ok(());
        }
        let known = &self.life.info;
        // Its directory may have been renamed since.
        let ours = |mount: &MountInfo| mount.id == known.id && mount.device == known.device;
        let Some(ours) = mounts()?.into_iter().find(ours) else { return Ok(()) };
        if mount_on(&ours.mountpoint)?.is_some_and(|top| top.id != ours.id) {
            let hint = "unmount what lies over it first";
            return Err(mountpoint::unusable(&ours.mountpoint, "something was mounted over it", hint));
        }
        detach(&ours.mountpoint)
    }

    /// Ends the mount at once: who has files open gets errors, at the latest when this process ends.
    pub fn abort(&self) {
        self.life.aborted.store(true, Ordering::SeqCst);
        if let Err(error) = self.detach_by(attach::detach_by_force) {
            log::warn!("{error}");
        }
        // One that was detached before can be reached only in this way.
        let device = self.life.device();
        if device.as_ref().is_some_and(attach::is_connected)
            && let Err(error) = attach::abort(&self.life.info.device)
        {
            // Where that is not possible, the connection ends with the process.
            log::debug!("cannot abort the connection of {}: {error}", self.life.path.display());
        }
        let _ = self.life.end.try_send(Ok(()));
    }
}

/// A thread that was just taking the last file's release sees the connection as aborted; nothing is lost by that.
fn regular_end(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted => Ok(()),
        _ => Err(error),
    }
}

fn mounting_user() -> Owner {
    Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

fn acl(options: &MountOptions) -> SessionACL {
    if options.allow_other { SessionACL::All } else { SessionACL::Owner }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.acl = acl(options);
    config.n_threads = Some(options.threads.map_or_else(default_threads, NonZeroUsize::get));
    config.clone_fd = true;
    config
}

/// More threads than cores: some wait for the disk while others decompress.
fn default_threads() -> usize {
    cores().saturating_mul(2).clamp(4, 16)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Lets the kernel ask for more at a time, which only root may; says whether that was done.
fn raise_read_ahead(device: &str) -> bool {
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KIB.to_string()).is_ok()
}

/// Where the kernel asks for little at a time, it keeps two cores busy; only with more is there something to gain.
fn read_ahead_ourselves(fs: &FileSystem) {
    const CORES_KEPT_BUSY: usize = 2;
    let threads = cores().saturating_sub(CORES_KEPT_BUSY).min(8);
    if threads == 0 {
        return;
    }
    if let Err(error) = fs.start_read_ahead(threads) {
        log::warn!("reading without read-ahead: {error}");
    }
}
