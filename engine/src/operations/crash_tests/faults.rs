//! Calls that fail, each in its turn.

use super::Scenario;
use super::seed::{Told, seed};
use super::stage::{Stage, Template};
use crate::backend::crash_disk::{Fault, FaultKind, Outcome};
use crate::error::{Error, Result};
use crate::random::Random;

/// Runs a scenario again and again, a later call failing each time, until none is left.
pub(super) fn survives_faults(scenario: &Scenario) {
    let seed = seed();
    let mut random = Random::seeded(seed);
    let _told = Told(format!("seed {seed}"));
    every_fault(&Template::after(scenario.before), scenario.run, |stage, kind| {
        look_after(stage, kind, &mut random)
    });
}

/// Runs something again and again, a later call failing each time, until none is left. When the fault is over, what is there
/// is looked at.
pub(super) fn every_fault(
    template: &Template,
    run: impl Fn(&mut Stage) -> Result<()>,
    mut look: impl FnMut(Stage, FaultKind),
) {
    for kind in FaultKind::ALL {
        for at in 0.. {
            let fault = Fault { at, kind };
            let _told = Told(format!("{fault:?}"));
            let mut stage = template.stage();
            stage.disk.fail(fault);
            let ended = run(&mut stage);
            if !stage.disk.mend() {
                ended.unwrap();
                break;
            }
            assert_is_clear(&ended);
            look(stage, kind);
        }
    }
}

/// An error tells what failed on what; nobody cancelled anything.
fn assert_is_clear(ended: &Result<()>) {
    if let Err(error) = ended {
        let is_told = matches!(error, Error::Io { .. } | Error::UncertainCommit { .. });
        assert!(is_told, "{error:?}");
    }
}

/// All stands and the next backups work; and nothing that they told to be stored relies on what
/// failed to be made durable, so that a power cut takes none of it. With a fault that ended a process this is a kill, and
/// then a power cut.
fn look_after(mut stage: Stage, kind: FaultKind, random: &mut Random) {
    stage.look();
    let begin = stage.disk.change_count();
    stage.go_on().unwrap();
    let end = stage.disk.change_count();
    let cuts_between = if kind == FaultKind::Dead { 6 } else { 0 };
    let mut counts = vec![end, end];
    counts.extend((0..cuts_between).map(|_| begin + random.below((end - begin) as u64) as usize));
    for (index, count) in counts.into_iter().enumerate() {
        let mixed = Outcome::Mixed(random.below(u64::MAX));
        let outcome = if index % 2 == 0 { Outcome::Nothing } else { mixed };
        let _told = Told(format!("then cut after {count} ({begin}..{end}), {outcome:?}"));
        let mut after = stage.cut(count, outcome);
        after.look_and_settle();
        after.go_on().unwrap();
    }
}
