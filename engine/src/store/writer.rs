//! Stores objects: what is not there yet goes into packs, and tables that name them are published as it goes.
//!
//! A thread of its own makes packs durable and publishes tables, so that the pipeline of a backup never waits for
//! the disk to sync (`docs/format.md`, section 4).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::Store;
use super::index::{Index, merge_tables, write_table};
use super::pack_writer::{CompletePack, PackWriter};
use crate::backend::{Area, Backend, Key};
use crate::error::{Error, Result};
use crate::format::{BlobEncoder, ObjectType, PackEntry, PackKind, TableEntry, TablePack};
use crate::id::{ObjectId, PackId, RepositoryId};

/// A table is published after so many packs, half a GiB: what an interrupted run loses at the most.
const PACKS_PER_TABLE: usize = 16;

/// Or after so many objects, whose places are kept in memory until then.
const ENTRIES_PER_TABLE: usize = 500_000;

/// Objects that this run has stored, and where; published ones go when their table is there.
type Fresh = Arc<RwLock<HashMap<ObjectId, PackId>>>;

/// Stores the objects of one run. Dropped without [`StoreWriter::finish`], what a table names stays, and the rest is
/// removed: a run that ended for want of space gives back what it can.
pub(crate) struct StoreWriter<'a> {
    store: &'a Store,
    /// Objects of which no good copy is known: they count as absent until they were stored anew.
    bad: Arc<HashSet<ObjectId>>,
    fresh: Fresh,
    data: Option<PackWriter>,
    metadata: Option<PackWriter>,
    node_encoder: BlobEncoder,
    publisher: Option<Publisher>,
    /// Bytes that a dry run would have stored.
    dry_run_bytes: Option<u64>,
}

/// What a writer stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Bytes of packs and tables; of a dry run, about so many.
    pub(crate) bytes: u64,
    /// Bad objects that have a good copy now.
    pub(crate) healed: Vec<ObjectId>,
}

/// Tells whether objects are stored; cheap to share between threads.
#[derive(Clone)]
pub(crate) struct Presence<'a> {
    store: &'a Store,
    bad: Arc<HashSet<ObjectId>>,
    fresh: Fresh,
}

impl Presence<'_> {
    /// Whether an object need not be stored again.
    pub(crate) fn contains(&self, id: &ObjectId) -> Result<bool> {
        if self.fresh.read().unwrap_or_else(PoisonError::into_inner).contains_key(id) {
            return Ok(true);
        }
        Ok(!self.bad.contains(id) && self.store.index.contains(id)?)
    }
}

impl<'a> StoreWriter<'a> {
    /// A writer that does not rely on any of the `bad` objects. In a dry run it only counts.
    pub(crate) fn new(store: &'a Store, bad: HashSet<ObjectId>, dry_run: bool) -> Result<Self> {
        let (bad, fresh) = (Arc::new(bad), Fresh::default());
        let publication = Publication {
            backend: Arc::clone(&store.backend),
            index: Arc::clone(&store.index),
            repository: store.header.id,
            bad: Arc::clone(&bad),
            fresh: Arc::clone(&fresh),
            discard: Arc::default(),
            packs: Vec::new(),
            stored_bytes: 0,
        };
        Ok(Self {
            store,
            bad,
            fresh,
            data: None,
            metadata: None,
            node_encoder: BlobEncoder::new(store.header.compression)?,
            publisher: (!dry_run).then(|| Publisher::start(publication)),
            dry_run_bytes: dry_run.then_some(0),
        })
    }

    /// Appends an object unless this run has stored it already; whether it was appended. `blob` is its stored form.
    pub(crate) fn add(
        &mut self,
        object_type: ObjectType,
        id: ObjectId,
        plain_len: u32,
        blob: &[u8],
    ) -> Result<bool> {
        if self.fresh.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id) {
            return Ok(false);
        }
        if let Some(bytes) = &mut self.dry_run_bytes {
            *bytes += (blob.len() + PackEntry::SIZE + TableEntry::SIZE) as u64;
            self.fresh
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(id, PackId::from_bytes([0; 16]));
            return Ok(true);
        }
        let kind = PackKind::of(object_type);
        let slot = match kind {
            PackKind::Data => &mut self.data,
            PackKind::Metadata => &mut self.metadata,
        };
        let pack = match slot {
            Some(pack) => pack,
            None => slot.insert(PackWriter::create(self.store.backend.as_ref(), self.store.header.id, kind)?),
        };
        pack.add(object_type, id, plain_len, blob)?;
        let (pack_id, full) = (pack.pack(), pack.is_full());
        self.fresh.write().unwrap_or_else(PoisonError::into_inner).insert(id, pack_id);
        if full {
            self.close(kind)?;
        }
        Ok(true)
    }

    /// Stores a node unless it is there.
    pub(crate) fn add_node(&mut self, content: &[u8]) -> Result<ObjectId> {
        let id = self.store.hasher.id(ObjectType::Node, content);
        // A node that is reused is read first, mostly from the cache: one that rotted is stored anew, scrub or not.
        let reusable =
            self.presence().contains(&id)? && (self.is_fresh(&id) || self.store.has_intact_node(&id));
        if !reusable {
            let blob = self.node_encoder.encode(content);
            let plain_len = u32::try_from(content.len()).unwrap_or(u32::MAX);
            self.add(ObjectType::Node, id, plain_len, &blob)?;
        }
        Ok(id)
    }

    fn is_fresh(&self, id: &ObjectId) -> bool {
        self.fresh.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// What other threads ask before they compress something.
    pub(crate) fn presence(&self) -> Presence<'a> {
        Presence { store: self.store, bad: Arc::clone(&self.bad), fresh: Arc::clone(&self.fresh) }
    }

    /// Makes everything durable and publishes it.
    pub(crate) fn finish(mut self) -> Result<Stored> {
        self.close(PackKind::Data)?;
        self.close(PackKind::Metadata)?;
        let Some(publisher) = self.publisher.take() else {
            return Ok(Stored { bytes: self.dry_run_bytes.unwrap_or(0), healed: Vec::new() });
        };
        let stored_bytes = publisher.finish()?;
        // What is reused may be named by a table of another run whose name is not durable yet.
        self.store.backend.sync_area(&Area::index())?;
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        let healed = self.bad.iter().filter(|id| fresh.contains_key(id)).copied().collect();
        let stored = Stored { bytes: stored_bytes, healed };
        Ok(stored)
    }

    fn close(&mut self, kind: PackKind) -> Result<()> {
        let slot = match kind {
            PackKind::Data => self.data.take(),
            PackKind::Metadata => self.metadata.take(),
        };
        let Some(pack) = slot else { return Ok(()) };
        let pack = pack.complete()?;
        match &mut self.publisher {
            Some(publisher) => publisher.send(pack),
            None => Ok(()),
        }
    }
}

/// The thread that syncs packs and publishes tables.
struct Publisher {
    sender: Option<Sender<CompletePack>>,
    thread: Option<JoinHandle<Result<u64>>>,
    discard: Arc<AtomicBool>,
}

impl Publisher {
    fn start(publication: Publication) -> Self {
        // Few packs wait: each is memory of the system that is not written yet.
        let (sender, receiver) = crossbeam_channel::bounded(4);
        let discard = Arc::clone(&publication.discard);
        let thread = std::thread::spawn(move || publication.run(&receiver));
        Self { sender: Some(sender), thread: Some(thread), discard }
    }

    fn send(&mut self, pack: CompletePack) -> Result<()> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(pack).is_ok());
        if sent {
            return Ok(());
        }
        // The thread ended early: it has an error to tell.
        self.join().and(Err(Error::Cancelled))
    }

    fn finish(mut self) -> Result<u64> {
        self.join()
    }

    fn join(&mut self) -> Result<u64> {
        self.sender = None;
        let Some(thread) = self.thread.take() else { return Err(Error::Cancelled) };
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.discard.store(true, Ordering::Relaxed);
        if self.thread.is_some()
            && let Err(error) = self.join()
        {
            log::debug!("while the run was given up: {error}");
        }
    }
}

/// The state of that thread.
struct Publication {
    backend: Arc<dyn Backend>,
    index: Arc<Index>,
    repository: RepositoryId,
    bad: Arc<HashSet<ObjectId>>,
    fresh: Fresh,
    /// Whether the run was given up: packs without a table are removed instead of published.
    discard: Arc<AtomicBool>,
    /// Durable packs that no table names yet.
    packs: Vec<(TablePack, Vec<PackEntry>)>,
    stored_bytes: u64,
}

impl Publication {
    fn run(mut self, receiver: &Receiver<CompletePack>) -> Result<u64> {
        let published = self.take_all(receiver);
        if published.is_err() || self.discard.load(Ordering::Relaxed) {
            for (pack, _) in &self.packs {
                // Left behind, it is a leftover that gc takes.
                let _ = self.backend.remove(&Key::pack(pack.kind, pack.pack));
            }
        }
        published.map(|()| self.stored_bytes)
    }

    fn take_all(&mut self, receiver: &Receiver<CompletePack>) -> Result<()> {
        for pack in receiver {
            let CompletePack { kind, pack, size, entries, writer } = pack;
            writer.finish()?;
            self.stored_bytes += size;
            self.packs.push((TablePack { pack, kind, size }, entries));
            let entry_count: usize = self.packs.iter().map(|(_, entries)| entries.len()).sum();
            if self.packs.len() >= PACKS_PER_TABLE || entry_count >= ENTRIES_PER_TABLE {
                self.publish()?;
            }
        }
        match self.discard.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.publish(),
        }
    }

    /// Publishes a table of all packs that have none yet. Their names are made durable first.
    fn publish(&mut self) -> Result<()> {
        if self.packs.is_empty() {
            return Ok(());
        }
        for kind in PackKind::ALL {
            if self.packs.iter().any(|(pack, _)| pack.kind == kind) {
                self.backend.sync_area(&Area::packs(kind))?;
            }
        }
        let mut entries: Vec<TableEntry> = Vec::new();
        for (ordinal, (_, in_pack)) in (0u32..).zip(&self.packs) {
            entries.extend(in_pack.iter().map(|entry| TableEntry {
                id: entry.id,
                pack: ordinal,
                offset: entry.offset,
                stored_len: entry.stored_len,
                plain_len: entry.plain_len,
            }));
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        let packs: Vec<TablePack> = self.packs.iter().map(|(pack, _)| *pack).collect();
        let count = entries.len() as u64;
        let entries = entries.into_iter().map(Ok);
        let table = write_table(self.backend.as_ref(), self.repository, &packs, count, entries)?;
        // Whatever happens from here on: another run may have seen the table, so these packs are never removed.
        self.packs.clear();
        self.stored_bytes += table.publish(self.backend.as_ref())?;
        self.merge();
        self.forget_fresh(&packs)
    }

    /// A long run makes many tables: merged as they come, a look-up asks few of them. Only a help, so it may fail.
    fn merge(&self) {
        if let Err(error) = merge_tables(self.backend.as_ref(), self.repository) {
            log::warn!("index tables could not be merged: {error}");
        }
    }

    /// From now on the table knows these objects. Those that are known to be bad elsewhere must be remembered.
    fn forget_fresh(&self, published: &[TablePack]) -> Result<()> {
        self.index.reload()?;
        let published: HashSet<PackId> = published.iter().map(|pack| pack.pack).collect();
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.retain(|id, pack| !published.contains(pack) || self.bad.contains(id));
        Ok(())
    }
}
