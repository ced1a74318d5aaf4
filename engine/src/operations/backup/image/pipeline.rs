//! The way of the bytes: reader, hash, comparison with the base, look-up, compression, pack.
//!
//! Workers read, hash and compress batches side by side; the calling thread takes the results in the order of the
//! slots, so packs and maps are the same whatever the workers' timing.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::super::chunks::{ChunkEncoder, NewChunk, is_zero, store_chunks};
use super::change_count::ChangeCount;
use super::map_builder::MapBuilder;
use super::plan::Piece;
use crate::error::{Error, Result};
use crate::format::{Compression, ObjectHasher, ObjectType, Root, Slot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::parallel;
use crate::revision::MapReader;
use crate::source::ImageSource;
use crate::store::{Presence, StoreWriter};

/// Bytes that a worker takes at a time: large enough for the disk, small enough to stay in a core's cache.
const BATCH_BYTES: u64 = 1 << 20;

/// The system is told of so many batches before they are read, so that a disk has enough to do.
const BATCHES_AHEAD: usize = 16;

/// What the workers share.
pub(super) struct Context<'a> {
    pub(super) hasher: ObjectHasher,
    pub(super) compression: Compression,
    pub(super) chunk_size: u32,
    /// What is compared with: a chunk that equals the one at its place needs no look-up.
    pub(super) base: Option<&'a MapReader>,
    pub(super) presence: Presence<'a>,
    /// Where batches without bytes of their own are read; `None` for streams.
    pub(super) source: Option<&'a dyn ImageSource>,
    /// The parent's map, where changes must be counted since none will be stored that could be compared.
    pub(super) counted: Option<&'a MapReader>,
    /// What was wrong where the base could not be read.
    pub(super) base_damage: Mutex<Option<Error>>,
}

impl Context<'_> {
    /// What the base has in these places. Where it can't be read it has nothing: comparing is a help, and what is not
    /// known to be there is stored.
    fn slots_of_base(&self, slots: Range<u64>) -> Result<Vec<Slot>> {
        match self.base.map(|base| base.slots(slots)) {
            None => Ok(Vec::new()),
            Some(Err(error)) if error.is_damage() => {
                let mut noted = self.base_damage.lock().unwrap_or_else(PoisonError::into_inner);
                noted.get_or_insert(error);
                Ok(Vec::new())
            }
            Some(slots) => slots,
        }
    }
}

/// What came out of a run.
pub(super) struct Outcome {
    pub(super) root_id: ObjectId,
    pub(super) root: Root,
    pub(super) bytes_read: u64,
    /// Bytes of the chunks that were read and are not as in the base.
    pub(super) bytes_differing: u64,
    pub(super) chunks_new: u64,
}

/// One thing to do, in the order of the slots.
pub(super) enum Step {
    /// Bytes of the source, or given bytes, become slots.
    Batch { slots: Range<u64>, input: Input },
    /// Holes.
    Holes(Range<u64>),
    /// What the base has.
    Base(Range<u64>),
    /// Nothing has come yet: only a moment to see whether the run can go on.
    Wait,
}

pub(super) enum Input {
    /// So many bytes are read from the source.
    Read(usize),
    /// These are the bytes.
    Given(Vec<u8>),
}

/// A step that a worker is done with.
enum Done {
    Batch(Batch),
    Holes(Range<u64>),
    Base(Range<u64>),
    Wait,
}

struct Batch {
    /// Where the first of its slots belongs.
    start: u64,
    bytes: u64,
    bytes_differing: u64,
    slots: Vec<(Slot, u32)>,
    /// Chunks to store, in their order.
    new: Vec<NewChunk>,
}

pub(super) fn batch_slots(chunk_size: u32) -> u64 {
    (BATCH_BYTES / u64::from(chunk_size)).max(1)
}

/// The steps of a plan: what is read is cut into batches, and the source is told of them some way ahead.
pub(super) fn steps_of_plan<'a>(
    plan: impl Iterator<Item = Result<Piece>> + 'a,
    source: &'a dyn ImageSource,
    chunk_size: u32,
) -> impl Iterator<Item = Result<Step>> + 'a {
    let mut steps = batches_of_plan(plan, source, chunk_size);
    let mut ahead = VecDeque::with_capacity(BATCHES_AHEAD);
    std::iter::from_fn(move || {
        while ahead.len() < BATCHES_AHEAD {
            let Some(step) = steps.next() else { break };
            if let Ok(Step::Batch { slots, .. }) = &step {
                let chunk_size = u64::from(chunk_size);
                source.will_read(slots.start * chunk_size..slots.end * chunk_size);
            }
            ahead.push_back(step);
        }
        ahead.pop_front()
    })
}

fn batches_of_plan<'a>(
    mut plan: impl Iterator<Item = Result<Piece>> + 'a,
    source: &'a dyn ImageSource,
    chunk_size: u32,
) -> impl Iterator<Item = Result<Step>> + 'a {
    let batch_slots = batch_slots(chunk_size);
    let chunk_size = u64::from(chunk_size);
    let mut reading: Range<u64> = 0..0;
    std::iter::from_fn(move || {
        if reading.is_empty() {
            match plan.next()? {
                Ok(Piece::Holes(slots)) => return Some(Ok(Step::Holes(slots))),
                Ok(Piece::Base(slots)) => return Some(Ok(Step::Base(slots))),
                Ok(Piece::Read(slots)) => reading = slots,
                Err(error) => return Some(Err(error)),
            }
        }
        let slots = reading.start..(reading.start + batch_slots).min(reading.end);
        reading.start = slots.end;
        let bytes = slots.start * chunk_size..(slots.end * chunk_size).min(source.size());
        Some(Ok(Step::Batch { slots, input: Input::Read((bytes.end - bytes.start) as usize) }))
    })
}

/// Does all steps. `size` is that of the image; a stream's is known at its end.
pub(super) fn run(
    context: &Context<'_>,
    steps: impl Iterator<Item = Result<Step>> + Send,
    size: Option<u64>,
    writer: &mut StoreWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let mut assembly = Assembly {
        context,
        builder: MapBuilder::new(context.chunk_size),
        writer,
        monitor,
        bytes_read: 0,
        bytes_differing: 0,
        changes: context.counted.map(ChangeCount::new),
        chunks_new: 0,
    };
    parallel::ordered(
        steps,
        Worker::default,
        |worker, step| worker.work(context, step),
        |done| assembly.take(done),
    )?;
    let size = size.unwrap_or(assembly.bytes_read);
    let Assembly { builder, writer, bytes_read, bytes_differing, changes, chunks_new, .. } = assembly;
    let bytes_differing = match (changes, context.counted) {
        (Some(mut changes), Some(parent)) => {
            changes.holes(&(builder.position()..parent.slot_count()))?;
            changes.bytes
        }
        _ => bytes_differing,
    };
    let (root_id, root) = builder.finish(size, writer)?;
    Ok(Outcome { root_id, root, bytes_read, bytes_differing, chunks_new })
}

/// Where the results go, in order.
struct Assembly<'a, 'w, 's> {
    context: &'a Context<'a>,
    builder: MapBuilder,
    writer: &'w mut StoreWriter<'s>,
    monitor: &'a dyn Monitor,
    bytes_read: u64,
    bytes_differing: u64,
    changes: Option<ChangeCount<'a>>,
    chunks_new: u64,
}

impl Assembly<'_, '_, '_> {
    fn take(&mut self, done: Done) -> Result<()> {
        if self.monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // What is made durable meanwhile may have failed: nothing that comes after is of use then.
        self.writer.check()?;
        let from = self.builder.position();
        match done {
            Done::Holes(slots) => {
                self.expect_at(slots.start)?;
                self.changes.as_mut().map_or(Ok(()), |changes| changes.holes(&slots))?;
                self.builder.push_holes(slots.end, self.writer)?;
            }
            Done::Base(slots) => {
                self.expect_at(slots.start)?;
                match self.context.base {
                    Some(base) => {
                        self.changes.as_mut().map_or(Ok(()), |changes| changes.base(&slots, base))?;
                        self.builder.push_base(slots.end, base, self.writer)?;
                    }
                    None => self.builder.push_holes(slots.end, self.writer)?,
                }
            }
            Done::Batch(batch) => self.take_batch(batch)?,
            Done::Wait => {}
        }
        self.monitor.advance((self.builder.position() - from) * u64::from(self.context.chunk_size));
        Ok(())
    }

    /// A step that does not go on where the one before ended would put all that follows in wrong places: no revision may
    /// come of it.
    fn expect_at(&self, start: u64) -> Result<()> {
        let position = self.builder.position();
        if start == position {
            return Ok(());
        }
        let reason = format!("chunk {start} came where chunk {position} was due");
        Err(Error::NotStorable { object: "map", reason })
    }

    fn take_batch(&mut self, batch: Batch) -> Result<()> {
        self.expect_at(batch.start)?;
        self.changes.as_mut().map_or(Ok(()), |changes| changes.read(batch.start, &batch.slots))?;
        self.chunks_new += store_chunks(batch.new, self.writer)?.count;
        for (slot, length) in batch.slots {
            self.builder.push_slot(slot, length, self.writer)?;
        }
        self.bytes_read += batch.bytes;
        self.bytes_differing += batch.bytes_differing;
        Ok(())
    }
}

/// What a thread keeps between batches.
#[derive(Default)]
struct Worker {
    encoder: ChunkEncoder,
    buffer: Vec<u8>,
}

impl Worker {
    fn work(&mut self, context: &Context<'_>, step: Step) -> Result<Done> {
        match step {
            Step::Holes(slots) => Ok(Done::Holes(slots)),
            Step::Base(slots) => Ok(Done::Base(slots)),
            Step::Wait => Ok(Done::Wait),
            Step::Batch { slots, input } => self.batch(context, slots, input).map(Done::Batch),
        }
    }

    fn batch(&mut self, context: &Context<'_>, slots: Range<u64>, input: Input) -> Result<Batch> {
        let start = slots.start;
        let in_base = context.slots_of_base(slots)?;
        match input {
            Input::Given(bytes) => self.chunks(context, start, &bytes, &in_base),
            Input::Read(length) => {
                let offset = start * u64::from(context.chunk_size);
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(length.max(buffer.len()), 0);
                let bytes = buffer.get_mut(..length).unwrap_or_default();
                let read = context.source.map_or(Ok(()), |source| source.read_at(offset, bytes));
                let batch = read.and_then(|()| self.chunks(context, start, bytes, &in_base));
                self.buffer = buffer;
                batch
            }
        }
    }

    fn chunks(&mut self, context: &Context<'_>, start: u64, bytes: &[u8], in_base: &[Slot]) -> Result<Batch> {
        let mut batch = Batch {
            start,
            bytes: bytes.len() as u64,
            bytes_differing: 0,
            slots: Vec::new(),
            new: Vec::new(),
        };
        for (index, content) in bytes.chunks(context.chunk_size as usize).enumerate() {
            let plain_len = content.len() as u32;
            let slot = slot_of(content, &context.hasher);
            batch.slots.push((slot, plain_len));
            if in_base.get(index).copied().unwrap_or(Slot::Hole) != slot {
                batch.bytes_differing += u64::from(plain_len);
            }
            let Slot::Chunk(id) = slot else { continue };
            let known = in_base.get(index) == Some(&slot) && context.presence.stands(&id)?;
            if !known && !context.presence.contains(&id)? {
                batch.new.push(self.encoder.encode(context.compression, id, content)?);
            }
        }
        Ok(batch)
    }
}

/// What a map says of a chunk with this content.
pub(super) fn slot_of(content: &[u8], hasher: &ObjectHasher) -> Slot {
    match is_zero(content) {
        true => Slot::Hole,
        false => Slot::Chunk(hasher.id(ObjectType::Chunk, content)),
    }
}
