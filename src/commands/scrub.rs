//! `treering scrub`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use treering_engine::operations::scrub::{ScrubOptions, ScrubReport, ScrubScope, scrub};
use treering_engine::{FileSource, ImageSource, Record, Repository, Stream, split_revision};

use super::Context;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{count, size};

/// Read back what is stored, verify it, and mark what is bad
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering scrub                      everything, index and records included
  treering scrub -p 10                a tenth of all chunks, another one each time
  treering scrub vm1@latest
  treering scrub vm1 -s /dev/vg0/vm1  the newest revision, also compared with its source

Bad chunks are marked: `list` and `status` show the revisions that need them, and the next backup stores them
anew where the source still has them. Exit code 4 if there is any damage or difference.")]
pub(crate) struct ScrubArgs {
    /// Only what these revisions need
    #[arg(value_name = "STREAM[@SPEC]")]
    named: Option<String>,

    /// Verify so many percent of the chunks
    #[arg(short, long, value_name = "P", default_value_t = 100.0)]
    percentile: f64,

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
    let monitor = context.ui.monitor()?;
    let mut report =
        scrub(&repository, &scoped.scope, &options, &monitor).map_err(|error| during(error.into()))?;
    drop(monitor);
    report.damaged_files.extend(scoped.damaged_records);
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(&report))?,
        false => tell(context, &report)?,
    }
    Ok(if report.is_clean() { Code::Done } else { Code::Damage })
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
    Ok(Scoped { scope: ScrubScope::Revisions(revisions), damaged_records })
}

fn to_json(report: &ScrubReport) -> Value {
    let bad: Vec<Value> = report
        .bad
        .iter()
        .map(|bad| {
            json!({
                "chunk": bad.id.to_string(),
                "type": format!("{:?}", bad.object_type).to_lowercase(),
                "reason": bad.reason,
                "revisions": bad.revisions,
            })
        })
        .collect();
    let mismatched: Vec<Value> = report
        .mismatched
        .iter()
        .map(|range| json!({ "offset": range.start, "length": range.end - range.start }))
        .collect();
    let files = |files: &[(String, String)]| -> Vec<Value> {
        files.iter().map(|(file, reason)| json!({ "file": file, "reason": reason })).collect()
    };
    json!({
        "chunks_checked": report.chunks_checked,
        "bytes_checked": report.bytes_checked,
        "bad": bad,
        "mismatched": mismatched,
        "damaged_files": files(&report.damaged_files),
        "superseded": files(&report.superseded),
    })
}

fn tell(context: &Context<'_>, report: &ScrubReport) -> Result<(), Failure> {
    let mut text = String::new();
    for (file, reason) in &report.damaged_files {
        text.push_str(&format!("DAMAGED  {file}: {reason}\n"));
    }
    for (file, reason) in &report.superseded {
        text.push_str(&format!(
            "note     {file}: {reason}; nothing in it is missed, there are good copies elsewhere\n"
        ));
    }
    for bad in &report.bad {
        let needed = match bad.revisions.is_empty() {
            true => "no revision needs it".to_owned(),
            false => format!("needed by {}", bad.revisions.join(", ")),
        };
        text.push_str(&format!("BAD      {} ({}); {needed}\n", bad.id, bad.reason));
    }
    for range in &report.mismatched {
        text.push_str(&format!(
            "DIFFERS  {} bytes at offset {} from the source\n",
            range.end - range.start,
            range.start
        ));
    }
    context.ui.print(&text)?;
    let verdict = match report.is_clean() {
        true => "all is in order",
        false => "see above; the next backup heals bad chunks that its source still has",
    };
    context.ui.summary(&format!(
        "{} with {} verified: {verdict}\n",
        count(report.chunks_checked, "chunk"),
        size(report.bytes_checked)
    ))
}
