//! `treering backup`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use treering_engine::operations::backup::{BackupOptions, BackupReport, HintsBase, backup};
use treering_engine::{
    Content, Error, FileSource, Method, Record, Repository, Source, TreeOptions, TreeSource,
    validate_stream_name,
};
use treering_fuse::mountpoints;

use super::Context;
use super::excludes::ExcludeArgs;
use super::inventory::HintsJson;
use crate::exit::{Code, CommandOutcome, Failure, WAIT};
use crate::ui::{duration, rate, size};

/// Names standard input.
const STDIN: &str = "-";

/// Store a new revision of an image or a directory tree
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering backup /var/lib/libvirt/images/vm1.img vm1
  treering backup /dev/vg0/data data --tag weekly
  treering backup /home home --one-file-system --exclude '*.tmp' --exclude-caches
  ssh host cat /dev/vg0/vm2 | treering backup - vm2
  rbd diff --format json --from-snap a vms/vm1@b | treering backup /dev/rbd0 vm1 --hints -

With -, the end of stdin is the end of the image: let the shell tell if the producer failed (set -o pipefail).
`qemu-img convert` can't write into a pipe: let it write a raw file, and back that up.
An image file, or a file of a tree, whose size, times and inode are as recorded is taken over unread; a block device is
always read. Exclude patterns are those of gitignore, relative to SOURCE. Entries of a tree that can't be read are named and
left out, and the command ends with 3.")]
pub(crate) struct BackupArgs {
    /// An image file, block device or directory, or - for stdin
    source: OsString,

    /// The stream, made if need be [default: the source's file name]
    stream: Option<String>,

    /// What SOURCE is [default: a directory is a tree, anything else an image]
    #[arg(long, value_enum)]
    kind: Option<BackupKind>,

    /// Read only what changed: JSON as `rbd diff --format json` prints it, or - for stdin
    #[arg(long, value_name = "FILE")]
    hints: Option<OsString>,

    /// The revision that the hints are relative to, or none: they say what is in use [default: the newest]
    #[arg(long, value_name = "SPEC", requires = "hints")]
    hints_base: Option<String>,

    /// Tag the revision; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    #[command(flatten)]
    excludes: ExcludeArgs,

    /// Of directories with a valid CACHEDIR.TAG keep only the tag
    #[arg(long)]
    exclude_caches: bool,

    /// Leave out what lies on other file systems
    #[arg(short = 'x', long)]
    one_file_system: bool,

    /// Read everything, whatever hints, times and the newest revision say
    #[arg(long)]
    force_read: bool,

    /// Do everything but store
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Make STREAM although a stream whose name is lost (its own file is damaged) might be it
    #[arg(long)]
    new_stream: bool,

    /// Wait for another backup of the stream instead of failing
    #[arg(long)]
    wait: bool,
}

/// What can be backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackupKind {
    // One range of bytes: a disk image, a block device, a volume.
    Image,
    // A directory with all that is below it.
    Tree,
}

pub(super) fn run(context: &Context<'_>, args: &BackupArgs) -> CommandOutcome {
    let shown = args.source.to_string_lossy();
    let during = |failure: Failure| failure.during(format_args!("back up {shown}"));
    refuse_stdin_twice(args)?;
    let kind = kind_of(args);
    refuse_tree_options(args, kind)?;
    // What can't be a source is told before anything else that is wrong.
    let image = (kind == BackupKind::Image).then(|| open_image(args)).transpose().map_err(during)?;
    let options = options(args)?;
    let repository = context.repository()?;
    let source = match image {
        Some(image) => image,
        None => open_tree(args, &repository).map_err(during)?,
    };
    let monitor = context.ui.monitor();
    let report = backup(&repository, source, &options, &monitor).map_err(|error| during(failed(error)))?;
    drop(monitor);
    tell(context, &report, args.dry_run).map_err(|failure| match args.dry_run {
        true => failure,
        false => failure.hint(format!("revision {} is stored all the same", report.record.name)),
    })?;
    Ok(code_of(&report))
}

/// A backup that failed for want of space keeps what others may rely on already; and one that found the stream in use can
/// be told to wait.
fn failed(error: Error) -> Failure {
    let is_full = error.is_disk_full();
    let is_busy = matches!(error, Error::Busy { .. });
    let failure = Failure::from(error);
    match (is_full, is_busy) {
        (true, _) => failure.hint(
            "free some space there and run the command again: what this run had stored is used again then, and `treering gc` \
             frees what nothing uses; all revisions that were there are intact",
        ),
        (_, true) => failure.hint(WAIT),
        _ => failure,
    }
}

fn refuse_stdin_twice(args: &BackupArgs) -> Result<(), Failure> {
    if args.source == STDIN && args.hints.as_deref().is_some_and(|file| file == STDIN) {
        return Err(Failure::usage("SOURCE and --hints can't both be -: there is only one stdin")
            .hint("give the hints as a file"));
    }
    Ok(())
}

fn kind_of(args: &BackupArgs) -> BackupKind {
    let is_directory = || args.source != STDIN && Path::new(&args.source).is_dir();
    args.kind.unwrap_or_else(|| if is_directory() { BackupKind::Tree } else { BackupKind::Image })
}

/// An option that would do nothing is a mistake.
fn refuse_tree_options(args: &BackupArgs, kind: BackupKind) -> Result<(), Failure> {
    let given = [
        args.excludes.first_option(),
        args.exclude_caches.then_some("--exclude-caches"),
        args.one_file_system.then_some("--one-file-system"),
    ];
    match given.into_iter().flatten().find(|_| kind == BackupKind::Image) {
        Some(option) => Err(Failure::usage(format!("{option} is for directories, and SOURCE is an image"))
            .hint("leave it out, or give a directory as SOURCE")),
        None => Ok(()),
    }
}

fn options(args: &BackupArgs) -> Result<BackupOptions, Failure> {
    Ok(BackupOptions {
        stream: stream_name(args)?,
        hints: args.hints.as_deref().map(read_hints).transpose()?,
        hints_base: match args.hints_base.as_deref() {
            None => HintsBase::Newest,
            Some("none") => HintsBase::Nothing,
            Some(spec) => HintsBase::Spec(spec.to_owned()),
        },
        tags: args.tags.clone(),
        force_read: args.force_read,
        dry_run: args.dry_run,
        new_stream: args.new_stream,
        wait: args.wait,
    })
}

/// The stream that was named, or the source's file name where that can be one.
fn stream_name(args: &BackupArgs) -> Result<String, Failure> {
    if let Some(name) = &args.stream {
        validate_stream_name(name)?;
        return Ok(name.clone());
    }
    if args.source == STDIN {
        return Err(Failure::usage("stdin has no name that a stream could have")
            .hint("name the stream: `treering backup - STREAM`"));
    }
    let file_name = Path::new(&args.source).file_name().unwrap_or_default().to_string_lossy();
    match validate_stream_name(&file_name) {
        Ok(()) => Ok(file_name.into_owned()),
        Err(error) => Err(Failure::from(error)
            .hint(format!("name the stream: `treering backup '{}' STREAM`", args.source.to_string_lossy()))),
    }
}

/// Hints are held in memory; a million ranges are no longer than this.
const HINTS_BYTES_MAX: u64 = 64 << 20;

fn read_hints(file: &std::ffi::OsStr) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let shown = file.to_string_lossy();
    let read = match file == STDIN {
        true => std::io::stdin().lock().take(HINTS_BYTES_MAX + 1).read_to_end(&mut bytes),
        false => File::open(file).and_then(|file| file.take(HINTS_BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        Failure::new(format!("cannot read hints from {shown}: {error}"))
            .hint("without --hints everything is read")
    })?;
    if bytes.len() as u64 > HINTS_BYTES_MAX {
        return Err(Failure::new(format!("the hints in {shown} are longer than {}", size(HINTS_BYTES_MAX)))
            .hint("fewer and larger ranges say the same: `rbd diff --whole-object`"));
    }
    Ok(bytes)
}

/// The options with what is never stored: the repository, and what shows one, mounts below the source. Each backup would
/// hold all earlier ones.
fn without_repositories(options: TreeOptions, repository: &Repository, source: &Path) -> TreeOptions {
    let source = source.canonicalize().unwrap_or_default();
    let is_below = |mountpoint: &PathBuf| mountpoint.starts_with(&source) && *mountpoint != source;
    let mountpoints = mountpoints().unwrap_or_default().into_iter().filter(is_below);
    let (mut never, mut never_paths) = (Vec::new(), Vec::new());
    // A part of the repository may be mounted elsewhere.
    for place in repository.directories().into_iter().chain(mountpoints) {
        match (std::fs::metadata(&place), place.strip_prefix(&source)) {
            (Ok(found), _) => never.push((found.dev(), found.ino())),
            // Another user's mount, or one whose server is dead.
            (Err(_), Ok(path)) => never_paths.push(path.to_owned()),
            (Err(_), Err(_)) => {}
        }
    }
    TreeOptions { never, never_paths, ..options }
}

/// Never walks into the repository.
fn open_tree(args: &BackupArgs, repository: &Repository) -> Result<Source, Failure> {
    if args.source == STDIN {
        return Err(Failure::usage("stdin is an image, and no tree").hint("leave --kind out"));
    }
    let options = TreeOptions {
        excludes: args.excludes.read()?,
        one_file_system: args.one_file_system,
        exclude_caches: args.exclude_caches,
        ..TreeOptions::default()
    };
    let source = Path::new(&args.source);
    let tree = TreeSource::open(source, without_repositories(options, repository, source))?;
    Ok(Source::Tree(Box::new(tree)))
}

fn open_image(args: &BackupArgs) -> Result<Source, Failure> {
    if args.source == STDIN {
        // Past the buffer and the lock of `Stdin`.
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.map_err(|error| Failure::io("read stdin", &error))?;
        return Ok(Source::Stream { name: STDIN.to_owned(), bytes: Box::new(File::from(stdin)) });
    }
    let file = FileSource::open(&PathBuf::from(&args.source))?;
    Ok(Source::Image(Box::new(file)))
}

/// Changes under the reader's eyes make a revision that may hold parts of two states, and what could not be read is not
/// in it.
fn code_of(report: &BackupReport) -> Code {
    match report.source_changed || report.problem_count > 0 {
        true => Code::Incomplete,
        false => Code::Done,
    }
}

fn tell(context: &Context<'_>, report: &BackupReport, dry_run: bool) -> Result<(), Failure> {
    match context.ui.is_json() {
        true => context.ui.print_json(&to_json(report, dry_run)),
        false => context.ui.result_or_summary(dry_run, &to_text(report, dry_run)),
    }
}

fn to_json(report: &BackupReport, dry_run: bool) -> Value {
    let BackupReport { stream, record, .. } = report;
    let counters = &record.counters;
    json!({
        "stream": stream,
        // A dry run leaves nothing that could be named.
        "id": (!dry_run).then(|| record.id.to_string()),
        "name": (!dry_run).then_some(&record.name),
        "time": record.time().to_string(),
        "kind": record.kind().as_str(),
        "size": record.content.size(),
        // Only an image's record tells it.
        "data_bytes": record.image().ok().map(|image| image.data_bytes),
        "bytes_read": counters.bytes_read,
        "bytes_changed": counters.bytes_changed,
        "bytes_stored": counters.bytes_stored,
        "chunks_total": counters.chunks_total,
        "chunks_new": counters.chunks_new,
        "seconds": seconds(record),
        "method": method(record.method),
        "parent": record.parent.map(|id| id.to_string()),
        "hints": record.hints.as_ref().map(HintsJson::from),
        "dry_run": dry_run,
        "warnings": record.warnings,
        // More than the warnings name, where there are very many.
        "problems": report.problem_count,
    })
}

fn to_text(report: &BackupReport, dry_run: bool) -> String {
    let BackupReport { stream, record, .. } = report;
    let counters = &record.counters;
    let title = match dry_run {
        true => format!("dry run for {stream}: nothing was stored"),
        false => format!("{stream}@{}", record.name),
    };
    let read = match record.method {
        Method::Unchanged => "nothing: the file is unchanged".to_owned(),
        Method::Hints => format!("{} as the hints say", size(counters.bytes_read)),
        Method::Read => size(counters.bytes_read),
    };
    let took = match record.method {
        Method::Unchanged => duration(seconds(record)),
        _ => format!("{}, {}", duration(seconds(record)), rate(counters.bytes_read, seconds(record))),
    };
    let problems = match report.problem_count {
        0 => String::new(),
        count => format!("  failed   {count} entries could not be read as they should\n"),
    };
    format!(
        "{title}\n  size     {}\n  read     {read}\n  changed  {}\n  stored   {}, {} of {} chunks new\n  took     {took}\n{problems}",
        extent(&record.content),
        size(counters.bytes_changed),
        size(counters.bytes_stored),
        counters.chunks_new,
        counters.chunks_total,
    )
}

/// How much a revision holds.
fn extent(content: &Content) -> String {
    match content {
        Content::Image(image) => format!("{}, {} of it data", size(image.size), size(image.data_bytes)),
        Content::Tree(tree) => format!("{} in {} entries", size(tree.bytes), tree.entries),
    }
}

fn seconds(record: &Record) -> f64 {
    record.counters.nanoseconds as f64 / 1e9
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Read => "read",
        Method::Hints => "hints",
        Method::Unchanged => "unchanged",
    }
}
