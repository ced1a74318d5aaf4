//! Objects on the damage list of which a good copy is known by now: stored anew since, named again by a table that was lost,
//! or called bad by a medium that gives them back today.

use std::collections::{HashMap, HashSet};

use super::reach::Reached;
use super::{Check, Packs};
use crate::error::Result;
use crate::format::{BadObject, PackKind};
use crate::id::{ObjectId, PackId};

impl Check<'_> {
    /// The damage list without those objects of which all copies were verified that tables name, as a scrub does it; and
    /// these. Any of them may be the one on which a backup relies, and the one that gc leaves.
    pub(super) fn listed_bad(
        &self,
        packs: &Packs,
        reached: &Reached,
    ) -> Result<(Vec<BadObject>, Vec<ObjectId>)> {
        let listed = self.repository.damage()?.objects;
        if packs.has_too_many_unnamed() {
            // Nothing was followed either.
            return Ok((listed, Vec::new()));
        }
        let doubtful = listed.iter().map(|object| object.id).filter(|id| !reached.bad.contains_key(id));
        let good = self.verified(packs, doubtful)?;
        let (again, bad) = listed.into_iter().partition(|object| good.contains(&object.id));
        let again: Vec<BadObject> = again;
        Ok((bad, again.into_iter().map(|object| object.id).collect()))
    }

    /// Those of the objects that are as they were written in all packs that tables name for them, but for packs that are gone.
    fn verified(&self, packs: &Packs, ids: impl Iterator<Item = ObjectId>) -> Result<HashSet<ObjectId>> {
        let (wanted, mut good) = self.copies_of(packs, ids)?;
        if !wanted.is_empty() {
            self.monitor.begin("reading again what was bad", None);
        }
        for (&(pack, kind), ids) in &wanted {
            let intact = self.intact_in(pack, kind, ids)?;
            ids.iter().filter(|id| !intact.contains(*id)).for_each(|id| _ = good.remove(id));
        }
        Ok(good)
    }

    fn intact_in(&self, pack: PackId, kind: PackKind, ids: &HashSet<ObjectId>) -> Result<HashSet<ObjectId>> {
        let mut intact = HashSet::new();
        let (mut check, entries) = match self.repository.store().check_pack(kind, pack) {
            Err(error) if error.is_loss() => return Ok(intact),
            opened => opened?,
        };
        for entry in entries.iter().filter(|entry| ids.contains(&entry.id)) {
            self.go_on()?;
            self.monitor.advance(entry.stored_len.into());
            match check.verify(entry) {
                Ok(()) => _ = intact.insert(entry.id),
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(intact)
    }

    /// Which of these objects each pack has, and those that are in sound packs alone, and in one at least.
    fn copies_of(&self, packs: &Packs, ids: impl Iterator<Item = ObjectId>) -> Result<Copies> {
        let index = self.repository.store().index();
        let (mut wanted, mut in_sound) = (HashMap::<_, HashSet<ObjectId>>::new(), HashSet::new());
        for id in ids {
            self.go_on()?;
            let mut places = index.published_places(&id)?;
            places.retain(|place| packs.damaged.get(&place.pack).is_none_or(|damaged| damaged.is_there));
            if places.is_empty() || !places.iter().all(|place| packs.sound.contains(&place.pack)) {
                continue;
            }
            in_sound.insert(id);
            for place in places {
                wanted.entry((place.pack, place.kind)).or_default().insert(id);
            }
        }
        Ok((wanted, in_sound))
    }
}

/// Packs, with the objects that are wanted of each; and all these objects.
type Copies = (HashMap<(PackId, PackKind), HashSet<ObjectId>>, HashSet<ObjectId>);
