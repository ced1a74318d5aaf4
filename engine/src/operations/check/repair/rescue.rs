//! Copies out of damaged packs what can still be read there.

use std::collections::{HashMap, HashSet};

use super::Repair;
use crate::error::Result;
use crate::format::{BlobEncoder, PackKind};
use crate::id::{ObjectId, PackId};
use crate::operations::check::Packs;
use crate::recent::Recent;
use crate::store::{Location, StoreWriter};

/// What became of the objects of one pack.
#[derive(Default)]
pub(super) struct Rescue {
    copied: u64,
    elsewhere: u64,
    unreadable: u64,
}

impl Rescue {
    pub(super) fn told(&self) -> String {
        let Self { copied, elsewhere, unreadable } = self;
        format!(
            "of its objects {copied} were copied to a new pack, {elsewhere} have other copies, {unreadable} can't be read"
        )
    }
}

impl Repair<'_> {
    /// Copies what is known to lie in damaged packs, and has no other copy that can be read, into new packs; these are durable
    /// and named when this returns.
    pub(super) fn rescue(
        &self,
        packs: &Packs,
        damaged: &HashMap<PackId, PackKind>,
    ) -> Result<HashMap<PackId, Rescue>> {
        let mut rescues: HashMap<PackId, Rescue> = HashMap::new();
        if damaged.is_empty() {
            return Ok(rescues);
        }
        let store = self.check.repository.store();
        self.check.monitor.begin("copying what can be read of damaged packs", None);
        let mut writer = StoreWriter::new(store, HashSet::new(), false)?;
        let dropped = self.check.dropped()?;
        let mut encoder = BlobEncoder::new(store.header().compression)?;
        let mut copied: Recent<()> = Recent::default();
        self.visit_objects_of(damaged, |id, place| {
            self.check.go_on()?;
            self.check.monitor.advance(place.stored_len.into());
            let rescue = rescues.entry(place.pack).or_default();
            if copied.get(&id).is_some() || self.has_sound_copy(packs, &dropped, &id)? {
                rescue.elsewhere += 1;
                return Ok(());
            }
            match store.read_copy(&id, &place) {
                Ok((object_type, content)) => {
                    // OK to unwrap: no object is longer than the longest chunk.
                    let plain_len = u32::try_from(content.len()).unwrap_or(u32::MAX);
                    writer.add(object_type, id, plain_len, &encoder.encode(&content))?;
                    copied.insert(&id, ());
                    rescue.copied += 1;
                }
                Err(error) if error.is_loss() => rescue.unreadable += 1,
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        writer.finish()?;
        Ok(rescues)
    }

    /// Visits what lies in damaged packs: what they say themselves, where that can be read, or else what tables say.
    fn visit_objects_of(
        &self,
        damaged: &HashMap<PackId, PackKind>,
        mut visit: impl FnMut(ObjectId, Location) -> Result<()>,
    ) -> Result<()> {
        let store = self.check.repository.store();
        let mut silent = HashMap::new();
        for (&pack, &kind) in damaged {
            match store.directory_of_pack(kind, pack)? {
                Some(objects) => objects.into_iter().try_for_each(|(id, place)| visit(id, place))?,
                None => _ = silent.insert(pack, kind),
            }
        }
        store.index().visit_entries_of(&silent, visit)
    }

    /// Whether a pack whose frame is intact, and that is to stay, has a copy that can be read.
    fn has_sound_copy(&self, packs: &Packs, dropped: &HashSet<PackId>, id: &ObjectId) -> Result<bool> {
        let store = self.check.repository.store();
        let places = store.index().locate_in_tables(id)?;
        let stays = |pack: &PackId| packs.frames.contains_key(pack) && !dropped.contains(pack);
        let mut sound = places.iter().filter(|place| stays(&place.pack));
        sound.try_fold(false, |found, place| Ok(found || is_readable(store.identify_place(id, place))?))
    }
}

fn is_readable<T>(read: Result<T>) -> Result<bool> {
    match read {
        Ok(_) => Ok(true),
        Err(error) if error.is_loss() => Ok(false),
        Err(error) => Err(error),
    }
}
