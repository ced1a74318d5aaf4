//! What lies in packs, found as `docs/format.md` section 8 says, to be damaged piece by piece.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs;
use std::path::PathBuf;

use super::{World, flip_bit};

/// The object types of `docs/format.md`.
pub(crate) const DIRECTORY: u8 = 3;

/// One blob of a pack.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pack: PathBuf,
    offset: u64,
    length: u64,
    object_type: u8,
}

impl Blob {
    /// Flips a bit in its middle; a second time mends it.
    pub(crate) fn flip(&self) {
        flip_bit(&self.pack, self.offset + self.length / 2);
    }
}

/// The blobs of this type in all packs below a directory of the repository, in their order.
pub(crate) fn blobs(world: &World, directory: &str, object_type: u8) -> Vec<Blob> {
    all_blobs(world, directory).into_iter().filter(|blob| blob.object_type == object_type).collect()
}

/// All blobs in all packs below a directory of the repository, in their order.
pub(crate) fn all_blobs(world: &World, directory: &str) -> Vec<Blob> {
    world.stored_files(directory).into_iter().flat_map(blobs_of).collect()
}

fn blobs_of(pack: PathBuf) -> Vec<Blob> {
    const ENTRY_LEN: usize = 56;
    let bytes = fs::read(&pack).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let trailer = bytes.len() - 64;
    let directory = u64::from_le_bytes(bytes[trailer..trailer + 8].try_into().unwrap()) as usize;
    let entries = (0..number(trailer + 8) as usize).map(|index| directory + index * ENTRY_LEN);
    let blob = |at: usize| Blob {
        pack: pack.clone(),
        offset: number(at + 32).into(),
        length: number(at + 36).into(),
        object_type: bytes[at + 44],
    };
    entries.map(blob).collect()
}
