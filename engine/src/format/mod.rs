//! Bytes to structs and back, without any I/O. `docs/format.md` is normative; each file here names its section,
//! and its golden test holds the two together.
//!
//! No decoder panics, and none allocates by a number that it has not compared with the bytes at hand.

/// The version of the repository format that this program reads and writes.
pub(crate) const FORMAT_VERSION: u16 = 1;

mod blob;
mod bytes;
#[cfg(test)]
mod canonical;
mod codec;
mod directory;
mod file_node;
mod filter;
mod gc;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_tree;
mod hash;
mod header;
mod labels;
mod ledger;
mod node;
mod node_head;
mod pack;
mod record;
mod sealed;
mod table;
mod time;
mod version;

pub(crate) use blob::{BlobEncoder, decode_blob_into};
pub(crate) use directory::{
    ALLOCATION_BYTES, DirectoryInner, DirectoryLeaf, DirectorySubtree, MAX_DIRECTORY_LEAF_BYTES, OwnerNames,
    TreeRoot, ends_directory_inner, ends_directory_leaf,
};
pub use directory::{
    AttributeList, Attributes, DirectoryTop, Entry, EntryContent, EntryName, EntryType, FileData, Metadata,
    SymlinkTarget, TreeTotals,
};
pub use file_node::FileSubtree;
pub(crate) use file_node::{FileInner, FileLeaf, FileSlot, ends_file_node};
pub(crate) use filter::{Filter, FilterBuilder};
pub(crate) use gc::{Condemned, Dropped, PackNames};
pub use hash::ObjectType;
pub(crate) use hash::{ChecksumContext, ObjectHasher};
pub(crate) use header::MAX_CHUNK_SIZE;
pub(crate) use header::validate_defaults;
pub use header::{Compression, Header};
pub use labels::{BadObject, Damage, Labels};
pub(crate) use labels::{Claim, CopyTarget, NotedRevision, StreamObject};
pub use ledger::LastScrub;
pub(crate) use ledger::{ScrubLedger, VerifiedPack};
pub(crate) use node::{Child, FAN_OUT, Inner, Leaf, Root, Slot, Subtree};
pub(crate) use pack::{MAX_PACK_SIZE, PackDirectory, PackEntry, PackHeader, PackKind, PackTrailer};
pub use record::{
    Content, Counters, FileEvidence, HintEvidence, ImageContent, Kind, Method, Record, RecordKey, TreeContent,
};
pub(crate) use sealed::{MAX_SEALED_SIZE, SealedKind, open, seal};
pub(crate) use table::{
    BLOCK_SIZE, ENTRIES_PER_BLOCK, TableEntry, TableHeader, TableLayout, TablePack, decode_entries,
    decode_packs, seal_block, verify_block,
};
pub use time::Timestamp;
pub(crate) use version::{incompatible, newer_node_version};
