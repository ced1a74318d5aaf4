//! The damage list: objects of which no good copy is known.

use std::collections::BTreeMap;

use super::Repository;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{BadObject, Damage, MAX_SEALED_SIZE, open, seal};
use crate::id::ObjectId;

/// So many objects fit into the list, without reasons.
const MAX_LISTED: usize = 300_000;

impl Repository {
    /// The objects that were found to be bad and were not stored anew since.
    pub fn damage(&self) -> Result<Damage> {
        match self.read_damage() {
            // What was bad will be found again; a list that is bad itself must not stop anybody.
            Err(error) if error.is_damage() => {
                log::warn!("{error}; run a full scrub to make the damage list anew");
                Ok(Damage::default())
            }
            other => other,
        }
    }

    /// What is wrong with the list itself, if anything is.
    pub(crate) fn damage_of_list(&self) -> Result<Option<String>> {
        match self.read_damage() {
            Err(error) if error.is_damage() => Ok(Some(error.to_string())),
            other => other.map(|_| None),
        }
    }

    pub(crate) fn read_damage(&self) -> Result<Damage> {
        match self.backend().read(&Key::damage(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => Ok(Damage::default()),
            other => open("the damage list", &other?),
        }
    }

    /// Adds objects to the list and takes others off it. Of a list that would be too long the rest is left out: it will
    /// be found again.
    ///
    /// A list that can't be read tells at least that something was bad. It stays unless there is more to tell, or all
    /// that is stored was read to `renew` it.
    pub(crate) fn change_damage(&self, add: Vec<BadObject>, remove: &[ObjectId], renew: bool) -> Result<()> {
        if add.is_empty() && remove.is_empty() && !(renew && self.damage_of_list()?.is_some()) {
            return Ok(());
        }
        let _lock = self.lock("damage", "the damage list", || Ok(true))?;
        let before = match self.read_damage() {
            Err(error) if error.is_damage() => None,
            other => Some(other?),
        };
        if before.is_none() && add.is_empty() && !renew {
            return Ok(());
        }
        let listed = before.iter().flat_map(|list| &list.objects);
        let mut objects: BTreeMap<ObjectId, BadObject> =
            listed.map(|object| (object.id, object.clone())).collect();
        for id in remove {
            objects.remove(id);
        }
        for object in add {
            // The first time at which it was found is the one that tells something.
            objects.entry(object.id).or_insert(object);
        }
        let after = Damage { objects: objects.into_values().take(MAX_LISTED).collect() };
        if before.as_ref() == Some(&after) {
            return Ok(());
        }
        let sealed = match seal(&after) {
            Err(Error::NotStorable { .. }) => seal(&without_reasons(after))?,
            other => other?,
        };
        self.backend().put(&Key::damage(), &sealed)
    }
}

/// A list that is too long for its object: which objects are bad matters more than why.
fn without_reasons(mut damage: Damage) -> Damage {
    damage.objects.iter_mut().for_each(|object| object.reason.clear());
    damage
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::format::Timestamp;
    use crate::repository::CreateOptions;

    #[test]
    fn of_a_list_that_is_too_long_as_much_is_kept_as_fits() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
        repository.change_damage((0..MAX_LISTED + 1000).map(bad).collect(), &[], false).unwrap();
        assert_eq!(repository.damage().unwrap().objects.len(), MAX_LISTED);
    }

    /// Nobody ever made it anew while nothing was bad, and `status` told of it for ever.
    #[test]
    fn a_damaged_list_stays_until_there_is_more_to_tell_or_all_was_read() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
        let file = directory.path().join("damage");
        for (add, remove, renew, listed) in [
            (vec![], vec![], false, None),
            (vec![], vec![bad(1).id], false, None),
            (vec![bad(1)], vec![], false, Some(1)),
            (vec![], vec![], true, Some(0)),
        ] {
            std::fs::write(&file, b"garbage").unwrap();
            repository.change_damage(add, &remove, renew).unwrap();
            let found = repository.read_damage().ok().map(|list| list.objects.len());
            assert_eq!(found, listed);
        }
        let inode = || std::fs::metadata(&file).unwrap().ino();
        let written = inode();
        repository.change_damage(vec![], &[], true).unwrap();
        assert_eq!(inode(), written, "one that can be read is left alone");
    }

    fn bad(number: usize) -> BadObject {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        BadObject {
            id: ObjectId::from_bytes(id),
            type_code: 1,
            found: Timestamp::now(),
            reason: "it rotted".to_owned(),
        }
    }
}
