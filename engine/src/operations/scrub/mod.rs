//! Reads back what is stored and verifies it; marks what is bad, so that the next backup stores it anew.
//!
//! A full scrub reads each pack once, from its begin to its end, and then follows the revisions through their maps: of
//! what they reach it is enough to see in the index that a copy lies in a pack that was read. Nothing is kept of what is
//! in order but the ids of packs, so memory does not grow with the chunks.

mod compare;
mod draw;
mod files;
mod findings;
mod ledger;
mod packs;
mod reach;

use std::collections::HashSet;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use crate::error::{Error, Result};
use crate::format::{Damage, ObjectType, Record, Timestamp};
use crate::id::{ObjectId, RevisionId};
use crate::monitor::Monitor;
use crate::parallel;
use crate::repository::{Repository, Stream};
use crate::revision::{BadSearch, NeededBy};
use crate::source::ImageSource;

use findings::Findings;

/// What is verified.
pub enum ScrubScope {
    /// Every stored file, index and records included.
    Everything,
    /// What these revisions reach.
    Revisions(Vec<(Stream, Record)>),
}

/// How much is verified.
pub struct ScrubOptions {
    /// Percent of the chunks, drawn at random, which are read; metadata is verified whole.
    pub percent: f64,
    /// What the one revision of the scope is compared with.
    pub source: Option<Box<dyn ImageSource>>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrubReport {
    /// Chunks that were read and verified: each stored copy if everything is, else each chunk that the revisions
    /// reach. One that comes up again after some hundred thousand others is verified, and counted, again.
    pub chunks_checked: u64,
    /// Their bytes.
    pub bytes_checked: u64,
    /// Objects without an intact copy.
    pub bad: Vec<BadFinding>,
    /// Objects without an intact copy that no revision uses: nothing is lost with them, and no backup will use them.
    pub unused: Vec<BadFinding>,
    /// Where the source differs from the revision, in bytes.
    pub mismatched: Vec<Range<u64>>,
    /// Stored files that are damaged, and how.
    pub damaged_files: Vec<(String, String)>,
    /// Packs that are damaged, and how, though nothing is lost with them: all that they miss has a good copy in
    /// another pack, or is used by no revision.
    pub superseded: Vec<(String, String)>,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Whether the time was over before all packs were read: what revisions reach was not followed.
    pub is_out_of_time: bool,
}

/// An object without an intact copy, and who needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct BadFinding {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub object_type: ObjectType,
    /// What is wrong.
    pub reason: String,
    /// The revisions that need it, as `stream@name`; `None` if the scrub ended before it had looked.
    pub revisions: Option<Vec<String>>,
    /// How many more need it; of very many bad objects few are named.
    pub more_revisions: u64,
}

impl ScrubReport {
    /// Whether everything that was looked at is in order. What nobody misses does not count.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty() && self.mismatched.is_empty() && self.damaged_files.is_empty()
    }
}

/// A scrub that did not come to its end. What it had found is marked all the same.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnfinishedScrub {
    /// Why it ended.
    pub error: Error,
    /// What was found until then.
    pub report: ScrubReport,
}

impl From<Error> for Box<UnfinishedScrub> {
    fn from(error: Error) -> Self {
        Box::new(UnfinishedScrub { error, report: ScrubReport::default() })
    }
}

/// Verifies, and notes what is bad in the repository's damage list where that can be written.
///
/// # Errors
/// Damage is no error but a finding; [`Error::BadParameter`] if a source is to be compared with several revisions.
pub fn scrub(
    repository: &Repository,
    scope: &ScrubScope,
    options: &ScrubOptions,
    monitor: &dyn Monitor,
) -> Result<ScrubReport, Box<UnfinishedScrub>> {
    Scrub::new(repository, options, monitor)?.run(scope)
}

/// How long a scrub may take: `1h`, `90m`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxDuration(pub Duration);

impl FromStr for MaxDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<SignedDuration>().map_err(|error| error.to_string())?;
        match Duration::try_from(parsed) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err("it is not longer than nothing".to_owned()),
        }
    }
}

/// Verifies every stored file but packs, and then packs, those first that were not read for longest, until the time is
/// over. What revisions reach is followed only if all packs were read before that. Done night by night it reads all.
///
/// # Errors
/// Those of [`scrub`].
pub fn scrub_for(
    repository: &Repository,
    duration: Duration,
    monitor: &dyn Monitor,
) -> Result<ScrubReport, Box<UnfinishedScrub>> {
    let options = ScrubOptions { percent: 100.0, source: None };
    let mut scrub = Scrub::new(repository, &options, monitor)?;
    // One that can't be told is never reached.
    scrub.deadline = Instant::now().checked_add(duration);
    scrub.run(&ScrubScope::Everything)
}

/// A scrub on its way.
struct Scrub<'a> {
    repository: &'a Repository,
    options: &'a ScrubOptions,
    monitor: &'a dyn Monitor,
    /// What the sample is drawn with.
    seed: [u8; 32],
    /// Objects that were on the damage list when this began.
    listed_bad: HashSet<ObjectId>,
    /// When no further pack is begun.
    deadline: Option<Instant>,
    began: Timestamp,
}

impl<'a> Scrub<'a> {
    fn new(repository: &'a Repository, options: &'a ScrubOptions, monitor: &'a dyn Monitor) -> Result<Self> {
        if !(options.percent > 0.0 && options.percent <= 100.0) {
            let reason = format!("{} is not more than 0 and at most 100", options.percent);
            return Err(Error::BadParameter { what: "percentage", reason });
        }
        let seed = blake3::derive_key("treering v1 scrub sample", RevisionId::random().as_bytes());
        let listed_bad = repository.damage()?.objects.iter().map(|object| object.id).collect();
        Ok(Self { repository, options, monitor, seed, listed_bad, deadline: None, began: Timestamp::now() })
    }

    fn run(&self, scope: &ScrubScope) -> Result<ScrubReport, Box<UnfinishedScrub>> {
        let mut findings = Findings::default();
        let checked = self.check(scope, &mut findings);
        let everything = matches!(scope, ScrubScope::Everything);
        // However it ended, and before anything else can fail.
        self.mark(&findings, everything && checked.is_ok() && !findings.is_out_of_time);
        let ended = checked.and_then(|revisions| self.conclude(&revisions, &mut findings));
        let read = std::mem::take(&mut findings.read_packs);
        let report = findings.into_report();
        // One that was refused, or failed before it had read anything, is none.
        if everything && self.reads_all_chunks() && (ended.is_ok() || report.packs_read > 0) {
            self.note_end(&read, &report, ended.is_ok());
        }
        match ended {
            Ok(()) => Ok(report),
            Err(error) => Err(Box::new(UnfinishedScrub { error, report })),
        }
    }

    /// Whether nothing is left out of what is read.
    fn reads_all_chunks(&self) -> bool {
        self.options.percent >= 100.0
    }

    /// Verifies what the scope names; returns its revisions, as far as their records are in order.
    fn check(&self, scope: &ScrubScope, findings: &mut Findings) -> Result<Vec<(Stream, Record)>> {
        let revisions = match scope {
            ScrubScope::Everything => self.check_files(findings)?,
            ScrubScope::Revisions(revisions) => revisions.clone(),
        };
        if self.options.source.is_some() && revisions.len() != 1 {
            let reason = "it is compared with one revision: name it as STREAM@SPEC".to_owned();
            return Err(Error::BadParameter { what: "source", reason });
        }
        let everything = matches!(scope, ScrubScope::Everything);
        if everything {
            self.check_packs(findings)?;
        }
        if findings.is_out_of_time {
            return Ok(revisions);
        }
        self.check_reach(&revisions, everything, findings)?;
        if findings.chunks_checked == 0 && findings.bad.is_empty() {
            self.check_one_each(&revisions, findings)?;
        }
        Ok(revisions)
    }

    /// Looks which revisions are affected, and compares with the source.
    fn conclude(&self, revisions: &[(Stream, Record)], findings: &mut Findings) -> Result<()> {
        findings.affected = Some(self.affected(revisions, findings)?);
        // Last, so that a source that can't be read keeps no damage from being known.
        match (&self.options.source, revisions) {
            (Some(source), [(_, record)]) => self.compare(record, source.as_ref(), findings),
            _ => Ok(()),
        }
    }

    /// Writes the damage list. After everything was looked at, what is listed and was not found to be bad is no longer
    /// stored, or good again.
    fn mark(&self, findings: &Findings, is_everything: bool) {
        let is_whole = is_everything && !findings.is_cut_short;
        let is_settled = |id: &&ObjectId| is_whole || findings.good_again.contains(*id);
        let remove: Vec<ObjectId> = match findings.too_many {
            true => Vec::new(),
            false => {
                let listed = self.listed_bad.iter().filter(|id| !findings.bad.contains_key(*id));
                listed.filter(is_settled).copied().collect()
            }
        };
        if findings.too_many {
            let kept = findings::MAX_BAD;
            self.monitor.warn(&format!(
                "more than {kept} objects are bad: {kept} are named and marked; scrub again after the next backup"
            ));
        }
        // All that is stored was read: nothing more is to be learned from a list that can't be read.
        let renew = is_everything && self.reads_all_chunks();
        if let Err(error) = self.repository.change_damage(findings.bad_objects(), &remove, renew) {
            self.monitor.warn(&format!("what was found could not be noted in the repository: {error}"));
        }
    }

    /// The revisions that need each bad object.
    fn affected(&self, scope: &[(Stream, Record)], findings: &Findings) -> Result<NeededBy> {
        let mut affected = NeededBy::default();
        let damage = Damage { objects: findings.questionable() };
        if damage.objects.is_empty() {
            return Ok(affected);
        }
        let mut search = BadSearch::new(self.repository, &damage);
        let mut look = |stream: &Stream, record: &Record| {
            self.go_on()?;
            self.repository.while_pinned("scrub", (stream, record), || {
                let reached = search.reached_from(record.kind(), &record.root())?;
                affected.note(format!("{}@{}", stream.name, record.name), &reached);
                Ok(())
            })
        };
        scope.iter().try_for_each(|(stream, record)| look(stream, record))?;
        // Other revisions than those that were asked about may need it as well.
        let known: HashSet<RevisionId> = scope.iter().map(|(_, record)| record.id).collect();
        for stream in self.repository.streams()? {
            for key in self.repository.revisions(&stream)? {
                if known.contains(&key.id) {
                    continue;
                }
                match self.repository.record(&stream, &key) {
                    Ok(record) => look(&stream, &record)?,
                    Err(error) => _ = damage_of(error)?,
                }
            }
        }
        Ok(affected)
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Whether a chunk is to be read: it belongs to the percentage, at random, another part each time; or it is listed.
    fn is_drawn(&self, id: &ObjectId) -> bool {
        if self.options.percent >= 100.0 || self.listed_bad.contains(id) {
            return true;
        }
        let drawn = blake3::keyed_hash(&self.seed, id.as_bytes());
        let [a, b, c, d, ..] = *drawn.as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) < self.options.percent / 100.0 * 4_294_967_296.0
    }
}

/// Works on items side by side and takes, in order, what they gave, until one of them ends the work. What is under way
/// then is taken all the same: no finding is lost.
fn gather<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> (R, Result<()>) + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let stopped = AtomicBool::new(false);
    let mut ended = Ok(());
    parallel::ordered(
        items.take_while(|_| !stopped.load(Ordering::Relaxed)).map(Ok),
        || (),
        |(), item| Ok(work(item)),
        |(found, result)| {
            let taken = take(found);
            if let Err(error) = result.and(taken)
                && !stopped.swap(true, Ordering::Relaxed)
            {
                ended = Err(error);
            }
            Ok(())
        },
    )?;
    ended
}

/// What is wrong with stored bytes. An error that says nothing of them (no permission, no file handle) is returned,
/// and ends the scrub: whatever was marked for it would be marked wrongly.
fn damage_of(error: Error) -> Result<String> {
    match error.is_loss() {
        true => Ok(error.to_string()),
        false => Err(error),
    }
}

#[cfg(test)]
mod tests;
