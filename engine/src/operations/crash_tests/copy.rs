//! Copies to a repository, cut off by power cuts and faults: it never holds anything but whole revisions of the source, and
//! the next copy ends the work.

use super::faults::every_fault;
use super::power::every_power_cut;
use super::scenarios::three_images;
use super::stage::{Stage, Template};
use crate::error::Result;

/// Two kinds, tags, protection, and a name that was retired.
fn source(stage: &mut Stage) -> Result<()> {
    three_images(stage)?;
    stage.back_up_tree()?;
    stage.back_up_tree()?;
    stage.label(|labels| labels.tags = vec!["daily".to_owned()])?;
    stage.label(|labels| labels.protected = true)?;
    stage.forget(1)
}

fn target(_stage: &mut Stage) -> Result<()> {
    Ok(())
}

/// First a single revision, then all.
fn copy(stage: &mut Stage, source: &Stage) -> Result<()> {
    stage.copy(source, 1)?;
    stage.copy(source, usize::MAX)
}

/// Ends the copy, and looks whether all is there and the next backups work.
fn assert_ends_well(mut stage: Stage, source: &Stage) {
    stage.look_and_settle();
    stage.copy(source, usize::MAX).unwrap();
    let (found, _) = stage.look();
    assert_eq!(found.len(), source.truth.standing.len());
    stage.go_on().unwrap();
}

#[test]
fn copies_survive_power_cuts() {
    let source = Template::after(source).stage();
    let mut stage = Template::after(target).stage();
    copy(&mut stage, &source).unwrap();
    every_power_cut(&stage, |after, _| assert_ends_well(after, &source));
}

#[test]
fn copies_survive_faults() {
    let source = Template::after(source).stage();
    every_fault(
        &Template::after(target),
        |stage| copy(stage, &source),
        |stage, _| assert_ends_well(stage, &source),
    );
}
