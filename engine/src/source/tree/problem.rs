//! What went wrong with one entry. The walk goes on.

use std::fmt::{self, Write};

use rustix::io::Errno;

/// An entry that could not be read, or not in full.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action} {}: {cause}", readable(path))]
pub(crate) struct EntryError {
    /// The path, beginning with the root as the user named it. The root itself has no name behind it.
    pub(crate) path: Vec<u8>,
    /// What was tried, as a verb: `open`, `list`.
    pub(crate) action: &'static str,
    /// Why it did not work.
    pub(crate) cause: Cause,
}

/// Why an entry could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    /// It is gone.
    #[error("it vanished while the backup ran")]
    Vanished,
    /// Something else has its name now.
    #[error("something else took its place while the backup ran")]
    Replaced,
    /// More than can be kept.
    #[error("it has more than {0} bytes of extended attributes")]
    TooManyAttributes(usize),
    /// Longer than what can be kept.
    #[error("its name has more than {0} bytes")]
    NameTooLong(usize),
    /// The way to them leads through `/proc`.
    #[error("/proc is not mounted")]
    NoProc,
    /// What the system said.
    #[error("{}", std::io::Error::from(*.0))]
    System(Errno),
}

impl Cause {
    /// Whether there is nothing any more that could be left out.
    pub(crate) fn is_gone(self) -> bool {
        self == Self::Vanished
    }

    /// Whether what was listed can't be reached by its name any more, whatever has that now. A server that does not know what
    /// it told says nothing about what it has.
    pub(crate) fn is_out_of_reach(self) -> bool {
        matches!(self, Self::Vanished | Self::Replaced | Self::System(Errno::STALE))
    }
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Vanished,
            // A symlink or a file where a directory was, a directory where a link was.
            Errno::LOOP | Errno::NOTDIR => Self::Replaced,
            errno => Self::System(errno),
        }
    }
}

/// A path for people: what is not UTF-8, and what would upset a terminal, as `\x1b`.
pub(crate) fn readable(path: &[u8]) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        for part in path.utf8_chunks() {
            for character in part.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            write!(f, "{}", Bytes(part.invalid()))?;
        }
        Ok(())
    })
}

/// Bytes that are no text.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_readably_whatever_bytes_they_have() {
        let shown = |path: &[u8]| readable(path).to_string();
        assert_eq!(shown("/home/B\u{fc}ro/a b".as_bytes()), "/home/B\u{fc}ro/a b");
        assert_eq!(shown(b"a\xff\xfe/b\nc\x1b[0m"), r"a\xff\xfe/b\nc\u{1b}[0m");
    }

    #[test]
    fn only_what_vanished_leaves_nothing_behind() {
        let cause = |errno: Errno| Cause::from(errno);
        let causes = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE, Errno::ACCESS].map(cause);
        assert_eq!(causes.map(Cause::is_gone), [true, false, false, false, false]);
        assert_eq!(causes.map(Cause::is_out_of_reach), [true, true, true, true, false]);
    }

    #[test]
    fn an_error_names_path_action_and_cause() {
        let error =
            |cause: Cause| EntryError { path: b"/a/\xff".to_vec(), action: "open", cause }.to_string();
        assert_eq!(error(Errno::ACCESS.into()), r"cannot open /a/\xff: Permission denied (os error 13)");
        assert_eq!(error(Errno::NOENT.into()), r"cannot open /a/\xff: it vanished while the backup ran");
    }
}
