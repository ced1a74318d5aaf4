//! `treering list`.

use std::collections::VecDeque;

use clap::Args;
use serde_json::json;
use treering_engine::Timestamp;

use super::Context;
use super::inventory::{self, Entry, Inventory, RevisionJson, StreamInventory, size_of};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{Align, Table, age, duration, size};

/// List streams, or the revisions of one, the oldest first
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering list                      the streams with their newest revision
  treering list vm1                  all revisions of vm1
  treering list vm1@tag:weekly       one revision
  treering list vm1@2026-11-01..latest
  treering list --json | jq -r '.revisions[] | select(.damaged) | .id'

A revision is STREAM@SPEC. SPEC is latest; N for the N-th newest (0 is the newest); an id or 4 characters of it
and more; the name that the mount shows or the begin of it; tag:NAME; A..B and all name several.")]
pub(crate) struct ListArgs {
    /// The stream, or revisions of it
    #[arg(value_name = "STREAM[@SPEC]")]
    named: Option<String>,
}

pub(super) fn run(context: &Context<'_>, args: &ListArgs) -> CommandOutcome {
    let named = args.named.as_deref();
    let during = |failure: Failure| failure.during(format_args!("list {}", named.unwrap_or("streams")));
    let repository = context.repository()?;
    let Inventory { streams, damaged_files } = inventory::take(&repository, named).map_err(during)?;
    match (context.ui.is_json(), named) {
        (true, _) => context.ui.print_json(&json!({
            "revisions": oldest_first(&streams),
            "damaged_files": damaged_files,
        }))?,
        (false, Some(_)) => context.ui.print_table(&revision_table(&streams))?,
        (false, None) => context.ui.print_table(&stream_table(&streams))?,
    }
    Ok(Code::Done)
}

/// The revisions of all streams by time, those of one stream in the order of their commits whatever clocks said.
fn oldest_first(streams: &[StreamInventory]) -> Vec<RevisionJson> {
    let mut queues: Vec<VecDeque<RevisionJson>> = streams
        .iter()
        .map(|inventory| {
            inventory.entries.iter().map(|entry| RevisionJson::new(&inventory.stream, entry)).collect()
        })
        .collect();
    let mut merged = Vec::new();
    loop {
        let oldest = queues
            .iter_mut()
            .filter(|queue| !queue.is_empty())
            .min_by_key(|queue| queue.front().map(|json| in_order(&json.time).to_owned()));
        match oldest.and_then(VecDeque::pop_front) {
            Some(revision) => merged.push(revision),
            None => return merged,
        }
    }
}

/// The part of an RFC 3339 time in UTC that sorts as the times do: where a fraction may be missing, `Z` would come after it.
fn in_order(time: &str) -> &str {
    time.trim_end_matches('Z')
}

fn revision_table(streams: &[StreamInventory]) -> Table {
    let mut table = Table::new(&[
        ("REVISION", Align::Left),
        ("ID", Align::Left),
        ("SIZE", Align::Right),
        ("CHANGED", Align::Right),
        ("STORED", Align::Right),
        ("TOOK", Align::Right),
        ("TAGS", Align::Left),
        ("NOTES", Align::Left),
    ]);
    for inventory in streams {
        for entry in &inventory.entries {
            table.row(revision_row(&inventory.stream.name, entry));
        }
    }
    table
}

fn revision_row(stream: &str, entry: &Entry) -> Vec<String> {
    const ID_SHOWN: usize = 8;
    let mut id = entry.key.id.to_string();
    id.truncate(ID_SHOWN);
    let record = entry.record.as_ref().ok();
    let cell = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let counters = record.map(|record| record.counters);
    vec![
        format!("{stream}@{}", entry.key.name),
        id,
        cell(record.map(|record| size(size_of(record)))),
        cell(counters.map(|counters| size(counters.bytes_changed))),
        cell(counters.map(|counters| size(counters.bytes_stored))),
        cell(counters.map(|counters| duration(counters.nanoseconds as f64 / 1e9))),
        entry.tags.join(","),
        notes(entry),
    ]
}

fn notes(entry: &Entry) -> String {
    let warnings = entry.record.as_ref().map_or(0, |record| record.warnings.len());
    let notes = [
        entry.damaged.then(|| "DAMAGED".to_owned()),
        entry.protected.then(|| "protected".to_owned()),
        (warnings > 0).then(|| format!("warnings: {warnings}")),
    ];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn stream_table(streams: &[StreamInventory]) -> Table {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("KIND", Align::Left),
        ("REVISIONS", Align::Right),
        ("NEWEST", Align::Left),
        ("SIZE", Align::Right),
        ("AGE", Align::Right),
        ("NOTES", Align::Left),
    ]);
    let now = Timestamp::now();
    for StreamInventory { stream, name_is_lost, entries } in streams {
        let newest = entries.last();
        let record = newest.and_then(|entry| entry.record.as_ref().ok());
        let damaged = entries.iter().filter(|entry| entry.damaged).count();
        let notes = [
            (damaged > 0).then(|| format!("DAMAGED: {damaged}")),
            name_is_lost.then(|| "NAME LOST: this is its id".to_owned()),
        ];
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            stream.name.clone(),
            stream.kind.to_string(),
            entries.len().to_string(),
            cell(newest.map(|entry| entry.key.name.clone())),
            cell(record.map(|record| size(size_of(record)))),
            cell(record.map(|record| age(now.seconds_since(record.time())))),
            notes.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_with_and_without_fractions() {
        let times = [
            "2026-11-20T10:13:19.9Z",
            "2026-11-20T10:13:20Z",
            "2026-11-20T10:13:20.49Z",
            "2026-11-20T10:13:20.5Z",
        ];
        assert!(times.iter().map(|time| in_order(time)).is_sorted());
    }
}
