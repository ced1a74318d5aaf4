//! How a disk fails.

use std::io;

use rustix::io::Errno;

/// A failure that begins with one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The call that fails, or the first of them, counted from 0 among those that the fault concerns.
    pub(crate) at: usize,
    pub(crate) kind: FaultKind,
}

/// What a failure is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// One call fails with an I/O error.
    Error,
    /// One call does its work, and tells that it failed. Of a sync nothing is known then.
    Denial,
    /// One call finds no space.
    FullOnce,
    /// There is no space any more for what needs some.
    Full,
    /// All calls fail with an I/O error: to the disk the same as a process that was killed.
    Dead,
}

impl FaultKind {
    pub(crate) const ALL: [Self; 5] = [Self::Error, Self::Denial, Self::FullOnce, Self::Full, Self::Dead];
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    CreateDirectory,
    SyncDirectory,
}

impl Call {
    fn needs_space(self) -> bool {
        // Where space is found late, a sync finds that there is none.
        matches!(self, Self::Create | Self::Write | Self::Sync | Self::CreateDirectory)
    }
}

/// What becomes of a call.
pub(super) enum Verdict {
    Grant,
    /// Nothing is done.
    Refuse(io::Error),
    /// It is done, and the caller is told otherwise.
    Deny(io::Error),
}

impl Verdict {
    pub(super) fn into_result(self) -> io::Result<()> {
        match self {
            Self::Grant => Ok(()),
            Self::Refuse(error) | Self::Deny(error) => Err(error),
        }
    }
}

impl Fault {
    /// Whether a call can fail in this way.
    pub(super) fn concerns(&self, call: Call) -> bool {
        !matches!(self.kind, FaultKind::FullOnce | FaultKind::Full) || call.needs_space()
    }

    /// What becomes of the call of a number.
    pub(super) fn judge(&self, number: usize) -> Verdict {
        let is_met = match self.kind {
            FaultKind::Error | FaultKind::Denial | FaultKind::FullOnce => number == self.at,
            FaultKind::Full | FaultKind::Dead => number >= self.at,
        };
        match self.kind {
            _ if !is_met => Verdict::Grant,
            FaultKind::Error | FaultKind::Dead => Verdict::Refuse(Errno::IO.into()),
            FaultKind::Denial => Verdict::Deny(Errno::IO.into()),
            FaultKind::FullOnce | FaultKind::Full => Verdict::Refuse(Errno::NOSPC.into()),
        }
    }
}
