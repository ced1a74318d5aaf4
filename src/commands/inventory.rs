//! What a repository holds, for `list` and `status`: damaged records are shown as such and hide nothing else.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use treering_engine::{
    Damage, DamagedStream, HintEvidence, Labels, LostPart, Record, RecordKey, Repository, RevisionId, Stream,
    StreamList, split_revision,
};

use crate::exit::{Failure, damage_hint};

/// One revision, as far as it can be read.
pub(super) struct Entry {
    pub(super) key: RecordKey,
    /// The record, or why it can't be read.
    pub(super) record: Result<Record, String>,
    pub(super) tags: Vec<String>,
    pub(super) protected: bool,
    /// Whether anything of it is known to be bad.
    pub(super) damaged: bool,
}

/// A stream and those of its revisions that were asked for, the oldest first.
pub(super) struct StreamInventory {
    pub(super) stream: Stream,
    /// Whether the stream's own file is lost or damaged, and its id stands for its name.
    pub(super) name_is_lost: bool,
    pub(super) entries: Vec<Entry>,
}

/// What a repository holds, or what was asked for of it.
pub(super) struct Inventory {
    pub(super) streams: Vec<StreamInventory>,
    /// Damaged files of streams and labels, and directories that are lost.
    pub(super) damaged_files: Vec<DamagedFile>,
}

/// A stored file that is lost or damaged, and is neither a pack nor a record.
#[derive(Debug, Serialize)]
pub(super) struct DamagedFile {
    pub(super) file: String,
    pub(super) reason: String,
    pub(super) hint: &'static str,
}

impl DamagedFile {
    /// Says on stderr what is wrong with the file, and what to do.
    pub(super) fn reported((file, reason): (String, String)) -> Self {
        let hint = damage_hint(&file);
        log::error!("{reason}; {hint}");
        Self { file, reason, hint }
    }
}

/// Looks through a repository: all streams, or what `STREAM[@SPEC]` names. What is damaged is said on stderr.
pub(super) fn take(repository: &Repository, named: Option<&str>) -> Result<Inventory, Failure> {
    let damage = repository.damage()?;
    let list = repository.list_streams()?;
    let mut inventory = Inventory { streams: Vec::new(), damaged_files: Vec::new() };
    match named.map(split_revision) {
        None => {
            list.damaged.iter().for_each(|damaged| inventory.note_stream(damaged));
            for stream in &list.streams {
                inventory.note_lost_revisions(repository, stream)?;
                let keys = repository.revisions(stream)?;
                inventory.add(repository, &damage, &list, stream, keys)?;
            }
        }
        Some((name, spec)) => {
            let stream = list.find(name)?;
            let own = list.damaged.iter().find(|damaged| damaged.id == stream.id);
            own.into_iter().for_each(|damaged| inventory.note_stream(damaged));
            inventory.note_lost_revisions(repository, &stream)?;
            let keys = match spec {
                Some(spec) => repository.find_revisions(&stream, spec)?,
                None => repository.revisions(&stream)?,
            };
            inventory.add(repository, &damage, &list, &stream, keys)?;
        }
    }
    Ok(inventory)
}

impl Inventory {
    fn note_stream(&mut self, damaged: &DamagedStream) {
        self.note((damaged.file(), damaged.reason.clone()));
    }

    fn note_lost_revisions(&mut self, repository: &Repository, stream: &Stream) -> Result<(), Failure> {
        let lost = repository.lost_revisions(stream)?;
        lost.into_iter().for_each(|lost| self.note((lost.file, lost.reason)));
        Ok(())
    }

    fn note(&mut self, damaged: (String, String)) {
        self.damaged_files.push(DamagedFile::reported(damaged));
    }

    fn add(
        &mut self,
        repository: &Repository,
        damage: &Damage,
        list: &StreamList,
        stream: &Stream,
        keys: Vec<RecordKey>,
    ) -> Result<(), Failure> {
        let labels = repository.all_labels(stream)?;
        labels.damaged.into_iter().for_each(|damaged| self.note(damaged));
        let is_own = |damaged: &DamagedStream| damaged.id == stream.id && damaged.lost == LostPart::Name;
        let name_is_lost = list.damaged.iter().any(is_own);
        let entries = entries(repository, damage, stream, keys, &labels.readable)?;
        self.streams.push(StreamInventory { stream: stream.clone(), name_is_lost, entries });
        Ok(())
    }
}

fn entries(
    repository: &Repository,
    damage: &Damage,
    stream: &Stream,
    keys: Vec<RecordKey>,
    labels: &HashMap<RevisionId, Labels>,
) -> Result<Vec<Entry>, Failure> {
    let mut records = Vec::with_capacity(keys.len());
    for key in keys {
        match repository.record(stream, &key) {
            Ok(record) => records.push((key, Ok(record))),
            Err(error) if error.is_damage() => {
                log::error!("{error}");
                records.push((key, Err(error.to_string())));
            }
            // Forgotten since it was listed.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let damaged = damaged_among(repository, damage, &records)?;
    Ok(records.into_iter().map(|(key, record)| entry(key, record, labels, &damaged)).collect())
}

fn entry(
    key: RecordKey,
    record: Result<Record, String>,
    labels: &HashMap<RevisionId, Labels>,
    damaged: &HashSet<RevisionId>,
) -> Entry {
    let labels = labels.get(&key.id);
    Entry {
        tags: labels.map_or_else(Vec::new, |labels| labels.tags.clone()),
        protected: labels.is_some_and(|labels| labels.protected),
        damaged: record.is_err() || damaged.contains(&key.id),
        key,
        record,
    }
}

fn damaged_among(
    repository: &Repository,
    damage: &Damage,
    records: &[(RecordKey, Result<Record, String>)],
) -> Result<HashSet<RevisionId>, Failure> {
    if damage.objects.is_empty() {
        return Ok(HashSet::new());
    }
    let readable: Vec<Record> = records.iter().filter_map(|(_, record)| record.clone().ok()).collect();
    Ok(repository.damaged_revisions(damage, &readable)?)
}

/// A revision as `list --json` shows it. What only a damaged record knows is null.
#[derive(Debug, Serialize)]
pub(super) struct RevisionJson {
    stream: String,
    id: String,
    name: String,
    sequence: u64,
    pub(super) time: String,
    seconds: Option<f64>,
    kind: &'static str,
    size: Option<u64>,
    bytes_read: Option<u64>,
    bytes_changed: Option<u64>,
    bytes_stored: Option<u64>,
    tags: Vec<String>,
    protected: bool,
    parent: Option<String>,
    source: Option<String>,
    hints: Option<HintsJson>,
    damaged: bool,
    warnings: Vec<String>,
}

impl RevisionJson {
    pub(super) fn new(stream: &Stream, entry: &Entry) -> Self {
        let record = entry.record.as_ref().ok();
        let counters = record.map(|record| record.counters);
        Self {
            stream: stream.name.clone(),
            id: entry.key.id.to_string(),
            name: entry.key.name.clone(),
            sequence: entry.key.sequence,
            time: record.map_or_else(|| time_of_name(&entry.key.name), |record| record.time().to_string()),
            seconds: counters.map(|counters| counters.nanoseconds as f64 / 1e9),
            kind: stream.kind.as_str(),
            size: record.map(size_of),
            bytes_read: counters.map(|counters| counters.bytes_read),
            bytes_changed: counters.map(|counters| counters.bytes_changed),
            bytes_stored: counters.map(|counters| counters.bytes_stored),
            tags: entry.tags.clone(),
            protected: entry.protected,
            parent: record.and_then(|record| record.parent).map(|id| id.to_string()),
            source: record.map(|record| record.source.clone()),
            hints: record.and_then(|record| record.hints.as_ref()).map(HintsJson::from),
            damaged: entry.damaged,
            warnings: match &entry.record {
                Ok(record) => record.warnings.clone(),
                Err(reason) => vec![reason.clone()],
            },
        }
    }
}

/// What hints said of a revision, and what came of the sample that they were tested by.
#[derive(Debug, Serialize)]
pub(super) struct HintsJson {
    base: Option<String>,
    ranges_named: u64,
    bytes_named: u64,
    chunks_sampled: u64,
    /// Where the sample first differed: the hints were not believed.
    differing_offset: Option<u64>,
}

impl From<&HintEvidence> for HintsJson {
    fn from(evidence: &HintEvidence) -> Self {
        Self {
            base: evidence.base.map(|id| id.to_string()),
            ranges_named: evidence.range_count,
            bytes_named: evidence.range_bytes,
            chunks_sampled: evidence.sampled_chunks,
            differing_offset: evidence.differing_offset,
        }
    }
}

/// The size of what a revision holds.
pub(super) fn size_of(record: &Record) -> u64 {
    record.content.size()
}

/// The RFC 3339 time that a revision's name shows: all that is left of the time of a damaged record.
fn time_of_name(name: &str) -> String {
    let (time, _) = name.split_at_checked("2026-11-20T10-13-20Z".len()).unwrap_or((name, ""));
    match time.split_once('T') {
        Some((date, clock)) => format!("{date}T{}", clock.replace('-', ":")),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_time_also_with_a_suffix() {
        assert_eq!(time_of_name("2026-11-20T10-13-20Z"), "2026-11-20T10:13:20Z");
        assert_eq!(time_of_name("2026-11-20T10-13-20Z-12"), "2026-11-20T10:13:20Z");
    }
}
