//! Everything that a person or a script sees: results on stdout, all else on stderr.

mod closed;
mod escape;
mod json_stream;
mod logger;
mod output;
mod progress;
mod signals;
mod size;
mod syslog;
mod table;
mod terminal;
mod time;

pub(crate) use closed::stdout_was_closed;
pub(crate) use escape::escaped;
pub(crate) use json_stream::JsonStream;
pub(crate) use logger::{detach_log, reopen_log_on_hang_up};
pub(crate) use output::Output;
pub(crate) use progress::{TerminalMonitor, WaitMonitor};
pub(crate) use signals::{SignalQueue, catch_signals};
pub(crate) use size::{count, parse_size, rate, size};
pub(crate) use table::{Align, Table};
pub(crate) use time::{age, duration};

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use clap::error::ErrorKind;
use serde::Serialize;
use treering_engine::Error;

use crate::cli::{Cli, CommandResult, EarlyFlags};
use crate::exit::{Code, CommandOutcome, Failure};
use signals::Farewell;
use terminal::{Style, wants_color};

/// How a JSON document is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JsonLayout {
    /// For scripts and people.
    Indented,
    /// For the process that has started this one.
    Line,
}

impl JsonLayout {
    fn of(cli: &Cli) -> Option<Self> {
        let wanted = cli.global.json && cli.command.result() == CommandResult::Report;
        match (cli.serve, wanted) {
            (true, _) => Some(Self::Line),
            (false, true) => Some(Self::Indented),
            (false, false) => None,
        }
    }

    fn render(self, document: &impl Serialize) -> Result<String, Failure> {
        let text = match self {
            Self::Indented => serde_json::to_string_pretty(document),
            Self::Line => serde_json::to_string(document),
        };
        text.map(|text| text + "\n").map_err(|error| Failure::new(format!("cannot write JSON: {error}")))
    }
}

/// How this run speaks.
#[derive(Debug)]
pub(crate) struct Ui {
    quiet: bool,
    json: Option<JsonLayout>,
    /// Whether the one JSON document was printed.
    json_is_told: Cell<bool>,
    progress: bool,
    stdout_color: bool,
    stderr_color: bool,
}

impl Ui {
    /// Sets up what is logged, and what is said by a signal, as the options say.
    pub(crate) fn new(cli: &Cli) -> Result<Self, Failure> {
        let options = &cli.global;
        let stderr_color = wants_color(options.color, std::io::stderr().is_terminal());
        farewell(cli, stderr_color)?.set();
        logger::start(options, stderr_color)?;
        Ok(Self {
            quiet: options.quiet,
            json: JsonLayout::of(cli),
            json_is_told: Cell::new(false),
            progress: !options.no_progress && !options.quiet && std::io::stderr().is_terminal(),
            stdout_color: wants_color(options.color, std::io::stdout().is_terminal()),
            stderr_color,
        })
    }

    /// Speaks when nothing could be set up.
    pub(crate) fn plain(cli: &Cli, early: &EarlyFlags) -> Self {
        Self {
            quiet: false,
            json: JsonLayout::of(cli),
            json_is_told: Cell::new(false),
            progress: false,
            stdout_color: wants_color(early.color, std::io::stdout().is_terminal()),
            stderr_color: wants_color(early.color, std::io::stderr().is_terminal()),
        }
    }

    /// Whether the result is to be a JSON document.
    pub(crate) fn is_json(&self) -> bool {
        self.json.is_some()
    }

    /// Where an operation of the engine tells what it does. As long as it lives Ctrl-C stops that at a good place.
    pub(crate) fn monitor(&self) -> TerminalMonitor {
        TerminalMonitor::new(self.progress)
    }

    /// Who is told what a repository is waited for. Ctrl-C ends the wait as well.
    pub(crate) fn wait_monitor(&self) -> WaitMonitor {
        WaitMonitor::new(self.quiet)
    }

    /// Prints the one JSON document of the command.
    pub(crate) fn print_json(&self, document: &impl Serialize) -> Result<(), Failure> {
        let text = self.json.unwrap_or(JsonLayout::Indented).render(document)?;
        self.note_document();
        self.print(&text)
    }

    /// From now on no other JSON document is printed.
    fn note_document(&self) {
        self.json_is_told.set(true);
        signals::note_document();
    }

    /// Whether a failure has to be told as a JSON document. Not if it comes after the one that there may be, as when a
    /// mount in front fails after it has answered.
    fn owes_json(&self) -> bool {
        self.is_json() && !self.json_is_told.get()
    }

    /// Prints a result that was asked for.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        print_bytes(text.as_bytes())
    }

    /// Prints a summary that `--quiet` leaves out.
    pub(crate) fn summary(&self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.print(text) }
    }

    /// Prints a result if it was asked for, as by a dry run, and else a summary that `--quiet` leaves out.
    pub(crate) fn result_or_summary(&self, is_asked_for: bool, text: &str) -> Result<(), Failure> {
        if is_asked_for { self.print(text) } else { self.summary(text) }
    }

    /// Prints a table on stdout, its heading highlighted on a terminal.
    pub(crate) fn print_table(&self, table: &Table) -> Result<(), Failure> {
        self.print(&self.rendered(table))
    }

    /// A table as it is to be printed on stdout.
    pub(crate) fn rendered(&self, table: &Table) -> String {
        table.render(if self.stdout_color { Style::Bold } else { Style::None })
    }

    /// The heading of columns, highlighted on a terminal.
    pub(crate) fn heading(&self, text: &str) -> String {
        Style::Bold.when(self.stdout_color).paint(text)
    }

    /// Says something on stderr that is no result.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            terminal::say(text);
        }
    }

    /// Asks whoever sits at the terminal, and returns the line that is answered; `None` where nobody can be asked.
    pub(crate) fn ask(&self, question: &str) -> Result<Option<String>, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        terminal::ask(question);
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(|error| Failure::io("read the answer", &error))?;
        Ok(Some(answer.trim().to_owned()))
    }

    /// Tells how the command ended.
    pub(crate) fn finish(&self, outcome: CommandOutcome) -> Code {
        let failure = match outcome {
            Ok(code) => return code,
            Err(failure) => failure,
        };
        if failure.is_broken_pipe {
            return signals::end_by_broken_pipe();
        }
        self.say_failure(&failure);
        failure.code
    }

    fn say_failure(&self, failure: &Failure) {
        logger::to_file_only(log::Level::Error, &failure.message);
        terminal::say_error(&failure.message, failure.next_step(), self.stderr_color);
        if self.owes_json() {
            // If that fails, too, the exit code has to do.
            let _ = self.print_json(&failure.to_json());
        }
    }
}

/// What is said by a signal that ends the process. One that serves on behalf of another leaves it to that one.
fn farewell(cli: &Cli, color: bool) -> Result<Farewell, Failure> {
    if cli.serve {
        return Ok(Farewell::new(String::new(), String::new()));
    }
    let failure = Failure::from(Error::Cancelled);
    let text = terminal::error_text(&failure.message, failure.next_step(), color);
    let document = JsonLayout::of(cli).map(|layout| layout.render(&failure.to_json())).transpose()?;
    Ok(Farewell::new(text, document.unwrap_or_default()))
}

/// Tells what is wrong with the command line, or prints the help that was asked for.
pub(crate) fn usage_error(error: &clap::Error, early: &EarlyFlags) -> Code {
    let text = error.render();
    if !error.use_stderr() {
        let color = wants_color(early.color, std::io::stdout().is_terminal());
        let text = if color { text.ansi().to_string() } else { text.to_string() };
        return match print_bytes(text.as_bytes()) {
            Err(failure) if failure.is_broken_pipe => signals::end_by_broken_pipe(),
            Err(failure) => {
                terminal::say_error(&failure.message, failure.next_step(), false);
                failure.code
            }
            Ok(()) => Code::Done,
        };
    }
    let color = wants_color(early.color, std::io::stderr().is_terminal());
    terminal::say_usage(&text, color);
    if early.json {
        let text = text.to_string();
        let message = match error.kind() {
            // What is shown then is the help, whose first line is no message.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "no command was given".to_owned(),
            // What is wrong, and of what: up to the usage, which has an empty line above it.
            _ => {
                text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ")
            }
        };
        let failure = Failure::usage(message.trim_start_matches("error: "))
            .hint("`treering --help` lists commands and options");
        let _ = JsonLayout::Indented.render(&failure.to_json()).and_then(|text| print_bytes(text.as_bytes()));
    }
    Code::Usage
}

/// Writes to stdout at once, so that an error shows here and not at the end of the process.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::ffi::OsString;

    use super::*;

    /// A mount in front that failed after it had answered once printed a second one.
    #[test]
    fn a_failure_after_the_json_document_adds_no_second_one() {
        let ui = |line: &[&str]| {
            let cli = Cli::from_arguments(line.iter().map(OsString::from).collect()).unwrap();
            Ui::plain(&cli, &EarlyFlags::default())
        };
        assert!(!ui(&["treering", "list"]).owes_json());
        let ui = ui(&["treering", "list", "--json"]);
        assert!(ui.owes_json());
        ui.print_json(&serde_json::json!({})).unwrap();
        assert!(!ui.owes_json());
    }
}
