//! Marks what revisions, sessions and pins reach. What several of them share is followed once.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::Area;
use crate::error::{Corrupt, Error, Result};
use crate::format::{Claim, Kind, RecordKey};
use crate::id::{ObjectId, PackId, RevisionId, StreamId};
use crate::monitor::Monitor;
use crate::parallel;
use crate::repository::{Repository, Stream};
use crate::revision::{MapReader, RevisionPart, TreeReader, walk_revision};
use crate::store::{Cursor, Index, LiveSet, Mark, PackUse, read_condemned};

/// Chunks that are gathered before all cores look them up,
const BATCH_CHUNKS: usize = 1 << 16;
/// and those that one takes at a time.
const PIECE_CHUNKS: usize = 1 << 12;
/// Damage that is named; of more it is enough to know that there is more.
const DAMAGED_MAX: usize = 1000;

/// How tables are listed anew, so that none is missed for a merge.
pub(super) type Reload = fn(&Index) -> Result<()>;

/// What is marked so far.
pub(super) struct Marking<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    pub(super) live: LiveSet,
    /// Revisions and roots that were followed.
    revisions: HashSet<RevisionId>,
    roots: HashSet<ObjectId>,
    batch: Vec<ObjectId>,
    /// Nodes that were marked and could not be read: what lies below them was not.
    unreadable: HashSet<ObjectId>,
    damaged: Vec<String>,
    /// An object that no table named.
    unnamed: Mutex<Option<ObjectId>>,
    /// Whether all that there was at first is marked: what is in no table then is in one that came since.
    is_later: AtomicBool,
    /// Packs in which something is needed that was not marked when it was counted what is in use.
    needed: Mutex<HashSet<PackId>>,
    /// Forgotten revisions that somebody has open, and who.
    pub(super) held: Vec<(String, String)>,
    /// The damage list, and which of its objects are in use.
    listed_bad: HashSet<ObjectId>,
    used_bad: Mutex<HashSet<ObjectId>>,
    /// What was listed before the tables were.
    first: Listed,
}

/// The revisions and claims of one moment, listed in this order.
#[derive(Default)]
struct Listed {
    records: Vec<(Stream, RecordKey)>,
    /// Those in the trash.
    forgotten: Vec<(StreamId, RecordKey)>,
    claims: Vec<Claim>,
    /// What is lost of them.
    lost: Vec<String>,
}

impl Listed {
    fn now(repository: &Repository) -> Result<Self> {
        let list = repository.list_streams()?;
        let mut lost: Vec<String> = list.damaged.iter().map(|stream| stream.reason.clone()).collect();
        let mut records = Vec::new();
        for stream in list.streams {
            lost.extend(repository.lost_revisions(&stream)?.into_iter().map(|lost| lost.reason));
            let keys = repository.revisions(&stream)?;
            records.extend(keys.into_iter().rev().map(|key| (stream.clone(), key)));
        }
        let mut claims = repository.living_claims(&Area::pins())?;
        claims.extend(repository.living_claims(&Area::sessions())?);
        Ok(Self { records, forgotten: Vec::new(), claims, lost })
    }

    /// The same with what is in the trash. While that is listed nothing of the stream is forgotten or brought back, so that
    /// every revision is seen in one place or the other.
    fn with_trash(repository: &Repository) -> Result<Self> {
        let mut listed = Self::now(repository)?;
        for name in repository.backend().areas_below(&Area::all_trash())? {
            let Some(id) = StreamId::parse(&name) else { continue };
            // Only its id matters here.
            let stream = Stream { id, name, kind: Kind::Image };
            let _history = repository.lock_history(&stream)?;
            let forgotten = repository.forgotten_revisions(&stream)?;
            listed.forgotten.extend(forgotten.into_iter().map(|key| (id, key)));
            let brought_back = repository.revisions(&stream)?;
            listed.forgotten.extend(brought_back.into_iter().map(|key| (id, key)));
        }
        Ok(listed)
    }
}

impl<'a> Marking<'a> {
    /// Nothing is marked yet. `reload` lists the tables anew.
    pub(super) fn new(repository: &'a Repository, monitor: &'a dyn Monitor, reload: Reload) -> Result<Self> {
        // Before the tables: what these revisions reach is in them.
        let first = Listed::now(repository)?;
        let condemned = match read_condemned(repository.backend().as_ref()) {
            Err(error) if error.is_damage() => None,
            list => list?,
        };
        let condemned = condemned.unwrap_or_default().packs.iter().map(|(pack, _)| pack).collect();
        Ok(Self {
            live: repository.store().index().live_set(condemned, reload)?,
            repository,
            monitor,
            revisions: HashSet::new(),
            roots: HashSet::new(),
            batch: Vec::new(),
            unreadable: HashSet::new(),
            damaged: Vec::new(),
            unnamed: Mutex::default(),
            is_later: AtomicBool::new(false),
            needed: Mutex::default(),
            held: Vec::new(),
            listed_bad: repository.damage()?.objects.iter().map(|object| object.id).collect(),
            used_bad: Mutex::default(),
            first,
        })
    }

    /// Marks all that there is.
    pub(super) fn mark_all(&mut self) -> Result<()> {
        self.monitor.begin("following revisions", None);
        let first = std::mem::take(&mut self.first);
        self.mark_listed(first)?;
        self.live.take_touched();
        self.is_later.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Marks what came since, what was stored and forgotten included; returns the packs that are needed for it, and for what came before.
    pub(super) fn mark_new(&mut self) -> Result<HashSet<PackId>> {
        let listed = Listed::with_trash(self.repository)?;
        // What they reach that is in no table of the set is in one that was published since.
        self.repository.store().index().reload_unmerged()?;
        self.mark_listed(listed)?;
        let mut needed = lock(&self.needed);
        needed.extend(self.live.take_touched());
        Ok(needed.clone())
    }

    /// All that is marked in these packs is taken care of: from now on only what is marked later needs them.
    pub(super) fn release(&self, packs: impl Iterator<Item = PackId>) {
        let mut needed = lock(&self.needed);
        packs.for_each(|pack| _ = needed.remove(&pack));
    }

    /// How much of each pack is in use.
    pub(super) fn uses(&self) -> Result<HashMap<PackId, PackUse>> {
        self.live.uses(|| self.go_on())
    }

    /// What is damaged, so that it is not known what lies below it.
    pub(super) fn damaged(&self) -> Vec<String> {
        self.damaged.clone()
    }

    /// An object that a revision needs and no table names.
    pub(super) fn unnamed(&self) -> Option<ObjectId> {
        *lock(&self.unnamed)
    }

    /// Objects of the damage list that no revision needs.
    pub(super) fn unused_bad(&self) -> Vec<ObjectId> {
        let used = lock(&self.used_bad);
        self.listed_bad.iter().filter(|id| !used.contains(*id)).copied().collect()
    }

    fn mark_listed(&mut self, listed: Listed) -> Result<()> {
        let new_losses: Vec<String> =
            listed.lost.into_iter().filter(|reason| !self.damaged.contains(reason)).collect();
        self.damaged.extend(new_losses);
        let there: HashSet<RevisionId> = listed.records.iter().map(|(_, key)| key.id).collect();
        for (stream, key) in listed.records {
            self.mark_record(&stream, &key)?;
        }
        for (stream, key) in listed.forgotten {
            self.mark_forgotten(stream, &key)?;
        }
        for claim in listed.claims {
            self.note_held(&claim, &there);
            for root in &claim.roots {
                self.mark_claimed(root, &claim)?;
            }
        }
        self.flush()
    }

    fn note_held(&mut self, claim: &Claim, there: &HashSet<RevisionId>) {
        for revision in claim.revisions.iter().filter(|revision| !there.contains(*revision)) {
            let held = (revision.to_string(), claim.holder());
            if !self.held.contains(&held) && self.held.len() < DAMAGED_MAX {
                self.held.push(held);
            }
        }
    }

    fn mark_record(&mut self, stream: &Stream, key: &RecordKey) -> Result<()> {
        if !self.revisions.insert(key.id) {
            return Ok(());
        }
        let name = format!("{}@{}", stream.name, key.name);
        match self.repository.record(stream, key) {
            Ok(record) => self.follow(&name, record.kind(), &record.root()),
            // Forgotten since it was listed. It may be brought back.
            Err(error) if error.is_not_found() => self.mark_moved(&name, stream.id, key),
            Err(error) => self.note_damage(&name, error),
        }
    }

    fn mark_moved(&mut self, name: &str, stream: StreamId, key: &RecordKey) -> Result<()> {
        match self.repository.record_wherever(stream, key) {
            Ok(record) => self.follow(name, record.kind(), &record.root()),
            Err(error) => self.note_damage(name, error),
        }
    }

    /// Marks a revision that was in the trash when it was listed, or had come back from there.
    fn mark_forgotten(&mut self, stream: StreamId, key: &RecordKey) -> Result<()> {
        if !self.revisions.insert(key.id) {
            return Ok(());
        }
        self.mark_moved(&format!("{stream}@{}", key.name), stream, key)
    }

    /// Marks what a session or pin holds on to. One that found nothing to hold is about to end.
    fn mark_claimed(&mut self, root: &ObjectId, claim: &Claim) -> Result<()> {
        if !self.roots.insert(*root) {
            return Ok(());
        }
        let name = format!("what {} has open", claim.holder());
        let store = self.repository.store();
        match (MapReader::open(store, root), TreeReader::open_unpinned(store, root)) {
            (Ok(_), _) => self.follow(&name, Kind::Image, root),
            (_, Ok(_)) => self.follow(&name, Kind::Tree, root),
            (Err(error), _) if store.index().locate_in_tables(root)?.is_empty() => {
                log::debug!("{name} is gone: {error}");
                Ok(())
            }
            (Err(error), _) => self.note_damage(&name, error),
        }
    }

    fn follow(&mut self, name: &str, kind: Kind, root: &ObjectId) -> Result<()> {
        walk_revision(self.repository.store(), kind, root, &mut |part| match part {
            RevisionPart::Node { id, .. } => self.enter(id),
            RevisionPart::Unreadable { id, error, .. } => {
                self.unreadable.insert(*id);
                self.note_damage(name, error).map(|()| false)
            }
            RevisionPart::Chunk { id, .. } => self.take_chunk(id).map(|()| true),
        })
    }

    /// Comes upon a node; whether to go on below it. One that could not be read is tried again: it may be healed by now.
    fn enter(&mut self, id: &ObjectId) -> Result<bool> {
        self.go_on()?;
        let is_new = self.mark(id, &mut Cursor::default())? != Mark::Known;
        Ok(is_new || self.unreadable.remove(id))
    }

    fn take_chunk(&mut self, id: &ObjectId) -> Result<()> {
        self.batch.push(*id);
        match self.batch.len() >= BATCH_CHUNKS {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Marks the chunks of the batch, and empties it.
    fn flush(&mut self) -> Result<()> {
        self.go_on()?;
        let mut batch = std::mem::take(&mut self.batch);
        // In the order of the tables, whose blocks are each read once then.
        batch.sort_unstable();
        batch.dedup();
        parallel::unordered(batch.chunks(PIECE_CHUNKS).map(Ok), |piece| {
            let mut cursor = Cursor::default();
            piece.iter().try_for_each(|id| self.mark(id, &mut cursor).map(|_| ()))
        })
    }

    fn mark(&self, id: &ObjectId, cursor: &mut Cursor) -> Result<Mark> {
        let store = self.repository.store();
        if self.listed_bad.contains(id) {
            lock(&self.used_bad).insert(*id);
        }
        let mark = self.live.mark(store, id, cursor)?;
        match (mark, self.is_later.load(Ordering::Relaxed)) {
            (Mark::Unnamed, false) => _ = lock(&self.unnamed).get_or_insert(*id),
            (Mark::Unnamed, true) => {
                let places = store.index().locate_in_tables(id)?;
                if places.is_empty() {
                    return Err(Corrupt::new("the index", format!("no table names object {id}")).into());
                }
                lock(&self.needed).extend(places.iter().map(|place| place.pack));
            }
            _ => {}
        }
        Ok(mark)
    }

    /// Notes what can't be followed. An error that says nothing of what is stored ends the gc.
    fn note_damage(&mut self, name: &str, error: Error) -> Result<()> {
        if !error.is_loss() {
            return Err(error);
        }
        if self.damaged.len() < DAMAGED_MAX {
            self.damaged.push(format!("{name}: {error}"));
        }
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
