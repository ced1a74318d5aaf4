//! The process that serves a mount, in front or in the background.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use treering_fuse::{Detacher, MountError, MountOptions};

use super::mount::{MountArgs, ready_json};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure, io_hint};
use crate::ui::{SignalQueue, detach_log, reopen_log_on_hang_up};

/// Where a mount is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Foreground,
    Background,
}

/// Mounts, says so, and serves until the mount is gone.
pub(super) fn serve(context: &Context<'_>, args: &MountArgs, place: Place) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("mount on {}", args.mountpoint.display()));
    raise_open_file_limit();
    let repository = context.repository_with_cache(args.cache)?;
    for stream in &args.streams {
        repository.stream(stream).map_err(|error| during(error.into()))?;
    }
    let ready = ready_json(context, args)?;
    // Before the mount is there, so that no signal leaves it behind.
    let signals = catch_signals(place)?;
    let mountpoint = absolute(&args.mountpoint);
    let mount = treering_fuse::mount(&repository, &mountpoint, &options(args))
        .map_err(|error| during(error.into()))?;
    let detacher = mount.detacher();
    let aborted = Arc::new(AtomicBool::new(false));
    let aborts = Arc::clone(&aborted);
    let end = move || end_on_signals(signals, &detacher, &aborts);
    std::thread::Builder::new().name("treering-signals".to_owned()).spawn(end).map_err(cannot_serve)?;
    match place {
        Place::Background => leave_the_terminal(context, &ready)?,
        Place::Foreground => tell_in_front(context, args, &ready)?,
    }
    log::info!("the mount on {} answers", mountpoint.display());
    mount.wait().map_err(|error| during(error.into()))?;
    log::info!("the mount on {} has ended", mountpoint.display());
    Ok(if aborted.load(Ordering::SeqCst) { Code::Interrupted } else { Code::Done })
}

/// Begins to catch the signals that end the mount. In the background Ctrl-C and the end of the terminal are for the
/// process that waits for this one, and SIGHUP is what it is to a service.
fn catch_signals(place: Place) -> Result<SignalQueue, Failure> {
    match place {
        Place::Foreground => SignalQueue::of_terminal(),
        Place::Background => {
            rustix::process::setsid().map_err(cannot_serve)?;
            reopen_log_on_hang_up()?;
            SignalQueue::of_background()
        }
    }
}

/// Lets the process open as many files as it may: each open revision takes some.
fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("cannot raise the limit of open files: {error}");
    }
}

fn cannot_serve(error: impl Into<std::io::Error>) -> Failure {
    Failure::new(format!("cannot serve the mount: {}", error.into()))
}

fn options(args: &MountArgs) -> MountOptions {
    MountOptions {
        streams: args.streams.clone(),
        allow_other: args.allow_other,
        owner: args.owner,
        threads: args.threads,
    }
}

/// The first signal takes the mount off the tree and lets it serve what is open; the second ends it.
fn end_on_signals(mut signals: SignalQueue, detacher: &Detacher, aborted: &AtomicBool) {
    if signals.wait().is_ok() {
        log::info!("the mount is taken off the tree; what is open is served until it is closed");
        if let Err(error) = detacher.detach() {
            log::error!("{error}");
        }
    }
    if signals.wait().is_ok() {
        log::warn!("the mount is ended at once");
        aborted.store(true, Ordering::SeqCst);
        detacher.abort();
    }
}

fn tell_in_front(context: &Context<'_>, args: &MountArgs, ready: &serde_json::Value) -> Result<(), Failure> {
    if context.ui.is_json() {
        return context.ui.print_json(ready);
    }
    context.ui.note(&format!(
        "treering: {} is mounted on {}; Ctrl-C or `treering unmount {2}` ends it",
        context.repository_path()?.display(),
        args.mountpoint.display(),
        args.mountpoint.display(),
    ));
    Ok(())
}

/// Lets go of everything that ties the process to where it was started, and says that the mount answers.
fn leave_the_terminal(context: &Context<'_>, ready: &serde_json::Value) -> Result<(), Failure> {
    // No directory may be kept from being unmounted by a process that has no use for it.
    rustix::process::chdir("/").map_err(cannot_serve)?;
    let nowhere = File::options().read(true).write(true).open("/dev/null").map_err(cannot_serve)?;
    detach_log();
    context.ui.print_json(ready)?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(cannot_serve)?;
    rustix::stdio::dup2_stderr(&nowhere).map_err(cannot_serve)?;
    Ok(())
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let hint = match &error {
            MountError::Io { source, .. } => io_hint(source),
            error => error.hint(),
        };
        let failure = match error {
            MountError::Repository(error) => return error.into(),
            error => Self::new(error.to_string()),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
