//! Reads chunks that are asked for together: what lies together in a pack is read in one piece.

use super::{Location, Store};
use crate::error::Result;
use crate::format::{ObjectType, decode_blob_into};
use crate::id::ObjectId;

/// A chunk, and where its content goes.
pub(crate) struct Wanted<'a> {
    pub(crate) id: ObjectId,
    pub(crate) content: &'a mut [u8],
}

/// The longest piece that is read at once.
const MAX_PIECE_BYTES: u64 = 2 << 20;

/// Bytes between two blobs that are rather read than skipped.
const MAX_GAP_BYTES: u64 = 32 << 10;

impl Store {
    /// Fills all contents, past the cache.
    ///
    /// # Errors
    /// The first chunk that has no intact copy; no content counts then.
    pub(crate) fn read_chunks(&self, wanted: &mut [Wanted<'_>]) -> Result<()> {
        if let [single] = wanted {
            return self.read_into(ObjectType::Chunk, &single.id, single.content);
        }
        let mut rest = wanted;
        while !rest.is_empty() {
            let mut places = Vec::new();
            for chunk in rest.iter() {
                let Some(place) = self.index.locate(&chunk.id)?.first().copied() else { break };
                if !goes_on(&places, &place) {
                    break;
                }
                places.push(place);
            }
            // At least one is done, so that this comes to an end.
            let (piece, after) = rest.split_at_mut(places.len().max(1));
            self.read_piece(&places, piece)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads chunks of one piece of a pack. Those that are not intact there are looked for elsewhere.
    fn read_piece(&self, places: &[Location], wanted: &mut [Wanted<'_>]) -> Result<()> {
        let intact = match (places.first(), places.last()) {
            (Some(first), Some(last)) => {
                let length = end_of(last) - u64::from(first.offset);
                let decode = |bytes: &[u8]| self.decode_piece(first, places, bytes, wanted);
                self.packs.with_bytes(first, length, decode).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        for (index, chunk) in wanted.iter_mut().enumerate() {
            if intact.get(index) != Some(&true) {
                self.read_into(ObjectType::Chunk, &chunk.id, chunk.content)?;
            }
        }
        Ok(())
    }

    fn decode_piece(
        &self,
        first: &Location,
        places: &[Location],
        bytes: &[u8],
        wanted: &mut [Wanted<'_>],
    ) -> Vec<bool> {
        let decode = |(place, chunk): (&Location, &mut Wanted<'_>)| {
            let start = place.offset.checked_sub(first.offset)? as usize;
            let blob = bytes.get(start..)?.get(..place.stored_len as usize)?;
            decode_blob_into(blob, chunk.content)?;
            (self.hasher.id(ObjectType::Chunk, chunk.content) == chunk.id).then_some(())
        };
        places.iter().zip(wanted.iter_mut()).map(|pair| decode(pair).is_some()).collect()
    }
}

/// Whether a place continues a piece that begins with `places`.
fn goes_on(places: &[Location], next: &Location) -> bool {
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return true };
    let gap = u64::from(next.offset).checked_sub(end_of(last));
    let length = end_of(next).saturating_sub(first.offset.into());
    next.pack == first.pack && gap.is_some_and(|gap| gap <= MAX_GAP_BYTES) && length <= MAX_PIECE_BYTES
}

fn end_of(place: &Location) -> u64 {
    u64::from(place.offset) + u64::from(place.stored_len)
}
