//! Says which revisions, and what of them, is affected by what is bad, be it found now or by a scrub before.

use std::collections::BTreeMap;

use super::places::{files_of, ranges_of};
use super::reach::Reached;
use super::report::{AffectedRevision, BadFinding, CheckReport};
use super::{Check, Places};
use crate::error::Result;
use crate::format::{BadObject, Content, Damage, ObjectType, Record};
use crate::id::ObjectId;
use crate::repository::Stream;
use crate::revision::{BadSearch, NeededBy};

/// Places that are named of all revisions together.
const MAX_PLACES_IN_ALL: usize = 20_000;

/// What is bad: what it is, where that is known, and why.
type Bad = BTreeMap<ObjectId, (Option<ObjectType>, String)>;

/// What was found now, and what is on the damage list.
pub(super) fn all_bad(listed: Vec<BadObject>, reached: &Reached) -> Bad {
    let mut bad: Bad =
        listed.into_iter().map(|object| (object.id, (object.object_type(), object.reason))).collect();
    let found = reached.bad.iter();
    bad.extend(found.map(|(id, (object_type, reason))| (*id, (Some(*object_type), reason.clone()))));
    bad
}

impl Check<'_> {
    /// Looks who needs what is bad. Costs nothing while nothing is.
    pub(super) fn find_affected(
        &self,
        revisions: &[(Stream, Record)],
        bad: Bad,
        report: &mut CheckReport,
    ) -> Result<()> {
        if bad.is_empty() {
            return Ok(());
        }
        self.monitor.begin("looking what is affected", None);
        let objects = bad.iter().map(|(id, (object_type, reason))| {
            BadObject::new(*id, object_type.unwrap_or(ObjectType::Chunk), reason.clone())
        });
        let mut search = BadSearch::new(self.repository, &Damage { objects: objects.collect() });
        let mut needed = NeededBy::default();
        let mut room = MAX_PLACES_IN_ALL;
        for (stream, record) in revisions {
            self.go_on()?;
            self.repository.while_pinned("check", (stream, record), || {
                let found = search.reached_from(record.kind(), &record.root())?;
                let name = format!("{}@{}", stream.name, record.name);
                if !found.is_empty() {
                    let affected = self.places_in(name.clone(), record, &search, room)?;
                    room -= affected.places.count();
                    report.affected.push(affected);
                }
                needed.note(name, &found);
                Ok(())
            })?;
        }
        report.take_bad(bad.into_iter().map(|(id, (object_type, reason))| {
            let (revisions, more_revisions) = needed.needing(&id);
            BadFinding { id, object_type, reason, revisions, more_revisions }
        }));
        Ok(())
    }

    fn places_in(
        &self,
        revision: String,
        record: &Record,
        search: &BadSearch<'_>,
        room: usize,
    ) -> Result<AffectedRevision> {
        let go_on = || self.go_on();
        let (mut places, mut more) = match &record.content {
            Content::Image(image) => {
                let (ranges, more) = ranges_of(self.repository, search, image, &go_on)?;
                (Places::Ranges(ranges), more)
            }
            Content::Tree(tree) => {
                let (files, more) = files_of(self.repository, search, &tree.root, &go_on)?;
                (Places::Files(files), more)
            }
        };
        more += places.keep(room);
        Ok(AffectedRevision { revision, places, more })
    }
}

impl Places {
    /// How many are named.
    pub fn count(&self) -> usize {
        match self {
            Self::Ranges(ranges) => ranges.len(),
            Self::Files(files) => files.len(),
        }
    }

    /// Keeps so many of them at most, and says how many were left out.
    fn keep(&mut self, count_max: usize) -> u64 {
        let before = self.count();
        match self {
            Self::Ranges(ranges) => ranges.truncate(count_max),
            Self::Files(files) => files.truncate(count_max),
        }
        (before - self.count()) as u64
    }
}
