//! `treering gc`.

use clap::Args;
use serde_json::json;
use treering_engine::FileCount;
use treering_engine::operations::gc::{GcOptions, GcReport, gc};

use super::Context;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{count, size};

/// Free the space that no revision uses
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering gc
  treering gc --dry-run                       says how much it would free
  treering gc --rewrite-below 80              frees more, and rewrites more for it

Packs of which nothing is used are deleted; those that are mostly unused are written anew. Mounts and restores go on beside
it, and so do backups: what one that is running may rely on is left to the next gc. It can be interrupted at any time.

What was forgotten can't be brought back any more afterwards.")]
pub(crate) struct GcArgs {
    /// Change nothing, and say how much would be freed
    #[arg(long)]
    dry_run: bool,

    /// Write packs anew of which less than this percentage is used; 0 for none
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    rewrite_below: u8,

    /// Go on though something is damaged, and free what only lies below it
    #[arg(long)]
    despite_damage: bool,
}

pub(super) fn run(context: &Context<'_>, args: &GcArgs) -> CommandOutcome {
    let during = |failure: Failure| failure.during("free space");
    let repository = context.repository()?;
    let options = GcOptions {
        rewrite_below_percent: args.rewrite_below,
        despite_damage: args.despite_damage,
        dry_run: args.dry_run,
    };
    let report = {
        let monitor = context.ui.monitor();
        gc(&repository, &options, &monitor).map_err(|error| during(error.into()))?
    };
    report.damaged.iter().for_each(|damaged| log::warn!("not followed: {damaged}"));
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(&report, args.dry_run))?,
        false => context.ui.result_or_summary(args.dry_run, &to_text(&report, args.dry_run))?,
    }
    Ok(Code::Done)
}

fn to_json(report: &GcReport, dry_run: bool) -> serde_json::Value {
    let files = |count: FileCount| json!({ "files": count.files, "bytes": count.bytes });
    let pending = report.pending.as_ref().map(|pending| {
        json!({
            "packs": pending.packs.files,
            "bytes": pending.packs.bytes,
            "holders": pending.holders,
        })
    });
    let held = report.held.iter().map(|(revision, holder)| json!({ "id": revision, "holder": holder }));
    json!({
        "dry_run": dry_run,
        "revisions_taken": report.taken_revisions,
        "packs_deleted": files(report.dead),
        "packs_rewritten": files(report.rewritten),
        "packs_not_rewritten": files(report.unwritten.packs),
        "leftovers": files(report.leftovers),
        "bytes_before": report.bytes_before,
        "bytes_freed": report.bytes_freed,
        "pending": pending,
        "held": held.collect::<Vec<_>>(),
        "damaged": report.damaged,
    })
}

fn to_text(report: &GcReport, dry_run: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let line = |what: &str, files: FileCount, fate: &str| match files.files {
        0 => String::new(),
        number => format!("{}: {would}{fate}, {}\n", count(number, what), size(files.bytes)),
    };
    let mut text = match report.taken_revisions {
        0 => String::new(),
        number => format!("{}: {would}taken out of the trash\n", count(number, "forgotten revision")),
    };
    text += &line("leftover", report.leftovers, "removed");
    if report.pending.is_none() {
        text += &line("unused pack", report.dead, "deleted");
        text += &line("mostly unused pack", report.rewritten, "written anew");
    }
    let unwritten = report.unwritten.packs;
    if unwritten.files > 0 {
        let (packs, bytes) = (count(unwritten.files, "mostly unused pack"), size(unwritten.bytes));
        let room = size(report.unwritten.room_for_one);
        text += &format!(
            "{packs} with {bytes} that nothing uses stay as they are, as there is no room to write anew what is used of \
             them: free {room} there, and run `treering gc` again\n"
        );
    }
    for (revision, holder) in &report.held {
        text += &format!("revision {revision} was forgotten and is kept as long as it is open: {holder}\n");
    }
    if let Some(pending) = &report.pending {
        let (packs, bytes) = (count(pending.packs.files, "unused pack"), size(pending.packs.bytes));
        let holders = pending.holders.join(", ");
        text += &format!("{packs} with {bytes} are left to the next gc, as they may be used by {holders}\n");
    }
    let (freed, before) = (size(report.bytes_freed), size(report.bytes_before));
    text + &format!("{freed} of {before} {would}freed\n")
}
