//! `treering completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Code, CommandOutcome};
use crate::ui::print_bytes;

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering completions bash > /etc/bash_completion.d/treering
  treering completions fish > ~/.config/fish/completions/treering.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> CommandOutcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "treering", &mut script);
    print_bytes(&script)?;
    Ok(Code::Done)
}
