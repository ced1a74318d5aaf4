//! Restore of an image: to a new file, over an existing one, or to a block device.
//!
//! A new file is written under a name of its own beside the target and appears by rename at the end, so nobody takes
//! half an image for a whole one. Where an existing target is written in place, stale bytes become zeros: a hole
//! that leaves old data where it was would be corruption.

mod target;
mod write;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use target::Target;

use crate::error::{Error, Result};
use crate::format::{ObjectType, Slot};
use crate::monitor::Monitor;
use crate::parallel;
use crate::repository::Repository;
use crate::revision::{ImageReader, Sought};

/// How to treat what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Read the target and write only what differs; continues an interrupted restore.
    pub in_place: bool,
    /// Replace what is there.
    pub overwrite: bool,
    /// Read everything back from the target and compare.
    pub verify: bool,
}

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Bytes of data that were written.
    pub bytes_written: u64,
    /// Bytes of the target that were read and compared, to write only what differs.
    pub bytes_compared: u64,
    /// Bytes that were read back.
    pub bytes_verified: u64,
    /// Size of the image.
    pub size: u64,
    /// Bytes of the image that are not holes.
    pub data_bytes: u64,
    /// Bytes behind the image on a longer device, left as they were.
    pub tail_bytes: u64,
}

/// Slots that one thread restores at a time: about a MiB.
const BATCH_BYTES: u64 = 1 << 20;

/// Restores an image. `revision` names it in messages.
///
/// # Errors
/// [`Error::UnusableTarget`] before anything is written; [`Error::Damaged`] names all ranges that have no intact copy,
/// after everything else was written.
pub fn restore(
    image: &ImageReader,
    revision: &str,
    repository: &Repository,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let target = Target::open(target, repository, image.size(), options)?;
    let restoring = Restoring { image, target: &target, monitor, state: Mutex::default() };
    monitor.begin("restoring", Some(image.size()));
    restoring.write_all()?;
    let state = restoring.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !state.damaged.is_empty() {
        return Err(damaged(revision, state));
    }
    target.sync()?;
    let mut report = state.report;
    if options.verify {
        monitor.begin("verifying", Some(image.size()));
        report.bytes_verified = verify(image, &target, monitor)?;
    }
    report.size = image.size();
    report.data_bytes = image.data_bytes();
    report.tail_bytes = target.tail_bytes();
    target.publish()?;
    Ok(report)
}

/// A restore on its way.
struct Restoring<'a> {
    image: &'a ImageReader,
    target: &'a Target,
    monitor: &'a dyn Monitor,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: RestoreReport,
    /// Ranges without an intact copy, as (offset, length), and what the first failure was.
    damaged: Vec<(u64, u64)>,
    detail: String,
}

/// A range of slots that are all data or all holes.
enum Part {
    Data(std::ops::Range<u64>),
    Holes(std::ops::Range<u64>),
}

impl Restoring<'_> {
    fn write_all(&self) -> Result<()> {
        parallel::unordered(self.parts(), |part| {
            if self.monitor.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let slots = match part {
                Part::Data(slots) => {
                    for slot in slots.clone() {
                        self.write_chunk(slot)?;
                    }
                    slots
                }
                Part::Holes(slots) => {
                    self.write_hole(&slots)?;
                    slots
                }
            };
            self.monitor.advance(self.bytes(&slots).1);
            Ok(())
        })
    }

    /// The image in pieces of a thread's size; holes as long as they are.
    fn parts(&self) -> impl Iterator<Item = Result<Part>> + '_ {
        let map = self.image.map();
        let batch = (BATCH_BYTES / u64::from(self.image.chunk_size())).max(1);
        let count = map.slot_count();
        let (mut position, mut data_end) = (0, 0);
        std::iter::from_fn(move || {
            if position >= count {
                return None;
            }
            let mut next = || {
                if position < data_end {
                    let slots = position..(position + batch).min(data_end);
                    position = slots.end;
                    return Ok(Part::Data(slots));
                }
                let start = map.next(position, Sought::Data)?.unwrap_or(count);
                let hole = position..start;
                data_end = map.next(start, Sought::Hole)?.unwrap_or(count);
                if hole.is_empty() {
                    let slots = start..(start + batch).min(data_end);
                    position = slots.end;
                    return Ok(Part::Data(slots));
                }
                position = start;
                Ok(Part::Holes(hole))
            };
            let part = next();
            if part.is_err() {
                position = u64::MAX;
            }
            Some(part)
        })
    }

    /// Offset and length in bytes.
    fn bytes(&self, slots: &std::ops::Range<u64>) -> (u64, u64) {
        let chunk_size = u64::from(self.image.chunk_size());
        let start = slots.start * chunk_size;
        (start, (slots.end * chunk_size).min(self.image.size()) - start)
    }

    fn write_chunk(&self, slot: u64) -> Result<()> {
        let (offset, length) = self.bytes(&(slot..slot + 1));
        let content = self.image.map().slot(slot)?;
        if self.target.compares() && self.is_there_already(offset, length, content)? {
            return Ok(());
        }
        let mut bytes = vec![0; length as usize];
        if let Err(error) = self.image.read_at(offset, &mut bytes) {
            return self.note_damage(offset, length, error);
        }
        self.target.write_at(offset, &bytes)?;
        self.count(|report| report.bytes_written += length);
        Ok(())
    }

    /// Whether the target has the chunk: its hash tells, so nothing is read from the repository.
    fn is_there_already(&self, offset: u64, length: u64, content: Slot) -> Result<bool> {
        let Slot::Chunk(id) = content else { return Ok(false) };
        let mut bytes = vec![0; length as usize];
        self.target.read_at(offset, &mut bytes)?;
        self.count(|report| report.bytes_compared += length);
        Ok(self.image.hasher().id(ObjectType::Chunk, &bytes) == id)
    }

    fn write_hole(&self, slots: &std::ops::Range<u64>) -> Result<()> {
        let (offset, length) = self.bytes(slots);
        self.target.make_zero(offset, length, self.monitor)
    }

    fn note_damage(&self, offset: u64, length: u64, error: Error) -> Result<()> {
        if !error.is_damage() && !error.is_not_found() {
            return Err(error);
        }
        let mut state = self.lock();
        if state.damaged.is_empty() {
            state.detail = error.to_string();
        }
        state.damaged.push((offset, length));
        Ok(())
    }

    fn count(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.lock().report);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn damaged(revision: &str, mut state: State) -> Error {
    state.damaged.sort_unstable();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (offset, length) in state.damaged {
        match ranges.last_mut() {
            Some(last) if last.0 + last.1 == offset => last.1 += length,
            _ => ranges.push((offset, length)),
        }
    }
    Error::Damaged { revision: revision.to_owned(), ranges, detail: state.detail }
}

/// Reads the whole target back and compares it with the image: data by hash, holes with zero.
fn verify(image: &ImageReader, target: &Target, monitor: &dyn Monitor) -> Result<u64> {
    target.forget_cached();
    let chunk_size = u64::from(image.chunk_size());
    let batch = (BATCH_BYTES / chunk_size).max(1);
    let count = image.map().slot_count();
    let batches = (0..count).step_by(batch as usize).map(|start| Ok(start..(start + batch).min(count)));
    parallel::unordered(batches, |slots| {
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let contents = image.map().slots(slots.clone())?;
        for (slot, content) in slots.zip(contents) {
            let offset = slot * chunk_size;
            let mut bytes = vec![0; chunk_size.min(image.size() - offset) as usize];
            target.read_at(offset, &mut bytes)?;
            let same = match content {
                Slot::Chunk(id) => image.hasher().id(ObjectType::Chunk, &bytes) == id,
                Slot::Hole | Slot::Zeros => bytes.iter().all(|&byte| byte == 0),
            };
            if !same {
                return Err(Error::VerifyFailed { path: target.name(), offset });
            }
            monitor.advance(bytes.len() as u64);
        }
        Ok(())
    })?;
    Ok(image.size())
}
