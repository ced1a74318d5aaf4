//! The last step for each revision: labels, then the record, whose creation is the commit.

use super::stream::{Progress, StreamRun};
use crate::error::{Error, Result};
use crate::format::{Labels, RecordKey};

impl StreamRun<'_> {
    /// After that the revision is there, for ever and for all.
    pub(super) fn commit(&self, progress: &Progress<'_>, key: &RecordKey, sealed: &[u8]) -> Result<()> {
        let (target, stream) = (self.target, &progress.place.stream);
        let history = target.lock_history(stream)?;
        // Those of a revision that was forgotten there may be left.
        let is_any_left = progress.labels_there.contains_key(&key.id);
        let labels = progress.labels.get(&key.id).cloned();
        if let Some(labels) = labels.or_else(|| is_any_left.then(|| Labels::none(key.id))) {
            target.put_labels(stream, &labels)?;
        }
        target.create_record(stream, key, sealed)?;
        // The next revision does it if this one can't.
        if let Err(error) = target.note_revisions(stream) {
            self.monitor.warn(&format!("the stream's file could not be changed: {error}"));
        }
        drop(history);
        Ok(())
    }

    /// Gives a revision that the target has the labels that it has here and not there; whether there were any. None is
    /// taken off: it may have been given there, to keep the revision there.
    pub(super) fn add_labels(&self, progress: &Progress<'_>, key: &RecordKey) -> Result<bool> {
        let Some(labels) = progress.labels.get(&key.id) else { return Ok(false) };
        let there = progress.labels_there.get(&key.id).cloned();
        if has_all(&there.unwrap_or_else(|| Labels::none(key.id)), labels) {
            return Ok(false);
        }
        let changed = self.target.change_labels(&progress.place.stream, key, |there| {
            there.tags.extend(labels.tags.iter().cloned());
            there.protected |= labels.protected;
        });
        match changed {
            // Forgotten meanwhile.
            Err(Error::NoSuchRevision { .. }) => Ok(false),
            // What was given there is not known, so it can't be kept; `check --repair` sets it aside.
            Err(error) if error.is_damage() => {
                self.monitor.warn(&format!("{error}, in the target; its labels are left as they are"));
                Ok(false)
            }
            changed => changed.map(|_| true),
        }
    }
}

fn has_all(there: &Labels, wanted: &Labels) -> bool {
    let has = |tag| there.tags.contains(tag);
    wanted.tags.iter().all(has) && (there.protected || !wanted.protected)
}
