//! The scrub ledger: when each pack was last read whole and verified.
//!
//! Its times are a hint, which packs to read first, and nothing else relies on them. One that lies in the future counts as
//! none: a clock that has jumped must not keep a pack from ever being read again.

use std::collections::{BTreeMap, HashMap};

use super::Repository;
use crate::backend::Key;
use crate::error::Result;
use crate::format::{LastScrub, MAX_SEALED_SIZE, ScrubLedger, Timestamp, VerifiedPack, open, seal};
use crate::id::PackId;

/// Packs that fit into the ledger, 24 bytes each: some 18 TiB. Of more those are left out that were not read for longest,
/// which come first in the next scrub either way.
const MAX_LISTED: usize = 600_000;

/// What counts as lately, for people.
const RECENT_DAYS: i64 = 30;

/// How much of the packs was verified, and when.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrubState {
    /// All packs, and their bytes.
    pub packs: u64,
    /// Bytes of all packs.
    pub bytes: u64,
    /// Packs that were ever read whole.
    pub verified_packs: u64,
    /// Their bytes.
    pub verified_bytes: u64,
    /// Bytes of the packs that were read whole within the last thirty days.
    pub recent_bytes: u64,
    /// When that pack was read that was not read for longest, of those that ever were.
    pub oldest: Option<Timestamp>,
    /// How the last scrub of the repository ended.
    pub last: Option<LastScrub>,
    /// What is wrong with the ledger itself.
    pub damage: Option<String>,
}

impl Repository {
    /// How much was verified by scrubs, and when.
    pub fn scrub_state(&self) -> Result<ScrubState> {
        let (ledger, damage) = match self.read_scrub_ledger() {
            Err(error) if error.is_damage() => (ScrubLedger::default(), Some(error.to_string())),
            ledger => (ledger?, None),
        };
        let now = Timestamp::now().seconds;
        let verified = times_until(now, &ledger);
        let mut state = ScrubState { last: ledger.last, damage, ..ScrubState::default() };
        let mut oldest: Option<i64> = None;
        for (pack, (_, size)) in self.store().index().list_packs()? {
            state.packs += 1;
            state.bytes += size;
            let Some(seconds) = verified.get(&pack).copied() else { continue };
            state.verified_packs += 1;
            state.verified_bytes += size;
            oldest = Some(oldest.map_or(seconds, |oldest| oldest.min(seconds)));
            if seconds >= now - RECENT_DAYS * 86_400 {
                state.recent_bytes += size;
            }
        }
        state.oldest = oldest.map(|seconds| Timestamp { seconds, nanoseconds: 0 });
        Ok(state)
    }

    /// When each pack was verified that was, in seconds since 1970. Of a ledger that can't be read, nothing is known.
    pub(crate) fn verified_packs(&self) -> Result<HashMap<PackId, i64>> {
        match self.read_scrub_ledger() {
            Err(error) if error.is_damage() => {
                log::warn!("{error}; it is made anew");
                Ok(HashMap::new())
            }
            ledger => Ok(times_until(Timestamp::now().seconds, &ledger?)),
        }
    }

    pub(crate) fn read_scrub_ledger(&self) -> Result<ScrubLedger> {
        match self.backend().read(&Key::scrub_ledger(), MAX_SEALED_SIZE) {
            Err(error) if error.is_not_found() => Ok(ScrubLedger::default()),
            other => open("the scrub ledger", &other?),
        }
    }

    /// Notes packs that were read whole just now, and how the scrub ended if it has. Packs that are gone leave the ledger.
    pub(crate) fn note_verified(&self, packs: &[PackId], last: Option<LastScrub>) -> Result<()> {
        if packs.is_empty() && last.is_none() {
            return Ok(());
        }
        let _lock = self.lock("scrub", "the scrub ledger", || Ok(true))?;
        let before = match self.read_scrub_ledger() {
            Err(error) if error.is_damage() => ScrubLedger::default(),
            other => other?,
        };
        let now = Timestamp::now().seconds;
        let mut times: BTreeMap<PackId, i64> = times_until(now, &before).into_iter().collect();
        times.extend(packs.iter().map(|pack| (*pack, now)));
        let there = self.store().index().list_packs()?;
        times.retain(|pack, _| there.contains_key(pack));
        let ledger = ScrubLedger { last: last.or(before.last), packs: newest(times, MAX_LISTED) };
        self.backend().put(&Key::scrub_ledger(), &seal(&ledger)?)
    }
}

/// The times of a ledger that are not in the future.
fn times_until(now: i64, ledger: &ScrubLedger) -> HashMap<PackId, i64> {
    let known = ledger.packs.iter().filter(|known| known.seconds <= now);
    known.map(|known| (known.pack, known.seconds)).collect()
}

/// As many as fit, the newest of them, sorted by pack.
fn newest(times: BTreeMap<PackId, i64>, count_max: usize) -> Vec<VerifiedPack> {
    let mut packs: Vec<VerifiedPack> =
        times.into_iter().map(|(pack, seconds)| VerifiedPack { pack, seconds }).collect();
    if packs.len() > count_max {
        packs.sort_by_key(|known| std::cmp::Reverse(known.seconds));
        packs.truncate(count_max);
        packs.sort_by_key(|known| known.pack);
    }
    packs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::PackKind;
    use crate::repository::CreateOptions;

    fn pack(number: u32) -> PackId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PackId::from_bytes(bytes)
    }

    fn repository() -> (tempfile::TempDir, Repository) {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::create(directory.path(), &CreateOptions::default()).unwrap();
        (directory, repository)
    }

    fn write(repository: &Repository, ledger: &ScrubLedger) {
        repository.backend().put(&Key::scrub_ledger(), &seal(ledger).unwrap()).unwrap();
    }

    /// A clock that ran ahead once would else have kept them from being read for as long.
    #[test]
    fn times_in_the_future_count_as_never() {
        let (_directory, repository) = repository();
        let now = Timestamp::now().seconds;
        let known = [(1, now - 100), (2, now + 1_000_000)]
            .map(|(id, seconds)| VerifiedPack { pack: pack(id), seconds });
        write(&repository, &ScrubLedger { last: None, packs: known.to_vec() });
        assert_eq!(repository.verified_packs().unwrap(), HashMap::from([(pack(1), now - 100)]));
    }

    #[test]
    fn packs_that_are_gone_leave_the_ledger_and_a_later_time_replaces_an_earlier_one() {
        let (_directory, repository) = repository();
        let there = Key::pack(PackKind::Data, pack(1));
        repository.backend().put(&there, b"pack").unwrap();
        let known = [1, 2].map(|id| VerifiedPack { pack: pack(id), seconds: 5 });
        write(&repository, &ScrubLedger { last: None, packs: known.to_vec() });
        repository.note_verified(&[pack(1)], None).unwrap();
        let packs = repository.read_scrub_ledger().unwrap().packs;
        assert_eq!(packs.len(), 1);
        assert!(packs[0].pack == pack(1) && packs[0].seconds > 5);
    }

    #[test]
    fn of_a_ledger_that_would_be_too_long_the_newest_are_kept() {
        let times = (0..10).map(|number| (pack(number), i64::from(10 - number)));
        let kept: Vec<PackId> = newest(times.collect(), 3).iter().map(|known| known.pack).collect();
        assert_eq!(kept, [pack(0), pack(1), pack(2)]);
        let all = (0..MAX_LISTED as u32).map(|number| VerifiedPack { pack: pack(number), seconds: 1 });
        assert!(seal(&ScrubLedger { last: None, packs: all.collect() }).is_ok());
    }

    #[test]
    fn a_damaged_ledger_is_told_and_made_anew() {
        let (_directory, repository) = repository();
        repository.backend().put(&Key::scrub_ledger(), b"garbage").unwrap();
        assert!(repository.scrub_state().unwrap().damage.is_some());
        assert!(repository.verified_packs().unwrap().is_empty());
        let there = Key::pack(PackKind::Data, pack(1));
        repository.backend().put(&there, b"pack").unwrap();
        repository.note_verified(&[pack(1)], None).unwrap();
        let state = repository.scrub_state().unwrap();
        assert_eq!((state.damage, state.verified_bytes, state.recent_bytes), (None, 4, 4));
    }
}
