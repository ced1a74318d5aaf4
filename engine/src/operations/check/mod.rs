//! Verifies the structure of a repository without reading its data: small files, tables, the frames of packs, and that all
//! that revisions reach has its place in a pack. Says what of which revision is affected by what is bad, and repairs.
//!
//! Needs no lock, and runs beside everything else on any medium: what goes away meanwhile is no damage. Nothing is kept of
//! what is in order but a few bytes for each pack, so memory does not grow with the chunks.

mod affected;
mod good_again;
mod leftovers;
mod packs;
mod places;
mod reach;
mod repair;
mod report;
mod strangers;

pub use leftovers::Leftovers;
pub use places::{AffectedFile, FilePart, Places};
pub use report::{AffectedRevision, BadFinding, CheckReport, Counts, Repaired, UnfinishedRepair};

use affected::all_bad;
use packs::Packs;
use reach::Reached;

use crate::backend::{Area, Key};
use crate::error::{Corrupt, Error, Result};
use crate::format::BadObject;
use crate::id::ObjectId;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::revision::SmallFiles;

/// Verifies the structure, and notes chunks without a copy on the repository's damage list where that can be written. What
/// is on that list is read, and taken off it if it is good again.
///
/// # Errors
/// Damage is no error but a finding.
pub fn check(repository: &Repository, monitor: &dyn Monitor) -> Result<CheckReport> {
    Check { repository, monitor }.run()
}

/// Repairs what can be repaired, and then checks. What is damaged is set aside, never deleted; whatever ends it, nothing is
/// lost, and it can be run again.
///
/// # Errors
/// Each with what was done before it. [`Error::Busy`] while a gc, another repair, or any backup runs; damage if the header is that of another repository: all
/// packs would be set aside.
pub fn check_and_repair(
    repository: &Repository,
    monitor: &dyn Monitor,
) -> Result<CheckReport, Box<UnfinishedRepair>> {
    let check = Check { repository, monitor };
    let mut repaired = Vec::new();
    match repair::repair(&check, &mut repaired).and_then(|()| check.run()) {
        Ok(report) => Ok(CheckReport { repaired, ..report }),
        Err(error) => Err(Box::new(UnfinishedRepair { error, repaired })),
    }
}

/// A check on its way.
struct Check<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
}

impl Check<'_> {
    fn run(&self) -> Result<CheckReport> {
        let files = self.check_small_files()?;
        let packs = self.check_packs()?;
        let reached = self.check_reach(&files, &packs)?;
        let (listed_bad, good_again) = self.listed_bad(&packs, &reached)?;
        self.mark(&reached, &good_again);
        let mut report = CheckReport::default();
        match self.require_own_header() {
            Err(error) if error.is_damage() => {
                report.damaged_files.push((Key::header().to_string(), error.to_string()));
            }
            header => header?,
        }
        self.find_affected(&files.revisions, all_bad(listed_bad, &reached), &mut report)?;
        report.leftovers = self.leftovers()?;
        report.quarantine = self.quarantine()?;
        report.strangers = self.strangers()?;
        report.take(&files, &packs, &reached);
        Ok(report)
    }

    /// Fails if the header is that of another repository.
    fn require_own_header(&self) -> Result<()> {
        match self.foreign_owner()? {
            Some(owner) => {
                let told = format!("it is another repository's: all packs are of repository {owner}");
                Err(Corrupt::new("the repository header", told).into())
            }
            None => Ok(()),
        }
    }

    fn check_small_files(&self) -> Result<SmallFiles> {
        self.monitor.begin("reading records", None);
        self.repository.read_small_files(&|| self.go_on())
    }

    /// Writes what is bad on the damage list, so that the next backup stores it anew, and takes off it what is good again.
    fn mark(&self, reached: &Reached, good_again: &[ObjectId]) {
        let bad = reached.bad.iter();
        let bad = bad.map(|(id, (object_type, reason))| BadObject::new(*id, *object_type, reason.clone()));
        let bad: Vec<BadObject> = bad.collect();
        // A table that tells of a good copy must not be lost while the list is without the object.
        let backend = self.repository.backend();
        let synced = if good_again.is_empty() { Ok(()) } else { backend.sync_area(&Area::index()) };
        if let Err(error) = synced.and_then(|()| self.repository.change_damage(bad, good_again, false)) {
            self.monitor.warn(&format!("what was found could not be noted in the repository: {error}"));
        }
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::CancelledMonitor;
    use crate::revision::test_trees::Trees;

    #[test]
    fn it_stops_when_it_is_told_to() {
        let trees = Trees::new();
        trees.chunk(b"chunk");
        assert!(matches!(check(&trees.repository, &CancelledMonitor), Err(Error::Cancelled)));
        let repaired = check_and_repair(&trees.repository, &CancelledMonitor);
        assert!(matches!(repaired.unwrap_err().error, Error::Cancelled));
    }
}
