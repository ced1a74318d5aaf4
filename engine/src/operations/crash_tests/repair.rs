//! Repairs of an index and of packs, cut off by power cuts and faults: the next one ends the work, and nothing is lost.

use super::Scenario;
use super::scenarios::three_images;
use super::seed::{Told, seed};
use super::stage::{Stage, Template};
use crate::backend::crash_disk::{Fault, FaultKind, Outcome};
use crate::error::Result;
use crate::random::Random;

fn damaged(stage: &mut Stage) -> Result<()> {
    three_images(stage)?;
    stage.damage_frames();
    Ok(())
}

const REPAIR: Scenario = Scenario { before: damaged, run: Stage::repair };

/// Ends the repair, and looks whether all is there and the next backups work.
fn assert_mended(mut stage: Stage) {
    stage.repair().unwrap();
    stage.look_and_settle();
    stage.go_on().unwrap();
}

#[test]
fn repairs_survive_power_cuts() {
    let seed = seed();
    let mut random = Random::seeded(seed);
    let mut stage = Template::of(&REPAIR).stage();
    (REPAIR.run)(&mut stage).unwrap();
    let change_count = stage.disk.change_count();
    assert!(change_count > 10, "it has something to do");
    for count in 0..=change_count {
        let mixed = Outcome::Mixed(random.below(u64::MAX));
        for outcome in [Outcome::Nothing, Outcome::Everything, Outcome::NamesOnly, mixed] {
            let _told =
                Told(format!("cut after {count} of {change_count} changes, {outcome:?}, seed {seed}"));
            assert_mended(stage.cut(count, outcome));
        }
    }
}

#[test]
fn repairs_survive_faults() {
    let template = Template::of(&REPAIR);
    for kind in FaultKind::ALL {
        for at in 0.. {
            let fault = Fault { at, kind };
            let _told = Told(format!("{fault:?}"));
            let mut stage = template.stage();
            stage.disk.fail(fault);
            let ended = (REPAIR.run)(&mut stage);
            if !stage.disk.mend() {
                ended.unwrap();
                break;
            }
            assert_mended(stage);
        }
    }
}
