//! The process that serves a mount, in front or in the background.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::iterator::Signals;
use treering_fuse::{Detacher, MountError, MountOptions};

use super::mount::{MountArgs, ready_json};
use super::{Context, absolute};
use crate::exit::{Code, CommandOutcome, Failure, io_hint};
use crate::ui::{detach_log, mount_signals};

/// Where a mount is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Foreground,
    Background,
}

/// Mounts, says so, and serves until the mount is gone.
pub(super) fn serve(context: &Context<'_>, args: &MountArgs, place: Place) -> CommandOutcome {
    let during = |failure: Failure| failure.during(format_args!("mount on {}", args.mountpoint.display()));
    let repository = context.repository_with_cache(args.cache)?;
    for stream in &args.streams {
        repository.stream(stream).map_err(|error| during(error.into()))?;
    }
    let ready = ready_json(context, args)?;
    // Before the mount is there, so that no signal leaves it behind.
    let signals = mount_signals()?;
    let mountpoint = absolute(&args.mountpoint);
    let mount = treering_fuse::mount(&repository, &mountpoint, &options(args))
        .map_err(|error| during(error.into()))?;
    let detacher = mount.detacher();
    let aborted = Arc::new(AtomicBool::new(false));
    let aborts = Arc::clone(&aborted);
    std::thread::spawn(move || end_on_signals(signals, &detacher, &aborts));
    match place {
        Place::Background => leave_the_terminal(context, &ready)?,
        Place::Foreground => tell_in_front(context, args, &ready)?,
    }
    log::info!("the mount on {} answers", mountpoint.display());
    mount.wait().map_err(|error| during(error.into()))?;
    log::info!("the mount on {} has ended", mountpoint.display());
    Ok(if aborted.load(Ordering::SeqCst) { Code::Interrupted } else { Code::Done })
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
fn end_on_signals(mut signals: Signals, detacher: &Detacher, aborted: &AtomicBool) {
    let mut signals = signals.forever();
    if signals.next().is_some() {
        log::info!("the mount is taken off the tree; what is open is served until it is closed");
        if let Err(error) = detacher.detach() {
            log::error!("{error}");
        }
    }
    if signals.next().is_some() {
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
    let cannot = |error: std::io::Error| Failure::new(format!("cannot go to the background: {error}"));
    rustix::process::setsid().map_err(|error| cannot(error.into()))?;
    // No directory may be kept from being unmounted by a process that has no use for it.
    rustix::process::chdir("/").map_err(|error| cannot(error.into()))?;
    let nowhere = File::options().read(true).write(true).open("/dev/null").map_err(cannot)?;
    detach_log();
    context.ui.print_json(ready)?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| cannot(error.into()))?;
    rustix::stdio::dup2_stderr(&nowhere).map_err(|error| cannot(error.into()))?;
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
