//! How a repository is beyond its single files: what killed runs have left, whether its tables and packs are all there.

use super::{MapReader, TreeReader};
use crate::backend::{Area, ClaimState, Key};
use crate::error::Result;
use crate::format::{Kind, Record};
use crate::id::ObjectId;
use crate::repository::Repository;

/// Places of each newest revision whose objects are looked for in the tables: enough that a table with a tenth of what it
/// reaches is missed with hardly a doubt,
const SAMPLED_MAX: usize = 48;

/// fewer where there are many streams, as each place costs some reads,
const SAMPLED_IN_ALL: usize = 2000;

/// but so many all the same.
const SAMPLED_MIN: usize = 8;

/// Files, and how many bytes they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// How many files.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl FileCount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

impl Repository {
    /// What killed processes have left: what was being written, and what was claimed.
    pub fn leftovers(&self) -> Result<FileCount> {
        let mut left = FileCount::default();
        for area in [Area::incoming(), Area::sessions(), Area::pins()] {
            for listed in self.backend().list(&area)? {
                // Where locks don't work nobody can tell, and what lies there counts.
                let state = self.backend().claim_state(&area.key(&listed.name));
                if !matches!(state, Ok(ClaimState::Living | ClaimState::Gone)) {
                    left.add(listed.size);
                }
            }
        }
        Ok(left)
    }

    /// Packs that no table names. Killed runs leave such, and so do tables that are lost: which it is, only a walk over all
    /// revisions tells. What a running backup has stored gets its table soon and does not count.
    pub fn packs_without_table(&self) -> Result<FileCount> {
        let mut packs = FileCount::default();
        for listed in self.backend().list(&Area::sessions())? {
            let state = self.backend().claim_state(&Area::sessions().key(&listed.name));
            if matches!(state, Ok(ClaimState::Living)) {
                return Ok(packs);
            }
        }
        self.store().index().unnamed_packs()?.into_iter().for_each(|bytes| packs.add(bytes));
        Ok(packs)
    }

    /// What is damaged or missing of index tables and packs, and the damage list if it is damaged itself: files, and what
    /// is wrong with them. Tables of more than `bytes_max` together are only opened: a scrub reads them all.
    pub fn damaged_tables(&self, bytes_max: u64) -> Result<Vec<(String, String)>> {
        let mut damaged = self.store().index().verify_tables(bytes_max, |_| Ok(()))?;
        if damaged.is_empty() && self.lacks_tables()? {
            let reason = "index tables are missing: none names some of what the newest revisions are made of";
            damaged.push((format!("{}/", Area::index().path()), reason.to_owned()));
        }
        for (pack, kind) in self.store().index().missing_packs()? {
            let key = Key::pack(kind, pack).to_string();
            let reason = format!("{key} is gone or truncated");
            damaged.push((key, reason));
        }
        damaged.extend(self.damage_of_list()?.map(|reason| (Key::damage().to_string(), reason)));
        Ok(damaged)
    }

    /// Whether something that the newest revision of a stream reaches is in no table. All of it was when it was committed.
    fn lacks_tables(&self) -> Result<bool> {
        let streams = self.streams()?;
        let places = (SAMPLED_IN_ALL / streams.len().max(1)).clamp(SAMPLED_MIN, SAMPLED_MAX);
        let mut published = Vec::new();
        for stream in streams {
            match self.latest(&stream) {
                Ok(Some(newest)) => {
                    published.push(newest.root());
                    published.extend(self.sample(&newest, places)?);
                }
                Ok(None) => {}
                // Told elsewhere, or forgotten meanwhile.
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        self.store().index().lacks_tables(&published)
    }

    /// Some objects that a revision reaches, as far as they can be told: what can't be read is told elsewhere.
    fn sample(&self, record: &Record, places: usize) -> Result<Vec<ObjectId>> {
        let (store, root) = (self.store(), record.root());
        let sampled = match record.kind() {
            Kind::Image => MapReader::open(store, &root).and_then(|map| map.random_objects(places)),
            Kind::Tree => {
                TreeReader::open_unpinned(store, &root).and_then(|tree| tree.random_objects(places))
            }
        };
        match sampled {
            Err(error) if error.is_loss() => Ok(Vec::new()),
            sampled => sampled,
        }
    }
}
