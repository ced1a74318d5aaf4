//! `treering man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::print_bytes;

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering man | man -l -
  treering man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Where to write treering.1, treering-backup.1 and so on, instead of the main page on stdout
    directory: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs) -> CommandOutcome {
    match &args.directory {
        Some(directory) => {
            let failed = |error: std::io::Error| {
                Failure::new(format!("cannot write manual pages to {}: {error}", directory.display()))
                    .hint("name a directory that exists and can be written")
            };
            clap_mangen::generate_to(Cli::command(), directory).map_err(failed)?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page).map_err(|error| Failure::output(&error))?;
            print_bytes(&page)?;
        }
    }
    Ok(Code::Done)
}
