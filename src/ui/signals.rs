//! Signals: the first Ctrl-C asks an operation to stop, the second ends at once; where no operation looks out for it, the
//! first one does. Whichever it is, the process ends with 130, and not by the signal.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{retry_on_intr, write};
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::{self, pipe};

use crate::exit::{Code, Failure, nothing_half_done};

/// Whether an operation looks out for [`ASKED_TO_STOP`]. Where none does, the first signal ends the process.
static IS_HEEDED: AtomicBool = AtomicBool::new(false);

/// Whether a signal came that asks to stop.
static ASKED_TO_STOP: AtomicBool = AtomicBool::new(false);

/// Whether a [`SignalQueue`] takes the signals.
static IS_QUEUED: AtomicBool = AtomicBool::new(false);

/// What is said by a signal that ends the process, once it is known how this run speaks.
static FAREWELL: OnceLock<Farewell> = OnceLock::new();

/// What is said until then.
const FIRST_FAREWELL: &str = concat!("treering: error: interrupted\n  hint: ", nothing_half_done!(), "\n");

/// What is said by a signal that ends the process.
#[derive(Debug)]
pub(super) struct Farewell {
    pub(super) stderr: Vec<u8>,
    /// The JSON document, where one is wanted.
    pub(super) stdout: Vec<u8>,
    /// Whether another document was begun.
    stdout_is_told: AtomicBool,
}

impl Farewell {
    pub(super) fn new(stderr: String, stdout: String) -> Self {
        let (stderr, stdout) = (stderr.into_bytes(), stdout.into_bytes());
        Self { stderr, stdout, stdout_is_told: AtomicBool::new(false) }
    }

    /// From now on it is what is said.
    pub(super) fn set(self) {
        let _ = FAREWELL.set(self);
    }
}

/// From now on stdout has its document, or a part of it, and gets no other one.
pub(super) fn note_document() {
    if let Some(farewell) = FAREWELL.get() {
        farewell.stdout_is_told.store(true, Ordering::Relaxed);
    }
}

/// Begins to catch SIGINT and SIGTERM, and SIGHUP unless it is ignored, as by `nohup`: to be called once, before all that
/// takes time.
pub(crate) fn catch_signals() -> Result<(), Failure> {
    let caught = [SIGINT, SIGTERM].into_iter().try_for_each(catch);
    // A file that may not become longer is an error of the write then.
    let caught = caught.and_then(|()| flag::register(SIGXFSZ, Arc::default()).map(drop));
    let caught = caught.and_then(|()| if ignores_hang_up() { Ok(()) } else { catch(SIGHUP) });
    caught.map_err(|error| cannot_catch(&error))
}

#[expect(unsafe_code, reason = "no safe call says something before it ends the process")]
fn catch(signal: i32) -> io::Result<()> {
    // SAFETY: the action does only what a handler of signals may: it looks at atomics, writes, and ends the process.
    unsafe { low_level::register(signal, move || take(signal)) }.map(drop)
}

/// What a signal does. Called by its handler.
fn take(signal: i32) {
    if IS_QUEUED.load(Ordering::Relaxed) {
        return;
    }
    if !IS_HEEDED.load(Ordering::Relaxed) {
        say_farewell();
        low_level::exit(INTERRUPTED);
    }
    // The end of a terminal may be told twice, by the kernel and the shell: the second one ends nothing at once.
    if ASKED_TO_STOP.swap(true, Ordering::Relaxed) && signal != SIGHUP {
        low_level::exit(INTERRUPTED);
    }
}

const INTERRUPTED: i32 = 130;

fn say_farewell() {
    let Some(farewell) = FAREWELL.get() else {
        return write_at_once(rustix::stdio::stderr(), FIRST_FAREWELL.as_bytes());
    };
    write_at_once(rustix::stdio::stderr(), &farewell.stderr);
    if !farewell.stdout_is_told.load(Ordering::Relaxed) {
        write_at_once(rustix::stdio::stdout(), &farewell.stdout);
    }
}

/// Writes a short text, unless nobody takes it: that must not keep a signal from ending us.
fn write_at_once(to: BorrowedFd<'_>, text: &[u8]) {
    let mut asked = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    if poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
        let _ = write(to, text);
    }
}

/// Whether a signal came that asks to stop.
pub(super) fn is_asked_to_stop() -> bool {
    ASKED_TO_STOP.load(Ordering::Relaxed)
}

/// Lives as long as an operation looks out for signals: the first one asks it to stop, the second ends at once.
#[derive(Debug)]
pub(super) struct Heed(());

impl Heed {
    pub(super) fn new() -> Self {
        IS_HEEDED.store(true, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Heed {
    fn drop(&mut self) {
        IS_HEEDED.store(false, Ordering::Relaxed);
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
            IS_QUEUED.store(true, Ordering::Relaxed);
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
    let _ = low_level::emulate_default_handler(SIGPIPE);
    // Only reached where the signal could not be raised.
    Code::Other(128 + 13)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use signal_hook::consts::SIGUSR1;
    use signal_hook::low_level::raise;

    use treering_engine::Error;

    use super::super::terminal::error_text;
    use super::*;

    #[test]
    fn a_signal_says_the_same_wherever_it_comes() {
        let failure = Failure::from(Error::Cancelled);
        assert_eq!(FIRST_FAREWELL, error_text(&failure.message, failure.next_step(), false));
        assert_eq!(INTERRUPTED, i32::from(failure.code.number()));
    }

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
