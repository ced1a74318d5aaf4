//! A mount's life: made, served by several threads, detached, ended.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use fuser::{Config, Session, SessionACL};
use treering_engine::Repository;

use crate::adapter::Adapter;
use crate::attach;
use crate::error::MountError;
use crate::fs::{FileSystem, Owner};
use crate::mountinfo::{MountInfo, mount_on, mounts};
use crate::mountpoint;

/// The kernel's read-ahead that root gives the mount; measured, see the crate's report in `docs/decisions.md`.
const READ_AHEAD_KIB: u32 = 4096;

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

/// Mounts a repository. The mount answers when this returns; it is served by threads of this process.
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
    serve(&fs, device, &path, options).inspect_err(|_| {
        // What was mounted but can't be served would be in everybody's way.
        if let Err(error) = attach::detach(&path) {
            log::warn!("{error}");
        }
    })
}

/// Does the handshake with the kernel, and starts to serve.
fn serve(
    fs: &Arc<FileSystem>,
    device: OwnedFd,
    path: &Path,
    options: &MountOptions,
) -> Result<Mount, MountError> {
    let failed = |source| MountError::Serving { path: path.to_owned(), source };
    let adapter = Adapter::new(Arc::clone(fs));
    let session = Session::from_fd(adapter, device, acl(options), config(options)).map_err(failed)?;
    let info = mount_on(path)?.filter(MountInfo::is_ours);
    let info = info.ok_or_else(|| MountError::NotMounted { path: path.to_owned() })?;
    fs.set_read_ahead(!raise_read_ahead(&info.device));
    if let Ok(p) = std::env::var("TR_PREFETCH") { fs.set_read_ahead(p == "1"); } // MEASURE
    Mount::serve(session, path.to_owned(), info).map_err(failed)
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
    fn serve(session: Session<Adapter>, path: PathBuf, info: MountInfo) -> io::Result<Self> {
        // Two may end it: the kernel, and who aborts.
        let (end, ended) = bounded(2);
        let serving_end = end.clone();
        let serve = move || {
            let _ = serving_end.try_send(session.run());
        };
        std::thread::Builder::new().name("treering-mount".to_owned()).spawn(serve)?;
        let aborted = Arc::new(AtomicBool::new(false));
        Ok(Self { detacher: Detacher { path, info: Arc::new(info), end, aborted }, ended })
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> &Path {
        &self.detacher.path
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
        if self.detacher.aborted.load(Ordering::SeqCst) {
            return Ok(());
        }
        ended.map_err(|source| MountError::Serving { path: self.detacher.path.clone(), source })
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
    path: PathBuf,
    info: Arc<MountInfo>,
    end: Sender<io::Result<()>>,
    aborted: Arc<AtomicBool>,
}

impl Detacher {
    /// Takes the mount off its directory. Serving goes on until the last open file is closed. Doing it twice is
    /// no error.
    pub fn detach(&self) -> Result<(), MountError> {
        let all = mounts()?;
        // Its directory may have been renamed since; a mount by the same name may be another one.
        let ours = |mount: &&MountInfo| (mount.id, &mount.device) == (self.info.id, &self.info.device);
        let Some(ours) = all.iter().find(ours) else { return Ok(()) };
        if mount_on(&ours.mountpoint)?.is_some_and(|top| top.id != ours.id) {
            let hint = "unmount what lies over it first";
            return Err(mountpoint::unusable(&ours.mountpoint, "something was mounted over it", hint));
        }
        attach::detach(&ours.mountpoint)
    }

    /// Ends the mount at once: who has files open gets errors.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        if let Err(error) = self.detach() {
            log::warn!("{error}");
        }
        // Without this file the connection ends with the process.
        if let Err(error) = attach::abort(&self.info.device) {
            log::debug!("cannot abort the connection of {}: {error}", self.path.display());
        }
        let _ = self.end.try_send(Ok(()));
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
    std::thread::available_parallelism().map_or(2, usize::from).saturating_mul(2).clamp(4, 16)
}

/// Lets the kernel ask for more at a time, which only root may; says whether that was done.
fn raise_read_ahead(device: &str) -> bool {
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), READ_AHEAD_KIB.to_string()).is_ok()
}
