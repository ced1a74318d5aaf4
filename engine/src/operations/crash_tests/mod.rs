//! Whole operations on a disk that loses its power after any of their changes, and that fails at any of their calls.
//!
//! A [`Scenario`] is run once on a [`CrashDisk`](crate::backend::crash_disk::CrashDisk); then, for every n, what a power
//! cut after the n-th change may leave is laid into a directory of its own ([`power`]). Or it is run for every n with its
//! n-th call failing ([`faults`]). Each time what is there is held against the [`truth`]: every revision that was told to be
//! stored is there and is what its source was, one that was on its way is whole or absent, a full scrub finds nothing that
//! anybody misses, and the next backups work.
//!
//! `TREERING_TEST_SEED` repeats the draws of a run, as far as the order of threads lets it; a failure prints it.

mod content;
mod copy;
mod faults;
mod init;
mod power;
mod repair;
mod scenarios;
mod seed;
mod stage;
mod streams;
mod truth;

use stage::Stage;

use crate::error::Result;

/// What is done while the power may fail.
struct Scenario {
    /// What came before, undisturbed.
    before: fn(&mut Stage) -> Result<()>,
    /// What is disturbed.
    run: fn(&mut Stage) -> Result<()>,
}
