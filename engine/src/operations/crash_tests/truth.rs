//! What must be in a repository, and what may be.

use super::content::{Content, read};
use crate::format::{Record, RecordKey};
use crate::id::RevisionId;
use crate::monitor::SilentMonitor;
use crate::operations::scrub::{ScrubOptions, ScrubScope, scrub};
use crate::repository::{Repository, Stream};

/// A revision, and what it was made from.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) stream: String,
    pub(super) id: RevisionId,
    pub(super) sequence: u64,
    pub(super) name: String,
    pub(super) content: Content,
    pub(super) labels: KnownLabels,
}

/// The labels of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownLabels {
    pub(super) tags: Vec<String>,
    pub(super) protected: bool,
}

/// What was begun and did not come to its end: it was done, or it was not.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Revision {
        stream: String,
        content: Content,
        labels: KnownLabels,
    },
    Labels {
        revision: RevisionId,
        labels: KnownLabels,
    },
    /// A revision of another repository is copied.
    Copy(Known),
    /// A revision is forgotten.
    Forget(RevisionId),
    /// A revision that was forgotten is brought back.
    Undo(RevisionId),
    /// What was forgotten is taken for good.
    Gc,
}

impl Pending {
    /// Whether it may make a difference to a revision whether this was done.
    fn moves(&self, revision: RevisionId) -> bool {
        matches!(self, Self::Forget(id) | Self::Undo(id) if *id == revision)
    }
}

/// What is known of a repository.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// What stands whatever comes.
    pub(super) standing: Vec<Known>,
    /// What was forgotten, and can be brought back.
    pub(super) forgotten: Vec<Known>,
    /// Whether a gc has run, or begun, that may have taken something of which it is not known whether it was forgotten.
    is_collected: bool,
    pub(super) pending: Vec<Pending>,
    /// Stream, sequence and name of all revisions that were ever told to be stored.
    given: Vec<(String, u64, String)>,
    /// Whether a chunk rotted and was not stored anew yet, so that what needs it can't be read.
    pub(super) is_rotten: bool,
}

impl Truth {
    /// Notes a revision that was told to be stored. Its place must never have been given before (I3).
    pub(super) fn commit(&mut self, known: Known) {
        let of_stream = |given: &&(String, u64, String)| given.0 == known.stream;
        for (_, sequence, name) in self.given.iter().filter(of_stream) {
            assert!(known.sequence > *sequence, "sequence {} comes after {sequence}", known.sequence);
            assert_ne!(known.name, *name, "this name was given before");
        }
        self.add(known);
    }

    fn add(&mut self, known: Known) {
        self.given.push((known.stream.clone(), known.sequence, known.name.clone()));
        self.standing.push(known);
    }

    /// A revision that stands was forgotten.
    pub(super) fn forget(&mut self, revision: RevisionId) {
        let forgotten = self.standing.extract_if(.., |known| known.id == revision);
        self.forgotten.extend(forgotten);
    }

    /// A revision that was forgotten was brought back.
    pub(super) fn undo(&mut self, revision: RevisionId) {
        let back = self.forgotten.extract_if(.., |known| known.id == revision);
        self.standing.extend(back);
    }

    pub(super) fn begin_gc(&mut self) {
        self.pending.push(Pending::Gc);
        self.is_collected = true;
    }

    /// A gc has come to its end: what was forgotten before is gone.
    pub(super) fn end_gc(&mut self) {
        self.pending.pop();
        let may_be_back = |known: &Known| self.pending.iter().any(|pending| pending.moves(known.id));
        self.forgotten.retain(may_be_back);
        self.is_collected =
            self.pending.iter().any(|pending| matches!(pending, Pending::Forget(_) | Pending::Undo(_)));
    }

    /// What a power cut left is what stands from then on. Of two runs it may be the one that failed which is older.
    pub(super) fn settle(&mut self, repository: &Repository, found: Vec<Known>, is_rotten: bool) {
        let ids: Vec<RevisionId> = found.iter().map(|known| known.id).collect();
        let gone: Vec<RevisionId> = self.standing.iter().map(|known| known.id).collect();
        gone.into_iter().filter(|id| !ids.contains(id)).for_each(|id| self.forget(id));
        for known in found {
            self.undo(known.id);
            match self.standing.iter_mut().find(|standing| standing.id == known.id) {
                Some(standing) => *standing = known,
                None => self.add(known),
            }
        }
        self.forgotten.retain(|known| is_in_trash(repository, known));
        self.pending.clear();
        (self.is_rotten, self.is_collected) = (is_rotten, false);
    }

    /// The streams that have, or may have, revisions.
    pub(super) fn streams(&self) -> Vec<String> {
        let given = self.given.iter().map(|(stream, ..)| stream);
        let pending = self.pending.iter().filter_map(|pending| match pending {
            Pending::Revision { stream, .. } => Some(stream),
            Pending::Copy(known) => Some(&known.stream),
            _ => None,
        });
        let mut streams: Vec<String> = given.chain(pending).cloned().collect();
        streams.sort();
        streams.dedup();
        streams
    }

    /// Fails unless all that stands is in the repository as it was, and nothing that never was. Returns what is there.
    pub(super) fn assert_stands_in(&self, repository: &Repository) -> Vec<Known> {
        let found = self.find_in(repository);
        let is_there = |known: &Known| found.iter().any(|found| found.id == known.id);
        for known in &self.standing {
            let may_be_gone = self.pending.iter().any(|pending| pending.moves(known.id));
            assert!(is_there(known) || may_be_gone, "{}@{} is lost", known.stream, known.name);
        }
        for known in self.standing.iter().chain(&self.forgotten).filter(|known| !is_there(known)) {
            let can_come_back = self.is_collected || is_in_trash(repository, known);
            assert!(can_come_back, "{}@{} can't be brought back", known.stream, known.name);
        }
        for (index, one) in found.iter().enumerate() {
            for other in found[..index].iter().filter(|other| other.stream == one.stream) {
                assert!(
                    other.sequence != one.sequence && other.name != one.name,
                    "one place was given twice"
                );
            }
        }
        found
    }

    /// All revisions of a repository; each must be one that stands, or one on its way.
    fn find_in(&self, repository: &Repository) -> Vec<Known> {
        let list = repository.list_streams().unwrap();
        assert_eq!(list.damaged, [], "a stream is damaged");
        let mut found = Vec::new();
        for stream in &list.streams {
            assert_eq!(repository.lost_revisions(stream).unwrap(), []);
            for key in repository.revisions(stream).unwrap() {
                found.push(self.identify(repository, stream, &key));
            }
        }
        found
    }

    fn identify(&self, repository: &Repository, stream: &Stream, key: &RecordKey) -> Known {
        let record = repository.record(stream, key).unwrap();
        let content = self.read(repository, &record);
        let labels = repository.labels(stream, key.id).unwrap();
        let labels = KnownLabels { tags: labels.tags, protected: labels.protected };
        let place = format!("{}@{}", stream.name, key.name);
        if let Some(known) = self.known(key.id) {
            assert_eq!((&known.stream, known.sequence, &known.name), (&stream.name, key.sequence, &key.name));
            assert!(content.is_none_or(|content| content == known.content), "{place} is another");
            assert!(self.may_have(known, &labels), "{place} has {labels:?} instead of {:?}", known.labels);
            return Known { labels, ..known.clone() };
        }
        let content = content.unwrap();
        let is_it = |pending: &&Pending| match pending {
            Pending::Revision { stream: of, content: made, labels: given } => {
                (of, made, given) == (&stream.name, &content, &labels)
            }
            _ => false,
        };
        assert!(self.pending.iter().find(is_it).is_some(), "nobody made {place} as it is");
        let (stream, sequence) = (stream.name.clone(), key.sequence);
        Known { stream, id: key.id, sequence, name: key.name.clone(), content, labels }
    }

    /// A revision that stands, or may have come, or come back.
    fn known(&self, revision: RevisionId) -> Option<&Known> {
        let may_be_back = |known: &&Known| self.pending.iter().any(|pending| pending.moves(known.id));
        let back = self.forgotten.iter().filter(may_be_back);
        let copied = self.pending.iter().filter_map(|pending| match pending {
            Pending::Copy(known) => Some(known),
            _ => None,
        });
        self.standing.iter().chain(back).chain(copied).find(|known| known.id == revision)
    }

    /// What a revision holds; `None` if it can't be read, and nothing else was to be expected.
    fn read(&self, repository: &Repository, record: &Record) -> Option<Content> {
        match read(repository, record) {
            Err(error) if self.is_rotten && error.is_damage() => None,
            content => Some(content.unwrap()),
        }
    }

    fn may_have(&self, known: &Known, found: &KnownLabels) -> bool {
        let is_on_its_way = |pending: &Pending| match pending {
            Pending::Labels { revision, labels } => *revision == known.id && labels == found,
            _ => false,
        };
        known.labels == *found || self.pending.iter().any(is_on_its_way)
    }

    /// Fails if a full scrub finds anything that somebody misses, but for what rotted. Says whether that was found.
    pub(super) fn assert_nothing_is_missed_in(&self, repository: &Repository) -> bool {
        let options = ScrubOptions { percent: 100.0, source: None };
        let report = scrub(repository, &ScrubScope::Everything, &options, &SilentMonitor);
        let report = report.map_err(|unfinished| unfinished.error).unwrap();
        let is_rotten = self.is_rotten && report.bad.len() == 1;
        assert!(report.is_clean() || is_rotten, "{report:?}");
        is_rotten
    }
}

/// Whether a revision can be brought back.
fn is_in_trash(repository: &Repository, known: &Known) -> bool {
    let stream = repository.stream(&known.stream).unwrap();
    repository.forgotten_revisions(&stream).unwrap().iter().any(|key| key.id == known.id)
}
