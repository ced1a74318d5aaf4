//! `treering tag`, `protect` and `unprotect`.

use clap::Args;
use serde_json::{Value, json};
use treering_engine::{Labels, RecordKey, Stream, validate_label};

use super::Context;
use super::revision::find_some;
use crate::exit::{Code, CommandOutcome, Failure};

/// Add tags to a revision, or remove them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering tag vm1 --add weekly               the newest revision
  treering tag vm1@2026-11-20 --add before-upgrade --remove weekly
  treering tag vm1@all --remove weekly        every revision that has it
  treering tag vm1@1                          shows the tags it has

A tag is named as a stream is: letters, digits, '.', '_', '-'. It names the newest revision that has it (vm1@tag:weekly),
keeps revisions (forget --keep-tag), and is a directory of the mount (by-tag). One that is there already, or is not there
to be removed, is no error.")]
pub(crate) struct TagArgs {
    /// The revision, or several; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revisions: String,

    /// Add a tag; may be given several times
    #[arg(long = "add", value_name = "TAG")]
    added: Vec<String>,

    /// Remove a tag; may be given several times
    #[arg(long = "remove", value_name = "TAG")]
    removed: Vec<String>,
}

/// Keep a revision from ever being forgotten
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering protect vm1                        the newest revision
  treering protect vm1@2026-11-20
  treering protect vm1@2026-11-01..2026-11-03
  treering list vm1                           shows what is protected

A protected revision is forgotten neither by name nor by a policy, and does not count towards --keep-last.")]
pub(crate) struct ProtectArgs {
    /// The revision, or several; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revisions: String,
}

/// Let a protected revision be forgotten again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering unprotect vm1@2026-11-20
  treering unprotect vm1@all")]
pub(crate) struct UnprotectArgs {
    /// The revision, or several; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revisions: String,
}

pub(super) fn tag(context: &Context<'_>, args: &TagArgs) -> CommandOutcome {
    args.added.iter().chain(&args.removed).try_for_each(|tag| validate_label(tag))?;
    if let Some(both) = args.added.iter().find(|tag| args.removed.contains(tag)) {
        return Err(Failure::usage(format!("tag '{both}' is both to be added and to be removed"))
            .hint(format!("leave --add {both} out, or --remove {both}")));
    }
    let change_tags = |labels: &mut Labels| {
        labels.tags.retain(|tag| !args.removed.contains(tag));
        labels.tags.extend(args.added.iter().cloned());
    };
    let is_asked = args.added.is_empty() && args.removed.is_empty();
    let change: Option<Change<'_>> = if is_asked { None } else { Some(&change_tags) };
    show(context, &args.revisions, "tag", change)
}

pub(super) fn protect(context: &Context<'_>, args: &ProtectArgs) -> CommandOutcome {
    show(context, &args.revisions, "protect", Some(&|labels| labels.protected = true))
}

pub(super) fn unprotect(context: &Context<'_>, args: &UnprotectArgs) -> CommandOutcome {
    show(context, &args.revisions, "unprotect", Some(&|labels| labels.protected = false))
}

/// What is to become of a revision's labels.
type Change<'a> = &'a dyn Fn(&mut Labels);

/// Changes the labels of each revision, if anything is to be changed, and shows what they are then.
fn show(context: &Context<'_>, named: &str, verb: &str, change: Option<Change<'_>>) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("{verb} {named}"));
    let repository = context.repository()?;
    let (stream, keys) = find_some(&repository, named).map_err(during)?;
    let mut labelled = Vec::with_capacity(keys.len());
    for key in keys {
        let labels = match change {
            Some(change) => repository.change_labels(&stream, &key, change),
            None => repository.labels(&stream, key.id),
        };
        labelled.push((key, labels.map_err(|error| during(error.into()))?));
    }
    match context.ui.is_json() {
        true => {
            let revisions = labelled.iter().map(|(key, labels)| to_json(&stream, key, labels));
            context.ui.print_json(&json!({ "revisions": revisions.collect::<Vec<_>>() }))?;
        }
        false => {
            let lines = labelled.iter().map(|(key, labels)| to_line(&stream, key, labels));
            context.ui.result_or_summary(change.is_none(), &lines.collect::<String>())?;
        }
    }
    Ok(Code::Done)
}

fn to_json(stream: &Stream, key: &RecordKey, labels: &Labels) -> Value {
    json!({
        "stream": stream.name,
        "id": key.id.to_string(),
        "name": key.name,
        "tags": labels.tags,
        "protected": labels.protected,
    })
}

fn to_line(stream: &Stream, key: &RecordKey, labels: &Labels) -> String {
    let tags = match labels.tags.is_empty() {
        true => "no tags".to_owned(),
        false => format!("tags {}", labels.tags.join(", ")),
    };
    let protected = if labels.protected { ", protected" } else { "" };
    format!("{}@{}: {tags}{protected}\n", stream.name, key.name)
}
