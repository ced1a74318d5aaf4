//! What is tried: one small function each.

use super::Scenario;
use super::faults::survives_faults;
use super::power::survives_power_cuts;
use super::stage::{Stage, Template};
use crate::error::Result;

fn nothing(_stage: &mut Stage) -> Result<()> {
    Ok(())
}

fn image(stage: &mut Stage) -> Result<()> {
    stage.back_up_image()
}

const FIRST_IMAGE: Scenario = Scenario { before: nothing, run: image };

#[test]
fn a_first_backup_survives_power_cuts() {
    survives_power_cuts(&FIRST_IMAGE);
}

#[test]
fn a_first_backup_survives_faults() {
    survives_faults(&FIRST_IMAGE);
}

/// An increment, and then a revision of what did not change.
fn next_images(stage: &mut Stage) -> Result<()> {
    stage.back_up_image()?;
    stage.back_up_same_image()
}

const NEXT_IMAGES: Scenario = Scenario { before: image, run: next_images };

#[test]
fn later_backups_survive_power_cuts() {
    survives_power_cuts(&NEXT_IMAGES);
}

#[test]
fn later_backups_survive_faults() {
    survives_faults(&NEXT_IMAGES);
}

fn trees(stage: &mut Stage) -> Result<()> {
    stage.back_up_tree()?;
    stage.back_up_tree()
}

const TREES: Scenario = Scenario { before: image, run: trees };

#[test]
fn backups_of_trees_survive_power_cuts() {
    survives_power_cuts(&TREES);
}

#[test]
fn backups_of_trees_survive_faults() {
    survives_faults(&TREES);
}

fn labels(stage: &mut Stage) -> Result<()> {
    stage.label(|labels| labels.tags = vec!["daily".to_owned()])?;
    stage.label(|labels| labels.protected = true)?;
    stage.back_up_image_with_tags(&["weekly"])?;
    stage.label(|labels| labels.tags.clear())
}

const LABELS: Scenario = Scenario { before: image, run: labels };

#[test]
fn labels_survive_power_cuts() {
    survives_power_cuts(&LABELS);
}

#[test]
fn labels_survive_faults() {
    survives_faults(&LABELS);
}

/// One table less than are merged.
fn many_tables(stage: &mut Stage) -> Result<()> {
    (0..7).try_for_each(|_| stage.back_up_image())
}

const MERGE: Scenario = Scenario { before: many_tables, run: image };

#[test]
fn merges_of_tables_survive_power_cuts() {
    survives_power_cuts(&MERGE);
}

#[test]
fn merges_of_tables_survive_faults() {
    survives_faults(&MERGE);
}

fn rot(stage: &mut Stage) -> Result<()> {
    stage.back_up_image()?;
    stage.rot();
    Ok(())
}

fn scrub_and_heal(stage: &mut Stage) -> Result<()> {
    stage.scrub()?;
    stage.back_up_image()
}

const HEALING: Scenario = Scenario { before: rot, run: scrub_and_heal };

#[test]
fn damage_is_listed_and_healed_through_power_cuts() {
    survives_power_cuts(&HEALING);
}

#[test]
fn damage_is_listed_and_healed_through_faults() {
    survives_faults(&HEALING);
}

pub(super) fn three_images(stage: &mut Stage) -> Result<()> {
    (0..3).try_for_each(|_| stage.back_up_image())
}

/// The oldest, then the newest, whose number and name must not come again; and the newest comes back.
fn forget_and_undo(stage: &mut Stage) -> Result<()> {
    stage.forget(0)?;
    stage.forget(1)?;
    stage.back_up_image()?;
    stage.undo_forget()
}

const FORGET: Scenario = Scenario { before: three_images, run: forget_and_undo };

#[test]
fn forgetting_and_its_undoing_survive_power_cuts() {
    survives_power_cuts(&FORGET);
}

#[test]
fn forgetting_and_its_undoing_survive_faults() {
    survives_faults(&FORGET);
}

/// Packs of which nothing is needed any more, one of which little is, and what must stay.
fn much_that_is_unused(stage: &mut Stage) -> Result<()> {
    stage.back_up_image()?;
    stage.back_up_image()?;
    stage.pass_generations(15);
    stage.back_up_image()?;
    stage.forget(0)?;
    stage.forget(0)
}

fn gc_and_backup(stage: &mut Stage) -> Result<()> {
    stage.gc()?;
    stage.back_up_image()
}

const GC: Scenario = Scenario { before: much_that_is_unused, run: gc_and_backup };

#[test]
fn gc_has_something_of_everything_to_do() {
    let report = Template::after(much_that_is_unused).stage().gc().unwrap();
    assert_eq!(report.taken_revisions, 2);
    assert!(report.dead.files > 0 && report.rewritten.files > 0, "{report:?}");
}

#[test]
fn gc_survives_power_cuts() {
    survives_power_cuts(&GC);
}

#[test]
fn gc_survives_faults() {
    survives_faults(&GC);
}
