//! One stream, revision by revision.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::history::{Plan, Side, nearest};
use super::place::Place;
use super::reach::{Reach, is_whole};
use super::transfer::{Seen, Stop, Transfer};
use super::{CopyOptions, CopyOutcome, CopyRequest, Sent, StreamCopy};
use crate::error::{Error, Result};
use crate::format::{Content, Labels, Record, RecordKey};
use crate::id::{ObjectId, RevisionId};
use crate::monitor::Monitor;
use crate::repository::{LostPart, Repository};
use crate::revision::PinnedSet;
use crate::store::{BlobReader, StoreWriter, Stored};

/// The copy of a stream.
pub(super) struct StreamRun<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    pub(super) request: &'a CopyRequest,
    pub(super) options: &'a CopyOptions,
    pub(super) monitor: &'a dyn Monitor,
}

/// Where it has come to.
pub(super) struct Progress<'a> {
    pub(super) place: Place,
    pub(super) labels: HashMap<RevisionId, Labels>,
    /// The labels in the target as they were.
    pub(super) labels_there: HashMap<RevisionId, Labels>,
    /// The roots of revisions that are read of the source: those to send, and those that the target has as well.
    roots: BTreeMap<RecordKey, ObjectId>,
    /// Revisions that the target has.
    there: BTreeSet<RecordKey>,
    /// Whether something of the target is lost, so that also what it has is looked through, to make it whole.
    heals: bool,
    blobs: BlobReader<'a>,
    seen: Seen,
    pins: Vec<PinnedSet>,
}

impl<'a> StreamRun<'a> {
    /// Copies what was asked for of the stream; what was done is in `copied`, however it ends.
    pub(super) fn copy(&self, copied: &mut StreamCopy) -> Result<()> {
        let stream = &self.request.stream;
        let object = self.source.stream_object(stream.id)?;
        let source = Side { object, keys: self.source.revisions(stream)?, forgotten: Vec::new() };
        let labels = self.source.all_labels(stream)?;
        copied.damaged_files = labels.damaged;
        copied.damaged_files.extend(self.lost_revisions()?);
        let place = Place::take(self, &source)?;
        copied.target_stream = Some(place.stream.name.clone());
        let plan = Plan::new(&source, &place.side, self.request);
        let mut progress = Progress {
            labels: labels.readable,
            labels_there: self.target.all_labels(&place.stream)?.readable,
            roots: BTreeMap::new(),
            there: place.side.keys.iter().cloned().collect(),
            heals: false,
            blobs: BlobReader::new(self.source.store()),
            seen: Seen::default(),
            pins: Vec::new(),
            place,
        };
        plan.forgotten.iter().for_each(|key| copied.note(key, CopyOutcome::Forgotten, Sent::default()));
        self.pin_what_is_sent(&plan, &mut progress, copied)?;
        self.see_to_present(&plan, &mut progress, copied)?;
        for key in &plan.absent {
            self.send(key, &mut progress, copied)?;
        }
        // One without a revision shows to nobody while it has no floor.
        match progress.there.is_empty() {
            true => Ok(()),
            false => self.target.adopt_floor(&progress.place.stream, source.object.sequence_floor),
        }
    }

    /// What is known to be lost of all that was asked for.
    fn lost_revisions(&self) -> Result<Vec<(String, String)>> {
        let stream = &self.request.stream;
        if !self.request.whole {
            return Ok(Vec::new());
        }
        let lost = self.source.lost_revisions(stream)?;
        let mut lost: Vec<(String, String)> = lost.into_iter().map(|lost| (lost.file, lost.reason)).collect();
        let damaged = self.source.list_streams()?.damaged.into_iter();
        let of_stream = damaged.filter(|it| it.id == stream.id && it.lost == LostPart::Revisions);
        lost.extend(of_stream.map(|damaged| (damaged.file(), damaged.reason)));
        Ok(lost)
    }

    /// Pins what is to be sent, and what it is compared with.
    fn pin_what_is_sent(
        &self,
        plan: &Plan,
        progress: &mut Progress<'a>,
        copied: &mut StreamCopy,
    ) -> Result<()> {
        let bases = plan.absent.iter().filter_map(|key| nearest(&progress.there, key));
        let keys: BTreeSet<RecordKey> =
            plan.absent.iter().chain(bases).chain(plan.present.last()).cloned().collect();
        for (key, error) in self.pin(&keys, progress)? {
            if plan.absent.contains(&key) {
                copied.note(&key, CopyOutcome::Unreadable(error), Sent::default());
            }
        }
        Ok(())
    }

    /// Pins revisions of the source; returns those whose records can't be read.
    fn pin(
        &self,
        keys: &BTreeSet<RecordKey>,
        progress: &mut Progress<'a>,
    ) -> Result<Vec<(RecordKey, Error)>> {
        let keys: Vec<RecordKey> = keys.iter().cloned().collect();
        let mut set = PinnedSet::hold(self.source, &self.request.stream, &keys, "copy")?;
        progress.roots.extend(set.revisions().iter().cloned());
        let lost = set.take_lost();
        progress.pins.push(set);
        Ok(lost.into_iter().map(|lost| (lost.key, lost.error)).collect())
    }

    /// Brings the labels of what the target has up to date, and makes it whole if something of it is lost.
    fn see_to_present(
        &self,
        plan: &Plan,
        progress: &mut Progress<'a>,
        copied: &mut StreamCopy,
    ) -> Result<()> {
        progress.heals = self.has_losses(plan, progress)?;
        if progress.heals {
            let lost = self.pin(&plan.present.iter().cloned().collect(), progress)?;
            for (key, error) in lost {
                copied.note(&key, CopyOutcome::Unreadable(error), Sent::default());
            }
            return plan.present.iter().try_for_each(|key| self.send(key, progress, copied));
        }
        for key in &plan.present {
            let relabelled = self.add_labels(progress, key)?;
            copied.note(key, CopyOutcome::Present { relabelled }, Sent::default());
        }
        Ok(())
    }

    /// Whether anything that the target had is known to be bad or lost.
    fn has_losses(&self, plan: &Plan, progress: &Progress<'a>) -> Result<bool> {
        let index = self.target.store().index();
        if !progress.place.bad.is_empty() || index.has_losses() {
            return Ok(true);
        }
        match plan.present.last().and_then(|key| progress.roots.get(key)) {
            Some(root) => {
                is_whole(self.source.store(), self.request.stream.kind, root, index).map(|is_whole| !is_whole)
            }
            None => Ok(false),
        }
    }

    /// Sends what the target lacks of a revision, and commits it unless it is there.
    fn send(&self, key: &RecordKey, progress: &mut Progress<'a>, copied: &mut StreamCopy) -> Result<()> {
        // One that was forgotten meanwhile, or is told to be unreadable.
        let Some(&root) = progress.roots.get(key) else { return Ok(()) };
        let stream = &self.request.stream;
        let (record, sealed) = match self.source.record_bytes(stream, key) {
            Ok(read) => read,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => {
                copied.note(key, CopyOutcome::Unreadable(error), Sent::default());
                return Ok(());
            }
        };
        let base = self.choose_base(key, progress)?;
        let total = base.is_none().then(|| data_bytes(&record));
        self.monitor.begin(&format!("copying {}@{}", stream.name, key.name), total);
        let (source, kind) = (self.source.store(), stream.kind);
        let reach = Reach { store: source, kind, root, base, monitor: self.monitor };
        let (mut sent, stopped) = self.transfer(&reach, progress)?;
        let outcome = match stopped {
            Some(error) => CopyOutcome::Unreadable(error),
            None if progress.there.contains(key) => {
                CopyOutcome::Present { relabelled: self.add_labels(progress, key)? }
            }
            None => {
                self.commit(progress, key, &sealed)?;
                sent.bytes_stored += sealed.len() as u64;
                progress.there.insert(key.clone());
                CopyOutcome::Copied
            }
        };
        copied.note(key, outcome, sent);
        Ok(())
    }

    /// Sends what a revision reaches, as far as it can be read; the error is why it can't.
    fn transfer(&self, reach: &Reach<'_>, progress: &mut Progress<'a>) -> Result<(Sent, Option<Error>)> {
        let target = self.target.store();
        let writer = StoreWriter::new(target, progress.place.bad.clone(), false)?;
        let goes_as_stored = reach.store.header().compression == target.header().compression;
        let Progress { blobs, seen, .. } = &mut *progress;
        let mut transfer = Transfer::new(blobs, target, goes_as_stored, writer, seen, self.monitor);
        let stopped = match reach.send(&mut transfer) {
            Ok(()) => None,
            // What was sent until then is kept for the next run.
            Err(Stop::Run(Error::Cancelled)) => {
                transfer.finish()?;
                return Err(Error::Cancelled);
            }
            Err(Stop::Run(error)) => return Err(error),
            Err(Stop::Unreadable(error)) => Some(error),
        };
        // Whether it is all of the revision or not: others may need it.
        let (sent, stored) = transfer.finish()?;
        if stopped.is_some() {
            // What was seen may lack what was still to come.
            progress.seen = Seen::default();
        }
        self.note_healed(&stored, progress);
        Ok((sent, stopped))
    }

    /// A revision from which it is known what the target has.
    fn choose_base(&self, key: &RecordKey, progress: &mut Progress<'a>) -> Result<Option<ObjectId>> {
        if progress.heals {
            return Ok(None);
        }
        let near = nearest(&progress.there, key);
        let Some((near, &root)) = near.and_then(|near| progress.roots.get_key_value(near)) else {
            return Ok(None);
        };
        let index = self.target.store().index();
        let is_base = progress.place.hold_base(self.target, near, root)?
            && is_whole(self.source.store(), self.request.stream.kind, &root, index)?;
        Ok(is_base.then_some(root))
    }

    fn note_healed(&self, stored: &Stored, progress: &mut Progress<'a>) {
        stored.healed.iter().for_each(|id| _ = progress.place.bad.remove(id));
        // What was healed may be taken off the list another time.
        if let Err(error) = self.target.change_damage(Vec::new(), &stored.healed, false) {
            self.monitor.warn(&format!("the damage list could not be changed: {error}"));
        }
    }
}

/// Bytes of a revision that are to be seen to, about.
fn data_bytes(record: &Record) -> u64 {
    match &record.content {
        Content::Image(image) => image.data_bytes,
        Content::Tree(tree) => tree.bytes,
    }
}
