//! Forgetting revisions, by name or by policy, and bringing them back. No data is touched: that is for gc.

use std::collections::HashSet;

use super::retention::{Candidate, Policy, Protection, Rule};
use crate::error::{Error, Result};
use crate::format::{Labels, RecordKey, Timestamp};
use crate::repository::{Repository, Stream};
use crate::revision::StreamLabels;

/// Which revisions of a stream are forgotten.
pub enum ForgetScope<'a> {
    /// These. One that is gone already is no error.
    Revisions(&'a [RecordKey]),
    /// Those that a policy does not keep.
    Policy(&'a Policy),
}

/// A revision, and why it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The revision.
    pub key: RecordKey,
    /// Why it is kept; empty if it is forgotten.
    pub rules: Vec<Rule>,
}

/// Forgets revisions of a stream, which lie in the trash then until gc takes them. Returns what was judged, the oldest
/// first: by a policy all revisions of the stream, by name those that were named. In a dry run nothing changes.
///
/// # Errors
/// [`Error::Protected`] if any of the named ones is protected; damage if it is not known whether it is. Then nothing is
/// forgotten.
pub fn forget(
    repository: &Repository,
    stream: &Stream,
    scope: &ForgetScope<'_>,
    dry_run: bool,
) -> Result<Vec<Judged>> {
    // A dry run changes nothing, also where nothing can be written.
    let _history = if dry_run { None } else { Some(repository.lock_history(stream)?) };
    let keys = repository.revisions(stream)?;
    let judged = match scope {
        ForgetScope::Policy(policy) => judge(policy, keys, &repository.all_labels(stream)?),
        ForgetScope::Revisions(named) => {
            let named: HashSet<&RecordKey> = named.iter().collect();
            let keys: Vec<RecordKey> = keys.into_iter().filter(|key| named.contains(key)).collect();
            refuse_protected(repository, stream, &keys)?;
            keys.into_iter().map(|key| Judged { key, rules: Vec::new() }).collect()
        }
    };
    let forgotten: Vec<RecordKey> =
        judged.iter().filter(|judged| judged.rules.is_empty()).map(|judged| judged.key.clone()).collect();
    if !dry_run && !forgotten.is_empty() {
        repository.move_to_trash(stream, &forgotten)?;
    }
    Ok(judged)
}

/// Brings forgotten revisions back, with the labels that they had, as far as gc has not taken them; returns which.
pub fn undo_forget(repository: &Repository, stream: &Stream, keys: &[RecordKey]) -> Result<Vec<RecordKey>> {
    let _history = repository.lock_history(stream)?;
    repository.bring_back(stream, keys)
}

/// Deletes a stream with all its revisions, which [`undelete_stream`] brings back until gc takes them.
///
/// # Errors
/// [`Error::Protected`] if any revision is protected, [`Error::Busy`] while a backup of the stream runs.
pub fn delete_stream(repository: &Repository, stream: &Stream) -> Result<()> {
    let session = repository.begin_session(&format!("deletion of stream '{}'", stream.name), stream.id)?;
    let _stream = repository.lock_stream(stream.id, &stream.name, &session, || Ok(false))?;
    let _streams = repository.lock("streams", "the list of streams", || Ok(true))?;
    let _history = repository.lock_history(stream)?;
    let keys = repository.revisions(stream)?;
    refuse_protected(repository, stream, &keys)?;
    repository.move_to_trash(stream, &keys)?;
    repository.move_stream_to_trash(stream)
}

/// Brings a deleted stream back, with all its revisions that gc has not taken.
///
/// # Errors
/// [`Error::NameTaken`] if another stream has its name by now.
pub fn undelete_stream(repository: &Repository, stream: &Stream) -> Result<Vec<RecordKey>> {
    repository.bring_stream_back(stream)?;
    let _history = repository.lock_history(stream)?;
    let keys = repository.forgotten_revisions(stream)?;
    repository.bring_back(stream, &keys)
}

fn judge(policy: &Policy, keys: Vec<RecordKey>, labels: &StreamLabels) -> Vec<Judged> {
    let candidates: Vec<Candidate> = keys.iter().map(|key| candidate(key, labels)).collect();
    let rules = policy.judge(&candidates, Timestamp::now());
    keys.into_iter().zip(rules).map(|(key, rules)| Judged { key, rules }).collect()
}

/// What is known of a revision without opening its record, which may be damaged.
fn candidate(key: &RecordKey, labels: &StreamLabels) -> Candidate {
    let own = labels.readable.get(&key.id);
    Candidate {
        // A name that tells no time was made by a clock that was wrong.
        time: Timestamp::from_revision_name(&key.name)
            .unwrap_or(Timestamp { seconds: i64::MAX, nanoseconds: 0 }),
        tags: own.map_or_else(Vec::new, |labels| labels.tags.clone()),
        protection: protection(own, labels.is_damaged(key.id)),
    }
}

fn protection(labels: Option<&Labels>, is_damaged: bool) -> Protection {
    match labels {
        _ if is_damaged => Protection::Unknown,
        Some(labels) if labels.protected => Protection::On,
        _ => Protection::Off,
    }
}

fn refuse_protected(repository: &Repository, stream: &Stream, keys: &[RecordKey]) -> Result<()> {
    let labels = repository.all_labels(stream)?;
    let mut revisions = Vec::new();
    for key in keys {
        match protection(labels.readable.get(&key.id), labels.is_damaged(key.id)) {
            Protection::Off => {}
            Protection::On => revisions.push(format!("{}@{}", stream.name, key.name)),
            // Says why.
            Protection::Unknown => _ = repository.labels(stream, key.id)?,
        }
    }
    match revisions.is_empty() {
        true => Ok(()),
        false => Err(Error::Protected { revisions }),
    }
}
