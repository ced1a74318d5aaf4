//! What a run has stored so far, and need not store again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::id::{ObjectId, PackId};
use crate::recent::Recent;

/// The objects that a run has stored. Shared by its threads.
#[derive(Clone)]
pub(super) struct Fresh(Arc<RwLock<Known>>);

enum Known {
    /// Objects, and their packs. Published ones go when their table is there.
    Stored(HashMap<ObjectId, PackId>),
    /// Of a dry run, which publishes nothing, the latest. What is forgotten is counted again if it comes again: the sum
    /// is about right, and memory bounded.
    Counted(Recent<()>),
}

impl Fresh {
    pub(super) fn new(dry_run: bool) -> Self {
        let known = match dry_run {
            true => Known::Counted(Recent::default()),
            false => Known::Stored(HashMap::new()),
        };
        Self(Arc::new(RwLock::new(known)))
    }

    pub(super) fn contains(&self, id: &ObjectId) -> bool {
        match &*self.read() {
            Known::Stored(packs) => packs.contains_key(id),
            Known::Counted(recent) => recent.get(id).is_some(),
        }
    }

    /// Notes an object that was put into a pack; a dry run has none.
    pub(super) fn note(&self, id: ObjectId, pack: Option<PackId>) {
        match (&mut *self.write(), pack) {
            (Known::Stored(packs), Some(pack)) => _ = packs.insert(id, pack),
            (Known::Counted(recent), _) => _ = recent.insert(&id, ()),
            (Known::Stored(_), None) => {}
        }
    }

    /// Forgets what lies in packs that a table names from now on, but for some objects.
    pub(super) fn forget(&self, published: &HashSet<PackId>, kept: &HashSet<ObjectId>) {
        if let Known::Stored(packs) = &mut *self.write() {
            packs.retain(|id, pack| !published.contains(pack) || kept.contains(id));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::from_bytes(bytes)
    }

    /// It kept every object: of a first backup of 10 TiB some 15 GB.
    #[test]
    fn a_dry_run_remembers_the_latest_objects_and_forgets_the_oldest() {
        let fresh = Fresh::new(true);
        let count = 3 * Recent::<()>::HALF;
        (0..count).for_each(|number| fresh.note(id(number), None));
        assert!((count - Recent::<()>::HALF..count).all(|number| fresh.contains(&id(number))));
        assert!(!fresh.contains(&id(0)));
    }

    #[test]
    fn what_a_table_names_is_forgotten_but_for_what_was_bad() {
        let fresh = Fresh::new(false);
        let [published, open] = [1, 2].map(|byte| PackId::from_bytes([byte; 16]));
        for (number, pack) in [(0, published), (1, published), (2, open)] {
            fresh.note(id(number), Some(pack));
        }
        fresh.clone().forget(&HashSet::from([published]), &HashSet::from([id(1)]));
        assert_eq!([0, 1, 2, 3].map(|number| fresh.contains(&id(number))), [false, true, true, false]);
    }
}
