//! Signals: the first Ctrl-C asks to stop, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

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

/// Catches the signals that end a mount; each is an item of the iterator.
pub(crate) fn mount_signals() -> Result<Signals, Failure> {
    Signals::new([SIGINT, SIGTERM]).map_err(|error| cannot_catch(&error))
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
