//! Restore of an image: to a new file, over an existing one, or to a block device.
//!
//! A new file is written under a name of its own beside the target and appears by rename at the end, so nobody takes
//! half an image for a whole one. Where an existing target is written in place, stale bytes become zeros: a hole
//! that leaves old data where it was would be corruption.

mod block_devices;
mod target;
mod write;

use std::ops::Range;
use std::path::Path;

use target::Target;
pub use target::partial_file;

use super::RestoreOptions;
use crate::error::{Error, Result};
use crate::extent::push_joined;
use crate::format::Slot;
use crate::monitor::Monitor;
use crate::parallel;
use crate::repository::Repository;
use crate::revision::{ImageReader, Sought};

/// What the restore of an image did.
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

/// So many bytes are written before they are sent on to the medium.
const SYNC_BYTES: u64 = 64 << 20;

/// Restores an image. `revision` names it in messages.
///
/// Ranges that have no intact copy are left as they are, and all else is written: in place and on a device they still
/// hold what was there before. A new file is not given its name then; [`partial_file`] tells where it lies.
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
    let (report, damaged, detail) = (RestoreReport::default(), Vec::new(), String::new());
    let mut restoring = Restoring { image, target: &target, monitor, report, damaged, detail };
    monitor.begin("restoring", Some(image.size()));
    restoring.write_all()?;
    let Restoring { mut report, damaged, detail, .. } = restoring;
    // Also with damage: what could be read is to last.
    target.sync()?;
    if !damaged.is_empty() {
        return Err(Error::Damaged { revision: revision.to_owned(), ranges: damaged, detail });
    }
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

/// A restore on its way. Workers read and compare; the calling thread alone writes, since a file system lets one
/// writer at a time into a file anyway.
struct Restoring<'a> {
    image: &'a ImageReader,
    target: &'a Target,
    monitor: &'a dyn Monitor,
    report: RestoreReport,
    /// Ranges of bytes without an intact copy, neighbours joined, and what the first failure was.
    damaged: Vec<Range<u64>>,
    detail: String,
}

/// A range of slots that are all data or all holes.
enum Part {
    Data(Range<u64>),
    Holes(Range<u64>),
}

/// A part that is ready to be written.
enum Ready {
    Data(Batch),
    Holes(Range<u64>),
}

#[derive(Default)]
struct Batch {
    bytes_done: u64,
    bytes_compared: u64,
    /// Runs of bytes, and where they go.
    runs: Vec<(u64, Vec<u8>)>,
    damaged: Vec<(Range<u64>, Error)>,
}

impl Batch {
    /// Notes a range that has no intact copy. Other errors end the restore.
    fn lose(&mut self, offset: u64, length: u64, error: Error) -> Result<()> {
        if !error.is_loss() {
            return Err(error);
        }
        self.damaged.push((offset..offset + length, error));
        Ok(())
    }
}

impl Restoring<'_> {
    fn write_all(&mut self) -> Result<()> {
        let (image, target) = (self.image, self.target);
        let read = |(): &mut (), part| match part {
            Part::Data(slots) => read_batch(image, target, slots).map(Ready::Data),
            Part::Holes(slots) => Ok(Ready::Holes(slots)),
        };
        // What is written goes to the medium meanwhile, so that the sync at the end has little left to wait for.
        let (written, to_sync) = crossbeam_channel::bounded::<()>(1);
        std::thread::scope(move |scope| {
            parallel::start_in(scope, move || to_sync.into_iter().for_each(|()| target.start_sync()))?;
            let mut unsynced = 0;
            parallel::ordered(
                parts(image),
                || (),
                read,
                |ready| {
                    let before = self.report.bytes_written;
                    self.take(ready)?;
                    unsynced += self.report.bytes_written - before;
                    if unsynced >= SYNC_BYTES && written.try_send(()).is_ok() {
                        unsynced = 0;
                    }
                    Ok(())
                },
            )
        })
    }

    fn take(&mut self, ready: Ready) -> Result<()> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match ready {
            Ready::Holes(slots) => {
                let (offset, length) = bytes_of(self.image, &slots);
                self.target.make_zero(offset, length, self.monitor)?;
                self.monitor.advance(length);
            }
            Ready::Data(batch) => {
                for (offset, bytes) in &batch.runs {
                    self.target.write_at(*offset, bytes)?;
                    self.report.bytes_written += bytes.len() as u64;
                }
                self.report.bytes_compared += batch.bytes_compared;
                for (range, error) in batch.damaged {
                    if self.damaged.is_empty() {
                        self.detail = error.to_string();
                    }
                    push_joined(&mut self.damaged, range);
                }
                self.monitor.advance(batch.bytes_done);
            }
        }
        Ok(())
    }
}

/// The image in pieces of a thread's size; holes as long as they are.
fn parts(image: &ImageReader) -> impl Iterator<Item = Result<Part>> + '_ {
    let map = image.map();
    let batch = (BATCH_BYTES / u64::from(image.chunk_size())).max(1);
    let count = map.slot_count();
    let (mut position, mut data_end) = (0, 0);
    std::iter::from_fn(move || {
        if position >= count {
            return None;
        }
        let mut next = || {
            if position >= data_end {
                let start = map.next(position, Sought::Data)?.unwrap_or(count);
                data_end = map.next(start, Sought::Hole)?.unwrap_or(count);
                if position < start {
                    let hole = position..start;
                    position = start;
                    return Ok(Part::Holes(hole));
                }
            }
            // Aligned, so that a batch lies in one leaf of the map.
            let slots = position..((position / batch + 1) * batch).min(data_end);
            position = slots.end;
            Ok(Part::Data(slots))
        };
        let part = next();
        if part.is_err() {
            position = u64::MAX;
        }
        Some(part)
    })
}

/// Offset and length in bytes.
fn bytes_of(image: &ImageReader, slots: &Range<u64>) -> (u64, u64) {
    let chunk_size = u64::from(image.chunk_size());
    let start = slots.start * chunk_size;
    (start, (slots.end * chunk_size).min(image.size()) - start)
}

/// Reads what must be written of some slots.
fn read_batch(image: &ImageReader, target: &Target, slots: Range<u64>) -> Result<Batch> {
    let (offset, length) = bytes_of(image, &slots);
    let mut batch = Batch { bytes_done: length, ..Batch::default() };
    if !target.compares() {
        let mut bytes = vec![0; length as usize];
        if image.read_at(offset, &mut bytes).is_ok() {
            batch.runs.push((offset, bytes));
            return Ok(batch);
        }
    }
    if let Err(error) = image.map().slots(slots.clone()) {
        // One leaf is over all of them: asking for each would only take longer.
        batch.lose(offset, length, error)?;
        return Ok(batch);
    }
    // Piece by piece, where only what differs is written, or some piece is damaged.
    for slot in slots {
        read_chunk(image, target, slot, &mut batch)?;
    }
    Ok(batch)
}

fn read_chunk(image: &ImageReader, target: &Target, slot: u64, batch: &mut Batch) -> Result<()> {
    let (offset, length) = bytes_of(image, &(slot..slot + 1));
    let mut bytes = vec![0; length as usize];
    if target.compares()
        && let content @ Slot::Chunk(_) = image.map().slot(slot)?
    {
        // The hash tells whether the target has it already: nothing is read from the repository.
        target.read_at(offset, &mut bytes)?;
        batch.bytes_compared += length;
        if content.matches(image.hasher(), &bytes) {
            return Ok(());
        }
    }
    match image.read_at(offset, &mut bytes) {
        Ok(_) => batch.runs.push((offset, bytes)),
        Err(error) => batch.lose(offset, length, error)?,
    }
    Ok(())
}

/// Reads the target back and compares it with the image: data by hash, holes with zero. What is a hole in both is not read.
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
        let (offset, length) = bytes_of(image, &slots);
        if contents.iter().all(|content| *content == Slot::Hole) && target.is_hole(offset, length) {
            monitor.advance(length);
            return Ok(());
        }
        for (slot, content) in slots.zip(contents) {
            let offset = slot * chunk_size;
            let mut bytes = vec![0; chunk_size.min(image.size() - offset) as usize];
            target.read_at(offset, &mut bytes)?;
            if !content.matches(image.hasher(), &bytes) {
                return Err(Error::VerifyFailed { path: target.name(), offset });
            }
            monitor.advance(bytes.len() as u64);
        }
        Ok(())
    })?;
    Ok(image.size())
}
