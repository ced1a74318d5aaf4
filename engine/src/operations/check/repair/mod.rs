//! Repairs: sets aside what is damaged, saves what can still be read of it, and makes indexes anew from packs.
//!
//! Invariants: nothing is deleted. What is to be set aside is read again before, and a medium that does not give it back ends
//! the repair: it may the next time. What replaces something is durable before that is set aside, so that whoever is cut off
//! anywhere loses nothing, and the next repair goes on. A session that begins while this runs is not in its way: only packs
//! and tables that were there before it are touched, and all that can be read of them stays named.

mod index;
mod rescue;
mod small_files;

use std::collections::HashMap;

use super::{Check, Repaired};
use crate::backend::{Area, Key};
use crate::error::{Error, Result};
use crate::format::PackKind;
use crate::id::{ClaimId, PackId};

/// Repairs what can be; notes in `done` what was done, also if the rest fails.
pub(super) fn repair(check: &Check<'_>, done: &mut Vec<Repaired>) -> Result<()> {
    let _alone = check.repository.lock_gc()?;
    check.require_own_header()?;
    // Before it is looked who is there: what a session stores that comes later is not among them.
    let packs = check.repository.store().index().list_packs()?;
    refuse_sessions(check)?;
    let mut repair = Repair { check, packs, id: ClaimId::random(), done };
    repair.repair_small_files()?;
    repair.repair_index()
}

/// What a session that runs has stored may not be named yet, and what it relies on must stay where it is.
fn refuse_sessions(check: &Check<'_>) -> Result<()> {
    match check.repository.living_claims(&Area::sessions())?.first() {
        Some(session) => Err(Error::Busy { what: "the repository".to_owned(), holder: session.holder() }),
        None => Ok(()),
    }
}

/// A repair on its way.
struct Repair<'a> {
    check: &'a Check<'a>,
    /// The packs that were there when it began.
    packs: HashMap<PackId, (PackKind, u64)>,
    /// Its own directory in the quarantine has this name.
    id: ClaimId,
    done: &'a mut Vec<Repaired>,
}

impl Repair<'_> {
    fn note(&mut self, file: impl ToString, action: impl Into<String>, loss: Option<&str>) {
        let repaired =
            Repaired { file: file.to_string(), action: action.into(), loss: loss.map(str::to_owned) };
        // Into the log at once: whoever is interrupted has no report.
        self.check.monitor.begin(&format!("repaired {}: {}", repaired.file, repaired.action), None);
        self.done.push(repaired);
    }

    /// Moves a file to the quarantine, unless it is gone by now. Says whether it is there.
    fn set_aside(&self, key: &Key) -> Result<bool> {
        let to = key.area.quarantined(self.id);
        let backend = self.check.repository.backend();
        match backend.open(key) {
            // With its directory, perhaps.
            Err(error) if error.is_not_found() => {}
            _ => backend.move_objects(&key.area, &to, std::slice::from_ref(&key.name))?,
        }
        self.is_set_aside(key)
    }

    /// Whether a file is in the quarantine of this repair, in whatever state.
    fn is_set_aside(&self, key: &Key) -> Result<bool> {
        match self.check.repository.backend().open(&key.area.quarantined(self.id).key(&key.name)) {
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if !error.is_damage() => Err(error),
            _ => Ok(true),
        }
    }

    /// What is said of a file that was moved.
    fn moved(&self, key: &Key) -> String {
        format!("set aside as {}", key.area.quarantined(self.id).key(&key.name))
    }
}
