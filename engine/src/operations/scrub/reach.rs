//! Follows revisions to what they reach, and finds what has no intact copy.

use std::collections::{HashMap, HashSet};

use super::{Findings, Scrub, damage_of, gather};
use crate::error::{Error, Result};
use crate::format::{ObjectType, Record, Slot};
use crate::id::{ObjectId, StreamId};
use crate::repository::Stream;
use crate::revision::{MapPart, MapReader, Sought};

/// Chunks that are gathered before they are looked at by all cores: many, so that it pays to start these.
const BATCH_CHUNKS: usize = 1 << 14;

/// Chunks that one core takes at a time.
const PIECE_CHUNKS: usize = 64;

/// Where the walk over all revisions is.
struct Walk {
    /// After all packs were read, it is enough to see that a copy lies in a pack that is in order.
    packs_read: bool,
    nodes: Recent,
    chunks: Recent,
    /// Chunks that were come upon and not yet looked at, with their lengths.
    batch: Vec<(ObjectId, u32)>,
}

/// What a few chunks gave.
#[derive(Default)]
struct CheckedPiece {
    chunks: u64,
    bytes: u64,
    bad: Vec<(ObjectId, String)>,
    /// Chunks on the damage list that are intact.
    good_again: Vec<ObjectId>,
}

impl Scrub<'_> {
    /// Looks at every object that the revisions reach.
    pub(super) fn check_reach(
        &self,
        revisions: &[(Stream, Record)],
        packs_read: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        let data_bytes = |(_, record): &(Stream, Record)| Ok(record.image()?.data_bytes);
        let total = revisions.iter().map(data_bytes).sum::<Result<u64>>()?;
        self.monitor.begin("following revisions", (!packs_read).then_some(total));
        let mut walk =
            Walk { packs_read, nodes: Recent::default(), chunks: Recent::default(), batch: Vec::new() };
        for (_, record) in revisions {
            // So that gc keeps what is walked, also if the revision is forgotten meanwhile.
            let _pin = self.repository.pin("scrub", record.id, record.root())?;
            self.follow(record, &mut walk, findings)?;
            self.check_batch(&mut walk, findings)?;
        }
        Ok(())
    }

    /// Verifies the nodes of a revision's map, and its chunks but for the last few: those are left in the batch.
    fn follow(&self, record: &Record, walk: &mut Walk, findings: &mut Findings) -> Result<()> {
        let root = record.root();
        let map = match MapReader::open(self.repository.store(), &root) {
            Ok(map) => map,
            Err(error) => return note_bad_node(root, error, findings),
        };
        if self.listed_bad.contains(&root) {
            findings.good_again.insert(root);
        }
        map.walk(&mut |part| {
            self.go_on()?;
            match part {
                // A node that another revision has shown before: all below it was seen.
                MapPart::Node { id, .. } if !walk.nodes.insert(id) => return Ok(false),
                MapPart::Node { id, .. } => self.check_listed_node(id, walk, findings)?,
                MapPart::Unreadable { id, error, .. } => note_bad_node(*id, error, findings)?,
                MapPart::Chunk { id, slot } => {
                    if walk.chunks.insert(id) {
                        walk.batch.push((*id, map.chunk_len(slot)));
                    }
                    if walk.batch.len() >= BATCH_CHUNKS {
                        self.check_batch(walk, findings)?;
                    }
                }
            }
            Ok(true)
        })
    }

    /// A node that is on the damage list is read past the cache, which may have it from better times.
    fn check_listed_node(&self, id: &ObjectId, walk: &Walk, findings: &mut Findings) -> Result<()> {
        if walk.packs_read || !self.listed_bad.contains(id) {
            return Ok(());
        }
        match self.repository.store().read_object(ObjectType::Node, id) {
            Ok(_) => {
                findings.good_again.insert(*id);
                Ok(())
            }
            Err(error) => note_bad_node(*id, error, findings),
        }
    }

    /// Looks at the chunks of the batch, and empties it.
    fn check_batch(&self, walk: &mut Walk, findings: &mut Findings) -> Result<()> {
        if walk.batch.is_empty() {
            return Ok(());
        }
        let known = &*findings;
        let mut all = CheckedPiece::default();
        let result = gather(
            walk.batch.chunks(PIECE_CHUNKS),
            |piece| {
                let mut found = CheckedPiece::default();
                let result = self.check_piece(piece, walk.packs_read, known, &mut found);
                (found, result)
            },
            |found| {
                all.add(found);
                Ok(())
            },
        );
        walk.batch.clear();
        all.note(findings);
        result
    }

    fn check_piece(
        &self,
        piece: &[(ObjectId, u32)],
        packs_read: bool,
        known: &Findings,
        found: &mut CheckedPiece,
    ) -> Result<()> {
        for (id, length) in piece {
            self.go_on()?;
            if packs_read {
                if !self.was_read_with_its_pack(id, known)? {
                    self.check_chunk(id, found)?;
                }
                continue;
            }
            self.monitor.advance(u64::from(*length));
            if self.is_drawn(id) {
                self.check_chunk(id, found)?;
                found.chunks += 1;
                found.bytes += u64::from(*length);
            }
        }
        Ok(())
    }

    /// Verifies a chunk of the newest revision of each stream that has any, drawn at random: of a percentage that drew
    /// none it must not be said that all is in order.
    pub(super) fn check_one_each(
        &self,
        revisions: &[(Stream, Record)],
        findings: &mut Findings,
    ) -> Result<()> {
        let newest: HashMap<StreamId, &Record> = revisions
            .iter()
            .filter(|(_, record)| data_bytes(record) > 0)
            .map(|(stream, record)| (stream.id, record))
            .collect();
        let mut found = CheckedPiece::default();
        for record in newest.into_values() {
            let _pin = self.repository.pin("scrub", record.id, record.root())?;
            let map = MapReader::open(self.repository.store(), &record.root())?;
            let [a, b, c, d, e, f, g, h, ..] = self.seed;
            let from = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % map.slot_count().max(1);
            let behind = map.next(from, Sought::Data)?;
            let Some(slot) = behind.map_or_else(|| map.next(0, Sought::Data), |slot| Ok(Some(slot)))? else {
                continue;
            };
            if let Slot::Chunk(id) = map.slot(slot)? {
                self.check_chunk(&id, &mut found)?;
                found.chunks += 1;
                found.bytes += u64::from(map.chunk_len(slot));
            }
        }
        found.note(findings);
        Ok(())
    }

    fn check_chunk(&self, id: &ObjectId, found: &mut CheckedPiece) -> Result<()> {
        match self.repository.store().read_object(ObjectType::Chunk, id) {
            Ok(_) => found.good_again.extend(self.listed_bad.get(id)),
            Err(error) => found.bad.push((*id, damage_of(error)?)),
        }
        Ok(())
    }

    /// Whether reading the packs left no doubt about a chunk.
    fn was_read_with_its_pack(&self, id: &ObjectId, known: &Findings) -> Result<bool> {
        if known.bad.contains_key(id) {
            return Ok(true);
        }
        let locations = self.repository.store().index().locate_in_tables(id)?;
        Ok(locations.iter().any(|location| known.sound_packs.contains(&location.pack)))
    }
}

impl CheckedPiece {
    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.bad.extend(other.bad);
        self.good_again.extend(other.good_again);
    }

    fn note(self, findings: &mut Findings) {
        findings.chunks_checked += self.chunks;
        findings.bytes_checked += self.bytes;
        findings.good_again.extend(self.good_again);
        self.bad.into_iter().for_each(|(id, reason)| findings.note_bad(id, ObjectType::Chunk, reason));
    }
}

fn note_bad_node(id: ObjectId, error: Error, findings: &mut Findings) -> Result<()> {
    findings.note_bad(id, ObjectType::Node, damage_of(error)?);
    Ok(())
}

/// The objects that came by lately: revisions of one stream hold much the same ones. What is forgotten is looked at
/// again, which costs time and nothing else.
#[derive(Default)]
struct Recent {
    young: HashSet<u128>,
    old: HashSet<u128>,
}

impl Recent {
    /// Objects in each half: some 36 MB for both. As nodes, they stand for 230 million chunks and more.
    const HALF: usize = 900_000;

    /// Whether the object did not come by lately. Half its id tells objects apart as well.
    fn insert(&mut self, id: &ObjectId) -> bool {
        let (half, _) = id.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        let key = u128::from_le_bytes(*half);
        let is_known = self.young.contains(&key) || self.old.contains(&key);
        self.young.insert(key);
        if self.young.len() >= Self::HALF {
            self.old = std::mem::take(&mut self.young);
        }
        !is_known
    }
}
