//! Stdout for results that may have no end: little is held, and a reader that takes nothing keeps no signal from ending us.

use std::io::{self, IsTerminal, Stdout};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, retry_on_intr, write};
use treering_engine::{Error, Monitor};

use crate::exit::Failure;

/// Bytes that are gathered before they are written.
const BUFFER_LEN: usize = 64 << 10;
/// Where writing may block: so many bytes a pipe takes at once when it takes any.
const PIPE_LEN: usize = 4096;
/// How soon a signal is noticed while nobody takes what was written.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// After so many of these in vain nobody is waiting for the end of what was cut off.
const LAST_ATTEMPTS: u32 = 5;

/// What is printed bit by bit.
pub(crate) struct Output<'a> {
    stdout: Stdout,
    buffer: Vec<u8>,
    monitor: &'a dyn Monitor,
    piece_len: usize,
    is_terminal: bool,
}

impl<'a> Output<'a> {
    /// Nothing is written yet. The monitor tells when to stop.
    pub(crate) fn new(monitor: &'a dyn Monitor) -> Self {
        let stdout = io::stdout();
        let is_file = |fd| fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
        let piece_len = if is_file(stdout.as_fd()) { BUFFER_LEN } else { PIPE_LEN };
        let is_terminal = stdout.is_terminal();
        Self { stdout, buffer: Vec::new(), monitor, piece_len, is_terminal }
    }

    /// Prints a whole line or more; on a terminal at once.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.buffer.extend_from_slice(text.as_bytes());
        if self.is_terminal || self.buffer.len() >= BUFFER_LEN {
            return self.flush();
        }
        Ok(())
    }

    /// Writes what was printed.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let monitor = self.monitor;
        self.write(&mut || if monitor.is_cancelled() { Err(Error::Cancelled.into()) } else { Ok(()) })
    }

    /// Writes what is left, and the end of what was cut off, unless nobody takes it.
    pub(super) fn flush_at_last(&mut self, end: &str) -> Result<(), Failure> {
        self.buffer.extend_from_slice(end.as_bytes());
        let mut attempts = 0;
        self.write(&mut || {
            attempts += 1;
            if attempts > LAST_ATTEMPTS { Err(Failure::output(&timed_out())) } else { Ok(()) }
        })
    }

    /// Writes all, and asks whether to go on whenever it takes long. What was written is not written again.
    fn write(&mut self, goes_on: &mut dyn FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
        let mut done = 0;
        let result = loop {
            let rest = self.buffer.get(done..).unwrap_or_default();
            match self.write_piece(rest.get(..self.piece_len).unwrap_or(rest)) {
                Ok(Some(0)) => break Ok(()),
                Ok(Some(length)) => done += length,
                Ok(None) => {
                    if let Err(failure) = goes_on() {
                        break Err(failure);
                    }
                }
                Err(error) => break Err(Failure::output(&error.into())),
            }
        };
        self.buffer.drain(..done.min(self.buffer.len()));
        result
    }

    /// Writes a piece, or a part of it; `None` if nobody takes anything for a while.
    fn write_piece(&self, piece: &[u8]) -> Result<Option<usize>, Errno> {
        if piece.is_empty() {
            return Ok(Some(0));
        }
        let mut asked = [PollFd::new(&self.stdout, PollFlags::OUT)];
        if retry_on_intr(|| poll(&mut asked, Some(&PATIENCE)))? == 0 {
            return Ok(None);
        }
        match write(&self.stdout, piece) {
            Err(Errno::INTR | Errno::AGAIN) => Ok(None),
            other => other.map(Some),
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")
}
