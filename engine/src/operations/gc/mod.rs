//! Frees what no revision needs, beside backups and readers (`docs/format.md`, section 5).
//!
//! First everything that revisions, sessions and pins reach is marked, one bit for each entry of the index. Packs without a
//! marked object are condemned; when no session lives that may have begun before they were, what came since is marked, too,
//! and what is condemned still is deleted. Packs that are mostly dead are then made into new ones, a few at a time.

mod condemn;
mod leftovers;
mod mark;
mod only_copies;
mod rewrite;
mod trash;

use std::collections::{HashMap, HashSet};

use mark::{Marking, Reload};

use crate::error::{Corrupt, Error, Result};
use crate::format::PackKind;
use crate::id::PackId;
use crate::monitor::Monitor;
use crate::repository::Repository;
use crate::revision::FileCount;
use crate::store::{Index, PackUse, read_condemned, read_dropped};

/// How gc is done.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// Packs of which less than this percentage is in use are written anew; 0 for none.
    pub rewrite_below_percent: u8,
    /// Go on where something is damaged: what only lies below it is freed.
    pub despite_damage: bool,
    /// Change nothing, and only say what could be freed.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { rewrite_below_percent: 50, despite_damage: false, dry_run: false }
    }
}

impl GcOptions {
    /// A dry run takes no lock: it must go where nothing can be written.
    fn reload(&self) -> Reload {
        if self.dry_run { Index::reload_unlocked } else { Index::reload_unmerged }
    }
}

/// What gc did, or in a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Revisions in the trash, which can be brought back no more.
    pub taken_revisions: u64,
    /// Packs of which nothing is in use.
    pub dead: FileCount,
    /// Packs that are mostly dead, with the bytes that writing them anew frees.
    pub rewritten: FileCount,
    /// Packs that are mostly dead and stay as they are for want of room.
    pub unwritten: Unwritten,
    /// What killed runs have left.
    pub leftovers: FileCount,
    /// Bytes that packs had in all, and have then.
    pub bytes_before: u64,
    /// Bytes that are freed.
    pub bytes_freed: u64,
    /// What waits for processes that are still running; the next gc deletes it.
    pub pending: Option<Pending>,
    /// Revisions that were forgotten, and are kept for who has them open: the revision, and who.
    pub held: Vec<(String, String)>,
    /// What is damaged, so that it is not known what lies below it.
    pub damaged: Vec<String>,
}

/// Mostly dead packs that there was no room to write anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// The packs, with the bytes that writing them anew would free.
    pub packs: FileCount,
    /// Bytes that must be free to begin with it.
    pub room_for_one: u64,
}

/// What could not be deleted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// The packs.
    pub packs: FileCount,
    /// The backups that may rely on them.
    pub holders: Vec<String>,
}

/// Frees what no revision needs. Whatever ends it, nothing is lost, and the next one goes on.
///
/// # Errors
/// [`Error::Busy`] while another one runs; damage where it is not known what a revision needs, unless gc is to go on despite of
/// it.
pub fn gc(repository: &Repository, options: &GcOptions, monitor: &dyn Monitor) -> Result<GcReport> {
    let _alone = match options.dry_run {
        true => None,
        false => Some(repository.lock_gc()?),
    };
    let mut gc = Gc {
        marking: Marking::new(repository, monitor, options.reload())?,
        repository,
        options,
        monitor,
        report: GcReport::default(),
    };
    gc.run()?;
    Ok(gc.report)
}

/// A gc on its way.
struct Gc<'a> {
    repository: &'a Repository,
    options: &'a GcOptions,
    monitor: &'a dyn Monitor,
    marking: Marking<'a>,
    report: GcReport,
}

impl Gc<'_> {
    fn run(&mut self) -> Result<()> {
        self.marking.mark_all()?;
        self.refuse_damage()?;
        self.report.held = self.marking.held.clone();
        self.take_trash()?;
        self.take_leftovers()?;
        let uses = self.marking.uses()?;
        let unnamed = self.unnamed_packs(&uses)?;
        self.report.bytes_before = uses.values().map(|pack| pack.size).sum::<u64>() + bytes_of(&unnamed);
        let dead = uses.iter().filter(|(_, pack)| pack.live_bytes == 0);
        let dead: HashMap<PackId, (PackKind, u64)> =
            dead.map(|(id, pack)| (*id, (pack.kind, pack.size))).chain(unnamed).collect();
        dead.values().for_each(|(_, size)| self.report.dead.add(*size));
        if self.options.dry_run {
            self.report.bytes_freed = self.report.dead.bytes;
            return self.rewrite(&uses);
        }
        if self.end_last_one(&uses)? && self.delete_dead(&dead)? {
            self.rewrite(&uses)?;
            self.clean_tables()?;
            self.forget_bad()?;
        }
        Ok(())
    }

    /// Takes bad objects off the damage list that are stored no more: nothing will be built upon them.
    fn forget_bad(&self) -> Result<()> {
        let store = self.repository.store();
        let dropped = read_dropped(self.repository.backend().as_ref())?;
        let dropped: HashSet<PackId> = dropped.iter().map(|(pack, _)| pack).collect();
        let mut gone = Vec::new();
        store.index().reload_unmerged()?;
        for id in self.marking.unused_bad() {
            if store.index().locate_in_tables(&id)?.iter().all(|place| dropped.contains(&place.pack)) {
                gone.push(id);
            }
        }
        self.repository.change_damage(Vec::new(), &gone, false)
    }

    /// Where something is damaged it is not known what lies below it, and that would be taken for unused.
    fn refuse_damage(&mut self) -> Result<()> {
        self.report.damaged = self.marking.damaged();
        match self.report.damaged.first() {
            Some(first) if !self.options.despite_damage => {
                let more = match self.report.damaged.len() - 1 {
                    0 => String::new(),
                    more => format!(" (and {more} more)"),
                };
                let reason = format!("so it is not known what it needs, and nothing is freed: {first}{more}");
                Err(Corrupt::new("what revisions need", reason).into())
            }
            _ => Ok(()),
        }
    }

    /// Packs that no table names, which killed runs have left. If something that a revision needs is in no table, they may
    /// be those of a table that is lost.
    fn unnamed_packs(&self, uses: &HashMap<PackId, PackUse>) -> Result<HashMap<PackId, (PackKind, u64)>> {
        let mut unnamed = self.repository.store().index().list_packs()?;
        let known = self.marking.live.knows_packs();
        unnamed.retain(|pack, _| !uses.contains_key(pack) && !known.contains(pack));
        self.leave_silent(&mut unnamed)?;
        let packs = unnamed.iter().map(|(pack, (kind, _))| (*pack, *kind));
        let only_copy = self.only_copies_in(packs)?.first().map(|(_, object)| *object);
        match self.marking.unnamed().or(only_copy) {
            Some(id) if !self.named_by_none(&unnamed)?.is_empty() => {
                let reason = format!(
                    "no table names a good copy of object {id}, which a revision needs, and packs are there that none names"
                );
                Err(Corrupt::new("the index", reason).into())
            }
            _ => Ok(unnamed),
        }
    }

    /// Those of the packs that no table names by now either: of a backup beside this one does.
    fn named_by_none(&self, packs: &HashMap<PackId, (PackKind, u64)>) -> Result<HashSet<PackId>> {
        let index = self.repository.store().index();
        self.options.reload()(index)?;
        let named = index.named_packs()?;
        Ok(packs.keys().filter(|pack| !named.contains(*pack)).copied().collect())
    }

    /// Ends what an earlier gc began; whether that was possible.
    fn end_last_one(&mut self, uses: &HashMap<PackId, PackUse>) -> Result<bool> {
        let list = match read_condemned(self.repository.backend().as_ref()) {
            // What it condemned is condemned anew.
            Err(error) if error.is_damage() => None,
            list => list?,
        };
        let Some(list) = list else { return Ok(true) };
        let in_use = uses.iter().filter(|(_, pack)| pack.live_bytes > 0).map(|(pack, _)| *pack);
        let in_use: HashSet<PackId> = in_use.collect();
        self.settle(list, &in_use)
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

fn bytes_of(packs: &HashMap<PackId, (PackKind, u64)>) -> u64 {
    packs.values().map(|(_, size)| *size).sum()
}
