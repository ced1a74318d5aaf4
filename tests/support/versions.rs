//! Stored objects as a newer program would write them: of another version, under right checksums (`docs/format.md`).

#![allow(clippy::unwrap_used, reason = "as in the module above")]

use std::fs;
use std::path::Path;

/// Gives a sealed object this version.
pub(crate) fn set_version_of_sealed(file: &Path, version: u8) {
    change(file, |bytes| {
        bytes[12] = version;
        let end = bytes.len() - 32;
        let sum = checksum("treering v1 sealed object", &[&bytes[..end]]);
        bytes[end..].copy_from_slice(&sum);
    });
}

/// Gives an index table this version.
pub(crate) fn set_version_of_table(file: &Path, version: u8) {
    change(file, |bytes| {
        bytes[7] = version;
        let sum = checksum("treering v1 index block", &[&id_of(file), &0u64.to_le_bytes(), &bytes[..4080]]);
        bytes[4080..4096].copy_from_slice(&sum[..16]);
    });
}

/// Gives the header of a pack this version.
pub(crate) fn set_version_of_pack_header(file: &Path, version: u8) {
    change(file, |bytes| {
        bytes[7] = version;
        let sum = checksum("treering v1 pack header", &[&bytes[..48]]);
        bytes[48..64].copy_from_slice(&sum[..16]);
    });
}

/// Gives the trailer of a pack this version.
pub(crate) fn set_version_of_pack_trailer(file: &Path, version: u8) {
    change(file, |bytes| {
        let start = bytes.len() - 64;
        bytes[start + 39] = version;
        let sum = checksum("treering v1 pack directory", &[&id_of(file), &bytes[start..start + 48]]);
        bytes[start + 48..].copy_from_slice(&sum[..16]);
    });
}

/// A header with a feature in place of none: the list of them is the last field.
pub(crate) fn add_feature(header: &Path, feature: &str) {
    change(header, |bytes| {
        let end = bytes.len() - 32 - 8;
        assert_eq!(bytes[end..end + 8], [0; 8], "it has features already");
        bytes.truncate(end);
        bytes.extend(1u64.to_le_bytes());
        bytes.extend((feature.len() as u64).to_le_bytes());
        bytes.extend(feature.as_bytes());
        let payload = (bytes.len() - 20) as u32;
        bytes[16..20].copy_from_slice(&payload.to_le_bytes());
        let sum = checksum("treering v1 sealed object", &[bytes]);
        bytes.extend(sum);
    });
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

/// The id that the name of a pack or table spells.
fn id_of(file: &Path) -> [u8; 16] {
    let name = file.file_name().unwrap().to_str().unwrap();
    std::array::from_fn(|index| u8::from_str_radix(&name[2 * index..2 * index + 2], 16).unwrap())
}

fn checksum(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(context, b""));
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}
