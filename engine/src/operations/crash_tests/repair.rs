//! Repairs of an index and of packs, cut off by power cuts and faults: the next one ends the work, and nothing is lost.

use super::faults::every_fault;
use super::power::every_power_cut;
use super::scenarios::three_images;
use super::stage::{Stage, Template};
use crate::error::Result;

fn damaged(stage: &mut Stage) -> Result<()> {
    three_images(stage)?;
    stage.damage_frames();
    Ok(())
}

/// Ends the repair, and looks whether all is there and the next backups work.
fn assert_mended(mut stage: Stage) {
    stage.repair().unwrap();
    stage.look_and_settle();
    stage.go_on().unwrap();
}

#[test]
fn repairs_survive_power_cuts() {
    let mut stage = Template::after(damaged).stage();
    stage.repair().unwrap();
    assert!(stage.disk.change_count() > 10, "it has something to do");
    every_power_cut(&stage, |after, _| assert_mended(after));
}

#[test]
fn repairs_survive_faults() {
    every_fault(&Template::after(damaged), Stage::repair, |stage, _| assert_mended(stage));
}
