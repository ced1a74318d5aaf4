//! What an operation of the engine tells while it runs, on the terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use treering_engine::Monitor;

use super::logger;
use super::signals::{Heed, is_asked_to_stop};
use super::terminal::{say, set_bar};

const BAR: &str = "{msg} [{wide_bar}] {percent:>3}% {binary_bytes} of {binary_total_bytes}, \
    {binary_bytes_per_sec}, {eta} left";
const COUNTER: &str = "{msg} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}";
/// Drawn often enough to look alive, and rarely enough to cost nothing.
const DRAWS_PER_SECOND: u8 = 8;
/// How often the time that is left is counted down while nothing else happens.
const TICK: Duration = Duration::from_millis(250);

/// Draws a progress bar where one is wanted, and hands warnings to the log.
pub(crate) struct TerminalMonitor {
    bar: ProgressBar,
    draws: bool,
    _heed: Heed,
}

impl TerminalMonitor {
    /// The bar is hidden until there is something to show.
    pub(super) fn new(draws: bool) -> Self {
        let bar = ProgressBar::hidden();
        if draws {
            set_bar(Some(bar.clone()));
        }
        Self { bar, draws, _heed: Heed::new() }
    }
}

impl Monitor for TerminalMonitor {
    fn begin(&self, task: &str, total_bytes: Option<u64>) {
        log::info!("{task}");
        if !self.draws {
            return;
        }
        let template = if total_bytes.is_some() { BAR } else { COUNTER };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_message(task.to_owned());
        match total_bytes {
            Some(total) => self.bar.set_length(total),
            None => self.bar.unset_length(),
        }
        self.bar.reset();
        if self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
            self.bar.enable_steady_tick(TICK);
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn warn(&self, message: &str) {
        log::warn!("{message}");
    }

    fn is_cancelled(&self) -> bool {
        is_asked_to_stop()
    }
}

/// Tells what a repository is waited for, on the terminal and in the log file.
pub(crate) struct WaitMonitor {
    is_quiet: bool,
}

impl WaitMonitor {
    pub(super) fn new(is_quiet: bool) -> Self {
        Self { is_quiet }
    }
}

impl Monitor for WaitMonitor {
    fn begin(&self, _task: &str, _total_bytes: Option<u64>) {}

    fn advance(&self, _bytes: u64) {}

    fn warn(&self, message: &str) {
        log::warn!("{message}");
    }

    fn note(&self, message: &str) {
        logger::to_file_only(log::Level::Info, message);
        if !self.is_quiet {
            say(&format!("treering: {message}"));
        }
    }

    fn is_cancelled(&self) -> bool {
        is_asked_to_stop()
    }
}

impl Drop for TerminalMonitor {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        set_bar(None);
    }
}
