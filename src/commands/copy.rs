//! `treering copy`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};
use treering_engine::operations::copy::{
    CopyOptions, CopyOutcome, CopyReport, CopyRequest, RevisionCopy, Sent, StreamCopy, copy, refuse_same,
};
use treering_engine::{DEFAULT_CACHE_BYTES, Error, Repository, Stream, split_revision};

use super::{Context, refuse_remote};
use crate::exit::{Code, CommandOutcome, Failure, WAIT, damage_hint};
use crate::ui::{count, size};

macro_rules! examples {
    () => {
        "\
Examples:
  treering copy --all --to /mnt/second             every stream with all its revisions
  treering copy vm1 home --to /mnt/second          two streams
  treering copy vm1@latest --to /mnt/second        one revision
  treering copy --all --to /mnt/second --remember
  treering copy --all                              to where was remembered

The target is a repository of its own (treering init /mnt/second), which may have other parameters. Only chunks and nodes
that it lacks are sent, and each is verified before it is stored. Run again after an interruption, it goes on from there.
Exit code 4 if something of the source is damaged: what can be read is copied all the same."
    };
}

const EXAMPLES: &str = examples!();

const LONG_HELP: &str = concat!(
    examples!(),
    "

Revisions keep their ids, names, sequences, tags and protection. Of a revision that the target has, tags and protection
that were given here are added there; none are taken off, as they may have been given there.

A revision that was forgotten in the target is copied again only if a SPEC names it (other than STREAM@all). One that is
forgotten here stays there. A stream that was deleted there is copied anew; one that was renamed on one side goes on under
its name there. A stream of the target that has revisions which were never here is refused, and so is another stream of
the same name.

What is marked as damaged in the target, or missing there, is sent anew.

Keys of --json:
  target         path, id
  streams        stream (its name), target_stream (its name there), error (message, hint; or null), damaged_files
                 (what is damaged beside revisions: file, reason), revisions (the oldest first)
  revisions      id, name, outcome (copied, present, forgotten or unreadable), relabelled (whether tags or protection
                 were added), reason (of unreadable; or null), chunks_sent, nodes_sent, bytes_sent (as they are stored),
                 bytes_stored (what the target grew by)
  copied, present, forgotten, unreadable, chunks_sent, nodes_sent, bytes_sent, bytes_stored  in all
After an error these keys are those of error.done."
);

/// Copy revisions to another repository
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = LONG_HELP)]
pub(crate) struct CopyArgs {
    /// Streams, all revisions of each without SPEC
    #[arg(value_name = "STREAM[@SPEC]", required_unless_present = "all", conflicts_with = "all")]
    named: Vec<String>,

    /// Every stream
    #[arg(long)]
    all: bool,

    /// The repository to copy to [default: the one that was remembered]
    #[arg(long, value_name = "REPO")]
    to: Option<PathBuf>,

    /// Remember --to for later copies of this repository
    #[arg(long, requires = "to")]
    remember: bool,

    /// Wait for who writes to a stream of the target instead of failing
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(context: &Context<'_>, args: &CopyArgs) -> CommandOutcome {
    let what = if args.all { "all streams".to_owned() } else { args.named.join(", ") };
    let during = |failure: Failure| failure.during(format_args!("copy {what}"));
    let source = context.repository()?;
    let target = open_target(&source, args).map_err(during)?;
    context.tell_waits(&target);
    let requests = match args.all {
        true => every_stream(&source),
        false => named_streams(&source, &args.named),
    };
    let requests = requests.map_err(during)?;
    if args.remember {
        source.remember_copy_target(&target).map_err(|error| during(not_rememberable(error)))?;
    }
    let monitor = context.ui.monitor();
    let outcome = copy(&source, &target, &requests, &CopyOptions { wait: args.wait }, &monitor);
    drop(monitor);
    match outcome {
        Ok(report) => {
            tell(context, &target, &report)?;
            Ok(code_of(&report))
        }
        Err(unfinished) => {
            let failure = during(with_hint(unfinished.error));
            Err(failed(context, &target, &unfinished.report, failure))
        }
    }
}

/// Opens the target that was named or is remembered.
fn open_target(source: &Repository, args: &CopyArgs) -> Result<Repository, Failure> {
    let target = match &args.to {
        Some(path) => {
            refuse_remote(path)?;
            Repository::open(path, DEFAULT_CACHE_BYTES).map_err(|error| not_opened(path, error))?
        }
        None => source.open_copy_target(DEFAULT_CACHE_BYTES).map_err(not_remembered)?.ok_or_else(|| {
            Failure::usage("no repository to copy to was named, and none is remembered")
                .hint("give --to REPO")
        })?,
    };
    refuse_same(source, &target)?;
    Ok(target)
}

fn not_opened(path: &Path, error: Error) -> Failure {
    let is_none = matches!(error, Error::NotARepository { .. });
    let failure = Failure::from(error);
    match is_none {
        true => failure.hint(format!(
            "check the path given by --to, or make a repository there: `treering init {}`",
            path.display()
        )),
        false => failure,
    }
}

fn not_remembered(error: Error) -> Failure {
    match error {
        Error::NotARepository { .. } => {
            Failure::from(error).hint("it is remembered as the target: mount its medium, or give --to REPO")
        }
        error => error.into(),
    }
}

fn not_rememberable(error: Error) -> Failure {
    let has_no_such_name = matches!(error, Error::NotStorable { .. });
    let failure = Failure::from(error);
    match has_no_such_name {
        true => failure.hint("give it by a path in UTF-8, or without --remember by --to each time"),
        false => failure,
    }
}

/// All streams, also those that can't be copied: they will be named.
fn every_stream(source: &Repository) -> Result<Vec<CopyRequest>, Failure> {
    let whole = |stream: Stream| CopyRequest { stream, whole: true, named: Vec::new() };
    Ok(source.streams()?.into_iter().map(whole).collect())
}

/// What was named, each stream once.
fn named_streams(source: &Repository, named: &[String]) -> Result<Vec<CopyRequest>, Failure> {
    let mut requests: Vec<CopyRequest> = Vec::new();
    for text in named {
        let (name, spec) = split_revision(text);
        let stream = source.stream(name)?;
        let spec = spec.filter(|spec| *spec != "all");
        let keys = spec.map(|spec| source.find_revisions(&stream, spec)).transpose()?;
        let known = requests.iter_mut().position(|request| request.stream == stream);
        let place = known.unwrap_or_else(|| {
            requests.push(CopyRequest { stream, whole: false, named: Vec::new() });
            requests.len() - 1
        });
        if let Some(request) = requests.get_mut(place) {
            request.whole |= keys.is_none();
            request.named.extend(keys.unwrap_or_default());
        }
    }
    Ok(requests)
}

/// Damage of the source is told from a stream that was refused.
fn code_of(report: &CopyReport) -> Code {
    if report.streams.iter().any(StreamCopy::has_damage) {
        return Code::Damage;
    }
    match report.streams.iter().all(StreamCopy::is_whole) {
        true => Code::Done,
        false => Code::Failed,
    }
}

fn tell(context: &Context<'_>, target: &Repository, report: &CopyReport) -> Result<(), Failure> {
    say_problems(report);
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(target, report)),
        false => context.ui.summary(&to_text(target, report)),
    }
}

/// A copy that failed for want of space keeps what others may rely on already.
fn with_hint(error: Error) -> Failure {
    let is_full = error.is_disk_full();
    let failure = Failure::from(error);
    match is_full {
        true => failure.hint(
            "free some space there and run the command again: what was sent is used again then; all revisions that were \
             there are intact",
        ),
        false => failure,
    }
}

/// Tells what was done by a copy that did not come to its end.
fn failed(context: &Context<'_>, target: &Repository, report: &CopyReport, failure: Failure) -> Failure {
    say_problems(report);
    if context.ui.is_json() {
        return failure.detail("done", to_json(target, report));
    }
    match context.ui.summary(&to_text(target, report)) {
        Ok(()) => failure,
        Err(error) => error,
    }
}

/// Names every stream and revision that was not copied, or not as it should.
fn say_problems(report: &CopyReport) {
    for stream in &report.streams {
        for RevisionCopy { key, outcome, .. } in &stream.revisions {
            if let CopyOutcome::Unreadable(error) = outcome {
                log::error!("{}@{} was not copied: {error}", stream.stream, key.name);
            }
        }
        for (file, reason) in &stream.damaged_files {
            log::error!("{file}: {reason}; {}", damage_hint(file));
        }
        if let Some(error) = &stream.error {
            let hint = hint_of(error).map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            log::error!("stream '{}' was not copied: {error}{hint}", stream.stream);
        }
    }
}

fn hint_of(error: &Error) -> Option<String> {
    match error {
        Error::Busy { .. } => Some(WAIT.to_owned()),
        error => Failure::hint_for(error),
    }
}

/// How many revisions came to each outcome.
#[derive(Default)]
struct Tally {
    copied: u64,
    present: u64,
    relabelled: u64,
    forgotten: u64,
    unreadable: u64,
}

impl Tally {
    fn of(report: &CopyReport) -> Self {
        let mut tally = Self::default();
        for revision in report.streams.iter().flat_map(|stream| &stream.revisions) {
            match revision.outcome {
                CopyOutcome::Copied => tally.copied += 1,
                CopyOutcome::Present { relabelled } => {
                    tally.present += 1;
                    tally.relabelled += u64::from(relabelled);
                }
                CopyOutcome::Forgotten => tally.forgotten += 1,
                CopyOutcome::Unreadable(_) => tally.unreadable += 1,
            }
        }
        tally
    }
}

fn to_text(target: &Repository, report: &CopyReport) -> String {
    let mut text = String::new();
    for stream in &report.streams {
        let there = stream.target_stream.as_deref().filter(|there| *there != stream.stream);
        let there = there.map(|there| format!(" ('{there}' there)")).unwrap_or_default();
        for RevisionCopy { key, outcome, sent } in &stream.revisions {
            let done = match outcome {
                CopyOutcome::Copied => "",
                CopyOutcome::Present { .. } if sent.bytes > 0 => "made whole, ",
                _ => continue,
            };
            text.push_str(&format!("{}@{}{there}: {done}{}\n", stream.stream, key.name, sent_text(sent)));
        }
    }
    text + &totals_text(target, report)
}

fn sent_text(sent: &Sent) -> String {
    let (chunks, nodes) = (count(sent.chunks, "chunk"), count(sent.nodes, "node"));
    format!("{chunks} and {nodes} sent, {} stored", size(sent.bytes_stored))
}

fn totals_text(target: &Repository, report: &CopyReport) -> String {
    let tally = Tally::of(report);
    let mut parts = vec![format!("{} copied to {}", count(tally.copied, "revision"), target.location())];
    for (number, what) in [
        (tally.present, "there already"),
        (tally.relabelled, "of them with new tags or protection"),
        (tally.forgotten, "forgotten there (name them to copy them again)"),
        (tally.unreadable, "not copied, see above"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts.join(", ") + "\n"
}

fn to_json(target: &Repository, report: &CopyReport) -> Value {
    let tally = Tally::of(report);
    let streams: Vec<Value> = report.streams.iter().map(stream_json).collect();
    let mut document = sent_json(&report.sent());
    for (key, value) in [
        ("target", json!({ "path": target.location(), "id": target.header().id.to_string() })),
        ("streams", json!(streams)),
        ("copied", json!(tally.copied)),
        ("present", json!(tally.present)),
        ("forgotten", json!(tally.forgotten)),
        ("unreadable", json!(tally.unreadable)),
    ] {
        document.insert(key.to_owned(), value);
    }
    Value::Object(document)
}

fn stream_json(stream: &StreamCopy) -> Value {
    let files: Vec<Value> =
        stream.damaged_files.iter().map(|(file, reason)| json!({ "file": file, "reason": reason })).collect();
    json!({
        "stream": stream.stream,
        "target_stream": stream.target_stream,
        "error": stream.error.as_ref().map(error_json),
        "damaged_files": files,
        "revisions": stream.revisions.iter().map(revision_json).collect::<Vec<_>>(),
    })
}

fn error_json(error: &Error) -> Value {
    json!({ "message": error.to_string(), "hint": hint_of(error) })
}

fn revision_json(revision: &RevisionCopy) -> Value {
    let RevisionCopy { key, outcome, sent } = revision;
    let (outcome, relabelled, reason) = match outcome {
        CopyOutcome::Copied => ("copied", false, None),
        CopyOutcome::Present { relabelled } => ("present", *relabelled, None),
        CopyOutcome::Forgotten => ("forgotten", false, None),
        CopyOutcome::Unreadable(error) => ("unreadable", false, Some(error.to_string())),
    };
    let mut object = sent_json(sent);
    for (name, value) in [
        ("id", json!(key.id.to_string())),
        ("name", json!(key.name)),
        ("outcome", json!(outcome)),
        ("relabelled", json!(relabelled)),
        ("reason", json!(reason)),
    ] {
        object.insert(name.to_owned(), value);
    }
    Value::Object(object)
}

fn sent_json(sent: &Sent) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, number) in [
        ("chunks_sent", sent.chunks),
        ("nodes_sent", sent.nodes),
        ("bytes_sent", sent.bytes),
        ("bytes_stored", sent.bytes_stored),
    ] {
        object.insert(name.to_owned(), json!(number));
    }
    object
}
