//! The one door to stderr: lines never tear a progress bar apart.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

use crate::cli::ColorChoice;

/// The bar that is being drawn.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    None,
    Bold,
    Red,
    Yellow,
}

impl Style {
    /// The text in this style.
    pub(super) fn paint(self, text: &str) -> String {
        let code = match self {
            Self::None => return text.to_owned(),
            Self::Bold => "1",
            Self::Red => "1;31",
            Self::Yellow => "1;33",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// This style where colours are wanted.
    pub(super) fn when(self, color: bool) -> Self {
        if color { self } else { Self::None }
    }
}

/// Whether to colour what goes to a terminal or not.
pub(super) fn wants_color(choice: ColorChoice, is_terminal: bool) -> bool {
    let asked_not_to = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !asked_not_to(),
    }
}

/// Sets the bar that is being drawn, or `None` when it is done.
pub(super) fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// Writes a line to stderr. When even that fails there is nothing left to do.
pub(super) fn say(line: &str) {
    let write = || {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    };
    match BAR.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes a question, behind which the answer is typed. No bar is drawn where one is asked.
pub(super) fn ask(question: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
}

/// Writes an error and the next step.
pub(super) fn say_error(message: &str, next_step: &str, color: bool) {
    say(error_text(message, next_step, color).trim_end());
}

/// An error and the next step, a line each.
pub(super) fn error_text(message: &str, next_step: &str, color: bool) -> String {
    let (error, hint) = (Style::Red.when(color).paint("error:"), Style::Bold.when(color).paint("hint:"));
    format!("treering: {error} {message}\n  {hint} {next_step}\n")
}

/// Writes what clap has to say about a command line.
pub(super) fn say_usage(text: &clap::builder::StyledStr, color: bool) {
    let text = if color { text.ansi().to_string() } else { text.to_string() };
    say(&format!("treering: {}", text.trim_end()));
}
