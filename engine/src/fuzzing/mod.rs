//! A door for fuzzers: everything that reads bytes which somebody else may have written, each behind one function that
//! takes any bytes.
//!
//! A function panics if what it calls breaks a promise of its own: that it decodes nothing but what encoding it again
//! gives, that what it reads has the content of its name, that places lie within what they are places of. Its answer is
//! whether the bytes were accepted. Most objects lie under checksums and hashes, behind which random bytes never come:
//! so the functions take what stands behind them, and complete it.
//!
//! Built with the feature `fuzzing`, and for tests, which give these functions what fuzzers have found before (`fuzz/corpus`).

mod containers;
#[cfg(test)]
mod corpus;
mod images;
mod input;
mod memory;
mod nodes;
mod objects;
mod sealed;
mod tables;
mod texts;
mod trees;

pub use containers::{blob, pack, pack_directory, pack_header, pack_trailer};
pub use images::image;
pub use nodes::{
    attributes, directory_inner, directory_leaf, file_inner, file_leaf, map_inner, map_leaf, map_root,
    tree_root,
};
pub use sealed::{
    claim, condemned, copy_target, damage, dropped, envelope, header, labels, record, scrub_ledger, stream,
};
pub use tables::{table, table_entries, table_header, table_packs};
pub use texts::{hints, names};
pub use trees::tree;

/// One way for bytes into the engine.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, also as a program of `fuzz/` and as a directory of its corpus.
    pub name: &'static str,
    /// Takes any bytes, and says whether they were accepted.
    pub run: fn(&[u8]) -> bool,
    /// What it may take of memory, in bytes, besides a multiple of what it is given.
    pub memory_bytes: usize,
}

/// Decoders allocate in proportion to what they are given, but for the first room that serde makes for a list, 1 MiB.
const fn decoder(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run, memory_bytes: 2 << 20 }
}

/// Readers believe an index and directories that an object is as long as the longest, 8 MiB, before they look at it.
const fn reader(name: &'static str, run: fn(&[u8]) -> bool) -> Target {
    Target { name, run, memory_bytes: 40 << 20 }
}

/// All of them.
pub const TARGETS: [Target; 33] = [
    decoder("attributes", attributes),
    decoder("blob", blob),
    decoder("claim", claim),
    decoder("condemned", condemned),
    decoder("copy_target", copy_target),
    decoder("damage", damage),
    decoder("directory_inner", directory_inner),
    decoder("directory_leaf", directory_leaf),
    decoder("dropped", dropped),
    decoder("envelope", envelope),
    decoder("file_inner", file_inner),
    decoder("file_leaf", file_leaf),
    decoder("header", header),
    decoder("hints", hints),
    reader("image", image),
    decoder("labels", labels),
    decoder("map_inner", map_inner),
    decoder("map_leaf", map_leaf),
    decoder("map_root", map_root),
    decoder("names", names),
    reader("pack", pack),
    decoder("pack_directory", pack_directory),
    decoder("pack_header", pack_header),
    decoder("pack_trailer", pack_trailer),
    decoder("record", record),
    decoder("scrub_ledger", scrub_ledger),
    decoder("stream", stream),
    reader("table", table),
    decoder("table_entries", table_entries),
    decoder("table_header", table_header),
    decoder("table_packs", table_packs),
    reader("tree", tree),
    decoder("tree_root", tree_root),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Asserts that bytes which are accepted are what encoding their value again gives.
fn is_canonical<T>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> bool {
    let Some(value) = decode(bytes) else { return false };
    assert!(encode(&value) == bytes, "other bytes than these encode what they were taken for");
    true
}
