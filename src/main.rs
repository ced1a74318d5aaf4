//! The command line of Treering: reads arguments, calls the engine and the mount, and tells people and scripts
//! what came of it. What is stored and how is not known here.

mod cli;
mod commands;
mod exit;
mod ui;

use std::process::ExitCode;

use crate::cli::{Cli, EarlyFlags};
use crate::ui::Ui;

fn main() -> ExitCode {
    let caught = ui::catch_signals();
    // Usage errors happen before there are parsed options, and obey `--json` and `--color` all the same.
    let arguments: Vec<_> = std::env::args_os().collect();
    let early = EarlyFlags::from_arguments(&arguments);
    let cli = match Cli::from_arguments(arguments) {
        Ok(cli) => cli,
        Err(error) => return ui::usage_error(&error, &early).into(),
    };
    match caught.and_then(|()| Ui::new(&cli)) {
        Ok(ui) => ui.finish(commands::run(&cli, &ui)).into(),
        Err(failure) => Ui::plain(&cli, &early).finish(Err(failure)).into(),
    }
}
