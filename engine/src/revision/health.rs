//! How a repository is beyond its single files: what killed runs have left, and whether its tables are all there.

use crate::backend::{Area, ClaimState, Key};
use crate::error::Result;
use crate::repository::Repository;

impl Repository {
    /// How many files killed processes have left, and their bytes: what was being written, what was claimed, and packs
    /// that no table names. Where tables are damaged or missing, nobody can tell these from packs that are in use.
    pub fn leftovers(&self) -> Result<(u64, u64)> {
        let (mut files, mut bytes, mut is_written) = (0, 0, false);
        for area in [Area::incoming(), Area::sessions(), Area::pins()] {
            for listed in self.backend().list(&area)? {
                // Where locks don't work nobody can tell, and what lies there counts.
                let state = self.backend().claim_state(&area.key(&listed.name));
                is_written |= area == Area::sessions() && matches!(state, Ok(ClaimState::Living));
                if !matches!(state, Ok(ClaimState::Living | ClaimState::Gone)) {
                    files += 1;
                    bytes += listed.size;
                }
            }
        }
        // What a running backup has stored gets its table soon.
        if !is_written && !self.lacks_tables()? {
            let packs = self.store().index().unnamed_packs()?;
            files += packs.len() as u64;
            bytes += packs.iter().sum::<u64>();
        }
        Ok((files, bytes))
    }

    /// Damaged index tables, their directory if some are missing, and the damage list if it is damaged itself: files, and
    /// what is wrong with them. Tables of more than `bytes_max` together are only opened: a scrub reads them all.
    pub fn damaged_tables(&self, bytes_max: u64) -> Result<Vec<(String, String)>> {
        let mut damaged = self.store().index().verify_tables(bytes_max, |_| Ok(()))?;
        if damaged.is_empty() && self.lacks_tables()? {
            let reason = "index tables are missing: none names what the newest revisions are made of";
            damaged.push((format!("{}/", Area::index().path()), reason.to_owned()));
        }
        damaged.extend(self.damage_of_list()?.map(|reason| (Key::damage().to_string(), reason)));
        Ok(damaged)
    }

    /// Whether the newest revision of a stream is in no table. It was in one when it was committed.
    fn lacks_tables(&self) -> Result<bool> {
        let mut roots = Vec::new();
        for stream in self.streams()? {
            match self.latest(&stream) {
                Ok(newest) => roots.extend(newest.map(|record| record.root())),
                // Told elsewhere, or forgotten meanwhile.
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
        }
        self.store().index().lacks_tables(&roots)
    }
}
