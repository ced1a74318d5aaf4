//! `treering restore`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::json;
use treering_engine::Error;
use treering_engine::operations::restore::{RestoreOptions, RestoreReport, partial_file, restore};

use super::revision::{Named, Opened, open_named};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{duration, rate, size};

/// Write an image to a file or block device
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering restore vm1 /var/lib/libvirt/images/vm1-restored.img
  treering restore vm1@2026-11-20 /dev/vg0/vm1 --in-place --verify

Holes stay holes. A file gets exactly the image's size; a longer device keeps what lies behind. An interrupted
restore is continued with --in-place.")]
pub(crate) struct RestoreArgs {
    /// The revision; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revision: String,

    /// A file, new unless an option allows to change it, or a block device
    target: PathBuf,

    /// Compare with what is there and write only differences
    #[arg(long, conflicts_with = "overwrite")]
    in_place: bool,

    /// Replace what is there
    #[arg(long)]
    overwrite: bool,

    /// Read everything back and compare
    #[arg(long)]
    verify: bool,
}

pub(super) fn run(context: &Context<'_>, args: &RestoreArgs) -> CommandOutcome {
    let target = args.target.display();
    let during = |failure: Failure| failure.during(format_args!("restore {} to {target}", args.revision));
    let Opened { repository, named, image } = open_named(context, &args.revision, during)?;
    let monitor = context.ui.monitor()?;
    let options = RestoreOptions { in_place: args.in_place, overwrite: args.overwrite, verify: args.verify };
    let start = Instant::now();
    let report = restore(&image, &named.name(), &repository, &args.target, &options, &monitor)
        .map_err(|error| during(restore_failure(args, error)))?;
    drop(monitor);
    tell(context, args, &named, &report, start.elapsed().as_secs_f64())?;
    Ok(Code::Done)
}

/// What was written before a signal or an error is not lost.
fn restore_failure(args: &RestoreArgs, error: Error) -> Failure {
    let ranges_are_named = matches!(error, Error::Damaged { .. });
    let failure = Failure::from(error);
    if ranges_are_named {
        let rest = where_the_rest_is(&args.target, args.in_place);
        let hint = failure.hint.as_deref().unwrap_or_default();
        return Failure { hint: Some(format!("{rest}; {hint}")), ..failure };
    }
    if let Some(partial) = partial_file(&args.target).filter(|_| args.overwrite && args.target.exists()) {
        let anew = "is as it was, and the same command begins anew";
        let hint = format!("{} {anew}; {} is what it had written", args.target.display(), partial.display());
        return match failure.code {
            Code::Interrupted => failure.hint(hint),
            Code::Failed if failure.hint.is_none() => failure.hint(hint),
            _ => failure,
        };
    }
    match failure.code {
        Code::Interrupted => failure.hint("the same command with --in-place goes on where this one ended"),
        Code::Failed if failure.hint.is_none() => failure
            .hint("when the cause is gone, the same command with --in-place goes on where this one ended"),
        _ => failure,
    }
}

/// What a restore that came upon damage has left.
fn where_the_rest_is(target: &Path, in_place: bool) -> String {
    match partial_file(target).filter(|_| !(in_place && target.exists())) {
        Some(partial) => format!("all other bytes were restored to {}", partial.display()),
        None => format!(
            "all other bytes were restored; in these ranges {} still has what was there before",
            target.display()
        ),
    }
}

fn tell(
    context: &Context<'_>,
    args: &RestoreArgs,
    named: &Named,
    report: &RestoreReport,
    seconds: f64,
) -> Result<(), Failure> {
    if report.tail_bytes > 0 {
        log::warn!(
            "{} is longer than the image: its last {} ({} bytes) are left as they were",
            args.target.display(),
            size(report.tail_bytes),
            report.tail_bytes
        );
    }
    if context.ui.is_json() {
        return context.ui.print_json(&json!({
            "stream": named.stream.name,
            "id": named.record.id.to_string(),
            "name": named.record.name,
            "target": absolute(&args.target).display().to_string(),
            "size": report.size,
            "data_bytes": report.data_bytes,
            "bytes_written": report.bytes_written,
            "bytes_compared": report.bytes_compared,
            "bytes_verified": report.bytes_verified,
            "tail_bytes": report.tail_bytes,
            "seconds": seconds,
        }));
    }
    let verified = match args.verify {
        true => format!("  verified {}\n", size(report.bytes_verified)),
        false => String::new(),
    };
    context.ui.summary(&format!(
        "{} is restored to {}\n  size     {}, {} of it data\n  written  {}\n{verified}  took     {}, {}\n",
        named.name(),
        args.target.display(),
        size(report.size),
        size(report.data_bytes),
        size(report.bytes_written),
        duration(seconds),
        rate(report.bytes_written.max(report.bytes_compared), seconds),
    ))
}
