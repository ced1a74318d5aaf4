//! From what a revision reaches to what the target lacks of it, on all cores.

use super::Sent;
use crate::error::{Error, Result};
use crate::format::{BlobEncoder, ObjectType};
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::parallel;
use crate::recent::Recent;
use crate::store::{BlobReader, Presence, Store, StoreWriter, Stored};

/// Why a revision is not copied.
#[derive(Debug)]
pub(super) enum Stop {
    /// The source does not give what it reaches.
    Unreadable(Error),
    /// The run is over: it was cancelled, or the target can't be written to.
    Run(Error),
}

impl From<Error> for Stop {
    /// Of what is read of the source.
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled => Self::Run(error),
            error => Self::Unreadable(error),
        }
    }
}

/// Objects that were seen to, lately at least, since this run began or a revision could not be read.
#[derive(Default)]
pub(super) struct Seen {
    nodes: Recent<()>,
    chunks: Recent<()>,
}

/// An object that a revision reaches.
struct Wanted {
    object_type: ObjectType,
    id: ObjectId,
    /// Bytes that it counts for in the progress.
    length: u64,
}

/// An object on its way.
enum Fetched {
    /// The target has it.
    Present {
        length: u64,
    },
    New {
        object_type: ObjectType,
        id: ObjectId,
        plain_len: u32,
        blob: Vec<u8>,
        length: u64,
    },
    Unreadable(Error),
}

/// Objects that are gathered before they are looked at by all cores: many, so that it pays to start these.
const BATCH: usize = 1 << 14;

/// Sends what a revision reaches.
pub(super) struct Transfer<'a> {
    route: Route<'a>,
    writer: StoreWriter<'a>,
    seen: &'a mut Seen,
    monitor: &'a dyn Monitor,
    batch: Vec<Wanted>,
    sent: Sent,
}

/// What the cores share.
struct Route<'a> {
    source: &'a BlobReader<'a>,
    target: &'a Store,
    presence: Presence<'a>,
    /// Whether both sides compress alike.
    goes_as_stored: bool,
}

impl<'a> Transfer<'a> {
    /// What is not sent as it is stored is compressed anew.
    pub(super) fn new(
        source: &'a BlobReader<'a>,
        target: &'a Store,
        goes_as_stored: bool,
        writer: StoreWriter<'a>,
        seen: &'a mut Seen,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let route = Route { source, target, presence: writer.presence(), goes_as_stored };
        Self { route, writer, seen, monitor, batch: Vec::new(), sent: Sent::default() }
    }

    /// Whether a node was seen to, and all below it.
    pub(super) fn has_seen_node(&self, id: &ObjectId) -> bool {
        self.seen.nodes.get(id).is_some()
    }

    /// Comes upon a node; whether to go on below it. If it was seen before, all was.
    pub(super) fn take_node(&mut self, object_type: ObjectType, id: &ObjectId) -> Result<bool, Stop> {
        let is_new = self.seen.nodes.insert(id, ());
        if is_new {
            self.take(Wanted { object_type, id: *id, length: 0 })?;
        }
        Ok(is_new)
    }

    /// Comes upon a chunk that gives the revision so many bytes.
    pub(super) fn take_chunk(&mut self, id: &ObjectId, length: u64) -> Result<(), Stop> {
        if self.seen.chunks.insert(id, ()) {
            return self.take(Wanted { object_type: ObjectType::Chunk, id: *id, length });
        }
        self.monitor.advance(length);
        self.go_on()
    }

    fn take(&mut self, wanted: Wanted) -> Result<(), Stop> {
        self.batch.push(wanted);
        match self.batch.len() >= BATCH {
            true => self.send_batch(),
            false => self.go_on(),
        }
    }

    fn go_on(&self) -> Result<(), Stop> {
        match self.monitor.is_cancelled() {
            true => Err(Stop::Run(Error::Cancelled)),
            false => Ok(()),
        }
    }

    /// Sends what the target lacks of the batch, and empties it.
    pub(super) fn send_batch(&mut self) -> Result<(), Stop> {
        let batch = std::mem::take(&mut self.batch);
        let (route, writer, sent, monitor) = (&self.route, &mut self.writer, &mut self.sent, self.monitor);
        let mut unreadable = None;
        let result = parallel::ordered(
            batch.into_iter().map(Ok),
            || None,
            |encoder, wanted| route.fetch(encoder, &wanted),
            |fetched| {
                if monitor.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let length = match fetched {
                    Fetched::Present { length } => length,
                    Fetched::New { object_type, id, plain_len, blob, length } => {
                        if writer.add(object_type, id, plain_len, &blob)? {
                            sent.count(object_type, blob.len());
                        }
                        length
                    }
                    Fetched::Unreadable(error) => {
                        unreadable = Some(error);
                        // Ends the others.
                        return Err(Error::Cancelled);
                    }
                };
                monitor.advance(length);
                Ok(())
            },
        );
        match unreadable {
            Some(error) => Err(Stop::Unreadable(error)),
            None => result.map_err(Stop::Run),
        }
    }

    /// Makes durable and publishes what was sent, whether it is all of the revision or not: others may need it.
    pub(super) fn finish(self) -> Result<(Sent, Stored)> {
        let stored = self.writer.finish()?;
        Ok((Sent { bytes_stored: stored.bytes, ..self.sent }, stored))
    }
}

impl Route<'_> {
    fn fetch(&self, encoder: &mut Option<BlobEncoder>, wanted: &Wanted) -> Result<Fetched> {
        let Wanted { object_type, id, length } = *wanted;
        if self.is_present(object_type, &id)? {
            return Ok(Fetched::Present { length });
        }
        let stored = match self.source.read(object_type, &id) {
            Ok(stored) => stored,
            Err(error) => return Ok(Fetched::Unreadable(error)),
        };
        // OK to unwrap: no object is longer than 8 MiB.
        let plain_len = u32::try_from(stored.content.len()).unwrap_or(u32::MAX);
        let blob = match stored.blob.filter(|_| self.goes_as_stored) {
            Some(blob) => blob,
            None => self.encode(encoder, &stored.content)?,
        };
        Ok(Fetched::New { object_type, id, plain_len, blob, length })
    }

    fn encode(&self, encoder: &mut Option<BlobEncoder>, content: &[u8]) -> Result<Vec<u8>> {
        let encoder = match encoder {
            Some(encoder) => encoder,
            None => encoder.insert(BlobEncoder::new(self.target.header().compression)?),
        };
        Ok(encoder.encode(content))
    }

    /// Whether the target has an object. A node is read, as a backup reads it: one that rotted must not live on in more
    /// revisions until a scrub finds it.
    fn is_present(&self, object_type: ObjectType, id: &ObjectId) -> Result<bool> {
        let is_known = self.presence.contains(id)?;
        Ok(is_known && (object_type == ObjectType::Chunk || self.is_intact(object_type, id)))
    }

    fn is_intact(&self, object_type: ObjectType, id: &ObjectId) -> bool {
        self.presence.is_fresh(id) || self.target.has_intact(object_type, id)
    }
}

impl Sent {
    fn count(&mut self, object_type: ObjectType, blob_len: usize) {
        match object_type {
            ObjectType::Chunk => self.chunks += 1,
            ObjectType::Node | ObjectType::Directory => self.nodes += 1,
        }
        self.bytes += blob_len as u64;
    }
}
