//! Checks a part of a pack: all that it says of itself, and those of its blobs that were drawn.

use crate::backend::{Backend, Key, ObjectReader};
use crate::error::{Corrupt, Error, Result};
use crate::format::{ChecksumContext, MAX_CHUNK_SIZE, PackDirectory, PackEntry, PackHeader, PackTrailer};
use crate::store::PackCheck;

/// As [`PackCheck::run`] on the pack that must have this header, but only of the entries that `draw` picks; the others
/// are not read, and not returned.
pub(super) fn check_sample(
    backend: &dyn Backend,
    header: PackHeader,
    draw: impl Fn(&PackEntry) -> bool,
    mut passed: impl FnMut(u64) -> Result<()>,
) -> Result<PackCheck> {
    let reader = backend.open(&Key::pack(header.kind, header.pack))?;
    let mut entries = read_directory(reader.as_ref(), &header)?;
    let mut skipped = 0;
    entries.retain(|entry| {
        let drawn = draw(entry);
        skipped += if drawn { 0 } else { u64::from(entry.stored_len) };
        drawn
    });
    passed(skipped)?;
    let mut bad = Vec::new();
    for entry in &entries {
        if !is_intact(reader.as_ref(), entry)? {
            bad.push(*entry);
        }
        passed(entry.stored_len.into())?;
    }
    Ok(PackCheck { bad, entries })
}

fn read_directory(reader: &dyn ObjectReader, header: &PackHeader) -> Result<Vec<PackEntry>> {
    let not_intact = |part: &str| {
        let file = Key::pack(header.kind, header.pack).to_string();
        Error::from(Corrupt::new(file, format!("its {part} is not intact")))
    };
    let mut bytes = [0; PackHeader::SIZE];
    reader.read_at(0, &mut bytes)?;
    if PackHeader::decode(&bytes).as_ref() != Some(header) {
        return Err(not_intact("header"));
    }
    let size = reader.size()?;
    let mut bytes = [0; PackTrailer::SIZE];
    let offset = size.checked_sub(bytes.len() as u64).ok_or_else(|| not_intact("trailer"))?;
    reader.read_at(offset, &mut bytes)?;
    let trailer = PackTrailer::decode(header.pack, size, &bytes).ok_or_else(|| not_intact("trailer"))?;
    // Bounded: a trailer that was accepted describes a directory that lies within the pack's size.
    let mut bytes = vec![0; trailer.directory_size() as usize];
    reader.read_at(trailer.directory_offset, &mut bytes)?;
    PackDirectory::decode(&trailer, &bytes).ok_or_else(|| not_intact("directory"))
}

fn is_intact(reader: &dyn ObjectReader, entry: &PackEntry) -> Result<bool> {
    // No blob is longer than the longest chunk and its encoding byte.
    if entry.stored_len > MAX_CHUNK_SIZE + 1 {
        return Ok(false);
    }
    let mut blob = vec![0; entry.stored_len as usize];
    match reader.read_at(entry.offset.into(), &mut blob) {
        Ok(()) => Ok(ChecksumContext::PackBlob.sum(&blob) == entry.checksum),
        Err(error) => super::damage_of(error).map(|_| false),
    }
}
