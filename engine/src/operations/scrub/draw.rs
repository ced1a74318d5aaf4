//! Draws a chunk where a percentage drew none.

use std::collections::HashMap;

use super::reach::{CheckedPiece, data_bytes};
use super::{Findings, Scrub};
use crate::error::Result;
use crate::format::{Kind, Record, Slot};
use crate::id::{ObjectId, StreamId};
use crate::repository::Stream;
use crate::revision::{MapReader, Sought, TreePart, TreeReader};

/// Chunks of a tree among which one is drawn.
const DRAWN_FROM: usize = 1000;

impl Scrub<'_> {
    /// Verifies a chunk of the newest revision of each stream that has any, drawn at random: of a percentage that drew
    /// none it must not be said that all is in order.
    pub(super) fn check_one_each(
        &self,
        revisions: &[(Stream, Record)],
        findings: &mut Findings,
    ) -> Result<()> {
        let newest: HashMap<StreamId, &(Stream, Record)> = revisions
            .iter()
            .filter(|(_, record)| data_bytes(record) > 0)
            .map(|revision| (revision.0.id, revision))
            .collect();
        let mut found = CheckedPiece::default();
        for (stream, record) in newest.into_values() {
            self.repository.while_pinned("scrub", (stream, record), || self.check_one(record, &mut found))?;
        }
        found.note(findings);
        Ok(())
    }

    /// Verifies a chunk of a revision, drawn at random.
    fn check_one(&self, record: &Record, found: &mut CheckedPiece) -> Result<()> {
        let drawn = match record.kind() {
            Kind::Image => self.draw_from_image(record)?,
            Kind::Tree => self.draw_from_tree(record)?,
        };
        if let Some((id, length)) = drawn {
            let length = self.check_chunk(&id, length, found)?;
            found.count(length);
        }
        Ok(())
    }

    /// A chunk of an image, and its length.
    fn draw_from_image(&self, record: &Record) -> Result<Option<(ObjectId, u64)>> {
        let map = MapReader::open(self.repository.store(), &record.root())?;
        let from = self.draw(map.slot_count());
        let behind = map.next(from, Sought::Data)?;
        let slot = behind.map_or_else(|| map.next(0, Sought::Data), |slot| Ok(Some(slot)))?;
        let Some(slot) = slot else { return Ok(None) };
        Ok(match map.slot(slot)? {
            Slot::Chunk(id) => Some((id, map.chunk_len(slot).into())),
            Slot::Hole | Slot::Zeros => None,
        })
    }

    /// One of the first chunks of a tree, and how many bytes it gives.
    fn draw_from_tree(&self, record: &Record) -> Result<Option<(ObjectId, u64)>> {
        let tree = TreeReader::open_unpinned(self.repository.store(), &record.root())?;
        let mut chunks = Vec::new();
        tree.walk(&mut |part| {
            self.go_on()?;
            match part {
                TreePart::Node { .. } => {}
                TreePart::Unreadable { error, .. } => return Err(error),
                TreePart::Chunk { id, length, .. } if chunks.len() < DRAWN_FROM => chunks.push((*id, length)),
                TreePart::Chunk { .. } => {}
            }
            Ok(chunks.len() < DRAWN_FROM)
        })?;
        Ok(chunks.get(self.draw(chunks.len() as u64) as usize).copied())
    }

    /// A number below a bound, another one each time that a scrub is made.
    fn draw(&self, bound: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.seed;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) % bound.max(1)
    }
}
