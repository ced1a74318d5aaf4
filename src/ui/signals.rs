//! Signals: the first Ctrl-C asks to stop, the second ends at once.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::exit::{Code, Failure};

/// The flag that SIGINT and SIGTERM set.
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
        Ok(())
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
    /// Begins to catch what ends a process on a terminal, the end of the terminal included.
    pub(crate) fn of_terminal() -> Result<Self, Failure> {
        Self::of(&[SIGINT, SIGTERM, SIGHUP])
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

/// Sets a flag whenever SIGHUP comes, which has no other effect then.
pub(super) fn flag_hang_up(flag: &Arc<AtomicBool>) -> Result<(), Failure> {
    flag::register(SIGHUP, Arc::clone(flag)).map(drop).map_err(|error| cannot_catch(&error))
}

fn cannot_catch(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot catch signals: {error}"))
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
}
