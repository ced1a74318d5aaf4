//! The damage list: objects of which no good copy is known.

use std::collections::{BTreeMap, HashSet};

use super::Repository;
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{BadObject, Damage, MAX_SEALED_SIZE, Timestamp, open, seal};
use crate::id::ObjectId;

impl Repository {
    /// The objects that were found to be bad and were not stored anew since.
    pub fn damage(&self) -> Result<Damage> {
        match self.backend().read(&Key::damage(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => Ok(Damage::default()),
            Err(error) if error.is_damage() => {
                log::warn!("{error}; run a full scrub to make the damage list anew");
                Ok(Damage::default())
            }
            // What was bad will be found again; a list that is bad itself must not stop anybody.
            Ok(bytes) => match open("the damage list", &bytes) {
                Err(error) if error.is_damage() => {
                    log::warn!("{error}; run a full scrub to make it anew");
                    Ok(Damage::default())
                }
                other => other,
            },
            Err(error) => Err(error),
        }
    }

    /// The damage list, with the objects of packs that are gone or truncated: those are found by listing alone.
    pub(crate) fn damage_now(&self) -> Result<Damage> {
        let mut damage = self.damage()?;
        let missing = self.store().index().missing_packs()?;
        let listed: HashSet<ObjectId> = damage.objects.iter().map(|object| object.id).collect();
        for (id, location) in self.store().index().entries_of(&missing)? {
            let others = self.store().index().locate_in_tables(&id)?;
            if listed.contains(&id) || others.iter().any(|other| !missing.contains_key(&other.pack)) {
                continue;
            }
            damage.objects.push(BadObject {
                id,
                type_code: location.kind.object_type().code(),
                found: Timestamp::now(),
                reason: format!("pack {} is gone or truncated", location.pack),
            });
        }
        Ok(damage)
    }

    /// Adds objects to the list and takes others off it.
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
        let after = Damage { objects: objects.into_values().collect() };
        if after == before {
            return Ok(());
        }
        let sealed = match seal(&after) {
            Err(Error::BadParameter { .. }) => seal(&without_reasons(after))?,
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
