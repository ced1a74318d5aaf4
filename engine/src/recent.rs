//! Memory of the objects that came by lately, bounded however many come.

use std::collections::HashMap;

use crate::id::ObjectId;

/// What is known of the objects that came by lately: revisions of one stream hold much the same ones. What is forgotten
/// is looked at again, which costs time and nothing else.
pub(crate) struct Recent<T> {
    young: HashMap<u128, T>,
    old: HashMap<u128, T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<T> Recent<T> {
    /// Objects in each half: of ids alone some 36 MB for both. As nodes, they stand for 230 million chunks and more.
    pub(crate) const HALF: usize = 900_000;

    /// What is known of an object, if it came by lately.
    pub(crate) fn get(&self, id: &ObjectId) -> Option<&T> {
        let key = key_of(id);
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Notes an object; says whether it did not come by lately.
    pub(crate) fn insert(&mut self, id: &ObjectId, known: T) -> bool {
        let key = key_of(id);
        let was_old = self.old.contains_key(&key);
        let was_young = self.young.insert(key, known).is_some();
        if self.young.len() >= Self::HALF {
            self.old = std::mem::take(&mut self.young);
        }
        !was_old && !was_young
    }
}

/// Half its id tells objects apart as well.
fn key_of(id: &ObjectId) -> u128 {
    let (half, _) = id.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    u128::from_le_bytes(*half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::from_bytes(bytes)
    }

    #[test]
    fn the_latest_are_known_and_memory_is_bounded() {
        let mut recent = Recent::default();
        let count = 3 * Recent::<usize>::HALF;
        for number in 0..count {
            assert!(recent.insert(&id(number), number));
            assert!(!recent.insert(&id(number), number));
        }
        assert!(recent.young.len() + recent.old.len() <= 2 * Recent::<usize>::HALF);
        let latest = count - Recent::<usize>::HALF..count;
        assert!(latest.into_iter().all(|number| recent.get(&id(number)) == Some(&number)));
        assert_eq!(recent.get(&id(0)), None);
    }
}
