//! How a command ends: exit codes, and errors of the layers below turned into message and next step.

use std::io::ErrorKind;
use std::process::ExitCode;

use serde_json::{Map, Value, json};
use treering_engine::Error;

/// The exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done.
    Done,
    /// An error; nothing half-done is visible in the repository.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Done, but the source could not be read as it should.
    Incomplete,
    /// Damage was found.
    Damage,
    /// Stopped by a signal.
    Interrupted,
    /// Another process's code, passed on.
    Other(u8),
}

impl Code {
    /// The number that the shell sees.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Damage => 4,
            Self::Interrupted => 130,
            Self::Other(number) => number,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        code.number().into()
    }
}

/// What commands return.
pub(crate) type CommandOutcome = Result<Code, Failure>;

/// Why a command failed, for people and scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed, on what.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// How the command ends.
    pub(crate) code: Code,
    /// Further keys of the JSON error.
    pub(crate) details: Map<String, Value>,
    /// Who reads the output has gone: there is nobody to tell anything.
    pub(crate) is_broken_pipe: bool,
}

impl Failure {
    /// An error of no special kind.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: Code::Failed,
            details: Map::new(),
            is_broken_pipe: false,
        }
    }

    /// A command line that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: Code::Usage, ..Self::new(message) }
    }

    /// Output that could not be written.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        let is_broken_pipe = error.kind() == ErrorKind::BrokenPipe;
        Self { is_broken_pipe, ..Self::new(format!("cannot write to stdout: {error}")) }
    }

    /// Adds the next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn detail(mut self, key: &str, value: Value) -> Self {
        self.details.insert(key.to_owned(), value);
        self
    }

    /// Says what was being done, where the message does not: `cannot restore vm1: there is no stream 'vm1'`.
    pub(crate) fn during(mut self, action: impl std::fmt::Display) -> Self {
        let says_so = ["cannot ", "will not "].iter().any(|start| self.message.starts_with(start));
        if !says_so && self.code != Code::Interrupted {
            self.message = format!("cannot {action}: {}", self.message);
        }
        self
    }

    /// The JSON document of the failure.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = self.details.clone();
        error.insert("message".to_owned(), json!(self.message));
        error.insert("hint".to_owned(), json!(self.hint));
        error.insert("code".to_owned(), json!(self.code.number()));
        json!({ "error": error })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.to_string());
        failure.code = code_of(&error);
        failure.hint = hint_of(&error);
        match error {
            Error::NoSuchStream { streams, .. } => failure.detail("streams", json!(streams)),
            Error::NoSuchRevision { candidates, .. } | Error::AmbiguousRevision { candidates, .. } => {
                failure.detail("candidates", json!(candidates))
            }
            Error::Damaged { ranges, .. } => failure.detail("ranges", ranges_json(&ranges)),
            Error::SourceRead { offset, .. } | Error::VerifyFailed { offset, .. } => {
                failure.detail("offset", json!(offset))
            }
            _ => failure,
        }
    }
}

fn ranges_json(ranges: &[(u64, u64)]) -> Value {
    ranges.iter().map(|(offset, length)| json!({ "offset": offset, "length": length })).collect()
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::BadName { .. } | Error::BadParameter { .. } => Code::Usage,
        Error::Cancelled => Code::Interrupted,
        error if error.is_damage() => Code::Damage,
        _ => Code::Failed,
    }
}

fn hint_of(error: &Error) -> Option<String> {
    let fixed = match error {
        Error::Io { source, .. } => return io_hint(source).map(str::to_owned),
        Error::NoSuchStream { streams, .. } if streams.is_empty() => {
            "the repository has no streams yet: `treering backup SOURCE STREAM` makes one"
        }
        Error::NoSuchStream { streams, .. } => return Some(format!("streams: {}", listed(streams, ", "))),
        Error::NoSuchRevision { stream, candidates, .. } if candidates.is_empty() => {
            return Some(format!("'{stream}' has no revisions yet"));
        }
        Error::NoSuchRevision { stream, candidates, .. } => {
            let lines = listed(candidates, LINES);
            return Some(format!("`treering list {stream}` shows all; the newest are:{lines}"));
        }
        Error::AmbiguousRevision { candidates, .. } => {
            return Some(format!("give more of it; these match:{}", listed(candidates, LINES)));
        }
        Error::UnusableTarget { hint, .. } => hint,
        Error::Corrupt(_) | Error::Damaged { .. } => {
            "`treering scrub` finds and marks all damage; the next backup of the same data heals it"
        }
        Error::Incompatible { .. } => "a newer version of treering wrote this: install that version",
        Error::NotARepository { .. } => {
            "check the path given by -r or TREERING_REPOSITORY, or make a repository there: `treering init`"
        }
        Error::NotEmpty { .. } => "choose a directory that is empty or not there yet",
        Error::BadName { what: "stream name", .. } => "give STREAM: `treering backup SOURCE STREAM`",
        Error::WrongKind { .. } => "back it up to a stream of its own",
        Error::Busy { .. } => "try again when that is done, or let this one wait: --wait",
        Error::SourceRead { .. } => {
            "no revision was made; earlier ones are as they were. Check the source, then run the backup again"
        }
        Error::UnusableSource { .. } => "SOURCE is an image file, a block device, or - for stdin",
        Error::Hints { .. } => {
            "hints are what `rbd diff --format json` prints; without --hints everything is read"
        }
        Error::VerifyFailed { .. } => {
            "the target may be failing: look into the system's log, and restore to another one"
        }
        Error::Cancelled => "nothing half-done is visible in the repository; run the command again to go on",
        _ => return None,
    };
    Some(fixed.to_owned())
}

/// The next step after an error of the system, where there is one that fits.
pub(crate) fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space there and run the command again; all revisions that were there are intact"
        }
        ErrorKind::ReadOnlyFilesystem => "it lies on a read-only medium: only reading commands work there",
        ErrorKind::PermissionDenied => "run the command as a user who may do that, for instance as root",
        ErrorKind::NotFound => "check the path",
        _ => return None,
    })
}

/// Stands before each item of a list that has a line for each.
const LINES: &str = "\n    ";

/// The first few of a list, and how many more there are.
fn listed(items: &[String], separator: &str) -> String {
    const SHOWN: usize = 12;
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(separator);
    let start = if separator == LINES { LINES } else { "" };
    match items.len().saturating_sub(SHOWN) {
        0 => format!("{start}{shown}"),
        more => format!("{start}{shown}{separator}and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_was_being_done_once() {
        let error = Error::NoSuchStream { name: "x".into(), streams: vec!["a".into(), "b".into()] };
        let failure = Failure::from(error).during("restore x").during("do more");
        assert_eq!(failure.message, "cannot restore x: there is no stream 'x' in the repository");
        assert_eq!(failure.hint.as_deref(), Some("streams: a, b"));
        assert_eq!(failure.code, Code::Failed);
    }

    #[test]
    fn a_full_disk_is_told_from_other_errors_of_the_system() {
        let full = std::io::Error::from(ErrorKind::StorageFull);
        let failure =
            Failure::from(Error::Io { action: "write", object: "packs/x".to_owned(), source: full });
        assert!(failure.hint.is_some_and(|hint| hint.contains("free some space")));
    }

    #[test]
    fn damage_names_its_ranges_and_ends_with_4() {
        let error =
            Error::Damaged { revision: "vm1@x".into(), ranges: vec![(0, 65536)], detail: "a flip".into() };
        let failure = Failure::from(error);
        assert_eq!(failure.code.number(), 4);
        assert_eq!(failure.to_json()["error"]["ranges"], json!([{ "offset": 0, "length": 65536 }]));
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert!(listed(&items, ", ").ends_with("11, and 8 more"));
    }
}
