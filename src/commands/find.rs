//! `treering find`.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use treering_engine::operations::find::{FindOptions, FindReport, Found, Pattern, Search};
use treering_engine::{Entry, EntryType, RecordKey, Repository, Stream, TreeNumbers, split_revision};

use super::Context;
use super::tree_entry::{DamagedParts, insert_path, insert_summary, path_text};
use crate::exit::{CommandOutcome, Failure};
use crate::ui::{JsonStream, Output, TerminalMonitor};

/// Find paths in the revisions of a stream
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering find home '*.odt'               in all revisions, by name
  treering find home@latest 'docs/**/*.odt'
  treering find home@2026-11-01..latest thesis.tex --json
  treering find home --regex '^alice/.*\\.(jpe?g|png)$' -i
  treering find home '*' --type s          all sockets

A glob without a slash is for names, one with a slash for paths from the tree's root on, where * and ? stand for no slash
and ** for any number of names; {a,b} and [a-z] work as in the shell. ? and [] stand for a character, or for a byte where a
name is no UTF-8. With a slash at its end, which does not count as one, a glob is for directories alone. A regular
expression may match anywhere in a path, which begins without a slash.

Each path comes once, with the first and last revision that have it and how many do; size and time are those of the last
one. With --json these are \"first\", \"last\" and \"revisions\", and \"runs\" has first and last of each row of searched
revisions that follow each other and have the path. Directories that revisions share are searched once. Paths are written
as by `treering ls`; what can't be read is named on stderr, the rest is searched, and the exit code is 4.")]
pub(crate) struct FindArgs {
    /// The revisions; all of the stream without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revisions: String,

    /// What names or paths must be like, in UTF-8; `*` and `?` stand for other bytes
    pattern: String,

    /// Take the pattern for a regular expression
    #[arg(long)]
    regex: bool,

    /// Take small and large letters for the same
    #[arg(short, long)]
    ignore_case: bool,

    /// Only what is of this type; may be given again
    #[arg(short, long = "type", value_name = "TYPE", value_enum)]
    types: Vec<TypeChoice>,
}

/// The types as `find` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TypeChoice {
    /// Files
    #[value(name = "f", alias = "file")]
    File,
    /// Directories
    #[value(name = "d", aliases = ["directory", "dir"])]
    Directory,
    /// Symbolic links
    #[value(name = "l", alias = "symlink")]
    Symlink,
    /// Block devices
    #[value(name = "b", alias = "block-device")]
    BlockDevice,
    /// Character devices
    #[value(name = "c", alias = "character-device")]
    CharacterDevice,
    /// Named pipes
    #[value(name = "p", alias = "fifo")]
    Fifo,
    /// Sockets
    #[value(name = "s", alias = "socket")]
    Socket,
}

impl From<&TypeChoice> for EntryType {
    fn from(choice: &TypeChoice) -> Self {
        match choice {
            TypeChoice::File => Self::File,
            TypeChoice::Directory => Self::Directory,
            TypeChoice::Symlink => Self::Symlink,
            TypeChoice::BlockDevice => Self::BlockDevice,
            TypeChoice::CharacterDevice => Self::CharacterDevice,
            TypeChoice::Fifo => Self::Fifo,
            TypeChoice::Socket => Self::Socket,
        }
    }
}

pub(super) fn run(context: &Context<'_>, args: &FindArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("search {}", args.revisions));
    let options = args.options().map_err(during)?;
    let repository = context.repository()?;
    let (stream, keys) = revisions_of(&repository, &args.revisions).map_err(during)?;
    let monitor = context.ui.monitor();
    let opened = Search::open(&repository, &stream, &keys);
    let (search, lost) = opened.map_err(|error| during(error.into()))?;
    let mut finding = Finding {
        stream: &stream.name,
        search: &search,
        options: &options,
        monitor: &monitor,
        damaged: DamagedParts::default(),
    };
    for (key, error) in lost {
        finding.damaged.add(b"", &format!("{}@{}", stream.name, key.name), &error.to_string());
    }
    add_lost_revisions(&mut finding.damaged, &repository, &args.revisions, &stream).map_err(during)?;
    match context.ui.is_json() {
        true => finding.print_json(context),
        // With one revision there is nothing to be told but the paths.
        false => finding.print(context, args.revisions.contains('@') && keys.len() == 1),
    }
    .map_err(during)?;
    Ok(finding.damaged.code())
}

/// The revisions that `STREAM[@SPEC]` means: without a SPEC, all.
pub(super) fn revisions_of(repository: &Repository, text: &str) -> Result<(Stream, Vec<RecordKey>), Failure> {
    let (name, spec) = split_revision(text);
    let stream = repository.stream(name)?;
    let keys = match spec {
        Some(spec) => repository.find_revisions(&stream, spec)?,
        None => repository.revisions(&stream)?,
    };
    Ok((stream, keys))
}

/// Tells which revisions are lost, where all are meant.
pub(super) fn add_lost_revisions(
    damaged: &mut DamagedParts,
    repository: &Repository,
    text: &str,
    stream: &Stream,
) -> Result<(), Failure> {
    if matches!(split_revision(text).1, None | Some("all")) {
        for lost in repository.lost_revisions(stream)? {
            damaged.add(b"", &format!("{}@{}", stream.name, lost.key.name), &lost.reason);
        }
    }
    Ok(())
}

impl FindArgs {
    fn options(&self) -> Result<FindOptions, Failure> {
        let pattern = match self.regex {
            true => Pattern::regex(&self.pattern, self.ignore_case)?,
            false => Pattern::glob(&self.pattern, self.ignore_case)?,
        };
        Ok(FindOptions { pattern, types: self.types.iter().map(EntryType::from).collect() })
    }
}

/// Shows a match: its path, what is there, and the revisions.
type Show<'s> = &'s mut dyn FnMut(&[u8], &Entry, &TreeNumbers) -> Result<(), Failure>;

struct Finding<'a> {
    stream: &'a str,
    search: &'a Search,
    options: &'a FindOptions,
    monitor: &'a TerminalMonitor,
    damaged: DamagedParts,
}

impl Finding<'_> {
    fn find(&mut self, show: Show<'_>) -> Result<FindReport, Failure> {
        let (search, stream, damaged) = (self.search, self.stream, &mut self.damaged);
        let mut tell = |found: Found<'_>| match found {
            Found::Match { path, entry, revisions } => show(path, entry, revisions),
            Found::Lost { path, revisions, error } => {
                damaged.add(path, &revisions_text(search, stream, revisions), &error.to_string());
                Ok(())
            }
        };
        search.run(self.options, self.monitor, &mut tell)
    }

    fn print_json(&mut self, context: &Context<'_>) -> Result<(), Failure> {
        let mut document = JsonStream::new(context.ui, Output::new(self.monitor));
        document.list("matches")?;
        let search = self.search;
        let found = self
            .find(&mut |path, entry, revisions| document.item(&match_json(search, path, entry, revisions)));
        let ended = document.end(found, |report| {
            let mut rest = Map::new();
            rest.insert("revisions_searched".to_owned(), json!(search.revisions().len()));
            rest.insert("nodes_read".to_owned(), json!(report.nodes_read));
            self.damaged.insert_into(&mut rest);
            rest
        });
        ended.map(|_| ())
    }

    fn print(&mut self, context: &Context<'_>, paths_only: bool) -> Result<(), Failure> {
        let mut output = Output::new(self.monitor);
        if !paths_only {
            let heading = line("FIRST", "LAST", "REVISIONS", "PATH");
            output.print(&format!("{}\n", context.ui.heading(&heading)))?;
        }
        let search = self.search;
        self.find(&mut |path, _, revisions| {
            let path = path_text(path);
            match paths_only {
                true => output.print(&format!("{path}\n")),
                false => {
                    let (first, last) = first_and_last(search, revisions);
                    let count = revisions.count().to_string();
                    output.print(&format!("{}\n", line(first, last, &count, &path)))
                }
            }
        })?;
        output.flush()
    }
}

/// Columns whose widths are known before all rows are.
fn line(first: &str, last: &str, count: &str, path: &str) -> String {
    format!("{first:<20}  {last:<20}  {count:>9}  {path}")
}

fn first_and_last<'a>(search: &'a Search, revisions: &TreeNumbers) -> (&'a str, &'a str) {
    let name = |number: Option<u32>| number.map_or("", |number| name_of(search, number));
    (name(revisions.lowest()), name(revisions.highest()))
}

fn name_of(search: &Search, number: u32) -> &str {
    search.revisions().get(number as usize).map_or("", |key| key.name.as_str())
}

fn revisions_text(search: &Search, stream: &str, revisions: &TreeNumbers) -> String {
    let (first, last) = first_and_last(search, revisions);
    match revisions.count() {
        0 | 1 => format!("{stream}@{first}"),
        count => format!("{count} revisions from {stream}@{first} to {stream}@{last}"),
    }
}

/// A match for scripts. Its size follows how often the path came and went, and not how many revisions have it.
fn match_json(search: &Search, path: &[u8], entry: &Entry, revisions: &TreeNumbers) -> Map<String, Value> {
    let mut object = Map::new();
    insert_path(&mut object, "path", path);
    insert_summary(&mut object, entry);
    let (first, last) = first_and_last(search, revisions);
    object.insert("first".to_owned(), json!(first));
    object.insert("last".to_owned(), json!(last));
    object.insert("revisions".to_owned(), json!(revisions.count()));
    let runs = revisions.runs().map(|(first, last)| [name_of(search, first), name_of(search, last)]);
    object.insert("runs".to_owned(), json!(runs.collect::<Vec<_>>()));
    object
}
