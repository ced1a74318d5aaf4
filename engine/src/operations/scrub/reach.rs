//! Follows revisions to what they reach, and finds what has no intact copy.

use std::collections::HashSet;

use super::{Scrub, damage_of, root_of};
use crate::error::{Error, Result};
use crate::format::{ObjectType, Record};
use crate::id::ObjectId;
use crate::parallel;
use crate::repository::Stream;
use crate::revision::{MapPart, MapReader};

/// Chunks that are gathered before they are looked at by all cores: many, so that it pays to start these.
const BATCH_CHUNKS: usize = 1 << 14;

/// Chunks that one core takes at a time.
const PIECE_CHUNKS: usize = 64;

/// Where the walk over all revisions is. Of all that was seen only nodes are remembered, one for 256 chunks: memory
/// must not grow with the chunks of a large repository.
struct Walk {
    /// After all packs were read, it is enough to see that a copy lies in a pack that is in order.
    packs_read: bool,
    listed_bad: HashSet<ObjectId>,
    nodes: HashSet<ObjectId>,
    recent: Recent,
    /// Chunks that were come upon and not yet looked at, with their lengths.
    batch: Vec<(ObjectId, u32)>,
}

/// What a few chunks gave.
#[derive(Default)]
struct PieceFindings {
    chunks: u64,
    bytes: u64,
    bad: Vec<(ObjectId, String)>,
    /// Chunks on the damage list that are intact.
    good_again: Vec<ObjectId>,
}

impl Scrub<'_> {
    /// Looks at every object that the revisions reach.
    pub(super) fn check_reach(&mut self, revisions: &[(Stream, Record)], packs_read: bool) -> Result<()> {
        self.settle_bad_copies()?;
        let data_bytes = |(_, record): &(Stream, Record)| Ok(record.image()?.data_bytes);
        let total = revisions.iter().map(data_bytes).sum::<Result<u64>>()?;
        self.monitor.begin("following revisions", (!packs_read).then_some(total));
        let mut walk = Walk {
            packs_read,
            listed_bad: self.listed_bad()?,
            nodes: HashSet::new(),
            recent: Recent::default(),
            batch: Vec::new(),
        };
        for (_, record) in revisions {
            // So that gc keeps what is walked, also if the revision is forgotten meanwhile.
            let _pin = self.repository.pin("scrub", record.id, root_of(record));
            self.follow(record, &mut walk)?;
            self.check_batch(&mut walk)?;
        }
        Ok(())
    }

    /// Verifies the nodes of a revision's map, and its chunks but for the last few: those are left in the batch.
    fn follow(&mut self, record: &Record, walk: &mut Walk) -> Result<()> {
        let root = root_of(record);
        let map = match MapReader::open(self.repository.store(), &root) {
            Ok(map) => map,
            Err(error) => return self.note_bad_node(root, error),
        };
        if walk.listed_bad.contains(&root) {
            self.findings.good_again.insert(root);
        }
        map.walk(&mut |part| {
            self.go_on()?;
            match part {
                // A node that another revision has shown before: all below it was seen.
                MapPart::Node { id, .. } if !walk.nodes.insert(*id) => return Ok(false),
                MapPart::Node { id, .. } => self.check_listed_node(id, walk)?,
                MapPart::Unreadable { id, error, .. } => self.note_bad_node(*id, error)?,
                MapPart::Chunk { id, slot } => {
                    if walk.recent.insert(*id) {
                        walk.batch.push((*id, map.chunk_len(slot)));
                    }
                    if walk.batch.len() >= BATCH_CHUNKS {
                        self.check_batch(walk)?;
                    }
                }
            }
            Ok(true)
        })
    }

    /// A node that is on the damage list is read past the cache, which may have it from better times.
    fn check_listed_node(&mut self, id: &ObjectId, walk: &Walk) -> Result<()> {
        if walk.packs_read || !walk.listed_bad.contains(id) {
            return Ok(());
        }
        match self.repository.store().read_object(ObjectType::Node, id) {
            Ok(_) => {
                self.findings.good_again.insert(*id);
                Ok(())
            }
            Err(error) => self.note_bad_node(*id, error),
        }
    }

    fn note_bad_node(&mut self, id: ObjectId, error: Error) -> Result<()> {
        self.findings.bad.insert(id, (ObjectType::Node, damage_of(error)?));
        self.findings.good_again.remove(&id);
        Ok(())
    }

    /// Looks at the chunks of the batch, and empties it.
    fn check_batch(&mut self, walk: &mut Walk) -> Result<()> {
        if walk.batch.is_empty() {
            return Ok(());
        }
        let mut found = PieceFindings::default();
        let this = &*self;
        parallel::ordered(
            walk.batch.chunks(PIECE_CHUNKS).map(Ok),
            || (),
            |(), piece| this.check_piece(piece, walk),
            |piece| {
                found.add(piece);
                Ok(())
            },
        )?;
        walk.batch.clear();
        self.report.chunks_checked += found.chunks;
        self.report.bytes_checked += found.bytes;
        self.findings.good_again.extend(found.good_again);
        for (id, reason) in found.bad {
            self.findings.good_again.remove(&id);
            self.findings.bad.insert(id, (ObjectType::Chunk, reason));
        }
        Ok(())
    }

    fn check_piece(&self, piece: &[(ObjectId, u32)], walk: &Walk) -> Result<PieceFindings> {
        let mut found = PieceFindings::default();
        for (id, length) in piece {
            self.go_on()?;
            if !walk.packs_read {
                self.monitor.advance(u64::from(*length));
            }
            if !self.is_wanted(id, walk)? {
                continue;
            }
            match self.repository.store().read_object(ObjectType::Chunk, id) {
                Ok(_) => found.good_again.extend(walk.listed_bad.get(id)),
                Err(error) => found.bad.push((*id, damage_of(error)?)),
            }
            // What was read with its pack was counted there.
            if !walk.packs_read {
                found.chunks += 1;
                found.bytes += u64::from(*length);
            }
        }
        Ok(found)
    }

    /// Whether a chunk is to be read: it is its turn, or reading the packs left a doubt.
    fn is_wanted(&self, id: &ObjectId, walk: &Walk) -> Result<bool> {
        if !walk.packs_read {
            return Ok(walk.listed_bad.contains(id) || self.draw(id));
        }
        if self.findings.bad_copies.contains_key(id) {
            return Ok(true);
        }
        let locations = self.repository.store().index().locate_in_tables(id)?;
        Ok(!locations.iter().any(|location| self.findings.sound_packs.contains(&location.pack)))
    }

    /// A bad copy of an object is no harm while another is intact. One without, reached or not, must not be reused.
    fn settle_bad_copies(&mut self) -> Result<()> {
        for (id, (object_type, reason)) in &self.findings.bad_copies {
            match self.repository.store().read_object(*object_type, id) {
                Ok(_) => {}
                Err(error) => {
                    damage_of(error)?;
                    self.findings.bad.insert(*id, (*object_type, reason.clone()));
                    self.findings.good_again.remove(id);
                }
            }
        }
        Ok(())
    }

    /// Objects on the damage list.
    pub(super) fn listed_bad(&self) -> Result<HashSet<ObjectId>> {
        Ok(self.repository.damage()?.objects.iter().map(|object| object.id).collect())
    }

    /// Whether a chunk belongs to the percentage that is read: at random, another part each time.
    pub(super) fn draw(&self, id: &ObjectId) -> bool {
        if self.options.percent >= 100.0 {
            return true;
        }
        let drawn = blake3::keyed_hash(&self.seed, id.as_bytes());
        let [a, b, c, d, ..] = *drawn.as_bytes();
        f64::from(u32::from_le_bytes([a, b, c, d])) < self.options.percent / 100.0 * 4_294_967_296.0
    }
}

impl PieceFindings {
    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.bad.extend(other.bad);
        self.good_again.extend(other.good_again);
    }
}

/// The chunks that came by lately: revisions of one stream hold much the same ones.
#[derive(Default)]
struct Recent {
    young: HashSet<ObjectId>,
    old: HashSet<ObjectId>,
}

impl Recent {
    /// Chunks in each half: some 40 MB for both.
    const HALF: usize = 400_000;

    /// Whether the chunk did not come by lately.
    fn insert(&mut self, id: ObjectId) -> bool {
        if self.old.contains(&id) || !self.young.insert(id) {
            return false;
        }
        if self.young.len() >= Self::HALF {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }
}
