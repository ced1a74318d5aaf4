//! Maps for tests: plain canonical ones to compare with, and nodes of any kind, also such as no backup would store.

use std::collections::HashSet;
use std::sync::Arc;

use tempfile::TempDir;

use super::MapReader;
use crate::format::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
use crate::id::ObjectId;
use crate::repository::{CreateOptions, Repository};
use crate::store::{Store, StoreWriter};

/// The chunk size of these maps.
pub(crate) const CHUNK: u32 = 4096;

/// A repository that holds nothing but nodes.
pub(crate) struct Maps {
    _directory: TempDir,
    repository: Repository,
}

impl Maps {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = CreateOptions { chunk_size: CHUNK, ..CreateOptions::default() };
        let repository = Repository::create(&directory.path().join("repository"), &options).unwrap();
        Self { _directory: directory, repository }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        self.repository.store()
    }

    /// Lets `write` store nodes.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut StoreWriter<'_>) -> T) -> T {
        let mut writer = StoreWriter::new(self.store(), HashSet::new(), false).unwrap();
        let result = write(&mut writer);
        writer.finish().unwrap();
        result
    }

    /// Stores one node.
    pub(crate) fn node(&self, content: &[u8]) -> ObjectId {
        self.write(|writer| writer.add_node(content).unwrap())
    }

    pub(crate) fn open(&self, root: &Root) -> MapReader {
        MapReader::open(self.store(), &self.node(&root.encode())).unwrap()
    }

    /// The map of whole chunks with this content.
    pub(crate) fn map(&self, slots: &[Slot]) -> MapReader {
        self.map_of_size(slots.len() as u64 * u64::from(CHUNK), slots)
    }

    /// The map of an image of this size, whose last chunk may be shorter.
    pub(crate) fn map_of_size(&self, size: u64, slots: &[Slot]) -> MapReader {
        assert_eq!(size.div_ceil(CHUNK.into()), slots.len() as u64);
        self.open(&self.write(|writer| canonical_root(size, slots, writer)))
    }
}

/// A chunk; it is not stored.
pub(crate) fn chunk(number: u64) -> Slot {
    Slot::Chunk(absent(number))
}

/// The name of something that is not stored.
pub(crate) fn absent(number: u64) -> ObjectId {
    let mut bytes = [0xab; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// The bytes of a map's slots that are not holes.
pub(crate) fn data_bytes(size: u64, slots: &[Slot], first: u64) -> u64 {
    let length = |index: u64| (size - index * u64::from(CHUNK)).min(CHUNK.into());
    (first..).zip(slots).filter(|(_, slot)| **slot != Slot::Hole).map(|(index, _)| length(index)).sum()
}

/// A map as section 10 of `docs/format.md` defines it, without regard to cost: level by level.
pub(crate) fn canonical_root(size: u64, slots: &[Slot], writer: &mut StoreWriter<'_>) -> Root {
    let width = FAN_OUT as usize;
    let mut add = |content: Vec<u8>, data_bytes, chunk_count| {
        Some(Subtree { id: writer.add_node(&content).unwrap(), data_bytes, chunk_count })
    };
    let mut nodes: Vec<Child> = (0u64..)
        .step_by(width)
        .zip(slots.chunks(width))
        .map(|(first, slots)| {
            let chunks = slots.iter().filter(|slot| matches!(slot, Slot::Chunk(_))).count() as u64;
            let data_bytes = data_bytes(size, slots, first);
            if data_bytes > 0 {
                add(Leaf { slots: slots.to_vec() }.encode(), data_bytes, chunks)
            } else {
                None
            }
        })
        .collect();
    let mut level = 0;
    while nodes.len() > 1 {
        level += 1;
        nodes = nodes
            .chunks(width)
            .map(|children| {
                let stored = || children.iter().flatten();
                stored().next()?;
                let data_bytes = stored().map(|child| child.data_bytes).sum();
                let chunks = stored().map(|child| child.chunk_count).sum();
                add(Inner { level, children: children.to_vec() }.encode(), data_bytes, chunks)
            })
            .collect();
    }
    Root { level, size, chunk_size: CHUNK, top: nodes.first().copied().flatten() }
}

/// Random content in runs: holes, one chunk again and again, and chunks that differ.
pub(crate) fn random_slots(count: u64, random: &mut impl FnMut(u64) -> u64) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    while (slots.len() as u64) < count {
        let (kind, length) = (random(4), 1 + random(400));
        slots.extend((0..length).map(|_| match kind {
            0 | 1 => Slot::Hole,
            2 => chunk(0),
            _ => chunk(random(1 << 40)),
        }));
    }
    slots.truncate(count as usize);
    slots
}

/// SplitMix64 from a seed: numbers below a bound.
pub(crate) fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |bound| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
