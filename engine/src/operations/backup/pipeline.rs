//! The way of the bytes: reader, hash, comparison with the base, look-up, compression, pack.
//!
//! A feeder says in order what is to be done; workers read, hash and compress batches side by side; the calling thread
//! takes the results in the feeder's order, so packs and maps are the same whatever the workers' timing. Every
//! channel is bounded, and with them the memory.

use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::map_builder::MapBuilder;
use super::plan::Piece;
use crate::error::{Error, Result};
use crate::format::{BlobEncoder, Compression, ObjectHasher, ObjectType, Root, Slot};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::revision::MapReader;
use crate::source::ImageSource;
use crate::store::{Presence, StoreWriter};

/// Bytes that a worker takes at a time: large enough for the disk, small enough to stay in a core's cache.
const BATCH_BYTES: u64 = 1 << 20;

/// What the workers share.
pub(super) struct Context<'a> {
    pub(super) hasher: ObjectHasher,
    pub(super) compression: Compression,
    pub(super) chunk_size: u32,
    /// What is compared with: a chunk that equals the one at its place needs no look-up.
    pub(super) base: Option<&'a MapReader>,
    /// Chunks that must be stored anew though the base has them.
    pub(super) bad: std::collections::HashSet<ObjectId>,
    pub(super) presence: Presence<'a>,
    /// Where batches without bytes of their own are read; `None` for streams.
    pub(super) source: Option<&'a dyn ImageSource>,
}

/// What came out of a run.
pub(super) struct Outcome {
    pub(super) root_id: ObjectId,
    pub(super) root: Root,
    pub(super) bytes_read: u64,
    pub(super) chunks_new: u64,
}

/// Takes what is to be done, in the order of the slots.
pub(super) struct Feeder {
    work: Sender<Work>,
    events: Sender<Event>,
    batch_slots: u64,
    chunk_size: u64,
}

/// A batch for a worker.
struct Work {
    slots: Range<u64>,
    bytes: Input,
    reply: Sender<Result<Batch>>,
}

enum Input {
    /// So many bytes are read from the source.
    Read(usize),
    /// These are the bytes.
    Given(Vec<u8>),
}

/// What the calling thread does next.
enum Event {
    Batch(Receiver<Result<Batch>>),
    Holes(u64),
    Base(u64),
}

/// A batch that a worker is done with.
struct Batch {
    bytes: u64,
    slots: Vec<(Slot, u32)>,
    /// Chunks to store, in their order.
    new: Vec<NewChunk>,
}

struct NewChunk {
    id: ObjectId,
    plain_len: u32,
    blob: Vec<u8>,
}

impl Feeder {
    /// Does what a plan says of a source of `size` bytes.
    pub(super) fn feed_plan(
        &self,
        plan: impl Iterator<Item = Result<Piece>>,
        source: &dyn ImageSource,
    ) -> Result<u64> {
        let size = source.size();
        for piece in plan {
            match piece? {
                Piece::Read(slots) => self.feed_read(slots, source, size)?,
                Piece::Holes(slots) => self.event(Event::Holes(slots.end))?,
                Piece::Base(slots) => self.event(Event::Base(slots.end))?,
            }
        }
        Ok(size)
    }

    fn feed_read(&self, slots: Range<u64>, source: &dyn ImageSource, size: u64) -> Result<()> {
        let mut start = slots.start;
        while start < slots.end {
            let end = (start + self.batch_slots).min(slots.end);
            let bytes = start * self.chunk_size..(end * self.chunk_size).min(size);
            source.will_read(bytes.clone());
            self.batch(start..end, Input::Read((bytes.end - bytes.start) as usize))?;
            start = end;
        }
        Ok(())
    }

    /// Reads a stream to its end; returns its size.
    pub(super) fn feed_stream(&self, stream: &mut dyn std::io::Read, name: &str) -> Result<u64> {
        let batch_bytes = (self.batch_slots * self.chunk_size) as usize;
        let mut size = 0;
        loop {
            let mut bytes = vec![0; batch_bytes];
            let length = read_full(stream, &mut bytes).map_err(|error| Error::SourceRead {
                path: name.to_owned(),
                offset: size,
                reason: error.to_string(),
            })?;
            bytes.truncate(length);
            let first = size / self.chunk_size;
            size += length as u64;
            if length > 0 {
                self.batch(first..size.div_ceil(self.chunk_size), Input::Given(bytes))?;
            }
            if length < batch_bytes {
                return Ok(size);
            }
        }
    }

    fn batch(&self, slots: Range<u64>, bytes: Input) -> Result<()> {
        let (reply, result) = bounded(1);
        self.event(Event::Batch(result))?;
        self.work.send(Work { slots, bytes, reply }).map_err(|_| Error::Cancelled)
    }

    /// Fails when the calling thread has given up; its own error is the one that counts.
    fn event(&self, event: Event) -> Result<()> {
        self.events.send(event).map_err(|_| Error::Cancelled)
    }
}

/// Runs `feed` and does what it says. `feed` returns the size of the image.
pub(super) fn run(
    context: &Context<'_>,
    feed: impl FnOnce(&Feeder) -> Result<u64> + Send,
    writer: &mut StoreWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let (work, work_queue) = bounded::<Work>(workers);
    let (events, event_queue) = bounded::<Event>(workers * 4);
    let chunk_size = u64::from(context.chunk_size);
    let batch_slots = (BATCH_BYTES / chunk_size).max(1);
    let feeder = Feeder { work, events, batch_slots, chunk_size };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let queue = work_queue.clone();
            scope.spawn(move || work_off(context, &queue));
        }
        drop(work_queue);
        let feeding = scope.spawn(move || feed(&feeder));
        let taken = take_results(context, event_queue, writer, monitor);
        let size = feeding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // An error of the calling thread is the cause of the feeder's.
        let (builder, bytes_read, chunks_new) = taken?;
        let (root_id, root) = builder.finish(size?, writer)?;
        Ok(Outcome { root_id, root, bytes_read, chunks_new })
    })
}

fn take_results(
    context: &Context<'_>,
    events: Receiver<Event>,
    writer: &mut StoreWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<(MapBuilder, u64, u64)> {
    let mut builder = MapBuilder::new(context.chunk_size);
    let (mut bytes_read, mut chunks_new) = (0, 0);
    for event in events {
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match event {
            Event::Holes(end) => {
                let bytes = (end - builder.position()) * u64::from(context.chunk_size);
                builder.push_holes(end, writer)?;
                monitor.advance(bytes);
            }
            Event::Base(end) => {
                let bytes = (end - builder.position()) * u64::from(context.chunk_size);
                match context.base {
                    Some(base) => builder.push_base(end, base, writer)?,
                    None => builder.push_holes(end, writer)?,
                }
                monitor.advance(bytes);
            }
            Event::Batch(result) => {
                let batch = result.recv().map_err(|_| Error::Cancelled)??;
                for chunk in batch.new {
                    let added = writer.add(ObjectType::Chunk, chunk.id, chunk.plain_len, &chunk.blob)?;
                    chunks_new += u64::from(added);
                }
                for (slot, length) in batch.slots {
                    builder.push_slot(slot, length, writer)?;
                }
                bytes_read += batch.bytes;
                monitor.advance(batch.bytes);
            }
        }
    }
    Ok((builder, bytes_read, chunks_new))
}

/// A worker: takes batches until there are no more.
fn work_off(context: &Context<'_>, queue: &Receiver<Work>) {
    let mut encoder = BlobEncoder::new(context.compression);
    let mut buffer = Vec::new();
    for work in queue {
        let batch = match &mut encoder {
            Ok(encoder) => work_on(context, work.slots, work.bytes, encoder, &mut buffer),
            Err(error) => Err(Error::BadParameter { what: "compression", reason: error.to_string() }),
        };
        // Nobody waits for it any more when the run was given up.
        let _ = work.reply.send(batch);
    }
}

fn work_on(
    context: &Context<'_>,
    slots: Range<u64>,
    input: Input,
    encoder: &mut BlobEncoder,
    buffer: &mut Vec<u8>,
) -> Result<Batch> {
    let bytes = match &input {
        Input::Given(bytes) => bytes.as_slice(),
        Input::Read(length) => {
            if buffer.len() < *length {
                buffer.resize(*length, 0);
            }
            let bytes = buffer.get_mut(..*length).unwrap_or_default();
            if let Some(source) = context.source {
                source.read_at(slots.start * u64::from(context.chunk_size), bytes)?;
            }
            bytes
        }
    };
    let in_base = match context.base {
        Some(base) => base.slots(slots)?,
        None => Vec::new(),
    };
    let mut batch =
        Batch { bytes: bytes.len() as u64, slots: Vec::with_capacity(in_base.len()), new: Vec::new() };
    for (index, content) in bytes.chunks(context.chunk_size as usize).enumerate() {
        let plain_len = content.len() as u32;
        let slot = match is_zero(content) {
            true => Slot::Hole,
            false => Slot::Chunk(context.hasher.id(ObjectType::Chunk, content)),
        };
        batch.slots.push((slot, plain_len));
        let Slot::Chunk(id) = slot else { continue };
        let known = in_base.get(index) == Some(&slot) && !context.bad.contains(&id);
        if !known && !context.presence.contains(&id)? {
            batch.new.push(NewChunk { id, plain_len, blob: encoder.encode(content) });
        }
    }
    Ok(batch)
}

/// Whether all bytes are zero. Reads whole words; data is left at its first block that is not.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let zero_block = |block: &[u8]| block.iter().fold(0, |any, &byte| any | byte) == 0;
    bytes.chunks(256).all(zero_block)
}

fn read_full(stream: &mut dyn std::io::Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
