//! `treering dump`.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use treering_engine::operations::dump::{dump, dump_file};
use treering_engine::{Content, EntryContent, Error, FileReader, ImageReader, Monitor};

use super::Context;
use super::revision::{Opened, open_named};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{escaped, stdout_was_closed};

/// Write an image, or a file of a tree, to stdout
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering dump vm1 | dd of=/dev/vg0/vm1 bs=1M
  treering dump vm1@1 | ssh host 'cat > vm1.img'
  treering dump vm1 | cmp - vm1.img
  treering dump vm1 > vm1.raw && qemu-img convert -O qcow2 vm1.raw vm1.qcow2
  treering dump home@1 alice/letter.txt | diff - /home/alice/letter.txt

PATH begins at the tree's root. Holes come as zeros. What is no file is refused.

What reads in places, as qemu-img does, can't read a pipe: dump into a file, restore, or mount.")]
pub(crate) struct DumpArgs {
    /// The revision; the latest without SPEC
    #[arg(value_name = "STREAM[@SPEC]")]
    revision: String,

    /// The file, of a tree; a slash before it counts for nothing
    path: Option<OsString>,
}

/// What is written.
enum Dumped {
    Image(Box<ImageReader>),
    File(FileReader),
}

pub(super) fn run(context: &Context<'_>, args: &DumpArgs) -> CommandOutcome {
    if io::stdout().is_terminal() && args.path.is_none() {
        return Err(Failure::usage("will not write an image to a terminal")
            .hint("send it into a pipe or a file, or use `treering restore`"));
    }
    if stdout_was_closed() {
        return Err(
            Failure::new("cannot write to stdout: it is closed").hint("send it into a pipe or a file")
        );
    }
    let path = args.path.as_deref();
    let during = |failure: Failure| match path {
        Some(path) => failure.during(format_args!("dump {} of {}", path.to_string_lossy(), args.revision)),
        None => failure.during(format_args!("dump {}", args.revision)),
    };
    let opened = open_named(context, &args.revision, during)?;
    let (dumped, name) = find(&opened, path).map_err(during)?;
    let monitor = context.ui.monitor();
    let mut output = Output::start(&monitor).map_err(|error| Failure::output(&error))?;
    let done = match &dumped {
        Dumped::Image(image) => dump(image, &name, &mut output, &monitor),
        Dumped::File(file) => dump_file(file, &name, &mut output, &monitor),
    };
    match done {
        Ok(_) => Ok(Code::Done),
        Err(Error::Io { .. }) if monitor.is_cancelled() => Err(Error::Cancelled.into()),
        Err(error) => Err(Failure { is_broken_pipe: output.is_broken_pipe, ..during(error.into()) }),
    }
}

/// What is to be written, and what messages call it.
fn find(opened: &Opened, path: Option<&OsStr>) -> Result<(Dumped, String), Failure> {
    let Opened { repository, named } = opened;
    match (&named.record.content, path) {
        (Content::Image(_), None) => {
            Ok((Dumped::Image(Box::new(repository.open_image(&named.record)?)), named.name()))
        }
        (Content::Image(_), Some(_)) => {
            Err(Failure::usage(format!("{} is an image, and has no paths", named.name()))
                .hint("leave PATH out; files in an image can be had by mounting it"))
        }
        (Content::Tree(_), None) => Err(Failure::usage(format!("{} is a tree", named.name()))
            .hint("name a file of it: `treering dump STREAM PATH`; `treering restore` gives all of it")),
        (Content::Tree(_), Some(path)) => {
            let file = find_file(opened, path)?;
            Ok((Dumped::File(file), format!("{} of {}", path.to_string_lossy(), named.name())))
        }
    }
}

fn find_file(opened: &Opened, path: &OsStr) -> Result<FileReader, Failure> {
    let Opened { repository, named } = opened;
    let tree = repository.open_tree(&named.record)?;
    let shown = path.to_string_lossy().into_owned();
    let missing = || Error::NoSuchPath { revision: named.name(), path: shown.clone() };
    let entry = tree.find(path.as_bytes())?.ok_or_else(missing)?;
    let what = match &entry.content {
        EntryContent::File(data) => return Ok(tree.open_file(data)),
        EntryContent::Directory(_) => "a directory".to_owned(),
        EntryContent::Symlink(target) => {
            format!("a symbolic link to {}", escaped(target.as_bytes()))
        }
        EntryContent::BlockDevice { .. } => "a block device".to_owned(),
        EntryContent::CharacterDevice { .. } => "a character device".to_owned(),
        EntryContent::Fifo => "a named pipe".to_owned(),
        EntryContent::Socket => "a socket".to_owned(),
    };
    Err(Failure::new(format!("{shown} is {what}, and no file"))
        .hint("name a file; `treering restore --path` restores anything"))
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
