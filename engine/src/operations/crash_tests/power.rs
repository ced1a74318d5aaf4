//! Power cuts after every change.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Scenario;
use super::seed::{Told, seed};
use super::stage::{Stage, Template};
use crate::backend::crash_disk::Outcome;
use crate::random::Random;

/// The outcomes that are looked at after each change: the worst, the best, and some between.
fn outcomes(random: &mut Random) -> [Outcome; 6] {
    let mut mixed = || Outcome::Mixed(random.below(u64::MAX));
    [Outcome::Nothing, Outcome::Everything, Outcome::NamesOnly, mixed(), mixed(), mixed()]
}

/// A power cut.
pub(super) struct Cut<'a> {
    outcome: Outcome,
    /// Whether all was done before.
    pub(super) is_at_end: bool,
    random: &'a mut Random,
}

/// Cuts the power after each change of a scenario; and a second time while the next backups run.
pub(super) fn survives_power_cuts(scenario: &Scenario) {
    let mut stage = Template::after(scenario.before).stage();
    (scenario.run)(&mut stage).unwrap();
    every_power_cut(&stage, |mut after, cut| {
        after.look_and_settle();
        after.go_on().unwrap();
        if matches!(cut.outcome, Outcome::Nothing | Outcome::Mixed(_)) {
            cut_again(&after, cut.random);
        }
    });
}

/// Cuts the power after each change of what was done, in several ways, and lets what is found be looked at each time.
pub(super) fn every_power_cut(stage: &Stage, mut look: impl FnMut(Stage, Cut<'_>)) {
    let seed = seed();
    let mut random = Random::seeded(seed);
    let change_count = stage.disk.change_count();
    let mut seen = HashSet::new();
    for count in 0..=change_count {
        for outcome in outcomes(&mut random) {
            let _told =
                Told(format!("cut after {count} of {change_count} changes, {outcome:?}, seed {seed}"));
            if seen.insert(fingerprint(stage, count, outcome)) {
                let cut = Cut { outcome, is_at_end: count == change_count, random: &mut random };
                look(stage.cut(count, outcome), cut);
            }
        }
    }
}

/// Two moments that leave the same need be looked at once.
fn fingerprint(stage: &Stage, change_count: usize, outcome: Outcome) -> u64 {
    let mut hasher = DefaultHasher::new();
    stage.disk.medium(change_count).after_power_cut(outcome).hash(&mut hasher);
    stage.moment_at(change_count).hash(&mut hasher);
    hasher.finish()
}

/// Cuts the power at a drawn moment of what was done after the first cut.
fn cut_again(stage: &Stage, random: &mut Random) {
    let change_count = stage.disk.change_count();
    let count = random.below(change_count as u64 + 1) as usize;
    for outcome in [Outcome::Nothing, Outcome::Mixed(random.below(u64::MAX))] {
        let _told = Told(format!("then cut after {count} of {change_count} changes, {outcome:?}"));
        let mut after = stage.cut(count, outcome);
        after.look_and_settle();
        after.go_on().unwrap();
    }
}
