//! Signals: the first Ctrl-C asks to stop, the second ends at once.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::exit::{Code, Failure};

/// The flag that SIGINT and SIGTERM set, and SIGHUP unless it is ignored, as by `nohup`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupts {
    flag: Arc<AtomicBool>,
    installed: Arc<AtomicBool>,
}

impl Interrupts {
    /// Begins to catch the signals.
    pub(super) fn install(&self) -> Result<(), Failure> {
        // Twice would be wrong: the first signal would then count as the second, too.
        if self.installed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let code = i32::from(Code::Interrupted.number());
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal finds the flag unset and sets it, the second finds it set.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&self.flag))
                .and_then(|_| flag::register(signal, Arc::clone(&self.flag)))
                .map_err(|error| cannot_catch(&error))?;
        }
        // A file that may not become longer is an error of the write then.
        flag::register(SIGXFSZ, Arc::default()).map_err(|error| cannot_catch(&error))?;
        // The end of a terminal may be told twice, by the kernel and the shell: the second one ends nothing at once.
        match ignores_hang_up() {
            true => Ok(()),
            false => flag_hang_up(&self.flag),
        }
    }

    /// Whether a signal came.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// Signals to be waited for, one by one. Each counts, also of two that come at once.
#[derive(Debug)]
pub(crate) struct SignalQueue(UnixStream);

impl SignalQueue {
    /// Begins to catch what ends a process on a terminal, the end of the terminal included unless it is ignored, as by
    /// `nohup`. SIGINT, which shells have ignored by what a script runs in the background, is for who sends it to this
    /// process alone to mean.
    pub(crate) fn of_terminal() -> Result<Self, Failure> {
        match ignores_hang_up() {
            true => Self::of(&[SIGINT, SIGTERM]),
            false => Self::of(&[SIGINT, SIGTERM, SIGHUP]),
        }
    }

    /// Begins to catch what ends a process in the background.
    pub(crate) fn of_background() -> Result<Self, Failure> {
        Self::of(&[SIGINT, SIGTERM])
    }

    fn of(signals: &[i32]) -> Result<Self, Failure> {
        let caught = UnixStream::pair().and_then(|(queue, end)| {
            for &signal in signals {
                pipe::register(signal, end.try_clone()?)?;
            }
            Ok(Self(queue))
        });
        caught.map_err(|error| cannot_catch(&error))
    }

    /// Waits for the next signal.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.0.set_read_timeout(None)?;
        self.0.read_exact(&mut [0])
    }

    /// Whether a signal has come that was not waited for.
    pub(crate) fn is_pending(&self) -> io::Result<bool> {
        let mut asked = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut asked, Some(&Timespec::default())))? > 0)
    }

    /// Waits so long for the next signal; says whether it came.
    pub(crate) fn wait_for(&mut self, patience: Duration) -> io::Result<bool> {
        self.0.set_read_timeout(Some(patience))?;
        match self.0.read_exact(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    is_ignored(SIGHUP, &status)
}

/// Whether a process of this `/proc/PID/status` ignores a signal.
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    (mask >> (signal - 1)) & 1 == 1
}

/// Sets a flag whenever SIGHUP comes, which has no other effect then.
pub(super) fn flag_hang_up(flag: &Arc<AtomicBool>) -> Result<(), Failure> {
    flag::register(SIGHUP, Arc::clone(flag)).map(drop).map_err(|error| cannot_catch(&error))
}

fn cannot_catch(error: &std::io::Error) -> Failure {
    Failure::io("catch signals", error)
}

/// Ends as a program does that writes into a pipe whose reader has gone: by the signal, without a word.
pub(super) fn end_by_broken_pipe() -> Code {
    let _ = signal_hook::low_level::emulate_default_handler(SIGPIPE);
    // Only reached where the signal could not be raised.
    Code::Other(128 + 13)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use signal_hook::consts::SIGUSR1;
    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn each_of_several_signals_counts() {
        let mut signals = SignalQueue::of(&[SIGUSR1]).unwrap();
        assert!(!signals.is_pending().unwrap());
        (0..2).for_each(|_| raise(SIGUSR1).unwrap());
        assert!(signals.is_pending().unwrap());
        signals.wait().unwrap();
        assert!(signals.wait_for(Duration::from_secs(30)).unwrap());
        assert!(!signals.wait_for(Duration::from_millis(1)).unwrap());
    }

    #[test]
    fn what_a_process_ignores_is_told_by_its_status() {
        let nohup =
            "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(SIGHUP, nohup) && is_ignored(SIGPIPE, nohup));
        assert!(!is_ignored(SIGINT, nohup) && !is_ignored(SIGTERM, nohup));
        assert!(!is_ignored(SIGHUP, "") && !is_ignored(SIGHUP, "SigIgn:\tx"));
    }
}
