//! Where log lines go: stderr for a person, a file or syslog for a service.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use treering_engine::Timestamp;

use super::signals::flag_hang_up;
use super::syslog::Syslog;
use super::terminal::{Style, say};
use crate::cli::GlobalOptions;
use crate::exit::Failure;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// The log of this process.
#[derive(Debug)]
struct Logger {
    terminal_level: LevelFilter,
    file_level: LevelFilter,
    color: bool,
    place: Mutex<Place>,
}

/// Where lines go.
#[derive(Debug)]
struct Place {
    terminal: bool,
    file: Option<LogFile>,
    syslog: Option<Syslog>,
}

/// A file that lines are appended to.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Set when the file may have been renamed, to begin a new one.
    reopen: Arc<AtomicBool>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        // From the root on, since a mount leaves the directory that it was started in.
        let path = std::path::absolute(path)?;
        Ok(Self { file: append_to(&path)?, path, reopen: Arc::default() })
    }

    fn write(&mut self, level: Level, message: &str) -> io::Result<()> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            // Else the old one is better than none.
            if let Ok(file) = append_to(&self.path) {
                self.file = file;
            }
        }
        let (level, process) = (level.as_str().to_lowercase(), std::process::id());
        let line = format!("{} {level} treering[{process}]: {message}\n", Timestamp::now());
        self.file.write_all(line.as_bytes())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

/// Begins to log as the options say.
pub(super) fn start(options: &GlobalOptions, color: bool) -> Result<(), Failure> {
    let terminal_level = match options.verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let file_level = terminal_level.max(LevelFilter::Info);
    let file = options.log_file.as_ref().map(|path| {
        LogFile::open(path).map_err(|error| {
            Failure::new(format!("cannot open the log file {}: {error}", path.display()))
                .hint("give another --log-file, or none")
        })
    });
    let place = Place { terminal: true, file: file.transpose()?, syslog: None };
    let level = if place.file.is_some() { file_level } else { terminal_level };
    let logger =
        LOGGER.get_or_init(|| Logger { terminal_level, file_level, color, place: Mutex::new(place) });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

/// Leaves the terminal: lines go to the log file, else to syslog.
pub(crate) fn detach_log() {
    let Some(logger) = LOGGER.get() else { return };
    let has_file = logger.place().file.is_some();
    let syslog = if has_file { None } else { open_syslog() };
    let mut place = logger.place();
    place.terminal = false;
    place.syslog = syslog;
}

fn open_syslog() -> Option<Syslog> {
    let opened = Syslog::open().inspect_err(|error| {
        log::warn!(
            "nothing is logged from now on: there is no syslog ({error}), and no --log-file was given"
        );
    });
    opened.ok()
}

/// From now on SIGHUP makes the log file be opened anew, as programs that rotate logs ask for it.
pub(crate) fn reopen_log_on_hang_up() -> Result<(), Failure> {
    let reopen = LOGGER.get().and_then(|logger| Some(Arc::clone(&logger.place().file.as_ref()?.reopen)));
    // Without a log file it does nothing, but is caught all the same.
    flag_hang_up(&reopen.unwrap_or_default())
}

/// Keeps in the log file, if there is one, what the terminal shows in another way.
pub(super) fn to_file_only(level: Level, message: &str) {
    if let Some(logger) = LOGGER.get() {
        logger.place().keep(level, message);
    }
}

impl Place {
    /// A line that can't be logged is lost: there is no place to say so.
    fn keep(&mut self, level: Level, message: &str) {
        if let Some(file) = &mut self.file {
            let _ = file.write(level, message);
        }
        if let Some(syslog) = &self.syslog {
            syslog.send(level, message);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates' lines help only who looks for defects.
        let ours = metadata.target().starts_with("treering");
        ours || self.terminal_level >= LevelFilter::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let mut place = self.place();
        if place.terminal && record.level() <= self.terminal_level {
            say(&format!("treering: {}{message}", self.prefix(record.level())));
        }
        if record.level() <= self.file_level {
            place.keep(record.level(), &message);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefix(&self, level: Level) -> String {
        let (style, word) = match level {
            Level::Error => (Style::Red, "error:"),
            Level::Warn => (Style::Yellow, "warning:"),
            Level::Info => return String::new(),
            Level::Debug => (Style::None, "debug:"),
            Level::Trace => (Style::None, "trace:"),
        };
        format!("{} ", style.when(self.color).paint(word))
    }
}
