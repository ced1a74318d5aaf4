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
        if self.candidates.contains(&pack) {
            return true;
        }
        self.candidates.push_back(pack);
        if self.candidates.len() > CANDIDATES {
            self.candidates.pop_front();
        }
        false
    }

    pub(super) fn insert(&mut self, kind: PackKind, pack: PackId, entries: &[PackEntry]) {
        let place = |entry: &PackEntry| Location {
            pack,
            kind,
            offset: entry.offset,
            stored_len: entry.stored_len,
            plain_len: entry.plain_len,
        };
        self.places.extend(entries.iter().map(|entry| (entry.id, place(entry))));
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
