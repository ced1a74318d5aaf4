//! The engine of Treering: a deduplicated repository of the history of disk images and directory trees.
//!
//! # Glossary
//! *Repository*: where backups live. *Stream*: the named history of one source. *Revision*: one immutable state of a
//! stream, described by its *record*. *Chunk*: a piece of data named by its content. *Map*: the Merkle tree of *nodes*
//! that says which chunk lies where in an image or file, and where holes are. *Directory*: the search tree of *entries*. *Pack*: a file of chunks or nodes. *Index table*: where each
//! object lies. *Session*, *pin*: what a running backup or reader holds on to.
//!
//! # The write path
//! [`operations::backup`] reads a [`Source`], cuts it into chunks, compares them with the parent's map, stores what is
//! new through `store::StoreWriter`, builds the new map and commits by creating the record.
//!
//! # The read path
//! [`Repository`] finds a revision, [`ImageReader`] walks its map or [`TreeReader`] its directories, and `store::Store`
//! reads and verifies each object.
//!
//! Layers, each importing only those above it: `id`; `error`; `extent`, `glob`, `monitor`, `parallel`, `random` and `recent`; `format` and `chunker`
//! (pure); `backend`; `store`; `repository`; `revision` and `source`; `operations`, which never call each other; `fuzzing`, a door for
//! fuzzers that only their builds have. The engine is synchronous, prints nothing, and reads neither environment nor terminal. On disk, everything is as `docs/format.md`
//! says.

mod backend;
mod chunker;
mod error;
mod extent;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod glob;
mod id;
mod monitor;
pub mod operations;
mod parallel;
mod random;
mod recent;
mod repository;
mod revision;
mod source;
mod store;

pub use error::{Corrupt, Error, Result};
pub use format::{
    AttributeList, Attributes, BadObject, Compression, Content, Counters, Damage, DirectoryTop, Entry,
    EntryContent, EntryName, EntryType, FileData, FileEvidence, FileSubtree, Header, HintEvidence,
    ImageContent, Kind, Labels, LastScrub, Metadata, Method, ObjectType, Record, RecordKey, SymlinkTarget,
    Timestamp, TreeContent, TreeTotals,
};
pub use id::{ObjectId, RepositoryId, RevisionId, StreamId};
pub use monitor::{CollectingMonitor, Monitor, SilentMonitor};
pub use repository::{
    CreateOptions, DEFAULT_CACHE_BYTES, DEFAULT_CHUNK_SIZE, DEFAULT_COMPRESSION, DamagedStream, LostPart,
    Repository, ScrubState, Stream, StreamList, validate_label, validate_stream_name,
};
pub use revision::{
    EntryPlace, EntryRun, EntryRuns, FileCount, FileExtent, FileReader, ImageReader, LostRecord,
    StreamLabels, TreeNumbers, TreeReader, split_revision, tidy_path,
};
pub use source::{FileSource, ImageSource, Source, TreeOptions, TreeSource};
