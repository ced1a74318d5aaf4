//! What a request fails with, in our own words; `adapter.rs` knows the numbers.

use treering_engine::Error;

/// Why a request of the file system failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errno {
    /// Nothing has that name: ENOENT.
    NotFound,
    /// What is stored can't be read, or is wrong: EIO.
    Unreadable,
    /// What it is of was forgotten since, and nothing keeps what is stored: ESTALE.
    Stale,
    /// A directory was wanted: ENOTDIR.
    NotADirectory,
    /// A file was wanted, not a directory: EISDIR.
    IsADirectory,
    /// The request makes no sense for this kind of object: EINVAL.
    Invalid,
    /// There is no data, or no hole, from this offset on: ENXIO.
    NoSuchOffset,
    /// No such handle is open: EBADF.
    BadHandle,
    /// There is no extended attribute of that name: ENODATA.
    NoAttribute,
}

impl From<&Error> for Errno {
    /// Only what may come and go is "not found"; everything else that the engine says of stored objects is EIO.
    fn from(error: &Error) -> Self {
        match error {
            Error::NoSuchStream { .. } | Error::NoSuchRevision { .. } => Self::NotFound,
            error if error.is_not_found() => Self::NotFound,
            _ => Self::Unreadable,
        }
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_forgotten_is_not_found_and_everything_else_is_unreadable() {
        let io =
            |kind: std::io::ErrorKind| Error::Io { action: "read", object: "x".into(), source: kind.into() };
        assert_eq!(Errno::from(&io(std::io::ErrorKind::NotFound)), Errno::NotFound);
        assert_eq!(Errno::from(&io(std::io::ErrorKind::PermissionDenied)), Errno::Unreadable);
        assert_eq!(Errno::from(&Error::NotARepository { path: "x".into() }), Errno::Unreadable);
    }
}
