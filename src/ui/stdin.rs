//! Standard input that a signal can stop, also while nothing comes.

use std::io::{self, Read, Stdin};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signals::Interrupts;

/// How soon a signal is noticed while nothing comes.
const PATIENCE: Duration = Duration::from_millis(200);

/// Standard input as the source of a backup.
pub(crate) struct InterruptibleStdin {
    stdin: Stdin,
    interrupts: Interrupts,
}

impl InterruptibleStdin {
    /// Reads the process's standard input until a signal comes.
    pub(crate) fn new(interrupts: Interrupts) -> Self {
        Self { stdin: io::stdin(), interrupts }
    }

    fn go_on(&self) -> io::Result<()> {
        match self.interrupts.is_set() {
            true => Err(io::Error::other("interrupted")),
            false => Ok(()),
        }
    }

    fn wait_for_input(&self) -> io::Result<()> {
        let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        loop {
            self.go_on()?;
            let mut waited = [PollFd::new(&self.stdin, PollFlags::IN)];
            match poll(&mut waited, Some(&patience)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for InterruptibleStdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_input()?;
        // Past the buffer of `Stdin`, which would hide bytes from the next poll.
        let length = rustix::io::read(&self.stdin, &mut *buffer)?;
        if length == 0 {
            // A producer that died of the same Ctrl-C looks like the end of the data: never take it for that.
            self.go_on()?;
        }
        Ok(length)
    }
}
