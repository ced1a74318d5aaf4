//! Packs that no table names, and that have the only good copy of something: what tables tell of it rotted, or is gone.

use std::collections::HashSet;

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
