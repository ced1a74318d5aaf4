//! Ways in which a stored file may be harmed, whatever it holds.

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs;
use std::path::{Path, PathBuf};

use super::flip_bit;

/// One way to harm a file.
#[derive(Clone, Debug)]
pub(crate) enum Harm {
    /// One bit of the byte at this place is another.
    Flip(u64),
    /// It has so many bytes and no more.
    Truncate(u64),
    Delete,
    /// It holds what another file of its kind held.
    Replace(PathBuf),
    /// A file with the same bytes has another name of the right form.
    Duplicate(PathBuf),
}

impl Harm {
    /// Flips and truncations of a file of so many bytes, and its loss.
    pub(crate) fn of_size(size: u64) -> Vec<Self> {
        let places = [12, 21, size / 3, size.saturating_sub(40), size.saturating_sub(1)];
        let flips = places.into_iter().filter(|&place| place < size).map(Self::Flip);
        let lengths = [0, size / 2, size.saturating_sub(1)];
        let truncations = lengths.into_iter().filter(|&length| length < size).map(Self::Truncate);
        flips.chain(truncations).chain([Self::Delete]).collect()
    }

    /// Does it.
    pub(crate) fn apply(&self, file: &Path) {
        match self {
            Self::Flip(place) => flip_bit(file, *place),
            Self::Truncate(length) => {
                fs::File::options().write(true).open(file).unwrap().set_len(*length).unwrap();
            }
            Self::Delete => fs::remove_file(file).unwrap(),
            // Not in place: who has the file open keeps what it was.
            Self::Replace(by) => {
                fs::remove_file(file).unwrap();
                fs::copy(by, file).map(|_| ()).unwrap();
            }
            Self::Duplicate(name) => {
                fs::create_dir_all(name.parent().unwrap()).unwrap();
                fs::copy(file, name).map(|_| ()).unwrap();
            }
        }
    }

    /// Whether what is left of the file can't be taken for sound.
    pub(crate) fn spoils_content(&self) -> bool {
        matches!(self, Self::Flip(_) | Self::Truncate(_))
    }
}

/// Makes a table, under right checksums, say of objects that they lie elsewhere in their packs.
pub(crate) fn contradict_packs(table: &Path) {
    const BLOCK: usize = 4096;
    const ENTRY: usize = 48;
    let mut bytes = fs::read(table).unwrap();
    let id = bytes[8..24].to_vec();
    let entries = u64::from_le_bytes(bytes[48..56].try_into().unwrap());
    let pack_blocks = u32::from_le_bytes(bytes[60..64].try_into().unwrap());
    let number = 1 + pack_blocks as usize;
    let block = &mut bytes[number * BLOCK..(number + 1) * BLOCK];
    let count = (entries as usize).min((BLOCK - 16) / ENTRY);
    // Their offsets.
    (0..count).for_each(|entry| block[entry * ENTRY + 36] ^= 1);
    let key = blake3::derive_key("treering v1 index block", b"");
    let content = [&id[..], &(number as u64).to_le_bytes(), &block[..BLOCK - 16]].concat();
    block[BLOCK - 16..].copy_from_slice(&blake3::keyed_hash(&key, &content).as_bytes()[..16]);
    fs::write(table, bytes).unwrap();
}
