//! Makes packs that are mostly dead into new ones, a few at a time, so that little space is needed for it.

use std::collections::{HashMap, HashSet};

use super::Gc;
use crate::error::{Corrupt, Result};
use crate::format::{PackEntry, PackNames};
use crate::id::PackId;
use crate::store::{PackUse, StoreWriter};

/// Packs that are read before those are deleted that they came from.
const ROUND_PACKS: usize = 32;

impl Gc<'_> {
    /// Writes the live objects of mostly dead packs anew, and deletes these.
    pub(super) fn rewrite(&mut self, uses: &HashMap<PackId, PackUse>) -> Result<()> {
        let below = u64::from(self.options.rewrite_below_percent);
        let is_mostly_dead = |pack: &PackUse| {
            pack.live_bytes > 0 && pack.live_bytes * 100 < (pack.live_bytes + pack.dead_bytes) * below
        };
        let mut packs: Vec<(PackId, PackUse)> =
            uses.iter().filter(|(_, pack)| is_mostly_dead(pack)).map(|(id, pack)| (*id, *pack)).collect();
        // Those that free most come first.
        packs.sort_by_key(|(id, pack)| (pack.live_bytes * 1000 / (pack.live_bytes + pack.dead_bytes), *id));
        self.monitor.begin("rewriting packs", Some(packs.iter().map(|(_, pack)| pack.size).sum()));
        for round in packs.chunks(ROUND_PACKS) {
            if self.options.dry_run {
                round.iter().for_each(|(_, pack)| self.note_rewritten(pack));
                continue;
            }
            self.marking.release(round.iter().map(|(pack, _)| *pack));
            let written = self.copy_live(round)?;
            let is_deleted = self.delete(written.packs)?;
            self.report.bytes_freed = self.report.bytes_freed.saturating_sub(written.bytes);
            if !is_deleted {
                return Ok(());
            }
        }
        Ok(())
    }

    fn note_rewritten(&mut self, pack: &PackUse) {
        self.report.rewritten.add(pack.dead_bytes);
        if self.options.dry_run {
            self.report.bytes_freed += pack.dead_bytes;
        }
    }

    /// Copies what is in use in some packs. Those that are not whole stay as they are.
    fn copy_live(&mut self, packs: &[(PackId, PackUse)]) -> Result<Written> {
        let mut writer = StoreWriter::new(self.repository.store(), HashSet::new(), false)?;
        let mut copied = Vec::new();
        for (pack, known) in packs {
            match self.copy_pack(*pack, known, &mut writer) {
                Ok(()) => {
                    copied.push((*pack, known.kind));
                    self.note_rewritten(known);
                }
                Err(error) if error.is_loss() => {
                    self.monitor
                        .warn(&format!("pack {pack} is left as it is: {error}; a full scrub tells more"));
                }
                Err(error) => return Err(error),
            }
            self.monitor.advance(known.size);
        }
        let bytes = writer.finish()?.bytes;
        Ok(Written { bytes, packs: copied.into_iter().collect() })
    }

    fn copy_pack(&self, pack: PackId, known: &PackUse, writer: &mut StoreWriter<'_>) -> Result<()> {
        let (mut check, entries) = self.repository.store().check_pack(known.kind, pack)?;
        let (mut copied, mut bytes) = (HashSet::new(), 0);
        for entry in entries {
            self.go_on()?;
            if self.marking.live.is_used_at(known.kind, pack, &entry)? {
                check.verify(&entry)?;
                writer.add(entry.object_type, entry.id, entry.plain_len, check.blob())?;
                copied.insert(entry.id);
                bytes += u64::from(entry.stored_len) + PackEntry::SIZE as u64;
            }
        }
        // A table that says of the pack what it does not say itself must not cost anything. Where two tables name it, it
        // counts twice, and they are read.
        match bytes >= known.live_bytes || self.marking.live.used_in(pack)?.is_subset(&copied) {
            true => Ok(()),
            false => {
                let reason = "it does not have all that is in use in it, as tables say";
                Err(Corrupt::new(format!("pack {pack}"), reason).into())
            }
        }
    }
}

/// What was written anew.
struct Written {
    /// Bytes of the new packs and their tables.
    bytes: u64,
    /// The packs that it came from.
    packs: PackNames,
}
