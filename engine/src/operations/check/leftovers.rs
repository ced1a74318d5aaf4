//! What killed runs have left. None of it is damage; gc takes most of it.

use std::collections::HashSet;

use super::Check;
use crate::backend::Area;
use crate::error::Result;
use crate::format::{Kind, RecordKey};
use crate::id::{RevisionId, StreamId};
use crate::repository::Stream;
use crate::revision::FileCount;

/// Directories in the quarantine: a repair's own, and two above the files of streams and packs.
const QUARANTINE_DEPTH: usize = 3;

/// What is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files that were being written, and claims of dead processes.
    pub files: FileCount,
    /// Packs that no table names.
    pub packs_without_table: FileCount,
    /// Labels of revisions that there are not.
    pub labels: Vec<String>,
}

impl Check<'_> {
    pub(super) fn leftovers(&self) -> Result<Leftovers> {
        Ok(Leftovers {
            files: self.repository.leftovers()?,
            packs_without_table: self.repository.packs_without_table()?,
            labels: self.labels_of_nothing()?,
        })
    }

    /// What repairs have set aside.
    pub(super) fn quarantine(&self) -> Result<FileCount> {
        let backend = self.repository.backend();
        let (mut count, mut todo) = (FileCount::default(), vec![(Area::quarantine(), 0)]);
        while let Some((area, depth)) = todo.pop() {
            self.go_on()?;
            backend.list(&area)?.iter().for_each(|listed| count.add(listed.size));
            // No path in a repository is longer; somebody else's may be.
            if depth < QUARANTINE_DEPTH {
                todo.extend(backend.areas_below(&area)?.iter().map(|name| (area.below(name), depth + 1)));
            }
        }
        Ok(count)
    }

    fn labels_of_nothing(&self) -> Result<Vec<String>> {
        let backend = self.repository.backend();
        let mut left = Vec::new();
        for name in backend.areas_below(&Area::all_labels())? {
            let Some(id) = StreamId::parse(&name) else { continue };
            let area = Area::labels(id);
            let labelled: Vec<String> = backend.names(&area)?;
            if labelled.is_empty() || self.has_session(id)? {
                continue;
            }
            // Listed after the labels: a revision that has its labels by then has its record, or is gone.
            let known = self.revisions_of(id)?;
            let is_left = |name: &&String| RevisionId::parse(name).is_some_and(|id| !known.contains(&id));
            left.extend(labelled.iter().filter(is_left).map(|name| area.key(name).to_string()));
        }
        Ok(left)
    }

    /// Whether a backup to a stream runs, which gives a revision its labels before its record.
    fn has_session(&self, stream: StreamId) -> Result<bool> {
        let claims = self.repository.living_claims(&Area::sessions())?;
        Ok(claims.iter().any(|claim| claim.stream == Some(stream)))
    }

    /// The revisions of a stream, forgotten ones included.
    fn revisions_of(&self, id: StreamId) -> Result<HashSet<RevisionId>> {
        // The name and kind don't matter for a listing.
        let stream = Stream { id, name: id.to_string(), kind: Kind::Image };
        let mut keys: Vec<RecordKey> = self.repository.forgotten_revisions(&stream)?;
        keys.extend(self.repository.revisions(&stream)?);
        Ok(keys.into_iter().map(|key| key.id).collect())
    }
}
