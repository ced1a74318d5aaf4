//! Which revisions need which bad object, in bounded memory.

use std::collections::HashMap;

use crate::id::ObjectId;

/// Names of revisions that are kept for all bad objects together, besides one for each. Of more it is only counted who
/// needs what: a hundred thousand objects of a year's revisions would have millions.
const MAX_NAMES: usize = 200_000;

/// The revisions that need each bad object.
#[derive(Default)]
pub(crate) struct NeededBy {
    revisions: Vec<String>,
    needed: HashMap<ObjectId, Needed>,
    /// How many names are kept.
    names: usize,
}

/// The revisions that need one object.
#[derive(Default)]
struct Needed {
    /// Their places among all revisions.
    by: Vec<u32>,
    /// How many there are besides.
    more: u64,
}

impl NeededBy {
    /// Notes the bad objects that a revision reaches.
    pub(crate) fn note(&mut self, revision: String, reached: &[ObjectId]) {
        if reached.is_empty() {
            return;
        }
        let place = self.revisions.len() as u32;
        self.revisions.push(revision);
        for id in reached {
            let needed = self.needed.entry(*id).or_default();
            if self.names < MAX_NAMES || needed.by.is_empty() {
                needed.by.push(place);
                self.names += 1;
            } else {
                needed.more += 1;
            }
        }
    }

    /// Whether a revision needs an object.
    pub(crate) fn is_needed(&self, id: &ObjectId) -> bool {
        self.needed.contains_key(id)
    }

    /// Names of the revisions that need an object, and how many more there are.
    pub(crate) fn needing(&self, id: &ObjectId) -> (Vec<String>, u64) {
        let Some(needed) = self.needed.get(id) else { return (Vec::new(), 0) };
        let names = needed.by.iter().filter_map(|&place| self.revisions.get(place as usize).cloned());
        (names.collect(), needed.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD_COUNT: usize = 100_000;

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::from_bytes(bytes)
    }

    #[test]
    fn of_many_bad_objects_some_names_are_kept_and_the_rest_is_counted() {
        let objects: Vec<ObjectId> = (0..BAD_COUNT).map(id).collect();
        let mut affected = NeededBy::default();
        for revision in 0..9 {
            affected.note(format!("vm@{revision}"), &objects);
        }
        affected.note("vm@9".to_owned(), &[id(BAD_COUNT)]);
        let (first, latest) = (affected.needing(&id(0)), affected.needing(&id(BAD_COUNT)));
        assert_eq!(first, (vec!["vm@0".to_owned(), "vm@1".to_owned()], 7));
        assert_eq!(latest, (vec!["vm@9".to_owned()], 0));
        assert_eq!(affected.needing(&id(BAD_COUNT + 1)), (Vec::new(), 0));
        assert!(affected.names <= MAX_NAMES + BAD_COUNT);
    }
}
