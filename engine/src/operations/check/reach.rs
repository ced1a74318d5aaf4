//! Follows all revisions through their metadata, what several share once, and looks whether each object that they reach has
//! its place in a pack that is in order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Check, Packs};
use crate::backend::Key;
use crate::error::{Error, Result};
use crate::format::{Content, ObjectType, Record};
use crate::id::{ObjectId, PackId};
use crate::parallel;
use crate::recent::Recent;
use crate::revision::{MapReader, RevisionPart, SmallFiles, require_size, walk_revision};
use crate::store::{Cursor, Location};

/// Objects that are gathered before all cores look them up,
const BATCH_OBJECTS: usize = 1 << 16;
/// and those that one takes at a time.
const PIECE_OBJECTS: usize = 1 << 12;

/// Bad objects that are kept, as memory is bounded and so is the damage list: a check after the next backup finds the rest.
const MAX_BAD: usize = 100_000;

/// What following all revisions has found.
#[derive(Default)]
pub(super) struct Reached {
    /// Objects of which no copy can be read: what they are, and what is wrong.
    pub(super) bad: BTreeMap<ObjectId, (ObjectType, String)>,
    /// Whether there are more of these than are kept.
    pub(super) too_many: bool,
    /// Objects of the damage list that revisions need.
    pub(super) listed: HashSet<ObjectId>,
    /// An object that no table names, though a pack has it: tables are lost.
    pub(super) unnamed: Option<ObjectId>,
    /// Damaged packs in which something lies, or lay, that is needed and is in no sound one.
    pub(super) missed_packs: HashSet<PackId>,
    /// Whether a record or node can't be read: nobody knows what lies below it.
    pub(super) is_cut_short: bool,
    /// Records that don't agree with what they name, and how.
    pub(super) damaged_records: Vec<(String, String)>,
    pub(super) nodes: u64,
    pub(super) chunks: u64,
}

/// The walk on its way.
struct Walk<'a> {
    check: &'a Check<'a>,
    packs: &'a Packs,
    nodes: Recent<()>,
    chunks: Recent<()>,
    batch: Vec<(ObjectId, ObjectType)>,
    found: Mutex<Reached>,
    /// The damage list.
    listed: HashSet<ObjectId>,
    /// Packs that came while this runs, and whether they are in order.
    newer: Mutex<HashMap<PackId, bool>>,
}

impl Check<'_> {
    /// Follows all revisions whose records are in order.
    pub(super) fn check_reach(&self, files: &SmallFiles, packs: &Packs) -> Result<Reached> {
        self.monitor.begin("following revisions", None);
        let mut walk = Walk {
            check: self,
            packs,
            nodes: Recent::default(),
            chunks: Recent::default(),
            batch: Vec::new(),
            found: Mutex::default(),
            listed: self.repository.damage()?.objects.iter().map(|object| object.id).collect(),
            newer: Mutex::default(),
        };
        let mut reached = Reached { is_cut_short: files.is_cut_short, ..Reached::default() };
        if packs.has_too_many_unnamed() {
            reached.is_cut_short = true;
            return Ok(reached);
        }
        for (stream, record) in &files.revisions {
            self.repository.while_pinned("check", (stream, record), || {
                walk.follow(record)?;
                walk.look_up_batch()
            })?;
            let found = std::mem::take(&mut *lock(&walk.found));
            // Where no pin can be taken, gc may have taken it meanwhile.
            if found.has_any() && self.repository.is_forgotten(stream, record)? {
                walk.forget_what_was_seen();
            } else {
                reached.join(found);
            }
        }
        Ok(reached)
    }
}

impl Reached {
    /// Whether anything is wrong.
    fn has_any(&self) -> bool {
        let is_any_bad = !self.bad.is_empty() || !self.damaged_records.is_empty() || self.too_many;
        is_any_bad || self.unnamed.is_some() || self.is_cut_short || !self.missed_packs.is_empty()
    }

    /// Adds what was found of another revision.
    fn join(&mut self, other: Self) {
        for (id, bad) in other.bad {
            match self.bad.len() < MAX_BAD || self.bad.contains_key(&id) {
                true => _ = self.bad.insert(id, bad),
                false => self.too_many = true,
            }
        }
        self.too_many |= other.too_many;
        self.listed.extend(other.listed);
        self.unnamed = self.unnamed.or(other.unnamed);
        self.missed_packs.extend(other.missed_packs);
        self.is_cut_short |= other.is_cut_short;
        self.damaged_records.extend(other.damaged_records);
        self.nodes += other.nodes;
        self.chunks += other.chunks;
    }
}

impl Walk<'_> {
    fn follow(&mut self, record: &Record) -> Result<()> {
        let store = self.check.repository.store();
        walk_revision(store, record.kind(), &record.root(), &mut |part| match part {
            RevisionPart::Node { id, object_type } => self.take(id, object_type),
            RevisionPart::Unreadable { id, object_type, error } => {
                self.note_unreadable(id, object_type, error).map(|()| true)
            }
            RevisionPart::Chunk { id, .. } => self.take(id, ObjectType::Chunk),
        })?;
        self.compare_with_map(record)
    }

    /// Looks whether a record says of its image what the map says. One that can't be read was noted.
    fn compare_with_map(&self, record: &Record) -> Result<()> {
        let Content::Image(image) = &record.content else { return Ok(()) };
        let compared = MapReader::open(self.check.repository.store(), &image.root)
            .map(|map| require_size(record, image, &map));
        match compared {
            Ok(Err(error)) => {
                let file = Key::record(record.stream, &record.key()).to_string();
                lock(&self.found).damaged_records.push((file, error.to_string()));
                Ok(())
            }
            Err(error) if !error.is_loss() => Err(error),
            _ => Ok(()),
        }
    }

    /// What was seen of a revision that was forgotten is looked at again if others have it.
    fn forget_what_was_seen(&mut self) {
        (self.nodes, self.chunks) = (Recent::default(), Recent::default());
    }

    /// Comes upon an object; says whether it did not come by before, with all that lies below it.
    fn take(&mut self, id: &ObjectId, object_type: ObjectType) -> Result<bool> {
        self.check.go_on()?;
        let seen = match object_type {
            ObjectType::Chunk => &mut self.chunks,
            ObjectType::Node | ObjectType::Directory => &mut self.nodes,
        };
        if !seen.insert(id, ()) {
            return Ok(false);
        }
        if self.listed.contains(id) {
            lock(&self.found).listed.insert(*id);
        }
        self.batch.push((*id, object_type));
        if self.batch.len() >= BATCH_OBJECTS {
            self.look_up_batch()?;
        }
        Ok(true)
    }

    /// Looks up the objects of the batch, and empties it.
    fn look_up_batch(&mut self) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        // In the order of the tables, whose blocks are each read once then.
        batch.sort_unstable_by_key(|(id, _)| *id);
        let chunks = batch.iter().filter(|(_, object_type)| *object_type == ObjectType::Chunk).count() as u64;
        let mut found = lock(&self.found);
        found.chunks += chunks;
        found.nodes += batch.len() as u64 - chunks;
        drop(found);
        parallel::unordered(batch.chunks(PIECE_OBJECTS).map(Ok), |piece| {
            self.check.go_on()?;
            let mut cursor = Cursor::default();
            piece.iter().try_for_each(|(id, object_type)| self.look_up(id, *object_type, &mut cursor))
        })
    }

    /// Looks where an object lies. Only what is in no sound pack is read.
    fn look_up(&self, id: &ObjectId, object_type: ObjectType, cursor: &mut Cursor) -> Result<()> {
        let index = self.check.repository.store().index();
        if index.locate_next_in_tables(id, cursor)?.iter().any(|place| self.packs.sound.contains(&place.pack))
        {
            return self.note_if_unnamed(id);
        }
        // Others may have merged tables, and gc may have moved it.
        let places = index.locate_again(id)?;
        for place in &places {
            if self.is_sound(place)? {
                return self.note_if_unnamed(id);
            }
        }
        lock(&self.found).missed_packs.extend(places.iter().map(|place| place.pack));
        match self.check.repository.store().read_object(object_type, id) {
            Ok(_) => self.note_if_unnamed(id),
            Err(error) => self.note_bad(id, object_type, error),
        }
    }

    fn is_sound(&self, place: &Location) -> Result<bool> {
        let is_known =
            self.packs.frames.contains_key(&place.pack) || self.packs.damaged.contains_key(&place.pack);
        if is_known {
            return Ok(self.packs.sound.contains(&place.pack));
        }
        if let Some(is_sound) = lock(&self.newer).get(&place.pack) {
            return Ok(*is_sound);
        }
        let frame = self.check.read_frame(place.pack, place.kind)?;
        let is_sound = frame.is_some_and(|frame| frame.is_ok());
        lock(&self.newer).insert(place.pack, is_sound);
        Ok(is_sound)
    }

    /// Notes an object that only a pack knows. Asked only when something was missed: else it is named.
    fn note_if_unnamed(&self, id: &ObjectId) -> Result<()> {
        let index = self.check.repository.store().index();
        if index.has_missed_tables() && !index.is_named(id)? {
            lock(&self.found).unnamed.get_or_insert(*id);
        }
        Ok(())
    }

    fn note_unreadable(&self, id: &ObjectId, object_type: ObjectType, error: Error) -> Result<()> {
        let places = self.check.repository.store().index().locate_in_tables(id)?;
        let mut found = lock(&self.found);
        found.is_cut_short = true;
        found.missed_packs.extend(places.iter().map(|place| place.pack));
        drop(found);
        self.note_bad(id, object_type, error)
    }

    /// Notes an object that can't be read. An error that says nothing of what is stored ends the check.
    fn note_bad(&self, id: &ObjectId, object_type: ObjectType, error: Error) -> Result<()> {
        if !error.is_loss() {
            return Err(error);
        }
        let mut found = lock(&self.found);
        match found.bad.len() < MAX_BAD {
            true => _ = found.bad.insert(*id, (object_type, error.to_string())),
            false => found.too_many = true,
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(numbers: std::ops::Range<usize>) -> Reached {
        let id = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            ObjectId::from_bytes(bytes)
        };
        let bad = numbers.map(|number| (id(number), (ObjectType::Chunk, "it rotted".to_owned()))).collect();
        Reached { bad, ..Reached::default() }
    }

    #[test]
    fn of_more_bad_objects_than_are_kept_the_rest_is_left_out_and_that_is_known() {
        let mut reached = bad(0..MAX_BAD - 1);
        reached.join(bad(0..MAX_BAD));
        assert_eq!((reached.bad.len(), reached.too_many), (MAX_BAD, false), "known ones count once");
        reached.join(bad(MAX_BAD..MAX_BAD + 1));
        assert_eq!((reached.bad.len(), reached.too_many), (MAX_BAD, true));
        let report = {
            let mut report = super::super::CheckReport::default();
            report.take(&SmallFiles::default(), &Packs::default(), &reached);
            report
        };
        assert!(report.is_incomplete, "not all that is affected is named");
    }
}
