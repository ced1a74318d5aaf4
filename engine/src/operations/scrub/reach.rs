//! Follows revisions to what they reach, and finds what has no intact copy.

use super::{Findings, Scrub, damage_of, gather};
use crate::error::{Error, Result};
use crate::format::{Content, ObjectType, Record};
use crate::id::ObjectId;
use crate::recent::Recent;
use crate::repository::Stream;
use crate::revision::{RevisionPart, walk_revision};

/// Chunks that are gathered before they are looked at by all cores: many, so that it pays to start these.
const BATCH_CHUNKS: usize = 1 << 14;

/// Chunks that one core takes at a time.
const PIECE_CHUNKS: usize = 64;

/// Where the walk over all revisions is.
struct Walk {
    /// After all packs were read, it is enough to see that a copy lies in a pack that is in order.
    packs_read: bool,
    nodes: Recent<()>,
    chunks: Recent<()>,
    /// Chunks that were come upon and not yet looked at, with their lengths.
    batch: Vec<(ObjectId, u64)>,
}

/// What a few chunks gave.
#[derive(Default)]
pub(super) struct CheckedPiece {
    chunks: u64,
    bytes: u64,
    bad: Vec<(ObjectId, String)>,
    /// A chunk that no table names.
    unnamed: Option<ObjectId>,
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
        let total = revisions.iter().map(|(_, record)| data_bytes(record)).fold(0, u64::saturating_add);
        self.monitor.begin("following revisions", (!packs_read).then_some(total));
        let mut walk =
            Walk { packs_read, nodes: Recent::default(), chunks: Recent::default(), batch: Vec::new() };
        for (stream, record) in revisions {
            self.repository.while_pinned("scrub", (stream, record), || {
                self.follow(record, &mut walk, findings)?;
                self.check_batch(&mut walk, findings)
            })?;
        }
        Ok(())
    }

    /// Verifies the nodes of a revision, and its chunks but for the last few: those are left in the batch.
    fn follow(&self, record: &Record, walk: &mut Walk, findings: &mut Findings) -> Result<()> {
        walk_revision(self.repository.store(), record.kind(), &record.root(), &mut |part| {
            self.go_on()?;
            match part {
                RevisionPart::Node { id, object_type } => {
                    return self.take_node(id, object_type, walk, findings);
                }
                RevisionPart::Unreadable { id, object_type, error } => {
                    note_bad_node(*id, object_type, error, findings)?;
                }
                RevisionPart::Chunk { id, length } => self.take_chunk(id, length, walk, findings)?,
            }
            Ok(true)
        })
    }

    /// Comes upon a node; whether to go on below it. If it was shown before, by another revision, say, all was seen.
    fn take_node(
        &self,
        id: &ObjectId,
        object_type: ObjectType,
        walk: &mut Walk,
        findings: &mut Findings,
    ) -> Result<bool> {
        let is_new = walk.nodes.insert(id, ());
        // What is on the damage list is read past the cache, which may have it from better times.
        if is_new && !walk.packs_read && self.listed_bad.contains(id) {
            match self.repository.store().read_object(object_type, id) {
                Ok(_) => _ = findings.good_again.insert(*id),
                Err(error) => note_bad_node(*id, object_type, error, findings)?,
            }
        }
        Ok(is_new)
    }

    fn take_chunk(&self, id: &ObjectId, length: u64, walk: &mut Walk, findings: &mut Findings) -> Result<()> {
        if walk.chunks.insert(id, ()) {
            walk.batch.push((*id, length));
        }
        match walk.batch.len() >= BATCH_CHUNKS {
            true => self.check_batch(walk, findings),
            false => Ok(()),
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
        piece: &[(ObjectId, u64)],
        packs_read: bool,
        known: &Findings,
        found: &mut CheckedPiece,
    ) -> Result<()> {
        for (id, length) in piece {
            self.go_on()?;
            if packs_read {
                let is_read = self.was_read_with_its_pack(id, known)?;
                if !is_read {
                    // It was counted with its pack.
                    self.check_chunk(id, *length, found)?;
                }
                let index = self.repository.store().index();
                if (!is_read || index.has_missed_tables()) && !index.is_named(id)? {
                    found.unnamed = Some(*id);
                }
                continue;
            }
            self.monitor.advance(*length);
            if self.is_drawn(id) {
                let length = self.check_chunk(id, *length, found)?;
                found.count(length);
            }
        }
        Ok(())
    }

    /// Reads a chunk that is said to have some length, and returns how long it is: of a chunk that several files share,
    /// each names but its own part.
    pub(super) fn check_chunk(&self, id: &ObjectId, length: u64, found: &mut CheckedPiece) -> Result<u64> {
        match self.repository.store().read_object(ObjectType::Chunk, id) {
            Ok(content) => {
                found.good_again.extend(self.listed_bad.get(id));
                Ok(content.len() as u64)
            }
            Err(error) => {
                found.bad.push((*id, damage_of(error)?));
                Ok(length)
            }
        }
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
    pub(super) fn count(&mut self, bytes: u64) {
        self.chunks += 1;
        self.bytes += bytes;
    }

    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.bytes += other.bytes;
        self.bad.extend(other.bad);
        self.good_again.extend(other.good_again);
        self.unnamed = self.unnamed.or(other.unnamed);
    }

    pub(super) fn note(self, findings: &mut Findings) {
        findings.chunks_checked += self.chunks;
        findings.bytes_checked += self.bytes;
        findings.good_again.extend(self.good_again);
        if let Some(id) = self.unnamed {
            findings.note_lost_table(id);
        }
        self.bad.into_iter().for_each(|(id, reason)| findings.note_bad(id, ObjectType::Chunk, reason));
    }
}

fn note_bad_node(id: ObjectId, object_type: ObjectType, error: Error, findings: &mut Findings) -> Result<()> {
    findings.note_bad(id, object_type, damage_of(error)?);
    findings.is_cut_short = true;
    Ok(())
}

/// Bytes of a revision that are to be read, about.
pub(super) fn data_bytes(record: &Record) -> u64 {
    match &record.content {
        Content::Image(image) => image.data_bytes,
        Content::Tree(tree) => tree.bytes,
    }
}
