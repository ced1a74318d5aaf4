//! Repairs, cut off by power cuts and faults: the next one ends the work, and nothing is lost that was not lost before.

use super::content::read;
use super::faults::every_fault;
use super::power::every_power_cut;
use super::scenarios::three_images;
use super::stage::{Stage, Template};
use crate::error::Result;
use crate::monitor::SilentMonitor;
use crate::operations::check::{CheckReport, check, check_and_repair};

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

fn spoilt(stage: &mut Stage) -> Result<()> {
    three_images(stage)?;
    stage.label(|labels| labels.tags = vec!["daily".to_owned()])?;
    stage.back_up_tree()?;
    stage.spoil_small_files()
}

fn repair_what_is_spoilt(stage: &Stage) -> Result<CheckReport> {
    check_and_repair(&stage.repository()?, &SilentMonitor).map_err(|unfinished| unfinished.error)
}

/// But for the revision whose record is damaged, all stands.
fn assert_all_but_one_stand(stage: &Stage) {
    let repository = stage.repository().unwrap();
    let list = repository.list_streams().unwrap();
    assert_eq!(list.damaged, []);
    let mut count = 0;
    for stream in &list.streams {
        for key in repository.revisions(stream).unwrap() {
            let known = stage.truth.standing.iter().find(|known| known.id == key.id).unwrap();
            let content = read(&repository, &repository.record(stream, &key).unwrap()).unwrap();
            assert!(content == known.content, "{} is another", key.name);
            count += 1;
        }
    }
    assert_eq!(count, stage.truth.standing.len() - 1);
}

/// Ends the repair; the next backup and gc cost nothing.
fn assert_little_is_lost(mut stage: Stage) {
    repair_what_is_spoilt(&stage).unwrap();
    assert!(check(&stage.repository().unwrap(), &SilentMonitor).unwrap().is_clean());
    assert_all_but_one_stand(&stage);
    stage.back_up_image().unwrap();
    stage.gc().unwrap();
    assert_all_but_one_stand(&stage);
}

#[test]
fn repairs_of_small_files_survive_power_cuts() {
    let stage = Template::after(spoilt).stage();
    let report = repair_what_is_spoilt(&stage).unwrap();
    assert_eq!(report.repaired.len(), 6, "{report:?}");
    every_power_cut(&stage, |after, _| assert_little_is_lost(after));
}

#[test]
fn repairs_of_small_files_survive_faults() {
    every_fault(
        &Template::after(spoilt),
        |stage| repair_what_is_spoilt(stage).map(|_| ()),
        |stage, _| assert_little_is_lost(stage),
    );
}
