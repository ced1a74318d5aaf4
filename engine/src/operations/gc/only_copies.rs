//! Packs that no table names, and that have the only good copy of something: what tables tell of it rotted, or is gone.

use std::collections::{HashMap, HashSet};

use super::Gc;
use crate::error::Result;
use crate::format::PackKind;
use crate::id::{ObjectId, PackId};

impl Gc<'_> {
    /// Those of the packs, which no table named when marking began, that have the only good copy of an object in use, with
    /// one such object of each. An object is marked where tables say that it lies, and not read if they tell one place alone.
    pub(super) fn only_copies_in(
        &self,
        packs: impl Iterator<Item = (PackId, PackKind)>,
    ) -> Result<Vec<(PackId, ObjectId)>> {
        let known = self.marking.live.knows_packs();
        let mut found = Vec::new();
        let mut good = HashSet::new();
        for (pack, kind) in packs.filter(|(pack, _)| !known.contains(pack)) {
            self.go_on()?;
            let object = self.only_copy_in(pack, kind, &mut good)?;
            found.extend(object.map(|object| (pack, object)));
        }
        Ok(found)
    }

    /// Leaves packs out that no table names and that don't say themselves what lies in them: nobody knows whether anything
    /// does that is needed. They rotted, as no pack has its name before it is whole and durable.
    pub(super) fn leave_silent(&self, packs: &mut HashMap<PackId, (PackKind, u64)>) -> Result<()> {
        let mut silent = Vec::new();
        for (&pack, &(kind, _)) in packs.iter() {
            self.go_on()?;
            if self.repository.store().directory_of_pack(kind, pack)?.is_none() {
                silent.push(pack);
            }
        }
        for pack in silent {
            packs.remove(&pack);
            self.monitor.warn(&format!(
                "pack {pack}, which no table names, is damaged, and what lies in it is not known: it is left; \
                 `treering check --repair` sets it aside"
            ));
        }
        Ok(())
    }

    /// `good` are objects of which a copy in use was read.
    fn only_copy_in(
        &self,
        pack: PackId,
        kind: PackKind,
        good: &mut HashSet<ObjectId>,
    ) -> Result<Option<ObjectId>> {
        let store = self.repository.store();
        // Of one whose directory can't be read nobody reads anything.
        for (id, place) in store.directory_of_pack(kind, pack)?.unwrap_or_default() {
            self.go_on()?;
            let used = self.marking.live.used_places(&id)?;
            if used.is_empty() || good.contains(&id) {
                continue;
            }
            if used.iter().any(|used| store.identify_place(&id, used).is_ok()) {
                good.insert(id);
            } else if store.identify_place(&id, &place).is_ok() {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}
