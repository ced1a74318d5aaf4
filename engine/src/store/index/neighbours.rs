//! The directories of packs that were hit lately: what was stored together is asked for together.
//!
//! The locality-preserved cache of the Data Domain file system (Zhu, Li, Patterson, FAST 2008).

use std::collections::{HashMap, VecDeque};

use super::Location;
use crate::format::{PackEntry, PackKind};
use crate::id::{ObjectId, PackId};

/// Objects that are remembered at most: some 10 MB.
const MAX_OBJECTS: usize = 100_000;

/// Packs of the latest single hits.
const CANDIDATES: usize = 16;

#[derive(Default)]
pub(super) struct Neighbours {
    places: HashMap<ObjectId, Location>,
    /// Loaded packs, the oldest first, with their objects.
    loaded: VecDeque<(PackId, Vec<ObjectId>)>,
    /// Packs that were hit once.
    candidates: VecDeque<PackId>,
}

impl Neighbours {
    pub(super) fn get(&self, id: &ObjectId) -> Option<Location> {
        self.places.get(id).copied()
    }

    /// Whether a hit in this pack is the second of late, so that its directory should be loaded.
    pub(super) fn wants(&mut self, pack: PackId) -> bool {
        if self.loaded.iter().any(|(loaded, _)| *loaded == pack) {
            return false;
        }
        if let Some(place) = self.candidates.iter().position(|candidate| *candidate == pack) {
            // Of several threads one loads it.
            self.candidates.remove(place);
            return true;
        }
        self.candidates.push_back(pack);
        if self.candidates.len() > CANDIDATES {
            self.candidates.pop_front();
        }
        false
    }

    pub(super) fn insert(&mut self, kind: PackKind, pack: PackId, entries: &[PackEntry]) {
        if self.loaded.iter().any(|(loaded, _)| *loaded == pack) {
            return;
        }
        // What is beyond the bound is found in the tables.
        let entries = entries.get(..MAX_OBJECTS).unwrap_or(entries);
        self.places.extend(entries.iter().map(|entry| (entry.id, Location::in_pack(kind, pack, entry))));
        self.loaded.push_back((pack, entries.iter().map(|entry| entry.id).collect()));
        while self.places.len() > MAX_OBJECTS {
            let Some((oldest, ids)) = self.loaded.pop_front() else { break };
            for id in ids {
                if self.places.get(&id).is_some_and(|place| place.pack == oldest) {
                    self.places.remove(&id);
                }
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ObjectType;

    fn id(number: u64) -> ObjectId {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ObjectId::from_bytes(bytes)
    }

    fn pack(byte: u8) -> PackId {
        PackId::from_bytes([byte; 16])
    }

    fn entries(ids: std::ops::Range<u64>) -> Vec<PackEntry> {
        let entry = |number: u64| PackEntry {
            id: id(number),
            object_type: ObjectType::Chunk,
            offset: 64 + number as u32,
            stored_len: 1,
            plain_len: 2,
            checksum: [0; 8],
        };
        ids.map(entry).collect()
    }

    fn insert(neighbours: &mut Neighbours, number: u8, ids: std::ops::Range<u64>) {
        neighbours.insert(PackKind::Data, pack(number), &entries(ids));
    }

    #[test]
    fn the_second_hit_in_a_pack_asks_for_its_directory_and_a_loaded_one_is_enough() {
        let mut neighbours = Neighbours::default();
        assert!(!neighbours.wants(pack(1)));
        assert!(!neighbours.wants(pack(2)));
        assert!(neighbours.wants(pack(1)));
        // Of two threads that race, one loads it; and should both, it counts once.
        assert!(!neighbours.wants(pack(1)));
        insert(&mut neighbours, 1, 0..10);
        assert_eq!(neighbours.loaded.len(), 1);
        insert(&mut neighbours, 1, 0..10);
        assert_eq!(neighbours.loaded.len(), 1);
        assert!(!neighbours.wants(pack(1)));
        assert!(neighbours.wants(pack(2)));
        let place = neighbours.get(&id(3)).unwrap();
        let expected =
            Location { pack: pack(1), kind: PackKind::Data, offset: 67, stored_len: 1, plain_len: 2 };
        assert_eq!(place, expected);
        assert_eq!(neighbours.get(&id(10)), None);
        neighbours.clear();
        assert_eq!(neighbours.get(&id(3)), None);
        assert!(!neighbours.wants(pack(1)));
    }

    #[test]
    fn single_hits_are_forgotten_after_some_others() {
        let mut neighbours = Neighbours::default();
        (0..CANDIDATES as u8).for_each(|byte| assert!(!neighbours.wants(pack(byte))));
        assert!(neighbours.wants(pack(0)));
        assert!(!neighbours.wants(pack(200)));
        assert!(!neighbours.wants(pack(0)), "the oldest made room");
        assert_eq!(neighbours.candidates.len(), CANDIDATES);
    }

    #[test]
    fn the_oldest_pack_goes_when_there_are_too_many_objects() {
        let mut neighbours = Neighbours::default();
        insert(&mut neighbours, 1, 0..40_000);
        insert(&mut neighbours, 2, 40_000..80_000);
        assert!(neighbours.get(&id(0)).is_some());
        insert(&mut neighbours, 3, 80_000..120_000);
        assert_eq!(neighbours.places.len(), 80_000);
        assert_eq!((neighbours.get(&id(0)), neighbours.get(&id(39_999))), (None, None));
        assert_eq!(neighbours.get(&id(40_000)).unwrap().pack, pack(2));
        assert_eq!(neighbours.get(&id(119_999)).unwrap().pack, pack(3));
        assert!(!neighbours.wants(pack(1)), "it has to be hit anew");
        assert!(neighbours.wants(pack(1)));
    }

    #[test]
    fn an_object_of_two_packs_stays_when_the_older_one_goes() {
        let mut neighbours = Neighbours::default();
        insert(&mut neighbours, 1, 0..50_000);
        insert(&mut neighbours, 2, 49_999..60_000);
        assert_eq!(neighbours.get(&id(49_999)).unwrap().pack, pack(2), "the later place counts");
        insert(&mut neighbours, 3, 60_000..110_000);
        assert_eq!(neighbours.get(&id(0)), None);
        assert_eq!(neighbours.get(&id(49_999)).unwrap().pack, pack(2));
    }

    /// Tiny objects make long directories. One that went beyond the bound pushed itself out again, and was then read
    /// anew with every hit in its pack.
    #[test]
    fn a_directory_beyond_the_bound_is_kept_in_part_and_not_asked_for_again() {
        let mut neighbours = Neighbours::default();
        insert(&mut neighbours, 1, 0..10);
        insert(&mut neighbours, 2, 10..400_000);
        assert!(neighbours.places.len() <= MAX_OBJECTS);
        assert_eq!(neighbours.get(&id(10)).unwrap().pack, pack(2));
        assert_eq!((neighbours.get(&id(0)), neighbours.get(&id(399_999))), (None, None));
        assert!(!neighbours.wants(pack(2)) && !neighbours.wants(pack(2)));
    }
}
