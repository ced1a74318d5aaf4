//! What a scrub has found so far, and what that means.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::{BadChunk, ScrubReport, damage_of};
use crate::backend::Key;
use crate::error::Result;
use crate::format::{BadObject, ObjectType, PackKind, Timestamp};
use crate::id::{ObjectId, PackId};

/// Bad objects that are kept. Of more the rest is neither named nor marked, as memory is bounded and so is the damage
/// list: a scrub after the next backup finds them.
pub(super) const MAX_BAD: usize = 100_000;

/// The revisions that need each bad object.
pub(super) type Affected = BTreeMap<ObjectId, Vec<String>>;

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) chunks_checked: u64,
    pub(super) bytes_checked: u64,
    /// Objects without an intact copy: what they are, and what is wrong.
    pub(super) bad: BTreeMap<ObjectId, (ObjectType, String)>,
    /// Whether there are more of these than are kept.
    pub(super) too_many: bool,
    /// Objects that can still be read in a damaged pack, and nowhere else.
    pub(super) relied_on: HashMap<ObjectId, ObjectType>,
    /// Objects that were on the damage list, and of which an intact copy was read.
    pub(super) good_again: HashSet<ObjectId>,
    /// Packs that are what they say, and whose every blob that was drawn was verified, or noted where it is bad.
    pub(super) sound_packs: HashSet<PackId>,
    pub(super) damaged_packs: Vec<DamagedPack>,
    pub(super) damaged_files: Vec<(String, String)>,
    /// Known when all is read.
    pub(super) affected: Option<Affected>,
    pub(super) mismatched: Vec<Range<u64>>,
}

/// A pack that is not what was written.
pub(super) struct DamagedPack {
    pub(super) kind: PackKind,
    pub(super) pack: PackId,
    pub(super) reason: String,
    /// The objects that have no intact copy in a pack that is sound; `None` if it is not known what the pack held.
    pub(super) lost: Option<Vec<ObjectId>>,
}

impl DamagedPack {
    fn named(&self) -> (String, String) {
        (Key::pack(self.kind, self.pack).to_string(), self.reason.clone())
    }
}

impl Findings {
    /// Notes a file that is damaged; other errors end the scrub. A file that is gone was removed meanwhile.
    pub(super) fn note_file<T>(&mut self, file: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => {
                self.damaged_files.push((file.to_owned(), damage_of(error)?));
                Ok(None)
            }
        }
    }

    /// Notes an object of which no intact copy is known. Of its type the last one to tell knows best: revisions, that
    /// come after packs, show what it is used for.
    pub(super) fn note_bad(&mut self, id: ObjectId, object_type: ObjectType, reason: String) {
        if let Some((known, _)) = self.bad.get_mut(&id) {
            *known = object_type;
        } else if self.bad.len() < MAX_BAD {
            self.bad.insert(id, (object_type, reason));
        } else {
            self.too_many = true;
        }
    }

    /// Notes an object that can be read only in a damaged pack.
    pub(super) fn note_relied_on(&mut self, id: ObjectId, object_type: ObjectType) {
        match self.relied_on.len() < MAX_BAD {
            true => _ = self.relied_on.insert(id, object_type),
            false => self.too_many = true,
        }
    }

    /// Bad objects as the damage list names them.
    pub(super) fn bad_objects(&self) -> Vec<BadObject> {
        let bad = self.bad.iter();
        bad.map(|(id, (object_type, reason))| bad_object(*id, *object_type, reason.clone())).collect()
    }

    /// The objects of which it is asked which revisions use them. A map is not followed below a bad node, but it must be
    /// below one that can be read.
    pub(super) fn questionable(&self) -> Vec<BadObject> {
        let relied_on = self.relied_on.iter().filter(|(_, object_type)| **object_type == ObjectType::Chunk);
        let mut objects = self.bad_objects();
        objects.extend(relied_on.map(|(id, object_type)| bad_object(*id, *object_type, String::new())));
        objects
    }

    /// What is to be told.
    pub(super) fn into_report(mut self) -> ScrubReport {
        let bad = std::mem::take(&mut self.bad);
        let chunk = |(id, (object_type, reason))| {
            let needing = self.affected.as_ref();
            let revisions = needing.map(|affected| affected.get(&id).cloned().unwrap_or_default());
            BadChunk { id, object_type, reason, revisions }
        };
        let bad: Vec<BadChunk> = bad.into_iter().map(chunk).collect();
        let all_is_followed = self.is_all_followed(&bad);
        let (unused, bad): (Vec<_>, Vec<_>) = bad
            .into_iter()
            .partition(|chunk| all_is_followed && chunk.revisions.as_ref().is_some_and(Vec::is_empty));
        let is_used = |id: &ObjectId| {
            let affected = self.affected.as_ref().is_none_or(|affected| affected.contains_key(id));
            affected || self.relied_on.get(id).is_some_and(|object_type| *object_type != ObjectType::Chunk)
        };
        let is_missed = |pack: &DamagedPack| match &pack.lost {
            Some(lost) => self.too_many || lost.iter().any(|id| !all_is_followed || is_used(id)),
            // All that revisions reach was found elsewhere, so it can't be what lay here.
            None => !(all_is_followed && bad.is_empty()),
        };
        let mut superseded = Vec::new();
        for pack in &self.damaged_packs {
            match is_missed(pack) {
                true => self.damaged_files.push(pack.named()),
                false => superseded.push(pack.named()),
            }
        }
        self.damaged_files.sort();
        superseded.sort();
        ScrubReport {
            chunks_checked: self.chunks_checked,
            bytes_checked: self.bytes_checked,
            bad,
            unused,
            mismatched: self.mismatched,
            damaged_files: self.damaged_files,
            superseded,
        }
    }

    /// Whether it is known of every object if a revision uses it: all records and all nodes could be read.
    fn is_all_followed(&self, bad: &[BadChunk]) -> bool {
        let is_used = |chunk: &BadChunk| chunk.revisions.as_ref().is_none_or(|names| !names.is_empty());
        let hides_others = |chunk: &BadChunk| chunk.object_type != ObjectType::Chunk && is_used(chunk);
        self.affected.is_some()
            && !self.too_many
            && self.damaged_files.is_empty()
            && !bad.iter().any(hides_others)
    }
}

fn bad_object(id: ObjectId, object_type: ObjectType, reason: String) -> BadObject {
    BadObject { id, type_code: object_type.code(), found: Timestamp::now(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ObjectId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        ObjectId::from_bytes(bytes)
    }

    #[test]
    fn memory_is_bounded_whatever_is_bad_and_then_nothing_counts_as_missed_by_nobody() {
        let mut findings = Findings::default();
        (0..=MAX_BAD).for_each(|number| findings.note_bad(id(number), ObjectType::Chunk, String::new()));
        assert_eq!((findings.bad.len(), findings.too_many), (MAX_BAD, true));
        findings.affected = Some(Affected::new());
        let (kind, pack) = (PackKind::Data, PackId::from_bytes([1; 16]));
        let damaged = DamagedPack { kind, pack, reason: String::new(), lost: Some(Vec::new()) };
        findings.damaged_packs.push(damaged);
        let report = findings.into_report();
        assert_eq!((report.bad.len(), report.unused.len()), (MAX_BAD, 0));
        assert_eq!((report.damaged_files.len(), report.superseded.len()), (1, 0));
    }
}
