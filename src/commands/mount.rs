//! `treering mount`: in front, or by a process in the background that says when the mount answers.

use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use treering_engine::Error;
use treering_fuse::Owner;

use super::serve::{Place, serve};
use super::{Context, absolute};
use crate::cli::SERVE;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{SignalQueue, parse_size};

/// More threads than this only cost memory.
const MAX_THREADS: usize = 32;

/// Serve the repository read-only: every revision is a file
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering mount /mnt
  cp --sparse=auto /mnt/vm1/latest.img vm1-restored.img
  losetup --read-only --partscan --find --show /mnt/vm1/2026-11-20T10-13-20Z.img
  cp --archive /mnt/home/latest/alice/thesis thesis-as-it-was
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

    /// Who owns images and the mount's own directories [default: the mounting user]
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
    // Before the child is there, so that no signal leaves it behind.
    let mut signals = SignalQueue::of_terminal()?;
    keep_open_files_from_children().map_err(cannot)?;
    let mut child = server_command().map_err(cannot)?.spawn().map_err(cannot)?;
    let mut output = child.stdout.take();
    let Some(line) = listen(output.as_mut(), &signals).map_err(cannot)? else {
        end(&mut child, &mut signals).map_err(cannot)?;
        return Err(Error::Cancelled.into());
    };
    let said: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
    if said.get("mountpoint").is_none() {
        return after_failure(context, &mut child, &said);
    }
    let told = match context.ui.is_json() {
        true => context.ui.print_json(&said),
        false => context.ui.summary(&format!(
            "{} is mounted on {}\n",
            context.repository_path()?.display(),
            args.mountpoint.display()
        )),
    };
    let is_mounted =
        || format!("it is mounted all the same: `treering unmount {}`", args.mountpoint.display());
    told.map_err(|failure| failure.hint(is_mounted()))?;
    Ok(Code::Done)
}

/// This program with the same arguments, to serve. It says on stderr what is wrong, and on stdout what happened.
fn server_command() -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVE).args(std::env::args_os().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Keeps from children what this process was started with besides its standard streams, such as the lock of a script:
/// a mount in the background would hold it to its end.
#[expect(unsafe_code, reason = "what was inherited is known only by its number")]
fn keep_open_files_from_children() -> std::io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: it was listed as open, and there is no other thread yet that could close it.
            let inherited = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
        }
    }
    Ok(())
}

/// The line that the child says when it answers or has failed; `None` if a signal came meanwhile.
fn listen(output: Option<&mut ChildStdout>, signals: &SignalQueue) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let Some(output) = output else { return Ok(Some(line)) };
    let mut asked = [PollFd::new(&*output, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
    retry_on_intr(|| poll(&mut asked, None))?;
    if signals.is_pending()? {
        return Ok(None);
    }
    BufReader::new(output).read_line(&mut line)?;
    // Asked once more: it may be a signal that has ended the child.
    Ok(if signals.is_pending()? { None } else { Some(line) })
}

/// Tells the child to end, once for each signal, until it has ended. What it has mounted is gone then.
fn end(child: &mut Child, signals: &mut SignalQueue) -> std::io::Result<()> {
    const PATIENCE: Duration = Duration::from_millis(50);
    while child.try_wait()?.is_none() {
        if signals.wait_for(PATIENCE)? {
            kill_process(Pid::from_child(child), Signal::TERM)?;
        }
    }
    Ok(())
}

fn after_failure(context: &Context<'_>, child: &mut Child, said: &Value) -> CommandOutcome {
    let status = child.wait().map_err(|error| Failure::io("wait for the mount", &error))?;
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
