//! `treering init`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use treering_engine::{
    Compression, CreateOptions, DEFAULT_CHUNK_SIZE, DEFAULT_COMPRESSION, Header, Repository,
};

use super::{Context, absolute, refuse_remote};
use crate::exit::{Code, CommandOutcome, Failure};
use crate::ui::{parse_size, size};

/// Create a repository
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  treering init /backup
  treering init -r /backup --compression zstd:6")]
pub(crate) struct InitArgs {
    /// A directory that is empty or not there yet; -r or TREERING_REPOSITORY may name it instead
    #[arg(value_name = "REPO")]
    path: Option<PathBuf>,

    /// What the repository is made of
    #[arg(long, value_enum, default_value = "chunks")]
    kind: RepositoryKind,

    /// Size of the chunks that images are cut into: a power of two from 4K to 8M
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk_size, default_value_t = ChunkSize(DEFAULT_CHUNK_SIZE))]
    chunk_size: ChunkSize,

    /// Compression of chunks: zstd:N with a level from 1 to 19, or none
    #[arg(long, value_name = "METHOD", value_parser = parse_compression, default_value = "zstd:1")]
    compression: Compression,
}

/// What a repository is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RepositoryKind {
    // Deduplicated packs, on any file system.
    Chunks,
}

/// A chunk size that is shown as people write it.
#[derive(Clone, Copy, Debug)]
struct ChunkSize(u32);

impl std::fmt::Display for ChunkSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => write!(f, "{}M", bytes >> 20),
            bytes if bytes.is_multiple_of(1 << 10) => write!(f, "{}K", bytes >> 10),
            bytes => write!(f, "{bytes}"),
        }
    }
}

fn parse_chunk_size(text: &str) -> Result<ChunkSize, String> {
    let bytes = parse_size(text)?;
    u32::try_from(bytes).map(ChunkSize).map_err(|_| format!("'{text}' is too large"))
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let level = text.strip_prefix("zstd:").and_then(|level| level.parse().ok());
    match (text, level) {
        ("none", _) => Ok(Compression::None),
        ("zstd", _) => Ok(DEFAULT_COMPRESSION),
        (_, Some(level)) => Ok(Compression::Zstd(level)),
        _ => Err(format!("'{text}' is no compression; use zstd:N or none")),
    }
}

pub(super) fn run(context: &Context<'_>, args: &InitArgs) -> CommandOutcome {
    let RepositoryKind::Chunks = args.kind;
    let path = match &args.path {
        Some(path) => path.as_path(),
        None => context.repository_path()?,
    };
    refuse_remote(path)?;
    if path.as_os_str() == "-" {
        return Err(
            Failure::usage("REPO is a directory, and - is none").hint("./- is a directory of that name")
        );
    }
    let options = CreateOptions { chunk_size: args.chunk_size.0, compression: args.compression };
    let repository = Repository::create(path, &options).map_err(|error| {
        Failure::from(error).during(format_args!("create a repository in {}", path.display()))
    })?;
    let is_made = || format!("the repository is made all the same, in {}", path.display());
    tell(context, path, repository.header()).map_err(|failure| failure.hint(is_made()))?;
    Ok(Code::Done)
}

fn tell(context: &Context<'_>, path: &Path, header: &Header) -> Result<(), Failure> {
    if context.ui.is_json() {
        context.ui.print_json(&json!({ "repository": {
            "path": absolute(path).display().to_string(),
            "id": header.id.to_string(),
            "kind": "chunks",
            "chunk_size": header.chunk_size,
            "compression": compression_text(header.compression),
        }}))
    } else {
        context.ui.summary(&format!(
            "created repository {} (chunks of {}, compression {})\nnext: treering -r {} backup SOURCE\n",
            path.display(),
            size(header.chunk_size.into()),
            compression_text(header.compression),
            path.display(),
        ))
    }
}

/// A compression as it is written on the command line.
pub(super) fn compression_text(compression: Compression) -> String {
    match compression {
        Compression::None => "none".to_owned(),
        Compression::Zstd(level) => format!("zstd:{level}"),
    }
}
