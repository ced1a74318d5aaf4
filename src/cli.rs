//! The words of the command line: global options and the list of commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands::{
    backup, check, completions, copy, diff, dump, find, forget, gc, history, init, labels, list, ls, man,
    mount, restore, scrub, status, stream, unmount,
};

/// The first argument of a process that serves a mount in the background. Not for users, so clap does not know it.
pub(crate) const SERVE: &str = "--internal-serve";

/// Keeps the history of disk images and directory trees in one deduplicated repository, and mounts every revision of it
#[derive(Debug, Parser)]
#[command(
    name = "treering",
    version,
    max_term_width = 110,
    disable_help_subcommand = true,
    after_help = "\
Examples:
  treering init /backup
  export TREERING_REPOSITORY=/backup
  treering backup /var/lib/libvirt/images/vm1.img vm1
  treering backup /home home
  treering list vm1
  treering ls -l home@latest docs
  treering mount /mnt
  treering restore vm1@latest /var/lib/libvirt/images/vm1-restored.img

Exit codes:
  0    done
  1    error; nothing half-done is visible in the repository
  2    usage
  3    done, but some of the source could not be read as it should
  4    damage was found
  130  interrupted"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,

    /// Whether a mount is served on behalf of a process that waits for it.
    #[arg(skip)]
    pub(crate) serve: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads arguments, the first of which is the program.
    pub(crate) fn from_arguments(mut arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let serve = arguments.get(1).is_some_and(|argument| argument == SERVE);
        if serve {
            arguments.remove(1);
        }
        Ok(Self { serve, ..Self::try_parse_from(arguments)? })
    }
}

/// Options of all commands
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// The repository's directory
    #[arg(
        short,
        long,
        global = true,
        value_name = "REPO",
        env = "TREERING_REPOSITORY",
        hide_env_values = true,
        // An empty variable is none: commands that need no repository must work all the same.
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pub(crate) repository: Option<PathBuf>,

    /// Leave out progress, notes and what was done; what was asked for or found, warnings and errors are told
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more; twice for what helps to find defects
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Draw no progress bar
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,

    /// Append what is logged to a file
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,

    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value = "auto")]
    pub(crate) color: ColorChoice,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    // On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    // Also into files and pipes.
    Always,
    // Nowhere.
    Never,
}

/// What treering can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    List(list::ListArgs),
    Status(status::StatusArgs),
    Restore(restore::RestoreArgs),
    Dump(dump::DumpArgs),
    Ls(ls::LsArgs),
    Find(find::FindArgs),
    History(history::HistoryArgs),
    Diff(diff::DiffArgs),
    Tag(labels::TagArgs),
    Protect(labels::ProtectArgs),
    Unprotect(labels::UnprotectArgs),
    Forget(forget::ForgetArgs),
    Gc(gc::GcArgs),
    Stream(stream::StreamArgs),
    Mount(mount::MountArgs),
    Unmount(unmount::UnmountArgs),
    Scrub(scrub::ScrubArgs),
    Check(check::CheckArgs),
    Copy(copy::CopyArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// What a command prints on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandResult {
    /// A text for people, or JSON where that is asked for.
    Report,
    /// Data that JSON has no place in.
    Data,
}

/// Commands that print data on stdout.
const DATA_COMMANDS: [&str; 3] = ["dump", "completions", "man"];

impl Command {
    /// What the command prints on stdout.
    pub(crate) fn result(&self) -> CommandResult {
        match self {
            Self::Dump(_) | Self::Completions(_) | Self::Man(_) => CommandResult::Data,
            _ => CommandResult::Report,
        }
    }
}

/// What must be known before arguments are parsed, because parsing them may fail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct EarlyFlags {
    pub(crate) json: bool,
    pub(crate) color: ColorChoice,
}

impl EarlyFlags {
    /// Looks for `--json`, where the command has any, and `--color` among arguments that need not make sense.
    pub(crate) fn from_arguments(arguments: &[OsString]) -> Self {
        let mut flags = Self::default();
        let cli = Cli::command();
        let is_command =
            |argument: &&OsString| argument.to_str().is_some_and(|name| cli.find_subcommand(name).is_some());
        let command = arguments.iter().skip(1).find(is_command).and_then(|name| name.to_str());
        let prints_data = command.is_some_and(|name| DATA_COMMANDS.contains(&name));
        let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--json") => flags.json = !prints_data,
                Some("--color") => flags.set_color(arguments.next().and_then(|word| word.to_str())),
                Some(text) => {
                    if let Some(word) = text.strip_prefix("--color=") {
                        flags.set_color(Some(word));
                    }
                }
                None => {}
            }
        }
        flags
    }

    fn set_color(&mut self, word: Option<&str>) {
        let parsed = word.and_then(|word| ColorChoice::from_str(word, false).ok());
        self.color = parsed.unwrap_or(self.color);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn commands_that_print_data_are_told_by_their_names() {
        for command in Cli::command().get_subcommands() {
            let arguments = match command.get_name() {
                "diff" | "find" | "history" => vec!["a", "b"],
                "completions" => vec!["bash"],
                "list" | "status" | "init" | "scrub" | "check" | "gc" | "man" => vec![],
                "restore" => vec!["a", "b"],
                "stream" => vec!["list"],
                _ => vec!["a"],
            };
            let line = ["treering", command.get_name()].into_iter().chain(arguments);
            let cli = Cli::from_arguments(line.map(OsString::from).collect()).unwrap();
            let is_data = cli.command.result() == CommandResult::Data;
            assert_eq!(DATA_COMMANDS.contains(&command.get_name()), is_data, "{}", command.get_name());
        }
    }

    fn early(arguments: &[&str]) -> EarlyFlags {
        EarlyFlags::from_arguments(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_and_color_are_found_among_arguments_that_make_no_sense() {
        assert_eq!(early(&["treering", "--nonsense"]), EarlyFlags::default());
        assert!(early(&["treering", "--nonsense", "--json"]).json);
        assert!(!early(&["treering", "--", "--json"]).json);
        assert!(early(&["treering", "list", "dump", "--json"]).json);
        assert!(!early(&["treering", "--json", "-q", "dump", "list", "--nonsense"]).json);
        assert_eq!(early(&["treering", "--color", "never"]).color, ColorChoice::Never);
        assert_eq!(early(&["treering", "--color=always"]).color, ColorChoice::Always);
        assert_eq!(early(&["treering", "--color=sometimes"]).color, ColorChoice::Auto);
    }

    #[test]
    fn every_help_text_goes_without_a_trailing_period() {
        let mut command = Cli::command();
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            let abouts = command.get_about().into_iter();
            let helps = command.get_arguments().filter_map(|argument| argument.get_help());
            for text in abouts.chain(helps).map(ToString::to_string) {
                assert!(!text.ends_with('.'), "{}: {text}", command.get_name());
            }
        }
    }
}
