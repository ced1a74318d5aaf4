//! `treering diff`.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde_json::{Map, Value, json};
use treering_engine::operations::diff::{
    Change, ChangeKind, ImageDiff, TreeDiff, TreeDiffOptions, diff_images, diff_trees,
};
use treering_engine::{Kind, Repository, split_revision};

use super::Context;
use super::inventory::size_of;
use super::revision::{Named, find_in, find_one};
use super::tree_entry::{DamagedParts, hex, insert_path, path_text};
use crate::exit::{Code, CommandOutcome, Failure, ranges_json};
use crate::ui::{Align, JsonStream, Output, Table, TerminalMonitor, count, size};

/// Show what changed between two revisions
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering diff vm1@1 latest          the last change of vm1
  treering diff vm1@2026-11-01 2026-11-02
  treering diff vm1@0 vm2@0           images of two streams
  treering diff --json vm1@1 0 | jq '.bytes_changed'
  treering diff home@1 0              the last change of a tree
  treering diff home@7 0 alice/docs   of a part of it
  treering diff --json home@1 0 | jq -r '.added[]'

Of images it shows whole chunks, neighbours merged. The cost is in proportion to the change, not to the size.

Of trees it shows a path a line: + added, - removed, M modified (other bytes, target or device), m other metadata,
T of another type, R renamed: the same content or, of a directory, all the same entries, in the place of one that is gone;
what has other metadata since comes with a line m as well.
Bytes are compared, not how they are stored or where holes are. As metadata count mode, owner, group, time of modification
(not of directories) and extended attributes. Paths are written as by `treering ls`. In the JSON document they are lists of
strings, and those that are no UTF-8 are named again by list and index in \"path_bytes\", in hexadecimal digits. Of what
can't be read nothing is told but that, on stderr and as \"damaged\", and the exit code is 4.")]
pub(crate) struct DiffArgs {
    /// The first revision
    #[arg(value_name = "STREAM@A")]
    from: String,

    /// The second; without STREAM@ of the same stream
    #[arg(value_name = "[STREAM@]B")]
    to: String,

    /// Of trees, only this path and what is below it
    path: Option<OsString>,

    /// Take ctime, inode, links and the times of directories for metadata, too
    #[arg(long)]
    all_metadata: bool,
}

pub(super) fn run(context: &Context<'_>, args: &DiffArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("compare {} with {}", args.from, args.to));
    let repository = context.repository()?;
    let from = find_one(&repository, &args.from).map_err(during)?;
    let to = match args.to.contains('@') {
        true => find_one(&repository, &args.to),
        false => find_in(&repository, split_revision(&args.from).0, &args.to),
    };
    let to = to.map_err(during)?;
    let difference = Difference { context, args, from: &from, to: &to };
    let shown = match (from.record.kind(), to.record.kind()) {
        (Kind::Image, Kind::Image) => difference.of_images(&repository),
        (Kind::Tree, Kind::Tree) => difference.of_trees(&repository),
        _ => Err(of_two_kinds()),
    };
    shown.map_err(during)
}

fn of_two_kinds() -> Failure {
    Failure::new("one of them is an image, the other a tree")
        .hint("compare two images or two trees: `treering list` shows what streams hold")
}

/// Two revisions that are to be compared.
struct Difference<'a> {
    context: &'a Context<'a>,
    args: &'a DiffArgs,
    from: &'a Named,
    to: &'a Named,
}

impl Difference<'_> {
    fn names(&self) -> String {
        format!("{} to {}", self.from.name(), self.to.name())
    }

    fn of_images(&self, repository: &Repository) -> CommandOutcome {
        if self.args.path.is_some() || self.args.all_metadata {
            return Err(Failure::usage("PATH and --all-metadata are for trees, and these are images")
                .hint("leave them out"));
        }
        let ui = self.context.ui;
        let diff = diff_images(repository, &self.from.record, &self.to.record)?;
        let sizes = (size_of(&self.from.record), size_of(&self.to.record));
        if ui.is_json() {
            ui.print_json(&to_json(&diff, sizes))?;
            return Ok(Code::Done);
        }
        if !diff.ranges.is_empty() {
            ui.print_table(&table(&diff))?;
        }
        ui.summary(&format!(
            "{}: {} changed in {}{}\n",
            self.names(),
            size(diff.bytes_changed),
            count(diff.ranges.len() as u64, "range"),
            resized(sizes)
        ))?;
        Ok(Code::Done)
    }

    fn of_trees(&self, repository: &Repository) -> CommandOutcome {
        let monitor = self.context.ui.monitor();
        let options = TreeDiffOptions {
            path: self.args.path.as_deref().map(OsStrExt::as_bytes).unwrap_or_default().to_vec(),
            all_metadata: self.args.all_metadata,
        };
        let diff = diff_trees(repository, &self.from.record, &self.to.record, &options, &monitor)?;
        let mut damaged = DamagedParts::default();
        for lost in &diff.lost {
            let names = [(0, self.from), (1, self.to)];
            let sides = names.iter().filter(|(side, _)| lost.sides.contains(*side));
            let revisions: Vec<String> = sides.map(|(_, named)| named.name()).collect();
            damaged.add(&lost.path, &revisions.join(" or "), &lost.reason);
        }
        match self.context.ui.is_json() {
            true => self.print_tree_json(&diff, &damaged, &monitor)?,
            false => self.print_tree(&diff, &monitor)?,
        }
        Ok(damaged.code())
    }

    fn print_tree(&self, diff: &TreeDiff, monitor: &TerminalMonitor) -> Result<(), Failure> {
        let mut output = Output::new(monitor);
        for change in diff.changes() {
            for kind in KINDS.iter().filter(|kind| is_in(&change, kind.0)) {
                output.print(&line(&change, kind))?;
            }
        }
        output.flush()?;
        let counts = KINDS.map(|(kind, _, _, words)| {
            format!("{} {words}", diff.changes().filter(|change| is_in(change, kind)).count())
        });
        self.context.ui.summary(&format!("{}: {}\n", self.names(), counts.join(", ")))
    }

    fn print_tree_json(
        &self,
        diff: &TreeDiff,
        damaged: &DamagedParts,
        monitor: &TerminalMonitor,
    ) -> Result<(), Failure> {
        let mut document = JsonStream::new(self.context.ui, Output::new(monitor));
        let printed = print_lists(diff, &mut document);
        document.end(printed, |()| {
            let mut rest = Map::new();
            rest.insert("nodes_read".to_owned(), json!(diff.nodes_read));
            damaged.insert_into(&mut rest);
            rest
        })
    }
}

/// What can become of a path: its letter, the list that it is in, and what a summary calls it.
type Kinds = (ChangeKind, char, &'static str, &'static str);

const KINDS: [Kinds; 6] = [
    (ChangeKind::Added, '+', "added", "added"),
    (ChangeKind::Removed, '-', "removed", "removed"),
    (ChangeKind::Modified, 'M', "modified", "modified"),
    (ChangeKind::Metadata, 'm', "metadata", "with other metadata"),
    (ChangeKind::TypeChanged, 'T', "type_changed", "of another type"),
    (ChangeKind::Renamed, 'R', "renamed", "renamed"),
];

/// Whether a change counts as one of this kind. What was renamed and has other metadata counts as both.
fn is_in(change: &Change<'_>, kind: ChangeKind) -> bool {
    change.kind == kind || change.has_other_metadata && kind == ChangeKind::Metadata
}

/// A change for people, directories with a slash behind them.
fn line(change: &Change<'_>, (kind, letter, ..): &Kinds) -> String {
    let slash = if change.is_directory && !change.path.is_empty() { "/" } else { "" };
    let from = change.from.filter(|_| *kind == ChangeKind::Renamed);
    let from = from.map(|from| format!("{}{slash} -> ", path_text(from))).unwrap_or_default();
    format!("{letter} {from}{}{slash}\n", path_text(change.path))
}

/// Prints a list for each of [`KINDS`], then the bytes of paths that are no text.
fn print_lists(diff: &TreeDiff, document: &mut JsonStream<'_>) -> Result<(), Failure> {
    for (kind, _, key, _) in KINDS {
        document.list(key)?;
        for change in diff.changes().filter(|change| is_in(change, kind)) {
            document.item(&change_json(&change, kind))?;
        }
    }
    document.list("path_bytes")?;
    for (kind, _, key, _) in KINDS.iter().filter(|(kind, ..)| *kind != ChangeKind::Renamed) {
        for (index, change) in diff.changes().filter(|change| is_in(change, *kind)).enumerate() {
            if std::str::from_utf8(change.path).is_err() {
                document.item(&json!({ "list": key, "index": index, "path": hex(change.path) }))?;
            }
        }
    }
    Ok(())
}

/// The path, or of what was renamed both.
fn change_json(change: &Change<'_>, kind: ChangeKind) -> Value {
    let mut object = Map::new();
    insert_path(&mut object, "to", change.path);
    match change.from.filter(|_| kind == ChangeKind::Renamed) {
        Some(from) => {
            insert_path(&mut object, "from", from);
            object.insert("metadata".to_owned(), json!(change.has_other_metadata));
            object.into()
        }
        None => object.remove("to").unwrap_or_default(),
    }
}

/// What has become of the size. New holes at the end are no changed range.
fn resized((from, to): (u64, u64)) -> String {
    match to.cmp(&from) {
        Ordering::Equal => String::new(),
        Ordering::Greater => format!("; it grew from {} to {} ({} bytes)", size(from), size(to), to - from),
        Ordering::Less => format!("; it shrank from {} to {} ({} bytes)", size(from), size(to), from - to),
    }
}

fn to_json(diff: &ImageDiff, (from, to): (u64, u64)) -> serde_json::Value {
    let ranges = ranges_json(&diff.ranges);
    json!({ "ranges": ranges, "bytes_changed": diff.bytes_changed, "size_from": from, "size_to": to })
}

fn table(diff: &ImageDiff) -> Table {
    let mut table = Table::new(&[("OFFSET", Align::Right), ("LENGTH", Align::Right), ("SIZE", Align::Right)]);
    for range in &diff.ranges {
        let length = range.end - range.start;
        table.row(vec![range.start.to_string(), length.to_string(), size(length)]);
    }
    table
}
