//! The mutable objects: streams, labels, the damage list, the target of copies; and claims, which live as long as a process.

use serde::{Deserialize, Serialize};

use super::hash::ObjectType;
use super::record::{Kind, RecordKey};
use super::sealed::SealedKind;
use super::time::Timestamp;
use crate::id::{ClaimId, ObjectId, RepositoryId, RevisionId, StreamId};

/// A stream: its name, its kind, and what its revisions may not be called again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamObject {
    /// The stream's id.
    pub id: StreamId,
    /// What users call it.
    pub name: String,
    /// What its revisions are, for ever.
    pub kind: Kind,
    /// When it was made.
    pub created: Timestamp,
    /// No new revision has this sequence or a lower one.
    pub sequence_floor: u64,
    /// The revisions that it has: those that were committed and not forgotten, sorted by sequence and id. What is noted here
    /// and not there is lost.
    pub revisions: Vec<NotedRevision>,
    /// Names of revisions that were forgotten.
    pub retired_names: Vec<String>,
}

impl SealedKind for StreamObject {
    const KIND: [u8; 4] = *b"STRM";
    const NOUN: &'static str = "stream";
}

/// A revision as its stream's object notes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedRevision {
    /// Its place in the order of the stream.
    pub sequence: u64,
    /// Its id.
    pub id: RevisionId,
    /// Its name.
    pub name: String,
    /// Whether it has an object of labels.
    pub has_labels: bool,
}

impl NotedRevision {
    /// Of a revision that has no labels.
    pub(crate) fn without_labels(key: &RecordKey) -> Self {
        let RecordKey { sequence, id, name } = key.clone();
        Self { sequence, id, name, has_labels: false }
    }

    pub(crate) fn key(&self) -> RecordKey {
        RecordKey { sequence: self.sequence, id: self.id, name: self.name.clone() }
    }
}

/// Tags and protection of one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The revision.
    pub revision: RevisionId,
    /// Its tags, sorted, each once.
    pub tags: Vec<String>,
    /// Whether it is never to be forgotten.
    pub protected: bool,
}

impl Labels {
    /// Of a revision without tags that is not protected.
    pub(crate) fn none(revision: RevisionId) -> Self {
        Self { revision, tags: Vec::new(), protected: false }
    }
}

impl SealedKind for Labels {
    const KIND: [u8; 4] = *b"LABL";
    const NOUN: &'static str = "set of labels";
}

/// Objects of which no good copy was found, until they are stored anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The objects, sorted by id, each once.
    pub objects: Vec<BadObject>,
}

/// One entry of the damage list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadObject {
    /// The object.
    pub id: ObjectId,
    /// The code of its type; 0 if nobody knows it.
    pub type_code: u8,
    /// When it was found to be bad.
    pub found: Timestamp,
    /// What was wrong.
    pub reason: String,
}

impl BadObject {
    /// An object that was found to be bad just now.
    pub(crate) fn new(id: ObjectId, object_type: ObjectType, reason: String) -> Self {
        Self { id, type_code: object_type.code(), found: Timestamp::now(), reason }
    }

    /// The type of the object, where it is known here.
    pub fn object_type(&self) -> Option<ObjectType> {
        ObjectType::from_code(self.type_code)
    }
}

impl SealedKind for Damage {
    const KIND: [u8; 4] = *b"DAMG";
    const NOUN: &'static str = "damage list";
}

/// Where a repository is copied to unless it is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyTarget {
    /// The directory, from the root of the file system on.
    pub(crate) path: String,
    /// The repository that lay there.
    pub(crate) repository: RepositoryId,
}

impl SealedKind for CopyTarget {
    const KIND: [u8; 4] = *b"COPY";
    const NOUN: &'static str = "remembered target of copies";
}

/// What a running process holds on to: a backup's session, or a reader's pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The claim's id.
    pub(crate) id: ClaimId,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// The host it runs on.
    pub(crate) host: String,
    /// Its process there.
    pub(crate) process: u32,
    /// What it does, for messages.
    pub(crate) purpose: String,
    /// The stream it is about.
    pub(crate) stream: Option<StreamId>,
    /// The revisions that must stay readable while it lives.
    pub(crate) revisions: Vec<RevisionId>,
    /// Their roots: what gc marks from, also when the records are gone.
    pub(crate) roots: Vec<ObjectId>,
}

impl SealedKind for Claim {
    const KIND: [u8; 4] = *b"SESS";
    const NOUN: &'static str = "session or pin";
}

impl Claim {
    /// Who holds it, as a message names them.
    pub(crate) fn holder(&self) -> String {
        format!("{} (process {} on {})", self.purpose, self.process, self.host)
    }
}
