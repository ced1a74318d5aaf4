//! Stores objects: what is not there yet goes into packs, and tables that name them are published as it goes.
//!
//! A thread of its own makes packs durable and publishes tables, so that the pipeline of a backup never waits for
//! the disk to sync (`docs/format.md`, section 4).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::fresh::Fresh;
use super::index::{Index, write_table};
use super::pack_writer::{CompletePack, PackWriter};
use super::{MAX_OBJECT_SIZE, Store};
use crate::backend::{Area, Backend, Key};
use crate::error::{Error, Result};
use crate::format::{BlobEncoder, ObjectType, PackEntry, PackKind, TableEntry, TablePack};
use crate::id::{ObjectId, RepositoryId};
use crate::parallel;

/// A table is published after so many packs, half a GiB,
const PACKS_PER_TABLE: usize = 16;

/// or when a pack has waited so long for it: what a killed run stored before is found again by the next one. Not at once,
/// as a run that fails gives back only what no table names; and with each table later, as many tables make look-ups slow.
const TABLE_AFTER: Duration = Duration::from_secs(2);
const TABLE_AFTER_MAX: Duration = Duration::from_secs(10);

/// or after so many objects, whose places are kept in memory until then.
const ENTRIES_PER_TABLE: usize = 500_000;

/// Stores the objects of one run. Dropped without [`StoreWriter::finish`], what a table names stays, as others may rely on
/// it already, and the rest is removed: of a run that ended for want of space, what it stored last.
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
    /// Whether this run has stored an object, lately at least.
    pub(crate) fn is_fresh(&self, id: &ObjectId) -> bool {
        self.fresh.contains(id)
    }

    /// Whether an object need not be stored again.
    pub(crate) fn contains(&self, id: &ObjectId) -> Result<bool> {
        if self.fresh.contains(id) {
            return Ok(true);
        }
        Ok(!self.bad.contains(id) && self.store.index.contains(id)?)
    }

    /// Whether an object that the parent reaches may be relied upon. It was published once: so a table names it, as far
    /// as the filters tell, unless that was lost. Once anything turns out to be lost, it is looked up.
    pub(crate) fn stands(&self, id: &ObjectId) -> Result<bool> {
        match self.store.index.has_losses() {
            true => self.contains(id),
            false => Ok(!self.bad.contains(id) && self.store.index.stands(id)?),
        }
    }

    /// Whether anything that was published is known to be bad or lost, so that a node alone tells nothing of what lies
    /// below it.
    pub(crate) fn is_anything_lost(&self) -> bool {
        !self.bad.is_empty() || self.store.index.has_losses()
    }
}

impl<'a> StoreWriter<'a> {
    /// A writer that does not rely on any of the `bad` objects. In a dry run it only counts.
    pub(crate) fn new(store: &'a Store, bad: HashSet<ObjectId>, dry_run: bool) -> Result<Self> {
        let (bad, fresh) = (Arc::new(bad), Fresh::new(dry_run));
        let publication = Publication {
            backend: Arc::clone(&store.backend),
            index: Arc::clone(&store.index),
            repository: store.header.id,
            bad: Arc::clone(&bad),
            fresh: fresh.clone(),
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
            publisher: if dry_run { None } else { Some(Publisher::start(publication)?) },
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
        if self.fresh.contains(&id) {
            return Ok(false);
        }
        if let Some(bytes) = &mut self.dry_run_bytes {
            *bytes += (blob.len() + PackEntry::SIZE + TableEntry::SIZE) as u64;
            self.fresh.note(id, None);
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
        self.fresh.note(id, Some(pack_id));
        if full {
            self.close(kind)?;
        }
        Ok(true)
    }

    /// Stores a node of a map unless it is there.
    pub(crate) fn add_node(&mut self, content: &[u8]) -> Result<ObjectId> {
        self.add_metadata(ObjectType::Node, content)
    }

    /// Stores a node of a directory, or the root of a tree, unless it is there.
    pub(crate) fn add_directory(&mut self, content: &[u8]) -> Result<ObjectId> {
        self.add_metadata(ObjectType::Directory, content)
    }

    fn add_metadata(&mut self, object_type: ObjectType, content: &[u8]) -> Result<ObjectId> {
        let id = self.store.hasher.id(object_type, content);
        // What is reused is read first, mostly from the cache: what rotted is stored anew, scrub or not.
        let reusable = self.presence().contains(&id)?
            && (self.fresh.contains(&id) || self.store.has_intact(object_type, &id));
        if !reusable {
            // What is longer could be stored, but never be read.
            let plain_len = u32::try_from(content.len()).ok().filter(|&length| length <= MAX_OBJECT_SIZE);
            let plain_len = plain_len.ok_or_else(|| Error::NotStorable {
                object: object_type.noun(),
                reason: format!("it has {} bytes, more than 8 MiB", content.len()),
            })?;
            let blob = self.node_encoder.encode(content);
            self.add(object_type, id, plain_len, &blob)?;
        }
        Ok(id)
    }

    /// What other threads ask before they compress something.
    pub(crate) fn presence(&self) -> Presence<'a> {
        Presence { store: self.store, bad: Arc::clone(&self.bad), fresh: self.fresh.clone() }
    }

    /// Fails if what was added before could not be made durable.
    pub(crate) fn check(&mut self) -> Result<()> {
        match &mut self.publisher {
            Some(publisher) if publisher.has_ended() => publisher.failure(),
            _ => Ok(()),
        }
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
        let healed = self.bad.iter().filter(|id| self.fresh.contains(id)).copied().collect();
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
    fn start(publication: Publication) -> Result<Self> {
        // Few packs wait: each is memory of the system that is not written yet.
        let (sender, receiver) = crossbeam_channel::bounded(4);
        let discard = Arc::clone(&publication.discard);
        let thread = parallel::start(move || publication.run(&receiver))?;
        Ok(Self { sender: Some(sender), thread: Some(thread), discard })
    }

    fn send(&mut self, pack: CompletePack) -> Result<()> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(pack).is_ok());
        if sent {
            return Ok(());
        }
        self.failure()
    }

    fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Why the thread has ended early.
    fn failure(&mut self) -> Result<()> {
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
        let (mut publish_at, mut patience) = (Instant::now(), TABLE_AFTER);
        loop {
            let next = match self.packs.is_empty() {
                true => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => receiver.recv_deadline(publish_at),
            };
            match next {
                Ok(pack) => {
                    if self.packs.is_empty() {
                        publish_at = Instant::now() + patience;
                        patience = (patience * 2).min(TABLE_AFTER_MAX);
                    }
                    self.make_durable(pack)?;
                    if self.is_full() || Instant::now() >= publish_at {
                        self.publish()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.publish()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match self.discard.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.publish(),
        }
    }

    fn make_durable(&mut self, pack: CompletePack) -> Result<()> {
        let CompletePack { kind, pack, size, entries, writer } = pack;
        writer.finish()?;
        self.stored_bytes += size;
        self.packs.push((TablePack { pack, kind, size }, entries));
        Ok(())
    }

    fn is_full(&self) -> bool {
        let entry_count: usize = self.packs.iter().map(|(_, entries)| entries.len()).sum();
        self.packs.len() >= PACKS_PER_TABLE || entry_count >= ENTRIES_PER_TABLE
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
        if let Err(error) = self.index.merge() {
            log::warn!("index tables could not be merged: {error}");
        }
    }

    /// From now on the table knows these objects. Those that are known to be bad elsewhere must be remembered.
    fn forget_fresh(&self, published: &[TablePack]) -> Result<()> {
        self.index.refresh()?;
        self.fresh.forget(&published.iter().map(|pack| pack.pack).collect(), &self.bad);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::backend::recording::{Call, RecordingDisk};
    use crate::backend::{Disk, DiskFile, LocalBackend, SystemDisk};
    use crate::format::{Compression, Header, Timestamp};

    /// A disk that is full as soon as anything is to be durable.
    struct FullDisk;

    struct FullFile(Box<dyn DiskFile>);

    impl DiskFile for FullFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.write(bytes)
        }

        fn sync(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn file(&self) -> io::Result<std::fs::File> {
            self.0.file()
        }
    }

    impl Disk for FullDisk {
        fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(FullFile(SystemDisk.create(path)?)))
        }

        fn rename(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
            SystemDisk.rename(from, to, replace)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            SystemDisk.remove(path)
        }

        fn create_directory(&self, path: &Path) -> io::Result<()> {
            SystemDisk.create_directory(path)
        }

        fn remove_directory(&self, path: &Path) -> io::Result<()> {
            SystemDisk.remove_directory(path)
        }

        fn sync_file(&self, path: &Path) -> io::Result<()> {
            SystemDisk.sync_file(path)
        }

        fn sync_directory(&self, path: &Path) -> io::Result<()> {
            SystemDisk.sync_directory(path)
        }
    }

    fn store_of(root: &Path, disk: impl Disk + 'static, header: Header) -> Store {
        let backend = LocalBackend::on_disk(root.to_owned(), Arc::new(disk));
        backend.create_areas(&Area::fixed()).unwrap();
        Store::new(Arc::new(backend), header, 1 << 20)
    }

    fn store(root: &Path, disk: impl Disk + 'static) -> Store {
        let header = Header {
            id: RepositoryId::random(),
            created: Timestamp::now(),
            chunk_size: 65536,
            compression: Compression::None,
            features: Vec::new(),
        };
        store_of(root, disk, header)
    }

    /// A table in one directory must never survive a power cut that a pack in another one does not.
    #[test]
    fn packs_are_durable_with_their_names_before_a_table_names_them() {
        let directory = tempfile::tempdir().unwrap();
        let disk = RecordingDisk::new(directory.path());
        let store = store(directory.path(), disk.clone());
        let mut writer = StoreWriter::new(&store, HashSet::new(), false).unwrap();
        let id = store.hasher.id(ObjectType::Chunk, b"content");
        writer.add(ObjectType::Chunk, id, 7, &blob(b"content")).unwrap();
        writer.add_node(b"node").unwrap();
        disk.take();
        writer.finish().unwrap();
        let calls = disk.take();
        let place =
            |call: Call| calls.iter().rposition(|made| *made == call).unwrap_or_else(|| panic!("{call:?}"));
        let path = |area: Area| PathBuf::from(area.path());
        let table = place(Call::Name(path(Area::index())));
        for kind in PackKind::ALL {
            let (named, synced) =
                (Call::Name(path(Area::packs(kind))), Call::SyncDirectory(path(Area::packs(kind))));
            assert!(place(named) < place(synced.clone()) && place(synced) < table, "{calls:?}");
        }
        assert!(table < place(Call::SyncDirectory(path(Area::index()))), "{calls:?}");
        // What is reused may be named by a table of another run whose name is not durable yet.
        StoreWriter::new(&store, HashSet::new(), false).unwrap().finish().unwrap();
        assert_eq!(disk.take(), [Call::SyncDirectory(path(Area::index()))]);
    }

    /// The blob of a chunk that is not compressed.
    fn blob(content: &[u8]) -> Vec<u8> {
        [&[0], content].concat()
    }

    fn add(writer: &mut StoreWriter<'_>, content: &[u8]) -> ObjectId {
        let id = writer.store.hasher.id(ObjectType::Chunk, content);
        writer.add(ObjectType::Chunk, id, content.len() as u32, &blob(content)).unwrap();
        id
    }

    /// Which table is the newer one goes by a clock: a jump of it must not hide a good copy behind a bad one.
    #[test]
    fn an_intact_copy_is_found_whichever_table_counts_as_newer() {
        for bad_table in 0..2 {
            let directory = tempfile::tempdir().unwrap();
            let writing = store(directory.path(), SystemDisk);
            let mut tables = Vec::new();
            let content = vec![9; 5000];
            for _ in 0..2 {
                // What counts as bad is stored anew.
                let bad = HashSet::from([writing.hasher.id(ObjectType::Chunk, &content)]);
                let mut writer = StoreWriter::new(&writing, bad, false).unwrap();
                let id = add(&mut writer, &content);
                writer.finish().unwrap();
                let places = writing.index.locate_in_tables(&id).unwrap();
                tables.push(places.first().unwrap().pack);
                assert_eq!(places.len(), tables.len());
            }
            let id = writing.hasher.id(ObjectType::Chunk, &content);
            let bad_pack = directory.path().join(format!("packs/data/{}", tables[bad_table]));
            let mut bytes = std::fs::read(&bad_pack).unwrap();
            bytes[1000] ^= 1;
            std::fs::write(&bad_pack, bytes).unwrap();
            let reading = store_of(directory.path(), SystemDisk, writing.header.clone());
            let places = reading.index.locate_in_tables(&id).unwrap();
            assert_eq!(
                places.first().unwrap().pack == tables[bad_table],
                bad_table == 1,
                "the newer one is first"
            );
            for _ in 0..3 {
                assert_eq!(reading.read_object(ObjectType::Chunk, &id).unwrap(), content);
            }
        }
    }

    /// Only every sixteenth pack was named by a table: a run that was killed before had stored up to 512 MiB for nothing.
    #[test]
    fn what_was_stored_is_found_by_others_though_the_run_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let writing = store(directory.path(), SystemDisk);
        let mut writer = StoreWriter::new(&writing, HashSet::new(), false).unwrap();
        let first = add(&mut writer, &vec![0; 4 << 20]);
        for byte in 1..8 {
            add(&mut writer, &vec![byte; 4 << 20]);
        }
        let other = store_of(directory.path(), SystemDisk, writing.header.clone());
        let start = Instant::now();
        while !other.index.contains(&first).unwrap() {
            assert!(start.elapsed() < Duration::from_secs(60), "no table was published");
            std::thread::sleep(Duration::from_millis(20));
            other.index.reload().unwrap();
        }
    }

    /// The publisher's failure once showed only with the next pack, for which an idle producer may let one wait for ever.
    #[test]
    fn a_pack_that_cannot_be_made_durable_shows_without_another_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), FullDisk);
        let mut writer = StoreWriter::new(&store, HashSet::new(), false).unwrap();
        for byte in 0..8 {
            add(&mut writer, &vec![byte; 4 << 20]);
        }
        let start = Instant::now();
        let error = loop {
            match writer.check() {
                Ok(()) => assert!(start.elapsed() < Duration::from_secs(60), "nothing is told"),
                Err(error) => break error,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let is_full =
            matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull);
        assert!(is_full, "{error}");
    }
}
