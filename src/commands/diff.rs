//! `treering diff`.

use std::cmp::Ordering;

use clap::Args;
use serde_json::json;
use treering_engine::operations::diff::{ImageDiff, diff_images};
use treering_engine::split_revision;

use super::Context;
use super::inventory::size_of;
use super::revision::{find_in, find_one};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{Align, Table, count, size};

/// Show what changed between two revisions
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering diff vm1@1 latest          the last change of vm1
  treering diff vm1@2026-11-01 2026-11-02
  treering diff vm1@0 vm2@0           images of two streams
  treering diff --json vm1@1 0 | jq '.bytes_changed'

Shows whole chunks, neighbours merged. The cost is in proportion to the change, not to the size.")]
pub(crate) struct DiffArgs {
    /// The first revision
    #[arg(value_name = "STREAM@A")]
    from: String,

    /// The second; without STREAM@ of the same stream
    #[arg(value_name = "[STREAM@]B")]
    to: String,
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
    let diff = diff_images(&repository, &from.record, &to.record).map_err(|error| during(error.into()))?;
    let sizes = (size_of(&from.record), size_of(&to.record));
    if context.ui.is_json() {
        context.ui.print_json(&to_json(&diff, sizes))?;
        return Ok(Code::Done);
    }
    if !diff.ranges.is_empty() {
        context.ui.print_table(&table(&diff))?;
    }
    context.ui.summary(&format!(
        "{} to {}: {} changed in {}{}\n",
        from.name(),
        to.name(),
        size(diff.bytes_changed),
        count(diff.ranges.len() as u64, "range"),
        resized(sizes)
    ))?;
    Ok(Code::Done)
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
    let ranges: Vec<_> = diff
        .ranges
        .iter()
        .map(|range| json!({ "offset": range.start, "length": range.end - range.start }))
        .collect();
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
