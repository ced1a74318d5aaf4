//! Attaches a FUSE device to a directory, and takes it off again.
//!
//! Done here and not by `fuser`: its direct mount leaves out the subtype, by which our mounts are recognised, and its
//! session unmounts whatever lies on the path when it ends, which after a lazy unmount may be the next mount.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::error::MountError;
use crate::mountinfo::{FILE_SYSTEM_TYPE, escape_option};

const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";

/// Mounts a new FUSE connection, and gives its device.
pub(crate) fn attach(mountpoint: &Path, source: &str, allow_other: bool) -> Result<OwnedFd, MountError> {
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device = device.map_err(|source| MountError::NoFuse { source })?;
    match attach_directly(&device, mountpoint, source, allow_other) {
        Ok(()) => Ok(device.into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            attach_as_user(mountpoint, source, allow_other)
        }
        Err(error) => Err(MountError::io("mount on", mountpoint)(error)),
    }
}

/// Mounts as root does.
fn attach_directly(device: &File, mountpoint: &Path, source: &str, allow_other: bool) -> io::Result<()> {
    let user = rustix::process::getuid().as_raw();
    let group = rustix::process::getgid().as_raw();
    let mut data = format!(
        "fd={},rootmode=40000,user_id={user},group_id={group},default_permissions",
        device.as_raw_fd()
    );
    if allow_other {
        data.push_str(",allow_other");
    }
    let data = CString::new(data)?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    Ok(rustix::mount::mount(source, mountpoint, FILE_SYSTEM_TYPE, flags, data.as_c_str())?)
}

/// Mounts through the program that may do it for users; it hands the device over on a socket.
fn attach_as_user(mountpoint: &Path, source: &str, allow_other: bool) -> Result<OwnedFd, MountError> {
    let failed = |source: io::Error| MountError::io("mount on", mountpoint)(source);
    let mut options = format!(
        "ro,nosuid,nodev,noatime,default_permissions,subtype=treering,fsname={}",
        escape_option(source)
    );
    if allow_other {
        options.push_str(",allow_other");
    }
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // As its standard input the socket reaches the child, and no other child that is started meanwhile.
    let child = Command::new(FUSERMOUNT)
        .args(["-o", &options, "--"])
        .arg(mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.map_err(|error| spawn_failed("mount on", mountpoint, error))?;
    let device = receive_device(&ours).map_err(failed)?;
    let output = child.wait_with_output().map_err(failed)?;
    device.ok_or_else(|| refused(mountpoint, &output.stderr))
}

/// Takes the device over; `None` if the sender ended without sending one.
fn receive_device(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut devices) => devices.next(),
        _ => None,
    }))
}

/// Takes a mount off its path. Who has files open there goes on reading.
pub(crate) fn detach(mountpoint: &Path) -> Result<(), MountError> {
    detach_with(mountpoint, UnmountFlags::empty())
}

/// Takes a mount off its path and ends the connection, which only root may; for others it is the same as [`detach`].
pub(crate) fn detach_by_force(mountpoint: &Path) -> Result<(), MountError> {
    detach_with(mountpoint, UnmountFlags::FORCE)
}

fn detach_with(mountpoint: &Path, flags: UnmountFlags) -> Result<(), MountError> {
    match rustix::mount::unmount(mountpoint, flags | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => detach_as_user(mountpoint),
        Err(error) => Err(MountError::io("unmount", mountpoint)(error)),
    }
}

fn detach_as_user(mountpoint: &Path) -> Result<(), MountError> {
    let output =
        Command::new(FUSERMOUNT).args(["-u", "-z", "--"]).arg(mountpoint).stdin(Stdio::null()).output();
    let output = output.map_err(|error| spawn_failed("unmount", mountpoint, error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(refused(mountpoint, &output.stderr)),
    }
}

/// Whether the kernel's end of a connection is still there.
pub(crate) fn is_connected(device: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(device, PollFlags::empty())];
    let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut asked, Some(&Timespec::default())));
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    polled.is_ok() && !asked.iter().any(|asked| asked.revents().intersects(gone))
}

/// Ends a connection at once, by its device's number, whether it is still mounted or not.
pub(crate) fn abort(device: &str) -> io::Result<()> {
    let minor = device.split_once(':').map_or(device, |(_, minor)| minor);
    std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1")
}

fn spawn_failed(action: &'static str, mountpoint: &Path, error: io::Error) -> MountError {
    match error.kind() {
        io::ErrorKind::NotFound => MountError::NoFusermount { action, path: mountpoint.to_owned() },
        _ => MountError::io("run fusermount3 for", mountpoint)(error),
    }
}

fn refused(mountpoint: &Path, message: &[u8]) -> MountError {
    let message = String::from_utf8_lossy(message);
    let message = message.trim().trim_start_matches("fusermount3: ").trim_start_matches("fusermount: ");
    let message = if message.is_empty() { "it gave no reason" } else { message };
    MountError::Fusermount { path: mountpoint.to_owned(), message: message.to_owned() }
}
