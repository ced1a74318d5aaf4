//! `treering scrub`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use treering_engine::operations::scrub::{
    BadFinding, MaxDuration, ScrubOptions, ScrubReport, ScrubScope, scrub, scrub_for,
};
use treering_engine::{Error, FileSource, ImageSource, Record, Repository, Stream, split_revision};

use super::Context;
use crate::exit::{Code, CommandOutcome, Failure, damage_hint, ranges_json};
use crate::ui::{count, size};

macro_rules! examples {
    () => {
        "\
Examples:
  treering scrub                      everything, index and records included
  treering scrub -p 10                a tenth of all chunks, another one each time
  treering scrub vm1@latest
  treering scrub --max-duration 1h    every night: goes on with what was not read for longest
  treering scrub vm1 -s /dev/vg0/vm1  the newest revision, also compared with its source

Bad chunks are marked: `list` and `status` show the revisions that need them, and the next backup stores them
anew where the source still has them. Exit code 4 if there is any damage or difference."
    };
}

const EXAMPLES: &str = examples!();

const LONG_HELP: &str = concat!(
    examples!(),
    "

What is bad and missed by nobody is named as a note, and is no damage: what no revision uses (of an interrupted
backup, say), and packs all of whose bad objects have good copies elsewhere, as they have when a backup has healed
them. No backup builds upon it, and gc takes it away.

With --max-duration, all files but packs are read first, and then packs, those first that were not read for longest (or
never), until the time is over; the pack that is being read then is read to its end, and if anything is bad, it is
looked afterwards which revisions need it. So short runs cover everything in
turn. Whether all that revisions need is there is looked at only by a run that has come through all packs: `treering check`
does so without reading data, and should run beside it. When each pack was read is kept in the repository, and shown by
`treering status`; full scrubs note it, too, and those of a percentage or of some revisions do not.

A scrub that is interrupted or fails marks and prints what it had found; it ends with 130 or 1 all the same.

Keys of --json:
  chunks_checked, bytes_checked  what was read and verified
  bad            objects without an intact copy: chunk (its id), type (chunk, node or directory), reason,
                 revisions (those that need it; null if the scrub ended before it had looked), more_revisions
                 (how many more need it: of very many bad objects few are named)
  unused         the same of those that no revision uses; no damage
  mismatched     where the source differs from the revision: offset, length
  damaged_files  stored files that are not what was written: file, reason
  superseded     packs that are not what was written, but missed by nobody: file, reason; no damage
  packs_read     packs that were read whole
  out_of_time    whether the time was over before all packs were read
After an error these keys are those of error.found."
);

/// Read back what is stored, verify it, and mark what is bad
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = LONG_HELP)]
pub(crate) struct ScrubArgs {
    /// Only what these revisions need
    #[arg(value_name = "STREAM[@SPEC]")]
    named: Option<String>,

    /// Verify so many percent of the chunks
    #[arg(short, long, value_name = "P", default_value_t = 100.0)]
    percentile: f64,

    /// Stop after so long, such as 1h or 90m, and go on with the rest the next time
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["named", "percentile"])]
    max_duration: Option<MaxDuration>,

    /// Compare with the source as well; STREAM alone is its newest revision then
    #[arg(short, long, value_name = "SOURCE", requires = "named")]
    source: Option<PathBuf>,
}

pub(super) fn run(context: &Context<'_>, args: &ScrubArgs) -> CommandOutcome {
    let what = args.named.as_deref().unwrap_or("the repository");
    let during = |failure: Failure| failure.during(format_args!("scrub {what}"));
    let repository = context.repository()?;
    let scoped = scope(&repository, args).map_err(during)?;
    let source =
        match &args.source {
            Some(path) => Some(Box::new(FileSource::open(path).map_err(|error| during(error.into()))?)
                as Box<dyn ImageSource>),
            None => None,
        };
    let options = ScrubOptions { percent: args.percentile, source };
    let monitor = context.ui.monitor();
    let outcome = match args.max_duration {
        Some(MaxDuration(duration)) => scrub_for(&repository, duration, &monitor),
        None => scrub(&repository, &scoped.scope, &options, &monitor),
    };
    drop(monitor);
    let (mut report, error) = match outcome {
        Ok(report) => (report, None),
        Err(unfinished) => (unfinished.report, Some(unfinished.error)),
    };
    report.damaged_files.extend(scoped.damaged_records);
    if let Some(error) = error {
        return Err(unfinished(context, &report, during(failed(error))));
    }
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(&report))?,
        false => {
            tell(context, &report)?;
            tell_verdict(context, &report)?;
        }
    }
    Ok(if report.is_clean() { Code::Done } else { Code::Damage })
}

/// A source that can't be read is not that of a backup here.
fn failed(error: Error) -> Failure {
    let is_source = matches!(error, Error::SourceRead { .. });
    let failure = Failure::from(error);
    if is_source { failure.hint("check the source, then run the scrub again") } else { failure }
}

/// Tells what was found by a scrub that did not come to its end.
fn unfinished(context: &Context<'_>, report: &ScrubReport, failure: Failure) -> Failure {
    if context.ui.is_json() {
        return failure.detail("found", to_json(report));
    }
    let failure = match (failure.code, report.is_clean()) {
        (Code::Interrupted, true) => failure.hint("what was read until then is in order"),
        (Code::Interrupted, false) => failure.hint("what was found until then is marked"),
        _ => failure,
    };
    match tell(context, report) {
        Ok(()) => failure,
        Err(error) => error,
    }
}

/// What is to be verified, and records of it that can't be read.
struct Scoped {
    scope: ScrubScope,
    damaged_records: Vec<(String, String)>,
}

fn scope(repository: &Repository, args: &ScrubArgs) -> Result<Scoped, Failure> {
    let Some(named) = args.named.as_deref() else {
        return Ok(Scoped { scope: ScrubScope::Everything, damaged_records: Vec::new() });
    };
    let (name, spec) = split_revision(named);
    let stream = repository.stream(name)?;
    // One source is compared with one revision.
    let spec = spec.unwrap_or(if args.source.is_some() { "latest" } else { "all" });
    let mut revisions: Vec<(Stream, Record)> = Vec::new();
    let mut damaged_records = Vec::new();
    for key in repository.find_revisions(&stream, spec)? {
        match repository.record(&stream, &key) {
            Ok(record) => revisions.push((stream.clone(), record)),
            Err(error) if error.is_damage() => {
                damaged_records.push((format!("record of {name}@{}", key.name), error.to_string()));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if spec == "all" {
        let lost = repository.lost_revisions(&stream)?;
        damaged_records.extend(lost.into_iter().map(|lost| (lost.file, lost.reason)));
    }
    Ok(Scoped { scope: ScrubScope::Revisions(revisions), damaged_records })
}

fn to_json(report: &ScrubReport) -> Value {
    let bad = |found: &[BadFinding]| -> Vec<Value> { found.iter().map(bad_json).collect() };
    let files = |files: &[(String, String)]| -> Vec<Value> {
        files.iter().map(|(file, reason)| json!({ "file": file, "reason": reason })).collect()
    };
    json!({
        "chunks_checked": report.chunks_checked,
        "bytes_checked": report.bytes_checked,
        "bad": bad(&report.bad),
        "unused": bad(&report.unused),
        "mismatched": ranges_json(&report.mismatched),
        "damaged_files": files(&report.damaged_files),
        "superseded": files(&report.superseded),
        "packs_read": report.packs_read,
        "out_of_time": report.is_out_of_time,
    })
}

fn bad_json(bad: &BadFinding) -> Value {
    json!({
        "chunk": bad.id.to_string(),
        "type": format!("{:?}", bad.object_type).to_lowercase(),
        "reason": bad.reason,
        "revisions": bad.revisions,
        "more_revisions": bad.more_revisions,
    })
}

/// Names the first few revisions that need an object, and says how many more there are.
fn needed_by(bad: &BadFinding) -> String {
    const SHOWN: usize = 12;
    let Some(revisions) = bad.revisions.as_deref() else { return String::new() };
    if revisions.is_empty() {
        return "; no revision that can be read needs it".to_owned();
    }
    let (shown, rest) = revisions.split_at(revisions.len().min(SHOWN));
    let shown = shown.join(", ");
    match rest.len() as u64 + bad.more_revisions {
        0 => format!("; needed by {shown}"),
        more => format!("; needed by {shown} and {more} more"),
    }
}

/// Names what was found.
fn tell(context: &Context<'_>, report: &ScrubReport) -> Result<(), Failure> {
    let mut text = String::new();
    for (file, reason) in &report.damaged_files {
        text.push_str(&format!("DAMAGED  {file}: {reason}; {}\n", damage_hint(file)));
    }
    for bad in &report.bad {
        text.push_str(&format!("BAD      {} ({}){}\n", bad.id, bad.reason, needed_by(bad)));
    }
    for range in &report.mismatched {
        text.push_str(&format!(
            "DIFFERS  {} bytes at offset {} from the source\n",
            range.end - range.start,
            range.start
        ));
    }
    context.ui.print(&text)?;
    context.ui.summary(&notes(report))
}

/// What is bad, and is no damage.
fn notes(report: &ScrubReport) -> String {
    let mut text = String::new();
    for (file, reason) in &report.superseded {
        text.push_str(&format!("note     {file}: {reason}; no revision misses anything in it\n"));
    }
    for bad in &report.unused {
        text.push_str(&format!("note     {} ({}); no revision uses it\n", bad.id, bad.reason));
    }
    text
}

fn tell_verdict(context: &Context<'_>, report: &ScrubReport) -> Result<(), Failure> {
    let verdict = match (report.is_clean(), report.is_out_of_time) {
        (true, false) => "all is in order",
        (true, true) => "all of that is in order; the time is over, and the next scrub goes on",
        (false, _) => "see above; the next backup heals bad chunks that its source still has",
    };
    context.ui.summary(&format!(
        "{} with {} verified: {verdict}\n",
        count(report.chunks_checked, "chunk"),
        size(report.bytes_checked)
    ))
}

#[cfg(test)]
mod tests {
    use treering_engine::{ObjectId, ObjectType};

    use super::*;

    #[test]
    fn the_first_few_revisions_that_need_an_object_are_named() {
        let needed = |revisions: Option<u64>, more_revisions| {
            needed_by(&BadFinding {
                id: ObjectId::from_bytes([7; 32]),
                object_type: ObjectType::Chunk,
                reason: String::new(),
                revisions: revisions.map(|count| (0..count).map(|name| format!("vm@{name}")).collect()),
                more_revisions,
            })
        };
        assert_eq!(needed(None, 0), "");
        assert!(needed(Some(0), 0).contains("no revision"));
        assert_eq!(needed(Some(2), 0), "; needed by vm@0, vm@1");
        assert_eq!(needed(Some(2), 7), "; needed by vm@0, vm@1 and 7 more");
        assert!(needed(Some(20), 1).ends_with(", vm@10, vm@11 and 9 more"));
    }
}
