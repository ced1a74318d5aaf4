//! Backup of an image: all of it, or what hints name.

mod base;
mod change_count;
mod hints;
mod map_builder;
mod pipeline;
mod plan;
mod sample;
mod stream;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

pub(crate) use hints::Hints;
use pipeline::{Context, Outcome};
use plan::{FullPlan, Piece, hinted_plan};

use super::{Made, Run, unsettled};
use crate::error::{Corrupt, Error, Result};
use crate::extent::joined;
use crate::format::{
    BadObject, Content, Counters, FileEvidence, HintEvidence, ImageContent, Method, ObjectType, Record,
    Timestamp,
};
use crate::id::ObjectId;
use crate::revision::{MapReader, diff_maps};
use crate::source::ImageSource;
use crate::store::{StoreWriter, Stored};

/// Lost chunks that are marked: the next run finds the rest.
const LOST_MAX: usize = 1000;

const LOST_ON_THE_WAY: &str = "a table that named some of the newest revision's chunks is lost, which showed only on the way; run the backup again, to store them anew";

/// The backup of an image on its way.
pub(super) struct ImageBackup<'r, 'a> {
    run: &'r mut Run<'a>,
    hints: Option<Hints>,
    /// What was read of the source besides what the revision is made of: to test hints, or in vain.
    bytes_besides: u64,
}

impl<'r, 'a> ImageBackup<'r, 'a> {
    /// `hints` are void where newer records than their base can't be read: what changed between the base and these may
    /// not be in them.
    pub(super) fn new(run: &'r mut Run<'a>, mut hints: Option<Hints>) -> Self {
        if run.place.hints_are_void && hints.take().is_some() {
            run.warn(
                "the hints are relative to a revision that can't be read: everything is read".to_owned(),
            );
        }
        Self { run, hints, bytes_besides: 0 }
    }

    /// Backs up what can be read at any place.
    pub(super) fn back_up_image(&mut self, source: &dyn ImageSource) -> Result<Made> {
        let evidence = source.evidence()?;
        refuse_other_size(source, evidence.as_ref())?;
        if let Some(made) = self.take_over_unchanged(evidence.as_ref())? {
            return Ok(made);
        }
        // After the evidence was taken: what is written from now on has a later time. It may take long, and so may the
        // calls that write meanwhile.
        let begin = Timestamp::now();
        let clean_at = source.write_back().then_some(begin);
        let mut made = match self.hints.take().filter(|_| !self.run.options.force_read) {
            Some(hints) => self.read_hinted(source, &hints)?,
            None => self.read_all(source, None)?,
        };
        let after = source.evidence()?;
        // What was cut off while it was read would pass for holes.
        refuse_other_size(source, after.as_ref().filter(|after| after.size < source.size()))?;
        made.evidence = self.settle(evidence, after, clean_at);
        if let Some(evidence) = made.evidence.as_mut().filter(|_| made.method == Method::Hints) {
            // Only what the hints named was read: times that stay the same prove nothing about the rest.
            evidence.unsettled = true;
        }
        Ok(made)
    }

    /// Backs up bytes that come once.
    pub(super) fn back_up_stream(
        &mut self,
        name: String,
        bytes: Box<dyn std::io::Read + Send>,
    ) -> Result<Made> {
        self.run.monitor.begin("reading", None);
        let base = self.parent_map().filter(|_| !self.run.options.force_read);
        let steps = stream::steps_of_stream(bytes, name, self.run.repository.header().chunk_size)?;
        let (outcome, stored) = self.run_pipeline(None, base.as_ref(), steps)?;
        let lost = self.lost_objects(&outcome, LOST_MAX)?;
        if !lost.is_empty() {
            // It does not come twice. What is marked is not relied upon by the next run.
            let bad = |id| BadObject::new(id, ObjectType::Chunk, "no index table names it".to_owned());
            self.run.repository.change_damage(lost.into_iter().map(bad).collect(), &[], false)?;
            return Err(Corrupt::new("the index", LOST_ON_THE_WAY).into());
        }
        self.made(outcome, stored, Method::Read, None)
    }

    /// The file's size and times stand as recorded, and nothing that the parent has is known to be bad: it is not read.
    fn take_over_unchanged(&mut self, evidence: Option<&FileEvidence>) -> Result<Option<Made>> {
        let (Some(evidence), Some(parent)) = (evidence, &self.run.place.parent) else { return Ok(None) };
        let wanted = !self.run.options.force_read && self.hints.is_none();
        if !wanted || evidence.unsettled || parent.evidence.as_ref() != Some(evidence) {
            return Ok(None);
        }
        let Some(map) = self.usable_map(parent) else { return Ok(None) };
        let parents = std::slice::from_ref(parent);
        if !self.run.repository.damaged_revisions(&self.run.place.damage, parents)?.is_empty() {
            self.run.monitor.warn("the newest revision is damaged: the source is read to heal it");
            return Ok(None);
        }
        if !self.is_stored(&parent.root(), &map)? {
            let reason = "some of what the newest revision is made of is lost, or in no index table: the source is read";
            self.run.monitor.warn(reason);
            return Ok(None);
        }
        Ok(Some(Made {
            content: parent.content.clone(),
            method: Method::Unchanged,
            hints: None,
            evidence: Some(evidence.clone()),
            counters: Counters {
                chunks_total: map.root().top.map_or(0, |top| top.chunk_count),
                ..Counters::default()
            },
            healed: Vec::new(),
        }))
    }

    /// Reads all data of the source.
    fn read_all(&mut self, source: &dyn ImageSource, hints: Option<HintEvidence>) -> Result<Made> {
        let (mut outcome, mut stored) = self.read_once(source)?;
        if !self.lost_objects(&outcome, 1)?.is_empty() {
            self.run
                .monitor
                .warn("index tables are lost, which showed only on the way: the source is read again");
            // From now on everything is looked up.
            let (again, stored_again) = self.read_once(source)?;
            self.bytes_besides += outcome.bytes_read;
            outcome = Outcome { chunks_new: outcome.chunks_new + again.chunks_new, ..again };
            stored = Stored { bytes: stored.bytes + stored_again.bytes, ..stored_again };
        }
        self.made(outcome, stored, Method::Read, hints)
    }

    fn read_once(&mut self, source: &dyn ImageSource) -> Result<(Outcome, Stored)> {
        self.run.monitor.begin("reading", Some(source.size()));
        let chunk_size = self.run.repository.header().chunk_size;
        let base = self.parent_map().filter(|_| !self.run.options.force_read);
        let steps = pipeline::steps_of_plan(FullPlan::new(source, chunk_size), source, chunk_size);
        self.run_pipeline(Some(source), base.as_ref(), steps)
    }

    /// What a new map refers to and is nowhere. If tables are lost, what was relied upon before that showed may have passed
    /// the filters of others by chance.
    fn lost_objects(&self, outcome: &Outcome, count_max: usize) -> Result<Vec<ObjectId>> {
        let store = self.run.repository.store();
        // The map of a dry run was not stored.
        if self.run.options.dry_run || !store.index().has_lost_tables() {
            return Ok(Vec::new());
        }
        let map = MapReader::open(store, &outcome.root_id)?;
        base::lost_objects(store.index(), &map, self.run.monitor, count_max)
    }

    /// Reads what the hints name, after a sample of the rest was found to be as in the base.
    fn read_hinted(&mut self, source: &dyn ImageSource, hints: &Hints) -> Result<Made> {
        if !self.base_is_stored()? {
            let reason =
                "some of what the hints' base is made of is lost, or in no index table: everything is read";
            self.run.warn(reason.to_owned());
            return self.read_all(source, None);
        }
        match self.try_hinted(source, hints) {
            Ok(Hinted::Made(made)) => Ok(*made),
            Ok(Hinted::NotBelieved(evidence)) => self.read_all(source, Some(evidence)),
            Err(error) if error.is_damage() => {
                self.run.warn(format!("{error}; the hints' base is damaged, everything is read"));
                self.read_all(source, None)
            }
            Err(error) => Err(error),
        }
    }

    fn try_hinted(&mut self, source: &dyn ImageSource, hints: &Hints) -> Result<Hinted> {
        let chunk_size = self.run.repository.header().chunk_size;
        let slot_count = source.size().div_ceil(chunk_size.into());
        let base = match self.run.place.hints_base.clone() {
            Some(record) => Some(self.open_base(&record)?),
            None => None,
        };
        let mut also_read: Vec<Range<u64>> =
            base.as_ref().and_then(|base| boundary(base, source.size())).into_iter().collect();
        let bad = self.run.bad_objects();
        if let Some(base) = base.as_ref().filter(|_| !bad.is_empty()) {
            also_read.extend(base::bad_slots(base, |id| bad.contains(id))?);
        }
        also_read.retain_mut(|range| {
            range.end = range.end.min(slot_count);
            !range.is_empty()
        });
        let pieces = hinted_plan(hints, &also_read, chunk_size, slot_count, source.size(), base.is_some());
        let named: Vec<Range<u64>> =
            pieces.iter().filter(|piece| !is_rest(piece, base.is_some())).map(Piece::range).collect();
        let named = joined(named);
        let sampled =
            sample::sample(source, base.as_ref(), &named, chunk_size, self.run.repository.store().hasher())?;
        self.bytes_besides = sampled.bytes_read;
        let evidence = HintEvidence {
            base: self.run.place.hints_base.as_ref().map(|record| record.id),
            range_count: hints.ranges.len() as u64,
            range_bytes: hints.byte_count(),
            sampled_chunks: sampled.chunk_count,
            differing_offset: sampled.differing_offset,
        };
        if let Some(offset) = sampled.differing_offset {
            self.run.warn(format!(
                "the hints are wrong: the chunk at offset {offset} is not named by them, but differs from their base; everything is read"
            ));
            return Ok(Hinted::NotBelieved(evidence));
        }
        self.run.monitor.begin("reading", Some(source.size()));
        // Holes of the source are not read, hinted or not: a sparse file may have grown by terabytes.
        let without_holes = |piece| -> Box<dyn Iterator<Item = Result<Piece>> + Send> {
            match piece {
                Piece::Read(slots) => Box::new(FullPlan::within(source, chunk_size, slots)),
                other => Box::new(std::iter::once(Ok(other))),
            }
        };
        let plan = pieces.into_iter().flat_map(without_holes);
        let steps = pipeline::steps_of_plan(plan, source, chunk_size);
        let (outcome, stored) = self.run_pipeline(Some(source), base.as_ref(), steps)?;
        if !self.lost_objects(&outcome, 1)?.is_empty() {
            self.bytes_besides += outcome.bytes_read;
            self.run.warn("some of what the hints' base is made of is lost: everything is read".to_owned());
            return Ok(Hinted::NotBelieved(evidence));
        }
        let made = self.made(outcome, stored, Method::Hints, Some(evidence))?;
        Ok(Hinted::Made(Box::new(made)))
    }

    /// The map of a hints' base, which must have the chunk size of now.
    fn open_base(&self, record: &Record) -> Result<MapReader> {
        let map = MapReader::open(self.run.repository.store(), &record.root())?;
        if map.root().chunk_size != self.run.repository.header().chunk_size {
            return Err(Error::Hints {
                reason: format!("their base {} has another chunk size", record.name),
            });
        }
        Ok(map)
    }

    /// Whether the hints' base may be taken over unread, as far as that is told without reading it.
    fn base_is_stored(&self) -> Result<bool> {
        let Some(record) = &self.run.place.hints_base else { return Ok(true) };
        match MapReader::open(self.run.repository.store(), &record.root()) {
            Ok(map) => self.is_stored(&record.root(), &map),
            // Told when it is opened again.
            Err(error) if error.is_damage() => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn is_stored(&self, root: &ObjectId, map: &MapReader) -> Result<bool> {
        base::is_stored(self.run.repository.store().index(), root, map, self.run.monitor)
    }

    /// The parent's map, if there is one to compare with.
    fn parent_map(&self) -> Option<MapReader> {
        self.run.place.parent.as_ref().and_then(|parent| self.usable_map(parent))
    }

    fn usable_map(&self, record: &Record) -> Option<MapReader> {
        match MapReader::open(self.run.repository.store(), &record.root()) {
            Ok(map) => {
                Some(map).filter(|map| map.root().chunk_size == self.run.repository.header().chunk_size)
            }
            Err(error) => {
                self.run.monitor.warn(&format!("{error}; the parent is not relied upon"));
                None
            }
        }
    }

    fn run_pipeline(
        &mut self,
        source: Option<&dyn ImageSource>,
        base: Option<&MapReader>,
        steps: impl Iterator<Item = Result<pipeline::Step>> + Send,
    ) -> Result<(Outcome, Stored)> {
        let store = self.run.repository.store();
        let bad = self.run.bad_objects();
        let dry_run = self.run.options.dry_run;
        let mut writer = StoreWriter::new(store, bad, dry_run)?;
        let parent = if dry_run { self.parent_map() } else { None };
        let context = Context {
            hasher: store.hasher().clone(),
            compression: store.header().compression,
            chunk_size: store.header().chunk_size,
            base,
            presence: writer.presence(),
            source,
            counted: parent.as_ref(),
            base_damage: Mutex::default(),
        };
        let run =
            pipeline::run(&context, steps, source.map(ImageSource::size), &mut writer, self.run.monitor);
        let interrupted = matches!(run, Err(Error::Cancelled | Error::SourceRead { .. }))
            && self.run.monitor.is_cancelled();
        if interrupted {
            // A stream's producer may have been ended by the same signal. What was done so far is kept for the next run.
            writer.finish()?;
            return Err(Error::Cancelled);
        }
        let outcome = run?;
        if let Some(error) = context.base_damage.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.run.warn(format!("{error}; what it covers was read and stored anew"));
        }
        Ok((outcome, writer.finish()?))
    }

    fn made(
        &self,
        outcome: Outcome,
        stored: Stored,
        method: Method,
        hints: Option<HintEvidence>,
    ) -> Result<Made> {
        let root = outcome.root;
        let (data_bytes, chunks_total) = root.top.map_or((0, 0), |top| (top.data_bytes, top.chunk_count));
        let bytes_changed = match self.parent_map() {
            // The new map was not stored, so it was counted on the way.
            Some(_) if self.run.options.dry_run => outcome.bytes_differing,
            Some(parent) => {
                let map = MapReader::open(self.run.repository.store(), &outcome.root_id)?;
                // Where the parent can't be read in part, as when it is healed, what differed from the rest is told.
                changed_bytes(&parent, &map).unwrap_or(outcome.bytes_differing)
            }
            None => data_bytes,
        };
        Ok(Made {
            content: Content::Image(ImageContent { root: outcome.root_id, size: root.size, data_bytes }),
            method,
            hints,
            evidence: None,
            counters: Counters {
                bytes_read: outcome.bytes_read + self.bytes_besides,
                bytes_changed,
                bytes_stored: stored.bytes,
                chunks_total,
                chunks_new: outcome.chunks_new,
                nanoseconds: 0,
            },
            healed: stored.healed,
        })
    }

    /// What is recorded of the file: whether a later change could show the same times.
    fn settle(
        &mut self,
        before: Option<FileEvidence>,
        after: Option<FileEvidence>,
        clean_at: Option<Timestamp>,
    ) -> Option<FileEvidence> {
        let before = before?;
        if after.as_ref() != Some(&before) {
            self.run.source_changed = true;
            self.run.warn(
                "the file changed while it was read: the revision may hold parts of two states".to_owned(),
            );
        }
        Some(match clean_at {
            Some(clean_at) => unsettled::judge(before, after.as_ref(), clean_at),
            None => FileEvidence { unsettled: true, ..before },
        })
    }
}

/// A file that is not as long as it was when it was opened would be cut off, or end in holes that it does not have.
fn refuse_other_size(source: &dyn ImageSource, found: Option<&FileEvidence>) -> Result<()> {
    match found {
        Some(found) if found.size != source.size() => Err(Error::SourceRead {
            path: source.name(),
            offset: found.size.min(source.size()),
            reason: format!("its size is {} bytes, but was {} when it was opened", found.size, source.size()),
        }),
        _ => Ok(()),
    }
}

enum Hinted {
    Made(Box<Made>),
    NotBelieved(HintEvidence),
}

/// Whether a piece is what the hints left out.
fn is_rest(piece: &Piece, has_base: bool) -> bool {
    match piece {
        Piece::Base(_) => true,
        Piece::Holes(_) => !has_base,
        Piece::Read(_) => false,
    }
}

/// Slots that hints need not name, but that differ because the size does: from the end of the shorter one on.
fn boundary(base: &MapReader, size: u64) -> Option<Range<u64>> {
    let (chunk_size, base_size) = (u64::from(base.root().chunk_size), base.root().size);
    let first = base_size.min(size) / chunk_size;
    (base_size != size).then_some(first..size.div_ceil(chunk_size))
}

/// Bytes of the chunks in which two maps differ; `None` where a node can't be read.
fn changed_bytes(parent: &MapReader, map: &MapReader) -> Option<u64> {
    let size = map.root().size.max(parent.root().size);
    let chunk_size = u64::from(map.root().chunk_size);
    let bytes = |range: &Range<u64>| (range.end * chunk_size).min(size) - range.start * chunk_size;
    diff_maps(parent, map).ok().map(|ranges| ranges.iter().map(bytes).sum())
}
