//! `treering restore` of trees.

use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use serde_json::{Map, Value, json};
use treering_engine::Error;
use treering_engine::operations::restore::{
    DamagedEntry, TreeRestoreOptions, TreeRestoreReport, restore_tree,
};

use super::restore::{RestoreArgs, to_be_continued};
use super::revision::{Named, Opened};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure, is_disk_full, ranges_json};
use crate::ui::{duration, rate, size};

pub(super) fn run(
    context: &Context<'_>,
    args: &RestoreArgs,
    opened: &Opened,
    during: impl Fn(Failure) -> Failure,
) -> CommandOutcome {
    if args.delete && !args.in_place && !args.overwrite {
        return Err(Failure::usage(
            "--delete needs --in-place or --overwrite: a new directory has nothing to be removed",
        )
        .hint("give one of them, or leave --delete out"));
    }
    let Opened { repository, named } = opened;
    let tree = repository.open_tree(&named.record).map_err(|error| during(error.into()))?;
    let monitor = context.ui.monitor()?;
    let start = Instant::now();
    let restored = restore_tree(&tree, &named.name(), repository, &args.target, &options(args), &monitor);
    let report = restored.map_err(|error| during(failure(error)))?;
    drop(monitor);
    tell(context, args, named, &report, start.elapsed().as_secs_f64())
}

fn options(args: &RestoreArgs) -> TreeRestoreOptions {
    TreeRestoreOptions {
        path: args.path.as_deref().map(|path| path.as_bytes().to_vec()).unwrap_or_default(),
        in_place: args.in_place,
        overwrite: args.overwrite,
        delete: args.delete,
        verify: args.verify,
        numeric_owner: args.numeric_owner,
    }
}

/// What was written before a signal or an error is not lost.
fn failure(error: Error) -> Failure {
    let is_full = matches!(&error, Error::Io { source, .. } if is_disk_full(source));
    let failure = Failure::from(error);
    match is_full {
        true => failure
            .hint("free some space there; the same command with --in-place goes on where this one ended"),
        false => to_be_continued(failure),
    }
}

/// Tells what was done; what could not be is a failure that says the same beside.
fn tell(
    context: &Context<'_>,
    args: &RestoreArgs,
    named: &Named,
    report: &TreeRestoreReport,
    seconds: f64,
) -> CommandOutcome {
    let document = to_json(args, named, report, seconds);
    if let Some(failure) = incomplete(args, named, report) {
        let details = document;
        return Err(Failure { details, ..failure });
    }
    match context.ui.is_json() {
        true => context.ui.print_json(&document)?,
        false => context.ui.summary(&to_text(args, named, report, seconds))?,
    }
    Ok(Code::Done)
}

/// The failure, if something was not restored as it should.
fn incomplete(args: &RestoreArgs, named: &Named, report: &TreeRestoreReport) -> Option<Failure> {
    let (target, name) = (args.target.display(), named.name());
    let TreeRestoreReport { problem_count, damaged_count, differing_count, .. } = *report;
    if damaged_count > 0 {
        let others = match problem_count {
            0 => String::new(),
            count => format!(", and {count} more had other problems"),
        };
        return Some(Failure {
            code: Code::Damage,
            ..Failure::new(format!("{damaged_count} entries of {name} are damaged{others}; all else is in {target}"))
                .hint("they are named above; `treering scrub` finds and marks all damage, and the next backup of the same data \
                    heals it")
        });
    }
    if differing_count > 0 {
        return Some(Failure {
            code: Code::Damage,
            ..Failure::new(format!("{differing_count} entries in {target} are not what was written to them"))
                .hint("they are named above; the medium may be failing: look into the system's log, and restore to another one")
        });
    }
    (problem_count > 0).then(|| {
        Failure::new(format!("{problem_count} entries of {name} had problems; all else is restored to {target}"))
            .hint("they are named above; when the cause is gone, the same command with --in-place restores the rest")
    })
}

fn to_json(
    args: &RestoreArgs,
    named: &Named,
    report: &TreeRestoreReport,
    seconds: f64,
) -> Map<String, Value> {
    let document = json!({
        "stream": named.stream.name,
        "id": named.record.id.to_string(),
        "name": named.record.name,
        "target": absolute(&args.target).display().to_string(),
        "path": args.path.as_deref().map(|path| path.to_string_lossy()),
        "files": report.files,
        "directories": report.directories,
        "others": report.others,
        "unchanged": report.unchanged,
        "removed": report.removed,
        "size": report.bytes,
        "bytes_written": report.bytes_written,
        "bytes_compared": report.bytes_compared,
        "bytes_verified": report.bytes_verified,
        "owners_skipped": report.owners_skipped,
        "attributes_skipped": report.attributes_skipped,
        "devices_skipped": report.devices_skipped,
        "warnings": report.problems,
        // More than the warnings and the list name, where there are very many.
        "problems": report.problem_count,
        "damaged": report.damaged.iter().map(damaged_json).collect::<Value>(),
        "damaged_entries": report.damaged_count,
        "seconds": seconds,
    });
    match document {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn damaged_json(damaged: &DamagedEntry) -> Value {
    json!({
        "path": String::from_utf8_lossy(&damaged.path),
        "ranges": ranges_json(&damaged.ranges),
        "detail": damaged.detail,
    })
}

fn to_text(args: &RestoreArgs, named: &Named, report: &TreeRestoreReport, seconds: f64) -> String {
    let line = |is_wanted: bool, text: String| if is_wanted { text } else { String::new() };
    let unchanged = line(args.in_place, format!("  same     {} entries\n", report.unchanged));
    let removed = line(args.delete, format!("  removed  {} entries\n", report.removed));
    let verified = line(args.verify, format!("  verified {}\n", size(report.bytes_verified)));
    format!(
        "{} is restored to {}\n  size     {} in {} files, {} directories, {} others\n  written  {}\n\
         {unchanged}{removed}{verified}  took     {}, {}\n",
        named.name(),
        args.target.display(),
        size(report.bytes),
        report.files,
        report.directories,
        report.others,
        size(report.bytes_written),
        duration(seconds),
        rate(report.bytes_written.max(report.bytes_compared), seconds),
    )
}
