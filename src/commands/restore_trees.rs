//! `treering restore` of trees.

use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use serde_json::{Map, Value, json};
use treering_engine::operations::restore::{
    DamagedEntry, TreeRestoreOptions, TreeRestoreReport, restore_tree,
};
use treering_engine::{EntryContent, Error, TreeReader, tidy_path};

use super::restore::{RestoreArgs, to_be_continued};
use super::revision::{Named, Opened};
use super::tree_entry::{insert_bytes, insert_path, path_text};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure, ranges_json};
use crate::ui::{duration, rate, size};

pub(super) fn run(
    context: &Context<'_>,
    args: &RestoreArgs,
    opened: &Opened,
    during: impl Fn(Failure) -> Failure,
) -> CommandOutcome {
    let Opened { repository, named } = opened;
    let tree = repository.open_tree(&named.record).map_err(|error| during(error.into()))?;
    if args.delete {
        refuse_delete(args, &tree).map_err(&during)?;
    }
    let monitor = context.ui.monitor();
    let start = Instant::now();
    let restored = restore_tree(&tree, &named.name(), repository, &args.target, &options(args), &monitor);
    let report = restored.map_err(|error| during(failure(args, error)))?;
    drop(monitor);
    tell(context, args, named, &report, start.elapsed().as_secs_f64())
}

fn options(args: &RestoreArgs) -> TreeRestoreOptions {
    TreeRestoreOptions {
        path: args.path.as_deref().map(|path| tidy_path(path.as_bytes())).unwrap_or_default(),
        in_place: args.in_place,
        overwrite: args.overwrite,
        delete: args.delete,
        verify: args.verify,
        numeric_owner: args.numeric_owner,
    }
}

/// An option that would do nothing is a mistake.
fn refuse_delete(args: &RestoreArgs, tree: &TreeReader) -> Result<(), Failure> {
    if !args.in_place && !args.overwrite {
        return Err(Failure::usage(
            "--delete needs --in-place or --overwrite: a new directory has nothing to be removed",
        )
        .hint("give one of them, or leave --delete out"));
    }
    let Some(path) = &args.path else { return Ok(()) };
    match tree.find(path.as_bytes())?.map(|entry| entry.content) {
        None | Some(EntryContent::Directory(_)) => Ok(()),
        Some(_) => Err(Failure::usage(format!(
            "--delete is for directories, and {} is none",
            path_text(path.as_bytes())
        ))
        .hint("leave it out")),
    }
}

/// What was written before a signal or an error is not lost.
fn failure(args: &RestoreArgs, error: Error) -> Failure {
    let is_full = error.is_disk_full();
    let failure = Failure::from(error);
    match is_full {
        true => {
            let again = args.again_in_place();
            failure.hint(format!("free some space there; {again} goes on where this one ended"))
        }
        false => to_be_continued(args, failure),
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
    if let Some(failure) = incomplete(args, &named.name(), report) {
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
fn incomplete(args: &RestoreArgs, name: &str, report: &TreeRestoreReport) -> Option<Failure> {
    let target = args.target.display();
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
        Failure::new(format!(
            "{problem_count} entries of {name} had problems; all else is restored to {target}"
        ))
        .hint(format!(
            "they are named above; when the cause is gone, {} does the rest",
            args.again_in_place()
        ))
    })
}

fn to_json(
    args: &RestoreArgs,
    named: &Named,
    report: &TreeRestoreReport,
    seconds: f64,
) -> Map<String, Value> {
    let mut document = Map::new();
    match &args.path {
        Some(path) => insert_bytes(&mut document, "path", path.as_bytes()),
        None => drop(document.insert("path".to_owned(), Value::Null)),
    }
    let report = json!({
        "stream": named.stream.name,
        "id": named.record.id.to_string(),
        "name": named.record.name,
        "target": absolute(&args.target).display().to_string(),
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
    if let Value::Object(report) = report {
        document.extend(report);
    }
    document
}

fn damaged_json(damaged: &DamagedEntry) -> Value {
    let mut object = Map::new();
    insert_path(&mut object, "path", &damaged.path);
    object.insert("ranges".to_owned(), ranges_json(&damaged.ranges));
    object.insert("detail".to_owned(), json!(damaged.detail));
    Value::Object(object)
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RestoreArgs,
    }

    fn args(line: &[&str]) -> RestoreArgs {
        Line::parse_from([&["restore", "home", "out"], line].concat()).args
    }

    #[test]
    fn what_was_not_restored_as_it_should_decides_the_code() {
        let problems = TreeRestoreReport { problem_count: 3, ..TreeRestoreReport::default() };
        let differing = TreeRestoreReport { differing_count: 1, ..problems.clone() };
        let damaged = TreeRestoreReport { damaged_count: 1, ..differing.clone() };
        let told = |report: &TreeRestoreReport| incomplete(&args(&[]), "home@1", report);
        assert!(told(&TreeRestoreReport::default()).is_none());
        for (report, code, words) in [
            (&problems, Code::Failed, "3 entries of home@1 had problems"),
            (&differing, Code::Damage, "1 entries in out are not what was written to them"),
            (&damaged, Code::Damage, "1 entries of home@1 are damaged, and 3 more had other problems"),
        ] {
            let failure = told(report).unwrap();
            assert_eq!(failure.code, code);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn hints_name_no_option_that_is_refused() {
        assert_eq!(args(&[]).again_in_place(), "the same command with --in-place");
        assert_eq!(args(&["--in-place"]).again_in_place(), "the same command");
        let instead = "the same command with --in-place instead of --overwrite";
        assert_eq!(args(&["--overwrite"]).again_in_place(), instead);
    }

    #[test]
    fn damaged_paths_of_any_bytes_can_be_told_apart() {
        let damaged = DamagedEntry { path: b"\xff".to_vec(), ..DamagedEntry::default() };
        let document = damaged_json(&damaged);
        assert_eq!((&document["path"], &document["path_bytes"]), (&json!("\u{fffd}"), &json!("ff")));
    }
}
