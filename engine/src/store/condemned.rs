//! The lists by which gc and those beside it understand each other (`docs/format.md`, section 5).

use std::collections::HashSet;

use crate::backend::{Backend, Key};
use crate::error::Result;
use crate::format::{Condemned, Dropped, MAX_SEALED_SIZE, PackNames, SealedKind, open, seal};
use crate::id::PackId;

/// The condemned packs, if gc is not through with them.
pub(crate) fn read_condemned(backend: &dyn Backend) -> Result<Option<Condemned>> {
    read(backend, &Key::condemned())
}

/// Condemns packs: what this says is durable when it returns.
pub(crate) fn put_condemned(backend: &dyn Backend, condemned: &Condemned) -> Result<()> {
    backend.put(&Key::condemned(), &seal(condemned)?)
}

/// Ends the condemnation of packs, which are gone or needed.
pub(crate) fn remove_condemned(backend: &dyn Backend) -> Result<()> {
    backend.remove(&Key::condemned())?;
    backend.sync_area(&Key::condemned().area)
}

/// The packs that were deleted though tables name them. A list that rotted says nothing: they show as missing then.
pub(crate) fn read_dropped(backend: &dyn Backend) -> Result<PackNames> {
    match read_dropped_strictly(backend) {
        // What the medium does not give back now, others may read in a moment.
        Err(error) if error.is_damage() && !error.is_of_medium() => {
            log::warn!("{error}; packs that were deleted may be called missing");
            Ok(PackNames::default())
        }
        other => other,
    }
}

/// The same, and an error if it rotted.
pub(crate) fn read_dropped_strictly(backend: &dyn Backend) -> Result<PackNames> {
    Ok(read::<Dropped>(backend, &Key::dropped())?.unwrap_or_default().packs)
}

/// Notes which packs are deleted.
pub(crate) fn put_dropped(backend: &dyn Backend, packs: PackNames) -> Result<()> {
    match packs.is_empty() {
        true => backend.remove(&Key::dropped()),
        false => backend.put(&Key::dropped(), &seal(&Dropped { packs })?),
    }
}

/// The packs on which a session that has its claim must not rely: those that are condemned or deleted.
///
/// A list that rotted while no gc runs condemns nothing: without it nothing is deleted.
pub(super) fn read_unusable(backend: &dyn Backend) -> Result<HashSet<PackId>> {
    let condemned = match read_condemned(backend) {
        Err(error) if error.is_damage() => {
            let Some(_lock) = backend.try_lock("gc")? else { return Err(error) };
            log::warn!("{error}; it is removed, and the next gc makes it anew");
            remove_condemned(backend)?;
            None
        }
        other => other?,
    };
    let condemned = condemned.unwrap_or_default().packs;
    let dropped = read_dropped(backend)?;
    Ok(condemned.iter().chain(dropped.iter()).map(|(pack, _)| pack).collect())
}

fn read<T: SealedKind>(backend: &dyn Backend, key: &Key) -> Result<Option<T>> {
    match backend.read(key, MAX_SEALED_SIZE) {
        Err(error) if error.is_not_found() => Ok(None),
        other => open(&key.to_string(), &other?).map(Some),
    }
}
