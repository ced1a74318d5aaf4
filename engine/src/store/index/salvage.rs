//! What packs say of themselves: in the place of tables that are damaged or lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Location;
use crate::backend::Backend;
use crate::format::PackKind;
use crate::id::{ObjectId, PackId};
use crate::store::pack_reader::read_pack_directory;

/// Places of objects.
pub(super) type Salvaged = HashMap<ObjectId, Vec<Location>>;

/// What was read so far. Packs never change, so the directory of each is read once.
#[derive(Default)]
pub(super) struct Salvage {
    packs: HashSet<PackId>,
    objects: Arc<Salvaged>,
}

impl Salvage {
    /// Whether a pack is one of those that were asked for the last time.
    pub(super) fn contains(&self, pack: PackId) -> bool {
        self.packs.contains(&pack)
    }

    /// The objects of these packs, and of no others.
    pub(super) fn objects_of(
        &mut self,
        backend: &dyn Backend,
        packs: &HashMap<PackId, PackKind>,
    ) -> Arc<Salvaged> {
        let is_any_gone = self.packs.iter().any(|pack| !packs.contains_key(pack));
        let is_any_new = packs.keys().any(|pack| !self.packs.contains(pack));
        if is_any_gone {
            Arc::make_mut(&mut self.objects).retain(|_, places| {
                places.retain(|place| packs.contains_key(&place.pack));
                !places.is_empty()
            });
            self.packs.retain(|pack| packs.contains_key(pack));
        }
        if is_any_new {
            let objects = Arc::make_mut(&mut self.objects);
            for (&pack, &kind) in packs {
                if self.packs.insert(pack) {
                    read_pack(backend, kind, pack, objects);
                }
            }
        }
        Arc::clone(&self.objects)
    }
}

fn read_pack(backend: &dyn Backend, kind: PackKind, pack: PackId, objects: &mut Salvaged) {
    let entries = match read_pack_directory(backend, kind, pack) {
        Ok(entries) => entries,
        Err(error) => return log::warn!("{error}"),
    };
    for entry in entries {
        objects.entry(entry.id).or_default().push(Location::in_pack(kind, pack, &entry));
    }
}
