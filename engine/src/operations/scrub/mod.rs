//! Reads back what is stored and verifies it; marks what is bad, so that the next backup stores it anew.

mod compare;
mod packs;
mod reach;
mod sample;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crate::backend::{Area, Key};
use crate::error::{Error, Result};
use crate::format::{
    BadObject, Damage, Header, Labels, MAX_SEALED_SIZE, ObjectType, Record, Timestamp, open,
};
use crate::id::{ObjectId, RevisionId};
use crate::monitor::Monitor;
use crate::repository::{Repository, Stream};
use crate::source::ImageSource;

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
    pub bad: Vec<BadChunk>,
    /// Where the source differs from the revision, in bytes.
    pub mismatched: Vec<Range<u64>>,
    /// Stored files that are damaged, and how.
    pub damaged_files: Vec<(String, String)>,
    /// Packs that are damaged, and how, though nothing is lost with them: all that they miss has a good copy in
    /// another pack.
    pub superseded: Vec<(String, String)>,
}

/// An object without an intact copy.
#[derive(Clone, Debug, PartialEq)]
pub struct BadChunk {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub object_type: ObjectType,
    /// What is wrong.
    pub reason: String,
    /// The revisions that need it, as `stream@name`.
    pub revisions: Vec<String>,
}

impl ScrubReport {
    /// Whether everything that was looked at is in order. Files that nobody misses anything of don't count.
    pub fn is_clean(&self) -> bool {
        self.bad.is_empty() && self.mismatched.is_empty() && self.damaged_files.is_empty()
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
) -> Result<ScrubReport> {
    if !(options.percent > 0.0 && options.percent <= 100.0) {
        let reason = format!("{} is not more than 0 and at most 100", options.percent);
        return Err(Error::BadParameter { what: "percentage", reason });
    }
    let seed = blake3::derive_key("treering v1 scrub sample", RevisionId::random().as_bytes());
    let (findings, report) = (Findings::default(), ScrubReport::default());
    let mut scrub = Scrub { repository, options, monitor, seed, findings, report };
    let revisions = match scope {
        ScrubScope::Everything => scrub.check_files()?,
        ScrubScope::Revisions(revisions) => revisions.clone(),
    };
    if options.source.is_some() && revisions.len() != 1 {
        let reason = "it is compared with one revision: name it as STREAM@SPEC".to_owned();
        return Err(Error::BadParameter { what: "source", reason });
    }
    match scope {
        ScrubScope::Everything => scrub.check_packs()?,
        ScrubScope::Revisions(_) => {}
    }
    scrub.check_reach(&revisions, matches!(scope, ScrubScope::Everything))?;
    scrub.mark();
    // Last, so that a source that can't be read keeps no damage from being marked.
    if let (Some(source), [(_, record)]) = (&options.source, revisions.as_slice()) {
        scrub.report.mismatched = compare::compare(repository, record, source.as_ref(), monitor)?;
    }
    scrub.finish(&revisions)
}

/// A scrub on its way.
struct Scrub<'a> {
    repository: &'a Repository,
    options: &'a ScrubOptions,
    monitor: &'a dyn Monitor,
    /// What the sample is drawn with.
    seed: [u8; 32],
    findings: Findings,
    report: ScrubReport,
}

/// Objects, each with what it is and what is wrong with it.
type BadOnes = BTreeMap<ObjectId, (ObjectType, String)>;

/// What is known of objects so far.
#[derive(Default)]
struct Findings {
    /// Objects without an intact copy, and what is wrong.
    bad: BadOnes,
    /// Objects that were on the damage list, and have an intact copy after all.
    good_again: HashSet<ObjectId>,
    /// Copies that are not intact: there may be others.
    bad_copies: BadOnes,
    /// Packs that are what they say, and whose every blob that was drawn was verified, or is known to be bad.
    sound_packs: HashSet<crate::id::PackId>,
}

impl Scrub<'_> {
    /// Reads everything that is not a pack. Returns the revisions whose records are in order.
    fn check_files(&mut self) -> Result<Vec<(Stream, Record)>> {
        let repository = self.repository;
        let backend = repository.backend();
        let header = backend.read(&Key::header(), MAX_SEALED_SIZE);
        self.note_file(
            "treering-repository",
            header.and_then(|bytes| open::<Header>("the repository header", &bytes)),
        )?;
        for listed in backend.list(&Area::streams())? {
            if let Some(id) = crate::id::StreamId::parse(&listed.name) {
                self.note_file(&format!("streams/{id}"), repository.stream_object(id))?;
            }
        }
        let damaged_tables = self.check_tables()?;
        self.report.damaged_files.extend(damaged_tables);
        let mut revisions = Vec::new();
        for stream in repository.streams()? {
            for key in repository.revisions(&stream)? {
                let file = Key::record(stream.id, &key).to_string();
                if let Some(record) = self.note_file(&file, repository.record(&stream, &key))? {
                    revisions.push((stream.clone(), record));
                }
            }
            for listed in backend.list(&Area::labels(stream.id))? {
                let Some(revision) = RevisionId::parse(&listed.name) else { continue };
                let file = Key::labels(stream.id, revision).to_string();
                self.note_file::<Labels>(&file, repository.labels(&stream, revision))?;
            }
        }
        Ok(revisions)
    }

    /// Verifies the index tables; names those that are damaged.
    fn check_tables(&self) -> Result<Vec<(String, String)>> {
        let verify = || self.repository.store().index().verify_tables(|_| self.go_on());
        match verify() {
            // A backup beside this one has merged a table away since it was listed.
            Err(error) if error.is_not_found() => verify(),
            result => result,
        }
    }

    /// Notes a file that is damaged; other errors end the scrub. A file that is gone was removed meanwhile.
    fn note_file<T>(&mut self, file: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_damage() => {
                self.report.damaged_files.push((file.to_owned(), error.to_string()));
                Ok(None)
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Writes the damage list.
    fn mark(&self) {
        let add = bad_objects(&self.findings.bad);
        let remove: Vec<ObjectId> = self.findings.good_again.iter().copied().collect();
        if let Err(error) = self.repository.change_damage(add, &remove) {
            self.monitor.warn(&format!("what was found could not be noted in the repository: {error}"));
        }
    }

    /// Says what was found, and which revisions are affected.
    fn finish(mut self, revisions: &[(Stream, Record)]) -> Result<ScrubReport> {
        let bad = std::mem::take(&mut self.findings.bad);
        let affected = self.affected(revisions, &bad)?;
        self.report.bad = bad
            .into_iter()
            .map(|(id, (object_type, reason))| BadChunk {
                id,
                object_type,
                reason,
                revisions: affected.get(&id).cloned().unwrap_or_default(),
            })
            .collect();
        self.report.damaged_files.sort();
        self.report.superseded.sort();
        Ok(self.report)
    }

    /// The revisions that need each bad object.
    fn affected(&self, scope: &[(Stream, Record)], bad: &BadOnes) -> Result<BTreeMap<ObjectId, Vec<String>>> {
        let mut affected: BTreeMap<ObjectId, Vec<String>> = BTreeMap::new();
        if bad.is_empty() {
            return Ok(affected);
        }
        let damage = Damage { objects: bad_objects(bad) };
        // Other revisions than those that were asked about may need it as well.
        let mut revisions = scope.to_vec();
        for stream in self.repository.streams()? {
            for key in self.repository.revisions(&stream)? {
                if revisions.iter().all(|(_, record)| record.id != key.id)
                    && let Ok(record) = self.repository.record(&stream, &key)
                {
                    revisions.push((stream.clone(), record));
                }
            }
        }
        let records: Vec<Record> = revisions.iter().map(|(_, record)| record.clone()).collect();
        let reached = self.repository.damaged_revisions(&damage, &records)?;
        for (stream, record) in &revisions {
            for id in reached.get(&record.id).into_iter().flatten() {
                affected.entry(*id).or_default().push(format!("{}@{}", stream.name, record.name));
            }
        }
        Ok(affected)
    }
}

/// The root of a revision's map.
fn root_of(record: &Record) -> ObjectId {
    record.content.root()
}

/// Objects as the damage list names them.
fn bad_objects(bad: &BadOnes) -> Vec<BadObject> {
    let found = Timestamp::now();
    let named = |(id, (object_type, reason)): (&ObjectId, &(ObjectType, String))| BadObject {
        id: *id,
        type_code: object_type.code(),
        found,
        reason: reason.clone(),
    };
    bad.iter().map(named).collect()
}

/// What is wrong with stored bytes. An error that says nothing of them (no permission, no file handle) is returned,
/// and ends the scrub: whatever was marked for it would be marked wrongly.
fn damage_of(error: Error) -> Result<String> {
    match error.is_damage() || error.is_not_found() {
        true => Ok(error.to_string()),
        false => Err(error),
    }
}
