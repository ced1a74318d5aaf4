//! `treering status`.

use clap::Args;
use serde::Serialize;
use serde_json::json;
use treering_engine::{FileCount, Repository, ScrubState, Timestamp};

use super::init::compression_text;
use super::inventory::{self, DamagedFile, Inventory, StreamInventory, size_of};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{Align, Table, age, count, size};

/// Show what the repository holds and how it is
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering status
  treering status vm1
  treering status --json | jq '.streams[] | select(.damaged > 0)'")]
pub(crate) struct StatusArgs {
    /// Only this stream
    stream: Option<String>,
}

/// A stream as `status --json` shows it.
#[derive(Debug, Serialize)]
struct StreamStatus {
    name: String,
    kind: &'static str,
    revisions: usize,
    latest: Option<String>,
    size: Option<u64>,
    bytes_stored: u64,
    damaged: usize,
    /// Revisions whose source changed while it was read, and the like.
    with_warnings: usize,
    last_success: Option<String>,
    age_seconds: Option<f64>,
}

/// The repository as a whole.
struct Health {
    bytes: u64,
    leftovers: FileCount,
    packs_without_table: FileCount,
    damaged_objects: usize,
    scrubbed: ScrubState,
    /// Damaged files that are neither packs nor records.
    damaged_files: Vec<DamagedFile>,
}

/// So many bytes of index tables are read and verified: what takes a second or so. A scrub reads them all.
const TABLE_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(context: &Context<'_>, args: &StatusArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during("show the status");
    let repository = context.repository()?;
    if let Some(named) = args.stream.as_deref().filter(|named| named.contains('@')) {
        return Err(Failure::usage(format!("'{named}' names a revision, and status shows streams"))
            .hint(format!("`treering list {named}` shows revisions")));
    }
    let Inventory { streams, damaged_files } =
        inventory::take(&repository, args.stream.as_deref()).map_err(during)?;
    let now = Timestamp::now();
    let statuses: Vec<StreamStatus> = streams.iter().map(|stream| StreamStatus::new(stream, now)).collect();
    let health = Health::of(&repository, damaged_files).map_err(during)?;
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(context, &repository, &health, &statuses)?)?,
        false => tell(context, &repository, &health, &statuses)?,
    }
    Ok(Code::Done)
}

impl Health {
    fn of(repository: &Repository, mut damaged_files: Vec<DamagedFile>) -> Result<Self, Failure> {
        for damaged in repository.damaged_tables(TABLE_BYTES_MAX)? {
            damaged_files.push(DamagedFile::reported(damaged));
        }
        Ok(Self {
            bytes: repository.size_bytes()?,
            leftovers: repository.leftovers()?,
            packs_without_table: repository.packs_without_table()?,
            damaged_objects: repository.damage()?.objects.len(),
            scrubbed: repository.scrub_state()?,
            damaged_files,
        })
    }

    /// How the repository is, for people, with so many damaged revisions.
    fn condition(&self, damaged: usize) -> String {
        let data = match (damaged, self.damaged_objects) {
            (0, 0) => None,
            (0, objects) => Some(format!(
                "no damage of these revisions is known; {} marked that none of them uses",
                count(objects as u64, "bad object")
            )),
            (damaged, 0) => {
                Some(format!("DAMAGE in {}, whose records can't be read", count(damaged as u64, "revision")))
            }
            (damaged, objects) => Some(format!(
                "DAMAGE in {} ({} bad); the next backup of the same data heals it",
                count(damaged as u64, "revision"),
                count(objects as u64, "object"),
            )),
        };
        let files: Vec<&str> = self.damaged_files.iter().map(|damaged| damaged.file.as_str()).collect();
        let files = (!files.is_empty()).then(|| format!("DAMAGE in {}", files.join(", ")));
        let found: Vec<String> = data.into_iter().chain(files).collect();
        if found.is_empty() { "no damage is known".to_owned() } else { found.join("; ") }
    }
}

impl StreamStatus {
    fn new(inventory: &StreamInventory, now: Timestamp) -> Self {
        let StreamInventory { stream, entries, .. } = inventory;
        let records = || entries.iter().filter_map(|entry| entry.record.as_ref().ok());
        let newest_readable = records().next_back();
        Self {
            name: stream.name.clone(),
            kind: stream.kind.as_str(),
            revisions: entries.len(),
            latest: entries.last().map(|entry| entry.key.id.to_string()),
            size: newest_readable.map(size_of),
            bytes_stored: records().map(|record| record.counters.bytes_stored).sum(),
            damaged: entries.iter().filter(|entry| entry.damaged).count(),
            with_warnings: records().filter(|record| !record.warnings.is_empty()).count(),
            last_success: newest_readable.map(|record| record.end.to_string()),
            age_seconds: newest_readable.map(|record| now.seconds_since(record.end)),
        }
    }
}

fn to_json(
    context: &Context<'_>,
    repository: &Repository,
    health: &Health,
    streams: &[StreamStatus],
) -> Result<serde_json::Value, Failure> {
    let header = repository.header();
    Ok(json!({
        "repository": {
            "path": absolute(context.repository_path()?).display().to_string(),
            "id": header.id.to_string(),
            "version": repository.format_version(),
            "kind": "chunks",
            "created": header.created.to_string(),
            "chunk_size": header.chunk_size,
            "compression": compression_text(header.compression),
            "bytes": health.bytes,
            "leftovers": files_json(health.leftovers),
            "packs_without_table": files_json(health.packs_without_table),
            "damaged_objects": health.damaged_objects,
            "damaged_files": health.damaged_files,
            "scrub": scrub_json(&health.scrubbed),
        },
        "streams": streams,
    }))
}

fn tell(
    context: &Context<'_>,
    repository: &Repository,
    health: &Health,
    streams: &[StreamStatus],
) -> Result<(), Failure> {
    let header = repository.header();
    let damaged: usize = streams.iter().map(|stream| stream.damaged).sum();
    let condition = health.condition(damaged);
    let leftovers = match health.leftovers {
        FileCount { files: 0, .. } => "none".to_owned(),
        FileCount { files, bytes } => {
            format!("{} in {} of interrupted runs", size(bytes), count(files, "file"))
        }
    };
    // Which of the two it is, only a walk over all revisions tells: nobody may take them for waste.
    let unnamed = match health.packs_without_table {
        FileCount { files: 0, .. } => String::new(),
        FileCount { files, bytes } => format!(
            "unnamed     {} in {} that no index table names: of interrupted runs, or of tables that are lost\n",
            size(bytes),
            count(files, "pack")
        ),
    };
    context.ui.print(&format!(
        "repository  {}\nid          {}\nstored      {}, chunks of {}, compression {}\nhealth      {condition}\nscrubbed    {}\nleftovers   {leftovers}\n{unnamed}\n",
        absolute(context.repository_path()?).display(),
        header.id,
        size(health.bytes),
        size(header.chunk_size.into()),
        compression_text(header.compression),
        scrubbed_text(&health.scrubbed, Timestamp::now()),
    ))?;
    context.ui.print_table(&table(streams))
}

fn scrub_json(state: &ScrubState) -> serde_json::Value {
    let last = state.last.as_ref().map(|last| {
        json!({
            "start": last.start.to_string(),
            "end": last.end.to_string(),
            "complete": last.is_complete,
            "packs": last.packs,
            "bytes": last.bytes,
            "bad_objects": last.bad_objects,
            "damaged_files": last.damaged_files,
        })
    });
    json!({
        "packs": state.packs,
        "bytes": state.bytes,
        "verified_packs": state.verified_packs,
        "verified_bytes": state.verified_bytes,
        "recent_bytes": state.recent_bytes,
        "oldest": state.oldest.map(|time| time.to_string()),
        "last": last,
    })
}

/// How much scrubs have verified, and what the last one found.
fn scrubbed_text(state: &ScrubState, now: Timestamp) -> String {
    let percent = |bytes: u64| u128::from(bytes) * 100 / u128::from(state.bytes.max(1));
    let covered = match state.oldest {
        None => "nothing yet".to_owned(),
        Some(oldest) => format!(
            "{} % within 30 days, {} % at all, oldest {} ago",
            percent(state.recent_bytes),
            percent(state.verified_bytes),
            age(now.seconds_since(oldest))
        ),
    };
    let Some(last) = &state.last else { return covered };
    let found = match (last.bad_objects, last.damaged_files) {
        (0, 0) => "nothing bad".to_owned(),
        (objects, files) => {
            format!("found {} and {}", count(objects, "bad object"), count(files, "damaged file"))
        }
    };
    let ended = if last.is_complete { "" } else { " before it was cut off" };
    format!("{covered}; the last one {} ago: {found}{ended}", age(now.seconds_since(last.end)))
}

fn files_json(count: FileCount) -> serde_json::Value {
    json!({ "files": count.files, "bytes": count.bytes })
}

fn table(streams: &[StreamStatus]) -> Table {
    let mut table = Table::new(&[
        ("STREAM", Align::Left),
        ("KIND", Align::Left),
        ("REVISIONS", Align::Right),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("LAST SUCCESS", Align::Right),
        ("DAMAGED", Align::Right),
    ]);
    for stream in streams {
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row(vec![
            stream.name.clone(),
            stream.kind.to_owned(),
            stream.revisions.to_string(),
            cell(stream.size.map(size)),
            size(stream.bytes_stored),
            cell(stream.age_seconds.map(|seconds| format!("{} ago", age(seconds)))),
            stream.damaged.to_string(),
        ]);
    }
    table
}
