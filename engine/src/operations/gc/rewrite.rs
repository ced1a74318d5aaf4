//! Makes packs that are mostly dead into new ones, a few at a time, so that little space is needed for it.

use std::collections::{HashMap, HashSet};

use super::{Gc, Unwritten};
use crate::error::{Corrupt, Result};
use crate::format::{PackEntry, PackNames, TableEntry};
use crate::id::PackId;
use crate::store::{PackUse, StoreWriter};

/// Packs that are read before those are deleted that they came from.
const ROUND_PACKS: usize = 32;

/// Room that is left besides what is written anew: for the lists of packs, and for what the file system needs itself.
const RESERVED_BYTES: u64 = 128 << 10;
/// What a pack and its table have besides what they hold, in whole blocks.
const FRAME_BYTES: u64 = 32 << 10;

/// Bytes of what is in use of a pack when it is written anew, with the table that names it: an entry, and a byte or two of
/// the filter, for each object.
fn bytes_anew(pack: &PackUse) -> u64 {
    pack.live_bytes + pack.live_objects * (TableEntry::SIZE as u64 + 2) + FRAME_BYTES
}

impl Gc<'_> {
    /// Writes the live objects of mostly dead packs anew, and deletes these; as many at a time as there is room for.
    pub(super) fn rewrite(&mut self, uses: &HashMap<PackId, PackUse>) -> Result<()> {
        let mut packs = self.mostly_dead(uses);
        if self.options.dry_run {
            packs.iter().for_each(|(_, pack)| self.note_rewritten(pack));
            return Ok(());
        }
        self.monitor.begin("rewriting packs", Some(packs.iter().map(|(_, pack)| pack.size).sum()));
        let mut one_at_a_time = false;
        while !packs.is_empty() {
            let round = match one_at_a_time {
                true => take_smallest(&mut packs),
                false => self.take_round(&mut packs),
            };
            self.marking.release(round.iter().map(|(pack, _)| *pack));
            let written = match self.copy_live(&round) {
                Err(error) if error.is_disk_full() => {
                    let was_one = round.len() == 1;
                    packs.extend(round);
                    if was_one {
                        self.note_unwritten(&packs);
                        return Ok(());
                    }
                    // To the end: what a round has published before it failed stays until the next gc.
                    one_at_a_time = true;
                    continue;
                }
                written => written?,
            };
            let is_deleted = self.delete(written.packs)?;
            self.report.bytes_freed = self.report.bytes_freed.saturating_sub(written.bytes);
            if !is_deleted {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The packs of which less is in use than the threshold; those first that free most.
    fn mostly_dead(&self, uses: &HashMap<PackId, PackUse>) -> Vec<(PackId, PackUse)> {
        let below = u64::from(self.options.rewrite_below_percent);
        let is_mostly_dead = |pack: &PackUse| {
            pack.live_bytes > 0 && pack.live_bytes * 100 < (pack.live_bytes + pack.dead_bytes) * below
        };
        let mut packs: Vec<(PackId, PackUse)> =
            uses.iter().filter(|(_, pack)| is_mostly_dead(pack)).map(|(id, pack)| (*id, *pack)).collect();
        packs.sort_by_key(|(id, pack)| (pack.live_bytes * 1000 / (pack.live_bytes + pack.dead_bytes), *id));
        packs
    }

    /// Takes the packs of the next round: the first ones that there is room for; or the smallest one, as some file systems
    /// keep a part for root that they don't call free.
    fn take_round(&self, packs: &mut Vec<(PackId, PackUse)>) -> Vec<(PackId, PackUse)> {
        let free = self.repository.backend().free_bytes();
        let mut room = free.map_or(u64::MAX, |free| free.saturating_sub(RESERVED_BYTES));
        let mut round = Vec::new();
        packs.retain(|pack| {
            let needed = bytes_anew(&pack.1);
            let is_taken = round.len() < ROUND_PACKS && needed <= room;
            if is_taken {
                room -= needed;
                round.push(*pack);
            }
            !is_taken
        });
        if round.is_empty() { take_smallest(packs) } else { round }
    }

    /// Notes packs that stay as they are for want of room.
    fn note_unwritten(&mut self, packs: &[(PackId, PackUse)]) {
        let room_for_one = packs.iter().map(|(_, pack)| bytes_anew(pack) + RESERVED_BYTES).min();
        self.report.unwritten = Unwritten { room_for_one: room_for_one.unwrap_or(0), ..Unwritten::default() };
        packs.iter().for_each(|(_, pack)| self.report.unwritten.packs.add(pack.dead_bytes));
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
                Ok(()) => copied.push((*pack, known)),
                Err(error) if error.is_loss() => {
                    self.monitor
                        .warn(&format!("pack {pack} is left as it is: {error}; a full scrub tells more"));
                }
                Err(error) => return Err(error),
            }
            self.monitor.advance(known.size);
        }
        let bytes = writer.finish()?.bytes;
        copied.iter().for_each(|(_, known)| self.note_rewritten(known));
        Ok(Written { bytes, packs: copied.into_iter().map(|(pack, known)| (pack, known.kind)).collect() })
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

/// Takes the pack that needs least room to be written anew.
fn take_smallest(packs: &mut Vec<(PackId, PackUse)>) -> Vec<(PackId, PackUse)> {
    let smallest = packs.iter().enumerate().min_by_key(|(_, (_, pack))| bytes_anew(pack));
    let place = smallest.map(|(place, _)| place);
    place.map(|place| packs.remove(place)).into_iter().collect()
}

/// What was written anew.
struct Written {
    /// Bytes of the new packs and their tables.
    bytes: u64,
    /// The packs that it came from.
    packs: PackNames,
}
