//! What packs say of themselves: in the place of tables, or of blocks of tables, that are damaged or lost.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Location;
use super::table_reader::Table;
use crate::backend::Backend;
use crate::format::{PackEntry, PackKind};
use crate::id::{ObjectId, PackId};
use crate::store::pack_reader::read_pack_directory;

/// Places of objects: 32 bytes for each, as there may be very many.
#[derive(Default)]
pub(super) struct Salvaged {
    packs: Vec<(PackId, PackKind)>,
    /// Sorted by key.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    key: u128,
    /// Which of the packs it is.
    pack: u32,
    offset: u32,
    stored_len: u32,
    plain_len: u32,
}

const _: () = assert!(size_of::<Place>() == 32);

/// Half an id tells objects apart as well; what is read is verified against all of it.
fn key_of(id: &ObjectId) -> u128 {
    let (half, _) = id.as_bytes().split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    u128::from_be_bytes(*half)
}

impl Salvaged {
    /// The places of an object.
    pub(super) fn get(&self, id: &ObjectId) -> impl Iterator<Item = Location> {
        let key = key_of(id);
        let first = self.places.partition_point(|place| place.key < key);
        let same = self.places.iter().skip(first).take_while(move |place| place.key == key);
        same.filter_map(|place| {
            let &(pack, kind) = self.packs.get(place.pack as usize)?;
            let &Place { offset, stored_len, plain_len, .. } = place;
            Some(Location { pack, kind, offset, stored_len, plain_len })
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds what a pack's directory says of the objects that are wanted. Where it can't be read, nothing.
    fn add_pack(
        &mut self,
        backend: &dyn Backend,
        (pack, kind): (PackId, PackKind),
        is_wanted: impl Fn(&ObjectId) -> bool,
    ) {
        let entries = match read_pack_directory(backend, kind, pack) {
            Ok(entries) => entries,
            Err(error) => return log::warn!("{error}"),
        };
        let ordinal = self.packs.len() as u32;
        self.packs.push((pack, kind));
        let wanted = entries.iter().filter(|entry| is_wanted(&entry.id));
        self.places.extend(wanted.map(|entry| {
            let &PackEntry { offset, stored_len, plain_len, .. } = entry;
            Place { key: key_of(&entry.id), pack: ordinal, offset, stored_len, plain_len }
        }));
    }

    fn sorted(mut self) -> Arc<Self> {
        self.places.sort_unstable_by_key(|place| place.key);
        self.places.shrink_to_fit();
        Arc::new(self)
    }

    /// Takes over what another one has of some packs.
    fn keep(&mut self, other: &Self, packs: &HashMap<PackId, PackKind>) {
        let mut ordinals = Vec::with_capacity(other.packs.len());
        for known in &other.packs {
            ordinals.push(packs.contains_key(&known.0).then(|| {
                self.packs.push(*known);
                (self.packs.len() - 1) as u32
            }));
        }
        let kept = other.places.iter().filter_map(|place| {
            let pack = ordinals.get(place.pack as usize).copied().flatten()?;
            Some(Place { pack, ..*place })
        });
        self.places.extend(kept);
    }
}

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
        let new: Vec<(PackId, PackKind)> = packs
            .iter()
            .filter(|(pack, _)| !self.packs.contains(pack))
            .map(|(pack, kind)| (*pack, *kind))
            .collect();
        if new.is_empty() && self.packs.len() == packs.len() {
            return Arc::clone(&self.objects);
        }
        let mut objects = Salvaged::default();
        objects.keep(&self.objects, packs);
        for pack in new {
            objects.add_pack(backend, pack, |_| true);
        }
        self.packs = packs.keys().copied().collect();
        self.objects = objects.sorted();
        Arc::clone(&self.objects)
    }
}

/// What the packs that a table names say of the objects that its damaged blocks may have named.
pub(super) fn salvage_blocks(backend: &dyn Backend, table: &Table) -> Arc<Salvaged> {
    // In order, and none overlaps another but at its ends.
    let runs = table.damaged_runs();
    let is_doubtful = |id: &ObjectId| {
        let run = runs.get(runs.partition_point(|run| run.ids.end() < id));
        run.is_some_and(|run| run.ids.contains(id))
    };
    let mut salvaged = Salvaged::default();
    for pack in table.packs() {
        salvaged.add_pack(backend, (pack.pack, pack.kind), is_doubtful);
    }
    salvaged.sorted()
}
