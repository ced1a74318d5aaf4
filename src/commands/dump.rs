//! `treering dump`.

use std::io::{self, ErrorKind, IsTerminal, Write};

use clap::Args;
use treering_engine::operations::dump::dump;

use super::Context;
use super::revision::find_one;
use crate::exit::{Code, CommandOutcome, Failure};

/// Write an image to stdout
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering dump vm1 | dd of=/dev/vg0/vm1 bs=1M
  treering dump vm1@1 | ssh host 'cat > vm1.img'
  treering dump vm1 | cmp - vm1.img")]
pub(crate) struct DumpArgs {
    /// The revision; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revision: String,
}

pub(super) fn run(context: &Context<'_>, args: &DumpArgs) -> CommandOutcome {
    if io::stdout().is_terminal() {
        return Err(Failure::usage("will not write an image to a terminal")
            .hint("send it into a pipe or a file, or use `treering restore`"));
    }
    let during = |failure: Failure| failure.during(format_args!("dump {}", args.revision));
    let repository = context.repository()?;
    let named = find_one(&repository, &args.revision).map_err(during)?;
    let image = repository.open_image(&named.record).map_err(|error| during(error.into()))?;
    let monitor = context.ui.monitor()?;
    let mut output = Output::new().map_err(|error| Failure::output(&error))?;
    match dump(&image, &named.name(), &mut output, &monitor) {
        Ok(_) => Ok(Code::Done),
        Err(error) => Err(Failure { is_broken_pipe: output.is_broken_pipe, ..during(error.into()) }),
    }
}

/// Stdout without the line buffer of the standard library; remembers whether its reader has gone.
struct Output {
    file: std::fs::File,
    is_broken_pipe: bool,
}

impl Output {
    fn new() -> io::Result<Self> {
        use std::os::fd::AsFd;
        let file = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self { file, is_broken_pipe: false })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.is_broken_pipe |= written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
