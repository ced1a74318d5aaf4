//! What a check has found, and what a repair has done.

use super::reach::Reached;
use super::{Leftovers, Packs, Places};
use crate::backend::{Area, Key};
use crate::error::Error;
use crate::format::ObjectType;
use crate::id::ObjectId;
use crate::revision::{FileCount, SmallFiles};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckReport {
    /// Stored files that are damaged or lost, from the repository's directory on, and how.
    pub damaged_files: Vec<(String, String)>,
    /// Objects that revisions need and of which no copy is known to be good.
    pub bad: Vec<BadFinding>,
    /// Objects on the damage list that no revision uses: nothing is lost with them.
    pub unused: Vec<BadFinding>,
    /// What can't be read of which revision.
    pub affected: Vec<AffectedRevision>,
    /// Packs that are damaged or gone though nothing is missed in them.
    pub superseded: Vec<(String, String)>,
    /// What killed runs have left; no damage.
    pub leftovers: Leftovers,
    /// Files that are no objects of a repository; no damage.
    pub strangers: Vec<String>,
    /// What was repaired before this was found.
    pub repaired: Vec<Repaired>,
    /// What repairs have set aside, now or earlier.
    pub quarantine: FileCount,
    /// Whether more is bad than was kept, so that not all that is affected is named.
    pub is_incomplete: bool,
    /// How much was looked at.
    pub counts: Counts,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Revisions whose records are in order.
    pub revisions: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Index tables.
    pub tables: u64,
    /// Nodes and directories that were read.
    pub nodes: u64,
    /// Chunks whose places were looked up.
    pub chunks: u64,
}

/// A bad object, and who needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct BadFinding {
    /// The object.
    pub id: ObjectId,
    /// What it is, where that is known.
    pub object_type: Option<ObjectType>,
    /// What is wrong.
    pub reason: String,
    /// The revisions that need it, as `stream@name`.
    pub revisions: Vec<String>,
    /// How many more need it; of very many bad objects few are named.
    pub more_revisions: u64,
}

/// A revision of which something can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedRevision {
    /// The revision, as `stream@name`.
    pub revision: String,
    /// What can't be read.
    pub places: Places,
    /// How many more places there are than are named.
    pub more: u64,
}

/// A repair that did not come to its end. What it did before stays.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct UnfinishedRepair {
    /// Why it ended.
    pub error: Error,
    /// What was done until then.
    pub repaired: Vec<Repaired>,
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was damaged, from the repository's directory on.
    pub file: String,
    /// What was done.
    pub action: String,
    /// What is lost for good; `None` if nothing is.
    pub loss: Option<String>,
}

/// What tells that tables are lost, if anything does.
fn missing_tables(packs: &Packs, reached: &Reached) -> Option<String> {
    if packs.has_too_many_unnamed() {
        return Some(format!(
            "no table names {} packs with {} objects, too many to look for anything in: make tables of them by \
             `treering check --repair`",
            packs.unnamed_packs, packs.unnamed_objects
        ));
    }
    let id = reached.unnamed?;
    Some(format!("index tables are missing: none names object {id}, which a revision reaches"))
}

impl CheckReport {
    /// Whether the repository is whole, and no repair had to give anything up for it.
    pub fn is_clean(&self) -> bool {
        let is_any_lost = self.repaired.iter().any(|repaired| repaired.loss.is_some());
        self.damaged_files.is_empty() && self.bad.is_empty() && !is_any_lost
    }

    pub(super) fn take_bad(&mut self, bad: impl Iterator<Item = BadFinding>) {
        (self.bad, self.unused) = bad.partition(|bad| !bad.revisions.is_empty());
    }

    pub(super) fn take(&mut self, files: &SmallFiles, packs: &Packs, reached: &Reached) {
        if reached.is_cut_short || reached.too_many {
            // Nobody knows whether what can't be read needs them.
            self.bad.append(&mut self.unused);
        }
        self.counts = Counts {
            revisions: files.revisions.len() as u64,
            packs: (packs.frames.len() + packs.damaged.values().filter(|pack| pack.is_there).count()) as u64,
            tables: packs.table_count,
            nodes: reached.nodes,
            chunks: reached.chunks,
        };
        self.is_incomplete = reached.too_many;
        self.damaged_files.extend(files.findings());
        self.damaged_files.extend(reached.damaged_records.iter().cloned());
        let tables = packs.bad_tables.iter();
        self.damaged_files
            .extend(tables.map(|(table, reason)| (Key::table(*table).to_string(), reason.clone())));
        if let Some(reason) = missing_tables(packs, reached) {
            self.damaged_files.push((format!("{}/", Area::index().path()), reason));
        }
        self.take_packs(packs, reached);
        self.damaged_files.sort();
    }

    /// A damaged pack is no damage if all that is needed lies elsewhere.
    fn take_packs(&mut self, packs: &Packs, reached: &Reached) {
        let is_anything_unknown = reached.is_cut_short || reached.too_many;
        for (pack, damaged) in &packs.damaged {
            let is_missed = match damaged.is_named {
                true => reached.missed_packs.contains(pack),
                // What it held is not known: nothing that is needed, if nothing is missed.
                false => !reached.bad.is_empty(),
            };
            let named = (Key::pack(damaged.kind, *pack).to_string(), damaged.reason.clone());
            match is_missed || is_anything_unknown {
                true => self.damaged_files.push(named),
                false => self.superseded.push(named),
            }
        }
    }
}
