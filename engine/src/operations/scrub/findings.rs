//! What a scrub has found so far, and what that means.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::{BadFinding, ScrubReport};
use crate::backend::{Area, Key};
use crate::format::{BadObject, ObjectType, PackKind};
use crate::id::{ObjectId, PackId};
use crate::revision::NeededBy;

/// Bad objects that are kept. Of more the rest is neither named nor marked, as memory is bounded and so is the damage
/// list: a scrub after the next backup finds them.
pub(super) const MAX_BAD: usize = 100_000;

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
    /// Whether a record or a node of a revision could not be read: nobody knows what lies below it.
    pub(super) is_cut_short: bool,
    /// Whether the time was over before all packs were read.
    pub(super) is_out_of_time: bool,
    /// Packs that were read whole and are not in the ledger yet.
    pub(super) read_packs: Vec<PackId>,
    pub(super) packs_read: u64,
    /// Known when all is read.
    pub(super) affected: Option<NeededBy>,
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

    /// Notes that no table names an object that a revision reaches: some are lost. One such object is enough to tell.
    pub(super) fn note_lost_table(&mut self, id: ObjectId) {
        if !self.bad.contains_key(&id) {
            self.note_index(format!(
                "index tables are missing: none names chunk {id}, which a revision reaches"
            ));
        }
    }

    /// Notes that the tables are not what they should be. The first sign of it stands for all.
    pub(super) fn note_index(&mut self, reason: String) {
        let place = format!("{}/", Area::index().path());
        if !self.damaged_files.iter().any(|(file, _)| *file == place) {
            self.damaged_files.push((place, reason));
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
        bad.map(|(id, (object_type, reason))| BadObject::new(*id, *object_type, reason.clone())).collect()
    }

    /// The objects of which it is asked which revisions use them. A map is not followed below a bad node, but it must be
    /// below one that can be read.
    pub(super) fn questionable(&self) -> Vec<BadObject> {
        let relied_on = self.relied_on.iter().filter(|(_, object_type)| **object_type == ObjectType::Chunk);
        let mut objects = self.bad_objects();
        objects.extend(relied_on.map(|(id, object_type)| BadObject::new(*id, *object_type, String::new())));
        objects
    }

    /// What is to be told.
    pub(super) fn into_report(mut self) -> ScrubReport {
        let bad = std::mem::take(&mut self.bad);
        let finding = |(id, (object_type, reason))| {
            let needing = self.affected.as_ref().map(|affected| affected.needing(&id));
            let (revisions, more_revisions) = needing.map_or((None, 0), |(named, more)| (Some(named), more));
            BadFinding { id, object_type, reason, revisions, more_revisions }
        };
        let bad: Vec<BadFinding> = bad.into_iter().map(finding).collect();
        let all_is_followed = self.is_all_followed();
        let is_unused = |bad: &BadFinding| bad.revisions.as_ref().is_some_and(Vec::is_empty);
        let (unused, bad): (Vec<_>, Vec<_>) =
            bad.into_iter().partition(|bad| all_is_followed && is_unused(bad));
        let is_used = |id: &ObjectId| {
            let affected = self.affected.as_ref().is_none_or(|affected| affected.is_needed(id));
            affected || self.relied_on.get(id).is_some_and(|object_type| *object_type != ObjectType::Chunk)
        };
        let is_missed = |pack: &DamagedPack| match &pack.lost {
            Some(lost) => self.too_many || lost.iter().any(|id| !all_is_followed || is_used(id)),
            // All that revisions reach was found elsewhere, so it can't be what lay here.
            None => !(all_is_followed && !self.is_out_of_time && bad.is_empty()),
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
            packs_read: self.packs_read,
            is_out_of_time: self.is_out_of_time,
        }
    }

    /// Whether it is known of every object if a revision uses it.
    fn is_all_followed(&self) -> bool {
        self.affected.is_some() && !self.too_many && !self.is_cut_short
    }
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
        findings.affected = Some(NeededBy::default());
        let (kind, pack) = (PackKind::Data, PackId::from_bytes([1; 16]));
        let damaged = DamagedPack { kind, pack, reason: String::new(), lost: Some(Vec::new()) };
        findings.damaged_packs.push(damaged);
        let report = findings.into_report();
        assert_eq!((report.bad.len(), report.unused.len()), (MAX_BAD, 0));
        assert_eq!((report.damaged_files.len(), report.superseded.len()), (1, 0));
    }
}
