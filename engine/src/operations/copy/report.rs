//! What a copy did.

use crate::error::Error;
use crate::format::RecordKey;
use crate::repository::Stream;

/// What a copy did, stream by stream.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// The streams in the order in which they were asked for.
    pub streams: Vec<StreamCopy>,
}

/// What became of one stream.
#[derive(Debug)]
pub struct StreamCopy {
    /// The stream's name.
    pub stream: String,
    /// Its name in the target, where it may have been renamed; none if it was not looked for.
    pub target_stream: Option<String>,
    /// The revisions that were asked for, the oldest first.
    pub revisions: Vec<RevisionCopy>,
    /// What else of the stream is damaged or lost, such as labels: files from the repository's directory on, and what is
    /// wrong with them.
    pub damaged_files: Vec<(String, String)>,
    /// Why the stream, or the rest of it, was not copied.
    pub error: Option<Error>,
}

/// What became of one revision.
#[derive(Debug)]
pub struct RevisionCopy {
    /// The revision.
    pub key: RecordKey,
    /// What was done.
    pub outcome: CopyOutcome,
    /// What was sent for it, also where that was not all of it.
    pub sent: Sent,
}

/// What was done about a revision.
#[derive(Debug)]
pub enum CopyOutcome {
    /// It was copied.
    Copied,
    /// The target had it.
    Present {
        /// Whether it got labels there that it had not.
        relabelled: bool,
    },
    /// It was forgotten in the target, and not asked for by name.
    Forgotten,
    /// It can't be read as it should, so it was not committed, or, if the target has it, not made whole there.
    Unreadable(Error),
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Chunks.
    pub chunks: u64,
    /// Nodes of maps and directories.
    pub nodes: u64,
    /// Bytes of both as they are stored.
    pub bytes: u64,
    /// Bytes that the target grew by.
    pub bytes_stored: u64,
}

impl Sent {
    /// Adds what else was sent.
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.nodes += other.nodes;
        self.bytes += other.bytes;
        self.bytes_stored += other.bytes_stored;
    }
}

/// A copy that did not come to its end. What it had committed stays.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnfinishedCopy {
    /// Why it ended.
    pub error: Error,
    /// What was done until then.
    pub report: CopyReport,
}

impl From<Error> for Box<UnfinishedCopy> {
    fn from(error: Error) -> Self {
        Box::new(UnfinishedCopy { error, report: CopyReport::default() })
    }
}

impl StreamCopy {
    pub(super) fn new(stream: &Stream) -> Self {
        Self {
            stream: stream.name.clone(),
            target_stream: None,
            revisions: Vec::new(),
            damaged_files: Vec::new(),
            error: None,
        }
    }

    pub(super) fn note(&mut self, key: &RecordKey, outcome: CopyOutcome, sent: Sent) {
        self.revisions.push(RevisionCopy { key: key.clone(), outcome, sent });
    }

    /// Whether anything of the source turned out to be damaged.
    pub fn has_damage(&self) -> bool {
        let is_lost = |revision: &RevisionCopy| matches!(&revision.outcome, CopyOutcome::Unreadable(error) if error.is_loss());
        let has_failed = self.error.as_ref().is_some_and(Error::is_damage);
        has_failed || !self.damaged_files.is_empty() || self.revisions.iter().any(is_lost)
    }

    /// Whether all that was asked for is in the target, but for what was forgotten there.
    pub fn is_whole(&self) -> bool {
        let is_unreadable = |revision: &RevisionCopy| matches!(revision.outcome, CopyOutcome::Unreadable(_));
        self.error.is_none() && !self.revisions.iter().any(is_unreadable)
    }
}

impl CopyReport {
    /// What was sent in all.
    pub fn sent(&self) -> Sent {
        let mut all = Sent::default();
        self.streams.iter().flat_map(|stream| &stream.revisions).for_each(|revision| all.add(&revision.sent));
        all
    }
}
