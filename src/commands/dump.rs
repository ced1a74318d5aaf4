//! `treering dump`.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use treering_engine::operations::dump::dump;
use treering_engine::{Error, Monitor};

use super::Context;
use super::revision::{Opened, open_named};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::stdout_was_closed;

/// Write an image to stdout
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering dump vm1 | dd of=/dev/vg0/vm1 bs=1M
  treering dump vm1@1 | ssh host 'cat > vm1.img'
  treering dump vm1 | cmp - vm1.img
  treering dump vm1 > vm1.raw && qemu-img convert -O qcow2 vm1.raw vm1.qcow2

What reads in places, as qemu-img does, can't read a pipe: dump into a file, restore, or mount.")]
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
    if stdout_was_closed() {
        return Err(
            Failure::new("cannot write to stdout: it is closed").hint("send it into a pipe or a file")
        );
    }
    let during = |failure: Failure| failure.during(format_args!("dump {}", args.revision));
    let Opened { named, image, .. } = open_named(context, &args.revision, during)?;
    let monitor = context.ui.monitor()?;
    let mut output = Output::start(&monitor).map_err(|error| Failure::output(&error))?;
    match dump(&image, &named.name(), &mut output, &monitor) {
        Ok(_) => Ok(Code::Done),
        Err(Error::Io { .. }) if monitor.is_cancelled() => Err(Error::Cancelled.into()),
        Err(error) => Err(Failure { is_broken_pipe: output.is_broken_pipe, ..during(error.into()) }),
    }
}

/// How soon a signal is noticed while nobody takes what was written.
const PATIENCE: Duration = Duration::from_millis(200);

/// Stdout without the line buffer of the standard library; remembers whether its reader has gone.
///
/// A thread of its own writes, and nobody joins it: a reader that takes nothing must not keep a signal from ending us.
struct Output<'a> {
    pieces: SyncSender<Vec<u8>>,
    results: Receiver<io::Result<()>>,
    monitor: &'a dyn Monitor,
    is_broken_pipe: bool,
}

impl<'a> Output<'a> {
    fn start(monitor: &'a dyn Monitor) -> io::Result<Self> {
        let mut stdout = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (pieces, waiting) = sync_channel::<Vec<u8>>(0);
        let (written, results) = sync_channel(0);
        std::thread::Builder::new().spawn(move || {
            // Ends when the other side does.
            let mut write = |piece: Vec<u8>| written.send(stdout.write_all(&piece));
            while waiting.recv().is_ok_and(|piece| write(piece).is_ok()) {}
        })?;
        Ok(Self { pieces, results, monitor, is_broken_pipe: false })
    }

    /// Waits until the last piece is written.
    fn wait(&self) -> io::Result<()> {
        loop {
            match self.results.recv_timeout(PATIENCE) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) if !self.monitor.is_cancelled() => {}
                Err(RecvTimeoutError::Timeout) => return Err(io::Error::other("interrupted")),
                Err(RecvTimeoutError::Disconnected) => return Err(writer_is_gone()),
            }
        }
    }
}

fn writer_is_gone() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.send(bytes.to_vec()).map_err(|_| writer_is_gone());
        let written = sent.and_then(|()| self.wait());
        self.is_broken_pipe |= written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe);
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
