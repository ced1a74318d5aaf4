//! `treering restore`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::json;
use treering_engine::operations::restore::{RestoreOptions, RestoreReport, partial_file, restore};
use treering_engine::{Content, Error};

use super::revision::{Named, Opened, open_named};
use super::{Context, absolute, restore_trees};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{duration, rate, size};

/// Write an image to a file or block device, or a tree to a directory
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering restore vm1 /var/lib/libvirt/images/vm1-restored.img
  treering restore vm1@2026-11-20 /dev/vg0/vm1 --in-place --verify
  treering restore home /srv/home-restored
  treering restore home /srv/home --in-place --delete
  treering restore home@1 ./letter.txt --path alice/letter.txt

An interrupted restore is continued with --in-place.

Images: holes stay holes. A file gets exactly the image's size; a longer device keeps what lies behind.

Trees: TARGET is a directory that is new or empty. In one that is not, --in-place reads what is there and writes only
what differs; --overwrite writes all that the revision has, whatever is there. Both leave other entries alone unless
--delete is given, which removes them, but nothing on other file systems or subvolumes below TARGET, and nothing from
directories of which the backup left something out. A directory in the way of something else goes if it is empty, or with
--delete. --path P puts what P is at TARGET: a file as the file
TARGET, the content of a directory into the directory TARGET. No symbolic link in or at TARGET is followed.

Owners are looked up by name, and keep their number where the name is not known here. Who is not root gets what he may
have: owners, device nodes and privileged attributes that can't be set are counted in a warning, and the exit code stays
0. What else could not be restored is named, and ends with 1. A file of which parts are damaged in the repository is not
put under its name, but what could be read of it as NAME.treering-damaged; it is named, and the exit code is 4.")]
pub(crate) struct RestoreArgs {
    /// The revision; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    pub(super) revision: String,

    /// A file, new unless an option allows to change it, or a block device; for a tree a directory
    pub(super) target: PathBuf,

    /// Restore only this part of a tree
    #[arg(long, value_name = "P")]
    pub(super) path: Option<OsString>,

    /// Compare with what is there and write only differences
    #[arg(long, conflicts_with = "overwrite")]
    pub(super) in_place: bool,

    /// Replace what is there
    #[arg(long)]
    pub(super) overwrite: bool,

    /// Remove what the tree does not have; with --in-place or --overwrite
    #[arg(long)]
    pub(super) delete: bool,

    /// Keep the numbers of users and groups, whoever has their names here
    #[arg(long)]
    pub(super) numeric_owner: bool,

    /// Read everything back and compare
    #[arg(long)]
    pub(super) verify: bool,
}

pub(super) fn run(context: &Context<'_>, args: &RestoreArgs) -> CommandOutcome {
    if args.target.as_os_str() == "-" {
        return Err(Failure::usage("TARGET is a file, a device or a directory, and - is not stdout here")
            .hint("`treering dump` writes to stdout; ./- is a file of that name"));
    }
    let target = args.target.display();
    let during = |failure: Failure| failure.during(format_args!("restore {} to {target}", args.revision));
    let opened = open_named(context, &args.revision, during)?;
    match opened.named.record.content {
        Content::Image(_) => restore_image(context, args, &opened, during),
        Content::Tree(_) => restore_trees::run(context, args, &opened, during),
    }
}

fn restore_image(
    context: &Context<'_>,
    args: &RestoreArgs,
    opened: &Opened,
    during: impl Fn(Failure) -> Failure,
) -> CommandOutcome {
    refuse_tree_options(args)?;
    let Opened { repository, named } = opened;
    let image = repository.open_image(&named.record).map_err(|error| during(error.into()))?;
    let monitor = context.ui.monitor();
    let options = RestoreOptions { in_place: args.in_place, overwrite: args.overwrite, verify: args.verify };
    let start = Instant::now();
    let report = restore(&image, &named.name(), repository, &args.target, &options, &monitor)
        .map_err(|error| during(restore_failure(args, error)))?;
    drop(monitor);
    tell(context, args, named, &report, start.elapsed().as_secs_f64())?;
    Ok(Code::Done)
}

/// An option that would do nothing is a mistake.
fn refuse_tree_options(args: &RestoreArgs) -> Result<(), Failure> {
    let given =
        [("--path", args.path.is_some()), ("--delete", args.delete), ("--numeric-owner", args.numeric_owner)];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} is for trees, and {} is an image", args.revision))
                .hint("leave it out"))
        }
        None => Ok(()),
    }
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
    to_be_continued(args, failure)
}

/// Says how to go on after what ended a restore.
pub(super) fn to_be_continued(args: &RestoreArgs, failure: Failure) -> Failure {
    let again = args.again_in_place();
    match failure.code {
        Code::Interrupted => failure.hint(format!("{again} goes on where this one ended")),
        Code::Failed if failure.hint.is_none() => {
            failure.hint(format!("when the cause is gone, {again} goes on where this one ended"))
        }
        _ => failure,
    }
}

impl RestoreArgs {
    /// What goes on with what a run of this command has begun, or mends what it could not do.
    pub(super) fn again_in_place(&self) -> &'static str {
        match (self.in_place, self.overwrite) {
            (true, _) => "the same command",
            (false, true) => "the same command with --in-place instead of --overwrite",
            (false, false) => "the same command with --in-place",
        }
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
