//! The damage list: objects of which no good copy is known.

use std::collections::{BTreeMap, HashSet};

use super::Repository;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{BadObject, Damage, MAX_SEALED_SIZE, PackKind, Timestamp, open, seal};
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
    pub(super) fn damage_of_list(&self) -> Result<Option<String>> {
        match self.read_damage() {
            Err(error) if error.is_damage() => Ok(Some(error.to_string())),
            other => other.map(|_| None),
        }
    }

    fn read_damage(&self) -> Result<Damage> {
        match self.backend().read(&Key::damage(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => Ok(Damage::default()),
            other => open("the damage list", &other?),
        }
    }

    /// The damage list, with the objects of packs that are gone or truncated: those are found by listing alone.
    pub(crate) fn damage_now(&self) -> Result<Damage> {
        let mut damage = self.damage()?;
        let index = self.store().index();
        let missing = index.missing_packs()?;
        let listed: HashSet<ObjectId> = damage.objects.iter().map(|object| object.id).collect();
        index.visit_entries_of(&missing, |id, location| {
            let others = index.locate_in_tables(&id)?;
            if !listed.contains(&id) && others.iter().all(|other| missing.contains_key(&other.pack)) {
                damage.objects.push(BadObject {
                    id,
                    type_code: type_code_in(location.kind),
                    found: Timestamp::now(),
                    reason: format!("pack {} is gone or truncated", location.pack),
                });
            }
            Ok(())
        })?;
        Ok(damage)
    }

    /// Adds objects to the list and takes others off it. Of a list that would be too long the rest is left out: it will
    /// be found again.
    pub(crate) fn change_damage(&self, add: Vec<BadObject>, remove: &[ObjectId]) -> Result<()> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let _lock = self.lock("damage", "the damage list", || Ok(true))?;
        let before = self.damage()?;
        let mut objects: BTreeMap<ObjectId, BadObject> =
            before.objects.iter().map(|object| (object.id, object.clone())).collect();
        for id in remove {
            objects.remove(id);
        }
        for object in add {
            // The first time at which it was found is the one that tells something.
            objects.entry(object.id).or_insert(object);
        }
        let after = Damage { objects: objects.into_values().take(MAX_LISTED).collect() };
        if after == before {
            return Ok(());
        }
        let sealed = match seal(&after) {
            Err(Error::NotStorable { .. }) => seal(&without_reasons(after))?,
            other => other?,
        };
        self.backend().put(&Key::damage(), &sealed)
    }
}

/// The type of what lies in packs of a kind, as far as the kind tells it.
fn type_code_in(kind: PackKind) -> u8 {
    match kind.object_types() {
        [only] => only.code(),
        _ => BadObject::UNKNOWN_TYPE,
    }
}

/// A list that is too long for its object: which objects are bad matters more than why.
fn without_reasons(mut damage: Damage) -> Damage {
    damage.objects.iter_mut().for_each(|object| object.reason.clear());
    damage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::CreateOptions;

    #[test]
    fn of_a_list_that_is_too_long_as_much_is_kept_as_fits() {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
        let bad = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            BadObject {
                id: ObjectId::from_bytes(id),
                type_code: 1,
                found: Timestamp::now(),
                reason: "it rotted".to_owned(),
            }
        };
        repository.change_damage((0..MAX_LISTED + 1000).map(bad).collect(), &[]).unwrap();
        assert_eq!(repository.damage().unwrap().objects.len(), MAX_LISTED);
    }
}
