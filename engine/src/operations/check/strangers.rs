//! Files in a repository's directory that are no objects of it.

use super::Check;
use crate::backend::{Area, Key};
use crate::error::Result;
use crate::format::{PackKind, RecordKey};
use crate::id::{ClaimId, PackId, RevisionId, StreamId, TableId};

/// So many are named; a directory of somebody's may have any number.
const MAX_NAMED: usize = 1_000;

/// Whether a name is that of an object.
type IsOurs = fn(&str) -> bool;
/// The area of a stream.
type AreaOf = fn(StreamId) -> Area;

impl Check<'_> {
    /// Names what is no object.
    pub(super) fn strangers(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        self.look_at_the_top(&mut found)?;
        let is_pack: IsOurs = |name| PackId::parse(name).is_some();
        let is_claim: IsOurs = |name| ClaimId::parse(name).is_some();
        let is_stream: IsOurs = |name| StreamId::parse(name).is_some();
        let flat: [(Area, IsOurs); 9] = [
            (Area::streams(), is_stream),
            (Area::packs(PackKind::Data), is_pack),
            (Area::packs(PackKind::Metadata), is_pack),
            (Area::index(), |name| TableId::parse(name).is_some()),
            (Area::sessions(), is_claim),
            (Area::pins(), is_claim),
            (Area::incoming(), is_claim),
            (Area::locks(), is_lock),
            (Area::gc(), |name| [Key::condemned(), Key::dropped()].iter().any(|key| key.name == name)),
        ];
        for (area, is_ours) in flat {
            self.look_at(&area, is_ours, &mut found)?;
        }
        let is_record: IsOurs = |name| RecordKey::parse(name).is_some();
        let is_forgotten: IsOurs = |name| name == "stream" || RecordKey::parse(name).is_some();
        let nested: [(Area, AreaOf, IsOurs); 3] = [
            (Area::all_revisions(), Area::revisions, is_record),
            (Area::all_labels(), Area::labels, |name| RevisionId::parse(name).is_some()),
            (Area::all_trash(), Area::trash, is_forgotten),
        ];
        for (all, area_of, is_ours) in nested {
            self.look_at(&all, is_stream, &mut found)?;
            for name in self.repository.backend().areas_below(&all)? {
                if let Some(id) = StreamId::parse(&name) {
                    self.look_at(&area_of(id), is_ours, &mut found)?;
                }
            }
        }
        found.sort();
        found.truncate(MAX_NAMED);
        Ok(found)
    }

    /// What lies in the repository's own directory.
    fn look_at_the_top(&self, found: &mut Vec<String>) -> Result<()> {
        let files = [Key::header(), Key::damage(), Key::copy_target(), Key::scrub_ledger()];
        let areas = Area::known();
        let is_area = |name: &str| areas.iter().any(|area| area.path().split('/').next() == Some(name));
        let backend = self.repository.backend();
        let strange_files = backend.names(&Area::root())?;
        let strange_files =
            strange_files.into_iter().filter(|name| files.iter().all(|key| key.name != *name));
        // A file system of its own has this directory.
        let strange_others = backend.strangers(&Area::root())?;
        let strange_others = strange_others.into_iter().filter(|name| !is_area(name) && name != "lost+found");
        found.extend(strange_files.chain(strange_others));
        Ok(())
    }

    fn look_at(&self, area: &Area, is_ours: IsOurs, found: &mut Vec<String>) -> Result<()> {
        self.go_on()?;
        let backend = self.repository.backend();
        let names = backend.names(area)?.into_iter().chain(backend.strangers(area)?);
        found.extend(names.filter(|name| !is_ours(name)).map(|name| area.key(name).to_string()));
        Ok(())
    }
}

fn is_lock(name: &str) -> bool {
    let is_of_stream = ["stream-", "history-"]
        .iter()
        .any(|start| name.strip_prefix(start).is_some_and(|id| StreamId::parse(id).is_some()));
    is_of_stream || ["streams", "index", "damage", "gc", "scrub"].contains(&name)
}
