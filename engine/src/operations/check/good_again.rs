//! Objects on the damage list of which a good copy is known by now: stored anew since, named again by a table that was lost,
//! or called bad by a medium that gives them back today.

use std::collections::{HashMap, HashSet};

use super::reach::Reached;
use super::{Check, Packs};
use crate::error::Result;
use crate::format::{BadObject, PackKind};
use crate::id::{ObjectId, PackId};
use crate::store::read_condemned;

impl Check<'_> {
    /// The damage list without those objects that revisions need, and of which a copy was verified that tables name; and
    /// these. A copy that no table names, or that gc has condemned, does not count: no backup would rely on it, but on the
    /// bad one. What nobody needs stays listed, as gc may leave any copy of it.
    pub(super) fn listed_bad(
        &self,
        packs: &Packs,
        reached: &Reached,
    ) -> Result<(Vec<BadObject>, Vec<ObjectId>)> {
        let listed = self.repository.damage()?.objects;
        let needed = reached.listed.iter().filter(|id| !reached.bad.contains_key(*id)).copied();
        let good = self.verified(packs, needed)?;
        let (again, bad): (Vec<_>, Vec<_>) = listed.into_iter().partition(|object| good.contains(&object.id));
        Ok((bad, again.into_iter().map(|object| object.id).collect()))
    }

    /// Those of the objects that a sound pack has as they were written.
    fn verified(&self, packs: &Packs, ids: impl Iterator<Item = ObjectId>) -> Result<HashSet<ObjectId>> {
        let mut good = HashSet::new();
        let wanted = self.packs_with(packs, ids)?;
        if !wanted.is_empty() {
            self.monitor.begin("reading again what was bad", None);
        }
        for (&(pack, kind), ids) in &wanted {
            good.extend(self.intact_in(pack, kind, ids)?);
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

    /// The sound packs on which a backup may rely that have any of these objects, and which.
    fn packs_with(
        &self,
        packs: &Packs,
        ids: impl Iterator<Item = ObjectId>,
    ) -> Result<HashMap<(PackId, PackKind), HashSet<ObjectId>>> {
        let index = self.repository.store().index();
        let condemned = self.condemned()?;
        let mut wanted: HashMap<(PackId, PackKind), HashSet<ObjectId>> = HashMap::new();
        for id in ids {
            self.go_on()?;
            for place in index.published_places(&id)? {
                if packs.sound.contains(&place.pack) && !condemned.contains(&place.pack) {
                    wanted.entry((place.pack, place.kind)).or_default().insert(id);
                }
            }
        }
        Ok(wanted)
    }

    /// The packs that gc has condemned. A list that rotted condemns nothing.
    fn condemned(&self) -> Result<HashSet<PackId>> {
        match read_condemned(self.repository.backend().as_ref()) {
            Err(error) if error.is_damage() => Ok(HashSet::new()),
            list => Ok(list?.unwrap_or_default().packs.iter().map(|(pack, _)| pack).collect()),
        }
    }
}
