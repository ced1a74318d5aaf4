//! Follows revisions to what they reach, and finds what has no intact copy.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::{Scrub, root_of};
use crate::error::Result;
use crate::format::{ObjectType, Record};
use crate::id::ObjectId;
use crate::parallel;
use crate::repository::Stream;
use crate::revision::{MapPart, MapReader};

impl Scrub<'_> {
    /// Looks at every object that the revisions reach, each once.
    ///
    /// After all packs were read (`packs_read`), it is enough to see that a copy lies in a pack that is in order.
    pub(super) fn check_reach(&mut self, revisions: &[(Stream, Record)], packs_read: bool) -> Result<()> {
        self.settle_bad_copies()?;
        let listed_bad = self.listed_bad()?;
        let total = revisions.iter().map(|(_, record)| data_bytes(record)).sum();
        self.monitor.begin("following revisions", (!packs_read).then_some(total));
        let mut seen = HashSet::new();
        for (_, record) in revisions {
            let chunks = self.nodes_of(record, &mut seen)?;
            let findings = Mutex::new(Vec::new());
            let this = &*self;
            // A thousand chunks at a time: few locks, and a quick end on Ctrl-C.
            let batches: Vec<Vec<(ObjectId, u32)>> = chunks.chunks(1000).map(<[_]>::to_vec).collect();
            parallel::unordered(batches.into_iter().map(Ok), |batch| {
                for (id, length) in batch {
                    this.go_on()?;
                    let finding = this.check_chunk(&id, packs_read)?;
                    if !packs_read {
                        this.monitor.advance(length.into());
                    }
                    findings.lock().unwrap_or_else(PoisonError::into_inner).push((id, length, finding));
                }
                Ok(())
            })?;
            for (id, length, finding) in findings.into_inner().unwrap_or_else(PoisonError::into_inner) {
                self.take_finding(id, length, finding, packs_read, &listed_bad);
            }
        }
        Ok(())
    }

    /// Verifies the nodes of a revision's map; returns its chunks, without those that were seen before.
    fn nodes_of(&mut self, record: &Record, seen: &mut HashSet<ObjectId>) -> Result<Vec<(ObjectId, u32)>> {
        let root = root_of(record);
        let map = match MapReader::open(self.repository.store(), &root) {
            Ok(map) => map,
            Err(error) if error.is_damage() || error.is_not_found() => {
                self.findings.bad.insert(root, (ObjectType::Node, error.to_string()));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut chunks = Vec::new();
        let mut bad_nodes = Vec::new();
        map.walk(&mut |part| {
            self.go_on()?;
            Ok(match part {
                // A node that another revision has shown before: all below it was seen.
                MapPart::Node { id, .. } => seen.insert(*id),
                MapPart::Unreadable { id, error, .. } => {
                    bad_nodes.push((*id, error.to_string()));
                    false
                }
                MapPart::Chunk { id, slot } => {
                    if seen.insert(*id) {
                        chunks.push((*id, map.chunk_len(slot)));
                    }
                    true
                }
            })
        })?;
        for (id, reason) in bad_nodes {
            self.findings.bad.insert(id, (ObjectType::Node, reason));
        }
        Ok(chunks)
    }

    fn check_chunk(&self, id: &ObjectId, packs_read: bool) -> Result<Finding> {
        if packs_read {
            let locations = self.repository.store().index().locate_in_tables(id)?;
            let sound =
                |location: &crate::store::Location| self.findings.sound_packs.contains(&location.pack);
            if locations.iter().any(sound) && !self.findings.bad_copies.contains_key(id) {
                return Ok(Finding::NotRead);
            }
        } else if !self.draw(id) {
            return Ok(Finding::NotRead);
        }
        match self.repository.store().read_object(ObjectType::Chunk, id) {
            Ok(_) => Ok(Finding::Good),
            Err(error) if error.is_damage() || error.is_not_found() => Ok(Finding::Bad(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn take_finding(
        &mut self,
        id: ObjectId,
        length: u32,
        finding: Finding,
        packs_read: bool,
        listed_bad: &HashSet<ObjectId>,
    ) {
        match finding {
            Finding::NotRead => return,
            Finding::Good if listed_bad.contains(&id) => {
                self.findings.good_again.insert(id);
            }
            Finding::Good => {}
            Finding::Bad(reason) => {
                self.findings.good_again.remove(&id);
                self.findings.bad.insert(id, (ObjectType::Chunk, reason));
            }
        }
        if !packs_read {
            self.report.chunks_checked += 1;
            self.report.bytes_checked += u64::from(length);
        }
    }

    /// A bad copy of an object is no harm while another is intact. One without, reached or not, must not be reused.
    fn settle_bad_copies(&mut self) -> Result<()> {
        for (id, (object_type, reason)) in &self.findings.bad_copies {
            match self.repository.store().read_object(*object_type, id) {
                Ok(_) => {}
                Err(error) if error.is_damage() || error.is_not_found() => {
                    self.findings.bad.insert(*id, (*object_type, reason.clone()));
                    self.findings.good_again.remove(id);
                }
                Err(error) => return Err(error),
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

enum Finding {
    /// It was not its turn, or it was read with its pack.
    NotRead,
    Good,
    Bad(String),
}

fn data_bytes(record: &Record) -> u64 {
    let crate::format::Content::Image(content) = &record.content;
    content.data_bytes
}
