//! What can go wrong, told so that a person knows what failed, on what, and what to do next.

use std::io;
use std::ops::Range;

use crate::id::ObjectId;

/// The result of everything in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine.
///
/// Mistakes of the caller have names of their own. [`Error::Corrupt`] means that stored bytes are wrong,
/// [`Error::Incompatible`] that they are newer than this program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the system failed.
    #[error("cannot {action} {object}: {source}")]
    Io {
        /// What was tried, as a verb: `read`, `create`.
        action: &'static str,
        /// The path or name it was tried on.
        object: String,
        /// What the system said.
        source: io::Error,
    },

    /// Stored bytes are not what they must be.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),

    /// Something was written by a newer version of the program.
    #[error("{object} has {found}, but this program supports only {supported}")]
    Incompatible {
        /// What is too new.
        object: String,
        /// What it has: a version or a feature.
        found: String,
        /// What is known here.
        supported: String,
    },

    /// No repository lies there.
    #[error("{path} is not a repository")]
    NotARepository {
        /// Where it was looked for.
        path: String,
    },

    /// Directories are missing that every repository has: they are lost, or the medium is not there that they lie on.
    #[error("cannot {action} {}: {} missing", directories.join(", "), if directories.len() == 1 { "the directory is" } else { "the directories are" })]
    MissingDirectories {
        /// What was tried, as a verb: `open`, `list`.
        action: &'static str,
        /// Their paths.
        directories: Vec<String>,
    },

    /// `init` was asked to use a place that holds something.
    #[error("{path} is not empty: it holds {found}")]
    NotEmpty {
        /// The place.
        path: String,
        /// One thing that lies there.
        found: String,
    },

    /// A name has a form that is not allowed.
    #[error("{what} '{name}' is not allowed: {rule}")]
    BadName {
        /// What is named: `stream name`, `tag`.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule.
        rule: &'static str,
    },

    /// A parameter has a value that is not allowed.
    #[error("{what}: {reason}")]
    BadParameter {
        /// The parameter.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },

    /// Something goes beyond what the format or this program can hold.
    #[error("the {object} can't be stored: {reason}")]
    NotStorable {
        /// What it is.
        object: &'static str,
        /// Which limit it breaks.
        reason: String,
    },

    /// The repository has no stream of this name.
    #[error("there is no stream '{name}' in the repository")]
    NoSuchStream {
        /// The name.
        name: String,
        /// The streams that there are.
        streams: Vec<String>,
    },

    /// Another stream has the name.
    #[error("there is a stream '{name}' already")]
    NameTaken {
        /// The name.
        name: String,
    },

    /// What was to be forgotten is protected.
    #[error("{} protected: {}", if revisions.len() == 1 { "the revision is" } else { "revisions are" }, revisions.join(", "))]
    Protected {
        /// The revisions, as `stream@name`.
        revisions: Vec<String>,
    },

    /// No stream that can be read has this name, but there are damaged ones whose names are not known.
    #[error("stream '{name}' was not found; it may be one whose file is lost or damaged: {}", files.join(", "))]
    LostStreamName {
        /// The name.
        name: String,
        /// The files of the damaged streams, from the repository's directory on.
        files: Vec<String>,
    },

    /// Nothing matches a revision's SPEC.
    #[error("no revision of '{stream}' matches '{spec}'")]
    NoSuchRevision {
        /// The stream.
        stream: String,
        /// What was asked for.
        spec: String,
        /// Names of the newest revisions that there are.
        candidates: Vec<String>,
    },

    /// A revision that was there when it was looked for is there no more.
    #[error("{revision} was forgotten meanwhile")]
    Forgotten {
        /// The revision, as `stream@name`.
        revision: String,
    },

    /// More than one revision matches a SPEC.
    #[error("'{spec}' matches {} revisions of '{stream}'", candidates.len())]
    AmbiguousRevision {
        /// The stream.
        stream: String,
        /// What was asked for.
        spec: String,
        /// The names and ids that match.
        candidates: Vec<String>,
    },

    /// A stream has one kind for ever.
    #[error("stream '{stream}' holds {stream_kind}s, and {object} is not one")]
    WrongKind {
        /// The stream.
        stream: String,
        /// What it holds.
        stream_kind: &'static str,
        /// What it was to hold.
        object: String,
    },

    /// What works on images was asked of a tree.
    #[error("revision {revision} is a tree, not an image")]
    NotAnImage {
        /// The revision's name.
        revision: String,
    },

    /// What works on trees was asked of an image.
    #[error("revision {revision} is an image, not a tree")]
    NotATree {
        /// The revision's name.
        revision: String,
    },

    /// A tree has no entry of this path.
    #[error("{revision} has no entry '{path}'")]
    NoSuchPath {
        /// The revision, as `stream@name`.
        revision: String,
        /// What was asked for.
        path: String,
    },

    /// Two trees have so little in common that what differs can't be held.
    #[error("{count} paths differ, which is more than can be compared at once")]
    TooManyChanges {
        /// Paths that were found to differ.
        count: u64,
    },

    /// Another process holds what is needed.
    #[error("{what} is in use by {holder}")]
    Busy {
        /// What is needed.
        what: String,
        /// Who has it.
        holder: String,
    },

    /// A repository was to be copied to itself.
    #[error("{path} is the repository that is copied, or a copy of its files, and no other one")]
    SameRepository {
        /// The target.
        path: String,
    },

    /// Another repository lies where one was expected.
    #[error("{path} holds another repository than the one that was remembered: {found}, not {expected}")]
    OtherRepository {
        /// The place.
        path: String,
        /// The id of what lies there.
        found: String,
        /// The id that was remembered.
        expected: String,
    },

    /// A stream can't be copied to one that has gone another way.
    #[error("stream '{stream}' has a different history in {target}: {reason}")]
    OtherHistory {
        /// The stream.
        stream: String,
        /// The repository that it was to be copied to.
        target: String,
        /// Where the two differ.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },

    /// The source could not be read, or is not what it must be.
    #[error("cannot read source {path} at offset {offset}: {reason}")]
    SourceRead {
        /// The source.
        path: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What was wrong.
        reason: String,
    },

    /// Something that was named by the user can't be used as a source.
    #[error("cannot use {path} as a source: {reason}")]
    UnusableSource {
        /// The source.
        path: String,
        /// Why not.
        reason: String,
    },

    /// Hints are malformed or don't fit.
    #[error("hints: {reason}")]
    Hints {
        /// What is wrong with them.
        reason: String,
    },

    /// A target of a restore can't be used.
    #[error("will not restore to {path}: {reason}")]
    UnusableTarget {
        /// The target.
        path: String,
        /// Why not.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },

    /// A repair would set aside more than is damaged.
    #[error("will not repair the repository: {reason}")]
    WillNotRepair {
        /// What is wrong.
        reason: String,
        /// What to do instead.
        hint: &'static str,
    },

    /// Parts of a revision could not be read from the repository.
    #[error("{revision} is damaged: {} could not be read: {detail}", ranges_text(ranges))]
    Damaged {
        /// The revision, as `stream@name`.
        revision: String,
        /// The ranges in bytes.
        ranges: Vec<Range<u64>>,
        /// What the first failure was.
        detail: String,
    },

    /// What was written is not what was read back.
    #[error("{path} differs from what was written to it, first at offset {offset}")]
    VerifyFailed {
        /// The target of a restore.
        path: String,
        /// First byte of the chunk that differs.
        offset: u64,
    },

    /// The record was made, but the system does not say that it is durable.
    #[error("{revision} was made, but it is not certain that it would survive a crash now: {source}")]
    UncertainCommit {
        /// The revision, as `stream@name`.
        revision: String,
        /// What failed.
        source: Box<Error>,
    },

    /// The caller asked to stop.
    #[error("interrupted")]
    Cancelled,
}

/// An object whose bytes are wrong: what it is, and what was expected of it.
#[derive(Debug, thiserror::Error)]
#[error("{object} is damaged: {expected}")]
pub struct Corrupt {
    object: String,
    expected: String,
    is_of_medium: bool,
}

impl Corrupt {
    /// Tells that `object` does not meet an expectation.
    pub(crate) fn new(object: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { object: object.into(), expected: expected.into(), is_of_medium: false }
    }

    /// Tells that the medium does not give `object` back as it was stored, which may pass.
    pub(crate) fn of_medium(object: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { is_of_medium: true, ..Self::new(object, expected) }
    }

    /// The object that is damaged.
    pub fn object(&self) -> &str {
        &self.object
    }
}

impl Error {
    /// Wraps an error of the system; to be used as `.map_err(Error::io("read", path))`.
    pub(crate) fn io(
        action: &'static str,
        object: impl std::fmt::Display,
    ) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { action, object: object.to_string(), source }
    }

    /// An object that no table and no pack knows.
    pub(crate) fn missing(id: &ObjectId) -> Self {
        Corrupt::new(format!("object {id}"), "no readable copy of it is stored").into()
    }

    /// Whether stored bytes are missing or wrong, as against a mistake of the caller or a busy resource.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Error::Corrupt(_)
                | Error::Damaged { .. }
                | Error::VerifyFailed { .. }
                | Error::LostStreamName { .. }
        )
    }

    /// Whether it is damage that the medium is known to be to blame for: it may be read another time.
    pub fn is_of_medium(&self) -> bool {
        matches!(self, Error::Corrupt(corrupt) if corrupt.is_of_medium)
    }

    /// Whether what was to be read is lost: wrong, or gone. Any other error may pass, and says nothing of what is stored.
    pub fn is_loss(&self) -> bool {
        self.is_damage() || self.is_not_found()
    }

    /// Whether there was no room left to store something, or none for this user.
    pub fn is_disk_full(&self) -> bool {
        let is_full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Error::Io { source, .. } if is_full(source.kind()))
    }

    /// Whether a file, or a revision's record, was not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Error::Forgotten { .. } => true,
            Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// Names a few ranges, as `bytes 0 to 65535 and 3 further ranges`.
pub(crate) fn ranges_text(ranges: &[Range<u64>]) -> String {
    let text = |range: &Range<u64>| format!("bytes {} to {}", range.start, range.end.saturating_sub(1));
    let shown: Vec<String> = ranges.iter().take(8).map(text).collect();
    let more = ranges.len().saturating_sub(shown.len());
    match more {
        0 => shown.join(", "),
        _ => format!("{} and {more} further ranges", shown.join(", ")),
    }
}
