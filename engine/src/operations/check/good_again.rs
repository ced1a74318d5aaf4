//! Objects on the damage list of which a good copy is known by now: stored anew since, named again by a table that was lost,
//! or called bad by a medium that gives them back today.

use std::collections::{HashMap, HashSet};

use super::reach::Reached;
use super::{Check, Packs};
use crate::error::Result;
use crate::format::{BadObject, PackKind};
use crate::id::{ObjectId, PackId};

impl Check<'_> {
    /// The damage list without those objects of which a copy in a sound pack was verified, as a scrub does it; and these. It
    /// must be one that tables name: no backup would rely on another one, but on the bad one.
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

    /// Those of the objects that a sound pack has as they were written.
    fn verified(&self, packs: &Packs, ids: impl Iterator<Item = ObjectId>) -> Result<HashSet<ObjectId>> {
        let mut good = HashSet::new();
        let wanted = self.packs_with(packs, ids)?;
        if !wanted.is_empty() {
            self.monitor.begin("reading again what was bad", None);
        }
        for (&(pack, kind), ids) in &wanted {
            let (mut check, entries) = match self.repository.store().check_pack(kind, pack) {
                Err(error) if error.is_loss() => continue,
                opened => opened?,
            };
            for entry in entries.iter().filter(|entry| ids.contains(&entry.id)) {
                self.go_on()?;
                self.monitor.advance(entry.stored_len.into());
                match check.verify(entry) {
                    Ok(()) => _ = good.insert(entry.id),
                    Err(error) if error.is_loss() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(good)
    }

    /// The sound packs that have any of these objects, and which.
    fn packs_with(
        &self,
        packs: &Packs,
        ids: impl Iterator<Item = ObjectId>,
    ) -> Result<HashMap<(PackId, PackKind), HashSet<ObjectId>>> {
        let index = self.repository.store().index();
        let mut wanted: HashMap<(PackId, PackKind), HashSet<ObjectId>> = HashMap::new();
        for id in ids {
            self.go_on()?;
            for place in index.published_places(&id)? {
                if packs.sound.contains(&place.pack) {
                    wanted.entry((place.pack, place.kind)).or_default().insert(id);
                }
            }
        }
        Ok(wanted)
    }
}
