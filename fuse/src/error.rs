//! Why a mount could not be made, served or ended, told so that a person knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An error of mounting or unmounting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The repository could not be read.
    #[error(transparent)]
    Repository(#[from] treering_engine::Error),

    /// The mount point can't be used.
    #[error("cannot mount on {path}: {reason}")]
    UnusableMountpoint {
        /// The mount point.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },

    /// The system has no FUSE, or does not let us use it.
    #[error("cannot open /dev/fuse: {source}")]
    NoFuse {
        /// What the system said.
        source: io::Error,
    },

    /// Users other than root mount and unmount through a program that is not there.
    #[error("cannot {action} {path}: only root may, and the program fusermount3 is not installed")]
    NoFusermount {
        /// What was tried, as a verb.
        action: &'static str,
        /// The mount point.
        path: PathBuf,
    },

    /// The program that mounts and unmounts for users refused.
    #[error("fusermount3 failed on {path}: {message}")]
    Fusermount {
        /// The mount point.
        path: PathBuf,
        /// What it said.
        message: String,
    },

    /// Nothing is mounted there.
    #[error("nothing is mounted on {path}")]
    NotMounted {
        /// Where it was looked for.
        path: PathBuf,
    },

    /// What is mounted there is not ours.
    #[error("{path} is not a mount of Treering: its file system is {kind}")]
    NotOurs {
        /// The mount point.
        path: PathBuf,
        /// Its file system's type.
        kind: String,
    },

    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The connection to the kernel broke.
    #[error("serving {path} failed: {source}")]
    Serving {
        /// The mount point.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl MountError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnusableMountpoint { hint, .. } => Some(hint),
            Self::NoFuse { source } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "the user, or the container, needs read and write access to /dev/fuse"
                }
                // The device is not there, or nothing is behind it.
                _ => {
                    "load the kernel's module with 'modprobe fuse', or give the container the device /dev/fuse"
                }
            }),
            Self::NoFusermount { .. } => Some("install the package fuse3, or do it as root"),
            Self::Fusermount { message, .. } if message.contains("user_allow_other") => {
                Some("add the line 'user_allow_other' to /etc/fuse.conf, or mount without access for others")
            }
            Self::NotMounted { .. } => Some("'findmnt -t fuse.treering' lists what is mounted"),
            Self::NotOurs { .. } => Some("use umount for it"),
            Self::Serving { source, .. } => match Errno::from_io_error(source)? {
                Errno::MFILE | Errno::NFILE => {
                    Some("raise the limit of open files ('ulimit -n'), or use fewer threads")
                }
                Errno::AGAIN => Some("raise the limit of processes ('ulimit -u'), or use fewer threads"),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
