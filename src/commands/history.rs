//! `treering history`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde_json::{Map, Value, json};
use treering_engine::operations::history::{PathState, Told, Version, history};
use treering_engine::{RecordKey, Repository, Stream, tidy_path};

use super::Context;
use super::find::{add_lost_revisions, revisions_of};
use super::tree_entry::{
    DamagedParts, insert_access, insert_path, insert_summary, mode_text, path_text, size_text, time_text,
};
use crate::exit::{CommandOutcome, Failure};
use crate::ui::{Align, Table, TerminalMonitor};

/// Show the versions of one path over the revisions of a stream, the oldest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering history home alice/thesis.tex
  treering history home@2026-11-01..latest /etc/passwd
  treering history home alice/thesis.tex --json | jq -r '.versions[] | select(.size > 0) | .last'

A version ends where type, content, mode, owner, group, time of modification or extended attributes change, and not where
the inode or ctime alone do; that of a directory where that of anything below it does, and not where its own time alone
changes. Revisions before the first one that has the path are left out; where it is gone later it is \"absent\". Of a
revision that can't be looked into it is \"unreadable\": that is named on stderr, and the exit code is 4.")]
pub(crate) struct HistoryArgs {
    /// The revisions; all of the stream without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revisions: String,

    /// The path in the tree
    path: OsString,
}

pub(super) fn run(context: &Context<'_>, args: &HistoryArgs) -> CommandOutcome {
    let (path, shown) = (args.path.as_bytes(), path_text(args.path.as_bytes()));
    let during =
        |failure: Failure| failure.during(format_args!("show the history of {shown} in {}", args.revisions));
    let repository = context.repository()?;
    let (stream, keys) = revisions_of(&repository, &args.revisions).map_err(during)?;
    let monitor = context.ui.monitor();
    let mut damaged = DamagedParts::default();
    let versions = versions(&repository, &stream, &keys, path, &monitor, &mut damaged).map_err(during)?;
    drop(monitor);
    add_lost_revisions(&mut damaged, &repository, &args.revisions, &stream).map_err(during)?;
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(path, &versions, &damaged))?,
        false => context.ui.print_table(&table(&versions))?,
    }
    Ok(damaged.code())
}

fn versions(
    repository: &Repository,
    stream: &Stream,
    keys: &[RecordKey],
    path: &[u8],
    monitor: &TerminalMonitor,
    damaged: &mut DamagedParts,
) -> Result<Vec<Version>, Failure> {
    let mut versions = Vec::new();
    let mut tell = |told: Told<'_>| -> Result<(), Failure> {
        match told {
            Told::Version(version) => versions.push(version),
            Told::Lost { revision, error } => {
                damaged.add(
                    &tidy_path(path),
                    &format!("{}@{}", stream.name, revision.name),
                    &error.to_string(),
                );
            }
        }
        Ok(())
    };
    history(repository, stream, keys, path, monitor, &mut tell)?;
    Ok(versions)
}

fn to_json(path: &[u8], versions: &[Version], damaged: &DamagedParts) -> Value {
    let mut document = Map::new();
    insert_path(&mut document, "path", &tidy_path(path));
    document.insert("versions".to_owned(), versions.iter().map(version_json).collect());
    damaged.insert_into(&mut document);
    document.into()
}

fn version_json(version: &Version) -> Value {
    let mut object = Map::new();
    object.insert("first".to_owned(), json!(version.first.name));
    object.insert("last".to_owned(), json!(version.last.name));
    object.insert("revisions".to_owned(), json!(version.revision_count));
    match &version.state {
        PathState::Entry(entry) => {
            insert_summary(&mut object, entry);
            insert_access(&mut object, entry);
        }
        state => {
            object.insert("type".to_owned(), json!(state_text(state)));
            for key in ["size", "mtime", "mode", "uid", "gid"] {
                object.insert(key.to_owned(), Value::Null);
            }
        }
    }
    object.into()
}

fn state_text(state: &PathState) -> &'static str {
    match state {
        PathState::Absent => "absent",
        PathState::Lost => "unreadable",
        PathState::Entry(_) => "",
    }
}

fn table(versions: &[Version]) -> Table {
    let mut table = Table::new(&[
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
        ("REVISIONS", Align::Right),
        ("MODE", Align::Left),
        ("SIZE", Align::Right),
        ("MODIFIED", Align::Left),
    ]);
    for Version { first, last, revision_count, state } in versions {
        let mut row = vec![first.name.clone(), last.name.clone(), revision_count.to_string()];
        row.extend(match state {
            PathState::Entry(entry) => [mode_text(entry), size_text(entry), time_text(entry.metadata.mtime)],
            state => [state_text(state).to_owned(), String::new(), String::new()],
        });
        table.row(row);
    }
    table
}
