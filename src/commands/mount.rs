//! `treering mount`: in front, or by a process in the background that says when the mount answers.

use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use clap::Args;
use serde_json::{Value, json};
use treering_fuse::Owner;

use super::serve::{Place, serve};
use super::{Context, absolute};
use crate::cli::SERVE;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::parse_size;

/// More threads than this only cost memory.
const MAX_THREADS: usize = 256;

/// Serve the repository read-only: every revision is a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering mount /mnt
  cp --sparse=auto /mnt/vm1/latest.img vm1-restored.img
  losetup --read-only --partscan --find --show /mnt/vm1/2026-11-20T10-13-20Z.img
  treering unmount /mnt

Returns when the mount answers, and stays in the background. `treering unmount`, SIGINT and SIGTERM take it off the
tree and serve what is open until it is closed; a second signal ends it at once.")]
pub(crate) struct MountArgs {
    /// An empty directory
    pub(super) mountpoint: PathBuf,

    /// Only these streams
    #[arg(value_name = "STREAM")]
    pub(super) streams: Vec<String>,

    /// Stay in front, log to stderr
    #[arg(short, long)]
    foreground: bool,

    /// Let other users in, as modes and owners allow
    #[arg(long)]
    pub(super) allow_other: bool,

    /// Who owns the files [default: the mounting user]
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    pub(super) owner: Option<Owner>,

    /// Memory for decoded chunks
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    pub(super) cache: u64,

    /// Threads that answer the kernel [default: by the number of processors]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub(super) threads: Option<NonZeroUsize>,
}

fn parse_owner(text: &str) -> Result<Owner, String> {
    let ids = text.split_once(':');
    let owner = ids.and_then(|(uid, gid)| Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? }));
    owner.ok_or_else(|| format!("'{text}' is not of the form UID:GID, such as 1000:1000"))
}

fn parse_threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().ok().filter(|threads: &NonZeroUsize| threads.get() <= MAX_THREADS);
    threads.ok_or_else(|| format!("'{text}' is not a number from 1 to {MAX_THREADS}"))
}

pub(super) fn run(context: &Context<'_>, args: &MountArgs) -> CommandOutcome {
    match (context.cli.serve, args.foreground) {
        (true, _) => serve(context, args, Place::Background),
        (false, true) => serve(context, args, Place::Foreground),
        (false, false) => start_in_background(context, args),
    }
}

/// Starts a process that serves, and waits until it says that the mount answers, or why not.
fn start_in_background(context: &Context<'_>, args: &MountArgs) -> CommandOutcome {
    let cannot = |error: std::io::Error| {
        Failure::new(format!("cannot start the mount's process: {error}"))
            .hint("with --foreground there is none")
    };
    let mut child = server_command().map_err(cannot)?.spawn().map_err(cannot)?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(cannot)?;
    }
    let said: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    if said.get("mountpoint").is_none() {
        return after_failure(context, &mut child, &said);
    }
    match context.ui.is_json() {
        true => context.ui.print_json(&said)?,
        false => context.ui.summary(&format!(
            "{} is mounted on {}\n",
            context.repository_path()?.display(),
            args.mountpoint.display()
        ))?,
    }
    Ok(Code::Done)
}

/// This program with the same arguments, to serve. It says on stderr what is wrong, and on stdout what happened.
fn server_command() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).args(std::env::args_os().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

fn after_failure(context: &Context<'_>, child: &mut Child, said: &Value) -> CommandOutcome {
    let status = child.wait().map_err(|error| Failure::new(format!("cannot wait for the mount: {error}")))?;
    let failed = || {
        Failure::new(format!("cannot mount: the mount's process ended early ({status})"))
            .hint("run it with --foreground --verbose to see why")
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
    match (said.get("error"), code) {
        // It has told the user.
        (Some(_), Some(code)) => {
            if context.ui.is_json() {
                context.ui.print_json(said)?;
            }
            Ok(Code::Other(code))
        }
        _ => Err(failed()),
    }
}

/// What is printed when the mount answers.
pub(super) fn ready_json(context: &Context<'_>, args: &MountArgs) -> Result<Value, Failure> {
    Ok(json!({
        "mountpoint": absolute(&args.mountpoint).display().to_string(),
        "repository": absolute(context.repository_path()?).display().to_string(),
        "process": std::process::id(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!(parse_owner("1000:100"), Ok(Owner { uid: 1000, gid: 100 }));
        for text in ["", "1000", "1000:", "root:root", "1:2:3", "-1:0"] {
            assert!(parse_owner(text).is_err(), "{text}");
        }
    }
}
