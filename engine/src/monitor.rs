//! The one channel from the engine to whoever looks on: progress, warnings, and the wish to stop.
//!
//! An operation tells its [`Monitor`], and nobody else, what goes wrong without ending it. What serves many callers at
//! once and for as long as a mount lives (the index, listings of streams and labels), or runs behind an operation (the
//! merging of tables), has no monitor: that, and nothing else, uses `log`.

use std::sync::Mutex;

/// Is told what goes on, and asked whether to go on.
///
/// Called from several threads at once. No method may block for long: the hot paths call [`Monitor::advance`].
pub trait Monitor: Send + Sync {
    /// A piece of work begins: `total_bytes` is its size where that is known.
    fn begin(&self, task: &str, total_bytes: Option<u64>);

    /// `bytes` more of the current work are done.
    fn advance(&self, bytes: u64);

    /// Something is wrong that does not end the work.
    fn warn(&self, message: &str);

    /// Something that is not wrong, and that whoever looks on should know: what is waited for.
    fn note(&self, message: &str) {
        log::info!("{message}");
    }

    /// Whether the work should stop at the next good place.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// A user who has pressed Ctrl-C before anything began.
#[cfg(test)]
pub(crate) struct CancelledMonitor;

#[cfg(test)]
impl Monitor for CancelledMonitor {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, _message: &str) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

/// Discards everything.
#[derive(Debug, Default)]
pub struct SilentMonitor;

impl Monitor for SilentMonitor {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        log::warn!("{message}");
    }
}

/// Keeps the warnings, for tests and for callers that show them later.
#[derive(Debug, Default)]
pub struct CollectingMonitor {
    warnings: Mutex<Vec<String>>,
}

impl CollectingMonitor {
    /// The warnings so far, in the order in which they came.
    pub fn warnings(&self) -> Vec<String> {
        match self.warnings.lock() {
            Ok(warnings) => warnings.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }
}

impl Monitor for CollectingMonitor {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}
    fn advance(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        if let Ok(mut warnings) = self.warnings.lock() {
            warnings.push(message.to_owned());
        }
    }
}
