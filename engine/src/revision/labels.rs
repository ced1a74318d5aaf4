//! Tags and protection of revisions.

use std::collections::{BTreeSet, HashMap};

use crate::backend::{Area, Key};
use crate::error::{Corrupt, Result};
use crate::format::{Labels, MAX_SEALED_SIZE, RecordKey, open, seal};
use crate::id::RevisionId;
use crate::repository::{Repository, Stream};

/// The labels of a stream's revisions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamLabels {
    /// Of the revisions that have any.
    pub readable: HashMap<RevisionId, Labels>,
    /// Files that are damaged, from the repository's directory on, and what is wrong with them.
    pub damaged: Vec<(String, String)>,
}

impl StreamLabels {
    /// Whether the labels of a revision can't be read.
    pub(crate) fn is_damaged(&self, revision: RevisionId) -> bool {
        let file_name = revision.to_string();
        self.damaged.iter().any(|(file, _)| file.ends_with(&file_name))
    }
}

impl Repository {
    /// A revision's labels; none are the same as an empty set.
    ///
    /// # Errors
    /// Damage, also where they are gone though the stream's own file says that there were some: it is not known then whether
    /// the revision is protected.
    pub fn labels(&self, stream: &Stream, revision: RevisionId) -> Result<Labels> {
        if let Some(labels) = self.labels_there(stream, revision)? {
            return Ok(labels);
        }
        if !self.noted_labels(stream)?.contains(&revision) {
            return Ok(Labels::none(revision));
        }
        // Somebody may have made them since.
        self.labels_there(stream, revision)?.ok_or_else(|| {
            Corrupt::new(
                name_of(revision),
                "its file is gone, so it is not known whether the revision is protected",
            )
            .into()
        })
    }

    fn labels_there(&self, stream: &Stream, revision: RevisionId) -> Result<Option<Labels>> {
        let bytes = match self.backend().read(&Key::labels(stream.id, revision), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let labels: Labels = open(&name_of(revision), &bytes)?;
        match labels.revision == revision {
            true => Ok(Some(labels)),
            false => Err(Corrupt::new(name_of(revision), "it belongs to another revision").into()),
        }
    }

    /// The revisions of a stream that have labels, or have lost them.
    pub(super) fn labelled(&self, stream: &Stream) -> Result<BTreeSet<RevisionId>> {
        let names = self.backend().names(&Area::labels(stream.id))?;
        let there = names.iter().filter_map(|name| RevisionId::parse(name));
        Ok(there.chain(self.noted_labels(stream)?).collect())
    }

    /// The labels of all revisions of a stream that have any.
    pub fn all_labels(&self, stream: &Stream) -> Result<StreamLabels> {
        let mut all = StreamLabels::default();
        for revision in self.labelled(stream)? {
            match self.labels(stream, revision) {
                Ok(labels) => {
                    all.readable.insert(revision, labels);
                }
                Err(error) if error.is_damage() => {
                    let file = Key::labels(stream.id, revision).to_string();
                    all.damaged.push((file, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Changes the labels of a revision, and returns what they are then.
    ///
    /// # Errors
    /// [`NoSuchRevision`](crate::Error::NoSuchRevision) if the revision was forgotten meanwhile; damage if its
    /// labels can't be read.
    pub fn change_labels(
        &self,
        stream: &Stream,
        key: &RecordKey,
        change: impl FnOnce(&mut Labels),
    ) -> Result<Labels> {
        let _lock = self.lock_history(stream)?;
        self.find_revision(stream, &format!("id:{}", key.id))?;
        let before = self.labels(stream, key.id)?;
        let mut labels = before.clone();
        change(&mut labels);
        labels.tags.sort();
        labels.tags.dedup();
        if labels != before {
            self.put_labels(stream, &labels)?;
            self.note_revisions(stream)?;
        }
        Ok(labels)
    }

    /// Gives a revision its tags before it is committed.
    pub(crate) fn put_tags(&self, stream: &Stream, revision: RevisionId, tags: &[String]) -> Result<()> {
        let mut labels = Labels::none(revision);
        labels.tags = tags.to_vec();
        labels.tags.sort();
        labels.tags.dedup();
        self.put_labels(stream, &labels)
    }

    /// Gives a revision these labels, whatever it had.
    pub(crate) fn put_labels(&self, stream: &Stream, labels: &Labels) -> Result<()> {
        self.backend().put(&Key::labels(stream.id, labels.revision), &seal(labels)?)
    }
}

fn name_of(revision: RevisionId) -> String {
    format!("the set of labels of revision {revision}")
}
