//! The ids of the chunks that a node's entries use: each once, in the order of first use.

use std::collections::HashMap;

use crate::format::bytes::Fields;
use crate::id::ObjectId;

/// Gives numbers to ids while entries are encoded.
#[derive(Default)]
pub(super) struct ChunkNumbers {
    ids: Vec<ObjectId>,
    numbers: HashMap<ObjectId, u32>,
}

impl ChunkNumbers {
    /// The number of an id.
    pub(super) fn number(&mut self, id: ObjectId) -> u32 {
        let ids = &mut self.ids;
        *self.numbers.entry(id).or_insert_with(|| {
            ids.push(id);
            u32::try_from(ids.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&u32::try_from(self.ids.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.ids.iter().for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    }
}

/// Gives ids for numbers while entries are decoded, and watches the order of their first use.
pub(super) struct ChunkIds<'a> {
    ids: &'a [[u8; ObjectId::LEN]],
    used: usize,
}

impl<'a> ChunkIds<'a> {
    /// `None` if the list is cut off, or has an id twice.
    pub(super) fn decode(fields: &mut Fields<'a>) -> Option<Self> {
        let count = usize::try_from(fields.u32()?).ok()?;
        let (ids, _) = fields.bytes(count.checked_mul(ObjectId::LEN)?)?.as_chunks();
        let mut sorted: Vec<_> = ids.iter().collect();
        sorted.sort_unstable();
        (!sorted.windows(2).any(|pair| pair[0] == pair[1])).then_some(Self { ids, used: 0 })
    }

    /// The id of this number; `None` if an earlier one was not used before it, or there is none.
    pub(super) fn id(&mut self, number: u32) -> Option<ObjectId> {
        let number = usize::try_from(number).ok().filter(|&number| number <= self.used)?;
        let id = self.ids.get(number)?;
        self.used = self.used.max(number + 1);
        Some(ObjectId::from_bytes(*id))
    }

    /// Whether all were used.
    pub(super) fn end(&self) -> Option<()> {
        (self.used == self.ids.len()).then_some(())
    }
}
