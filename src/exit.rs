//! How a command ends: exit codes, and errors of the layers below turned into message and next step.

use std::io::ErrorKind;
use std::ops::Range;
use std::process::ExitCode;

use rustix::io::Errno;
use serde_json::{Map, Value, json};
use treering_engine::{Error, StreamId};

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
    /// Damage was found by a command that tells.
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

/// The next step after a signal.
macro_rules! nothing_half_done {
    () => {
        "nothing half-done is visible in the repository; run the command again to go on"
    };
}
pub(crate) use nothing_half_done;

/// What commands return.
pub(crate) type CommandOutcome = Result<Code, Failure>;

/// Why a command failed, for people and scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What failed, on what.
    pub(crate) message: String,
    /// What to do next, where that is known.
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

    /// An error of the system: what could not be done, as a verb.
    pub(crate) fn io(action: &str, error: &std::io::Error) -> Self {
        Self { hint: io_hint(error).map(str::to_owned), ..Self::new(format!("cannot {action}: {error}")) }
    }

    /// Output that could not be written.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        Self { is_broken_pipe: error.kind() == ErrorKind::BrokenPipe, ..Self::io("write to stdout", error) }
    }

    /// What to do next about an error, where that is known.
    pub(crate) fn hint_for(error: &Error) -> Option<String> {
        hint_of(error)
    }

    /// Adds the next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What to do next, also where nothing is known that fits better.
    pub(crate) fn next_step(&self) -> &str {
        self.hint.as_deref().unwrap_or(match self.code {
            Code::Usage => LOOK_INTO_THE_HELP,
            _ => LOOK_FOR_THE_CAUSE,
        })
    }

    /// The same for a command whose exit codes know no damage: it is an error like others.
    pub(crate) fn without_damage_code(mut self) -> Self {
        if self.code == Code::Damage {
            self.code = Code::Failed;
        }
        self
    }

    /// Adds a key to the JSON error.
    pub(crate) fn detail(mut self, key: &str, value: Value) -> Self {
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
        error.insert("hint".to_owned(), json!(self.next_step()));
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
            Error::MissingDirectories { directories, .. } => failure.detail("missing", json!(directories)),
            Error::SourceRead { offset, .. } | Error::VerifyFailed { offset, .. } => {
                failure.detail("offset", json!(offset))
            }
            _ => failure,
        }
    }
}

/// Ranges of bytes as every command's JSON has them.
pub(crate) fn ranges_json(ranges: &[Range<u64>]) -> Value {
    let object = |range: &Range<u64>| json!({ "offset": range.start, "length": range.end - range.start });
    ranges.iter().map(object).collect()
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::BadName { .. } | Error::BadParameter { .. } => Code::Usage,
        Error::Cancelled => Code::Interrupted,
        // It may be no more than a medium that is not there; but nothing of the repository can be relied on.
        Error::MissingDirectories { .. } => Code::Damage,
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
            return Some(format!(
                "'{stream}' has no revisions; `treering stream list` shows whether forgotten ones can be brought back"
            ));
        }
        Error::NoSuchRevision { stream, candidates, .. } => {
            let newest = lines(candidates);
            return Some(format!("`treering list {stream}` shows all; the newest are:{newest}"));
        }
        Error::AmbiguousRevision { candidates, .. } => {
            return Some(format!("give more of it; these match:{}", lines(candidates)));
        }
        Error::Forgotten { .. } => "`treering list` shows the revisions that there are",
        Error::WillNotRepair { hint, .. } => hint,
        Error::UnusableTarget { hint, .. } => hint,
        Error::NoSuchPath { .. } => {
            "paths begin at the tree's root, which is the directory that was backed up, and lead through no symlinks; \
             `treering ls` and `treering find` show what there is"
        }
        Error::NotATree { .. } => {
            "`treering list` shows which streams hold trees; into an image one looks through `treering mount`"
        }
        Error::NotAnImage { .. } => {
            "`treering list` shows which streams hold images; into a tree one looks with `treering ls` and `treering find`"
        }
        Error::TooManyChanges { .. } => "compare a part of the trees: `treering diff STREAM@A B PATH`",
        Error::Corrupt(corrupt) => damage_hint(corrupt.object()),
        Error::Damaged { .. } => DAMAGED_DATA,
        Error::LostStreamName { .. } => {
            "put the file back from a copy of the repository; without one, `treering list` shows the stream under its id, \
             which reading commands take for its name, and `treering backup --new-stream` begins another one"
        }
        Error::Incompatible { .. } => "a newer version of treering wrote this: install that version",
        Error::NotARepository { .. } => {
            "check the path given by -r or TREERING_REPOSITORY, or make a repository there: `treering init`"
        }
        Error::MissingDirectories { directories, .. } => return Some(missing_hint(directories)),
        Error::NotEmpty { found, .. } if found == "a repository" => {
            "it can be used as it is: `treering backup SOURCE STREAM`; for another one choose an empty directory"
        }
        Error::NotEmpty { .. } => "choose a directory that is empty or not there yet",
        Error::BadParameter { .. } => LOOK_INTO_THE_HELP,
        Error::NotStorable { .. } => {
            "that is a limit of the program: a repository with larger chunks (`treering init --chunk-size`) has fewer \
             objects"
        }
        Error::UncertainCommit { .. } => {
            "look into the system's log for what is wrong with the medium, then run the backup again"
        }
        Error::BadName { what: "tag", .. } => "choose another name, such as weekly or before-upgrade",
        Error::BadName { .. } => "choose another name, such as vm1 or web-01.data",
        Error::WrongKind { .. } => "back it up to a stream of its own",
        Error::NameTaken { .. } => "choose another name; `treering stream list` shows those that there are",
        Error::Protected { .. } => {
            "nothing was forgotten; `treering unprotect STREAM@SPEC` lets a revision be forgotten"
        }
        Error::SameRepository { .. } => {
            "a copy is a repository of its own: make one elsewhere (`treering init`), and give it by --to"
        }
        Error::OtherRepository { .. } => {
            "mount the medium of the remembered one there, or give --to REPO, with --remember to remember that instead"
        }
        Error::OtherHistory { hint, .. } => hint,
        Error::Busy { .. } => "run the command again when that is done",
        Error::SourceRead { .. } => {
            "no revision was made; earlier ones are as they were. Check the source, then run the backup again"
        }
        Error::UnusableSource { .. } => {
            "SOURCE is an image file, a block device, a directory, or - for stdin"
        }
        Error::Hints { .. } => {
            "hints are what `rbd diff --format json` prints; without --hints everything is read"
        }
        Error::VerifyFailed { .. } => {
            "the target may be failing: look into the system's log, and restore to another one"
        }
        Error::Cancelled => nothing_half_done!(),
        _ => return None,
    };
    Some(fixed.to_owned())
}

/// The next step after what has causes outside of the program.
const LOOK_FOR_THE_CAUSE: &str =
    "look into the system's log for the cause; when it is gone, run the command again";

/// The next step after a command line that makes no sense.
const LOOK_INTO_THE_HELP: &str = "`treering COMMAND --help` says what is allowed";

/// The next step of who can wait for a stream that is in use, and was not told to.
pub(crate) const WAIT: &str = "run the command again when that is done, or let it wait: --wait";

const DAMAGED_DATA: &str =
    "`treering scrub` finds and marks all damage; the next backup of the same data heals it";

/// What to do about directories that are missing. They are never made anew unasked: that would hide that they are lost.
fn missing_hint(directories: &[String]) -> String {
    let held = |directory: &String| match directory.rsplit('/').next() {
        Some("streams") => "names of streams",
        Some("labels") => "tags and protection",
        Some("data" | "metadata") => "what revisions are made of",
        _ => "revisions",
    };
    let mut lost: Vec<&str> = directories.iter().map(held).collect();
    lost.dedup();
    let them = if directories.len() == 1 { "it" } else { "them" };
    format!(
        "is everything mounted that the repository lies on? If it is, put {them} back from a copy of the repository; without \
         one, `mkdir -p {}` goes on without what lay there: {}",
        directories.join(" "),
        lost.join(", ")
    )
}

/// What to do about a stored object or file that is damaged, which the engine names thus, or by its path. Only what is
/// stored of sources comes back with the next backup.
pub(crate) fn damage_hint(object: &str) -> &'static str {
    match place_of(object) {
        "treering-repository" => {
            "put the file treering-repository back from a copy of the repository; nothing can be read without it"
        }
        "streams" => {
            "put the file in streams/ back from a copy of the repository; until then the stream is found under its id, and \
             `treering stream rename ID NAME`, or `treering check --repair`, makes the file anew"
        }
        "revisions" => {
            "put it back from a copy of the repository; other revisions are not affected. `treering check --repair` \
             gives up one that is gone, and sets a damaged one aside: then the revision is lost"
        }
        "all revisions" => {
            "put them back from a copy of the repository; without one, `treering stream delete` gives the stream up"
        }
        "labels" => {
            "put the file in labels/ back from a copy of the repository, or give it up by `treering check --repair`: only tags \
             and protection are lost with it"
        }
        "index" => {
            "nothing is lost with it: the packs' own directories serve in its place, and `treering check --repair` makes it \
             anew"
        }
        "damage" => "a full `treering scrub` makes it anew",
        "scrub" => "the next full `treering scrub` makes it anew",
        "lists of gc" => "nothing is lost with it: the next `treering gc` makes it anew",
        "trash" => {
            "what was forgotten with it can't be brought back; `treering check --repair` sets it aside"
        }
        "gc" => {
            "`treering scrub` tells what is damaged; heal it by a backup, put back what is missing, or forget it; `treering check --repair` gives \
             up records that are lost or damaged, `treering stream delete` a stream that has lost them all. `treering gc --despite-damage` frees what only lies below it, which is lost then"
        }
        "copy-target" => "`treering copy --to REPO --remember` makes it anew",
        "packs" => {
            "`treering check --repair` copies out of it what can be read; what can't, `treering scrub` marks, and the next \
             backup of the same data stores it anew"
        }
        _ => DAMAGED_DATA,
    }
}

/// The first part of an object's path in the repository; that of packs also for what lies in them.
fn place_of(object: &str) -> &str {
    // From the end, as directories of any names may lead to the repository.
    let parts: Vec<&str> = object.rsplit('/').take(3).collect();
    match parts[..] {
        ["treering-repository" | "the repository header", ..] => "treering-repository",
        ["damage" | "the damage list", ..] => "damage",
        ["scrub" | "the scrub ledger", ..] => "scrub",
        ["condemned" | "dropped", "gc", ..] => "lists of gc",
        ["what revisions need", ..] => "gc",
        ["copy-target" | "the remembered target of copies", ..] => "copy-target",
        [_, "revisions", ..] => "all revisions",
        [_, area @ ("streams" | "labels" | "index"), ..] => area,
        [_, stream, area @ ("revisions" | "labels" | "trash")] if StreamId::parse(stream).is_some() => area,
        [_, "data" | "metadata", "packs"] => "packs",
        _ if object.starts_with("stream ") => "streams",
        _ if object.starts_with("the record ") => "revisions",
        _ if object.starts_with("the set of labels ") => "labels",
        _ if object.starts_with("index table ") || object == "the index" => "index",
        _ => "objects",
    }
}

/// The next step after an error of the system, where there is one that fits.
pub(crate) fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    if let Some(Errno::MFILE | Errno::NFILE) = Errno::from_io_error(error) {
        return Some("raise the limit of open files (`ulimit -n`), and run the command again");
    }
    if is_disk_full(error) {
        return Some(
            "free some space there and run the command again; all revisions that were there are intact",
        );
    }
    Some(match error.kind() {
        ErrorKind::WouldBlock => {
            "this user has no threads or processes left: raise that limit (`ulimit -u`), or end some of them"
        }
        ErrorKind::ReadOnlyFilesystem => "it lies on a read-only medium: only reading commands work there",
        ErrorKind::PermissionDenied => "run the command as a user who may do that, for instance as root",
        ErrorKind::NotFound => "check the path",
        ErrorKind::ResourceBusy => "something else is using it: end that, or wait until it is done",
        _ => return None,
    })
}

/// Whether there is no room left, or none for this user.
fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Stands before each item of a list that has a line for each.
const LINES: &str = "\n    ";

/// The first few of a list on a line each, and how many more there are.
pub(crate) fn lines(items: &[String]) -> String {
    listed(items, LINES)
}

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

    /// An I/O error of the medium, for one, came without.
    #[test]
    fn every_error_of_the_system_has_a_next_step() {
        let step = |error: Errno, expected: &str| {
            let failure = Failure::from(Error::Io {
                action: "read",
                object: "packs/x".to_owned(),
                source: error.into(),
            });
            assert!(failure.next_step().contains(expected), "{}", failure.next_step());
            assert_eq!(failure.to_json()["error"]["hint"], failure.next_step());
        };
        step(Errno::IO, "the system's log");
        step(Errno::BUSY, "something else is using it");
        step(Errno::MFILE, "limit of open files");
        step(Errno::NFILE, "limit of open files");
        assert!(Failure::new("cannot catch signals").next_step().contains("the system's log"));
        assert!(Failure::usage("PATH is for trees").next_step().contains("--help"));
    }

    #[test]
    fn damage_names_its_ranges_and_ends_with_4() {
        let error = Error::Damaged {
            revision: "vm1@x".into(),
            ranges: vec![0..65536, 131_072..196_608],
            detail: "a flip".into(),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.code.number(), 4);
        assert_eq!(
            failure.to_json()["error"]["ranges"],
            json!([{ "offset": 0, "length": 65536 }, { "offset": 131_072, "length": 65536 }])
        );
    }

    #[test]
    fn what_no_backup_heals_is_told_from_what_the_next_one_does() {
        let id = "018f2f6e-7b5c-4c3a-9d1e-0123456789ab";
        for object in [
            "the repository header".to_owned(),
            "/backup/treering-repository".to_owned(),
            format!("stream {id}"),
            format!("/backup/streams/{id}"),
            "the record of vm1@2026-11-20T10-13-20Z".to_owned(),
            format!("labels/{id}/{id}"),
        ] {
            assert!(damage_hint(&object).contains("back from a copy"), "{object}");
        }
        assert!(damage_hint("index/0123").contains("nothing is lost"));
        for object in ["chunk 0123", "node 0123"] {
            assert!(damage_hint(object).contains("next backup of the same data heals"), "{object}");
        }
        for object in ["packs/data/0123", "/backup/packs/data/0123"] {
            assert!(damage_hint(object).contains("`treering check --repair` copies out of it"), "{object}");
        }
    }

    /// A repository below a directory of that name was once told the wrong next step.
    #[test]
    fn the_next_step_does_not_depend_on_where_the_repository_lies() {
        let id = "018f2f6e-7b5c-4c3a-9d1e-0123456789ab";
        let objects = [
            ("treering-repository".to_owned(), "treering-repository"),
            ("damage".to_owned(), "damage"),
            ("copy-target".to_owned(), "copy-target"),
            ("scrub".to_owned(), "scrub"),
            ("gc/dropped".to_owned(), "lists of gc"),
            (format!("trash/{id}/stream"), "trash"),
            (format!("streams/{id}"), "streams"),
            (format!("revisions/{id}/0000000000000001_{id}_2026-11-20T10-13-20Z"), "revisions"),
            (format!("labels/{id}/{id}"), "labels"),
            ("index/0123".to_owned(), "index"),
            ("packs/data/0123".to_owned(), "packs"),
        ];
        for (object, place) in objects {
            assert_eq!(place_of(&object), place);
            for parent in ["streams", "revisions", "labels", "index", "packs", "damage"] {
                for repository in [format!("/{parent}"), format!("/srv/{parent}/repo")] {
                    assert_eq!(place_of(&format!("{repository}/{object}")), place, "{repository}");
                }
            }
        }
    }

    #[test]
    fn a_limit_of_the_program_is_no_mistake_in_the_command_line() {
        let limit = Error::NotStorable { object: "pack", reason: "it has too many entries".to_owned() };
        let failure = Failure::from(limit);
        assert_eq!(failure.message, "the pack can't be stored: it has too many entries");
        assert!(failure.next_step().contains("limit of the program"));
        assert_eq!(failure.code, Code::Failed);
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert!(listed(&items, ", ").ends_with("11, and 8 more"));
    }
}
