//! `treering unmount`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure};

/// End a mount
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering unmount /mnt

What is still open, also by a loop device, is served until it is closed.")]
pub(crate) struct UnmountArgs {
    /// Where the repository is mounted
    mountpoint: PathBuf,
}

pub(super) fn run(context: &Context<'_>, args: &UnmountArgs) -> CommandOutcome {
    let mountpoint = absolute(&args.mountpoint);
    treering_fuse::unmount(&mountpoint).map_err(|error| {
        Failure::from(error).during(format_args!("unmount {}", args.mountpoint.display()))
    })?;
    match context.ui.is_json() {
        true => context.ui.print_json(&json!({ "mountpoint": mountpoint.display().to_string() }))?,
        false => context.ui.summary(&format!("{} is unmounted\n", args.mountpoint.display()))?,
    }
    Ok(Code::Done)
}
