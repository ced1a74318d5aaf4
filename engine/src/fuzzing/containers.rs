//! Packs, and the blobs in them.

use super::is_canonical;
use super::memory::Memory;
use crate::backend::Key;
use crate::format::{
    ChecksumContext, MAX_CHUNK_SIZE, ObjectHasher, ObjectType, PackDirectory, PackEntry, PackHeader,
    PackKind, PackTrailer, decode_blob_into,
};
use crate::id::PackId;

/// The pack that everything belongs to.
const PACK: PackId = PackId::from_bytes([0x10; 16]);

/// Where a trailer has the checksum of the directory, and where its own.
const DIRECTORY_CHECKSUM: std::ops::Range<usize> = 16..32;
const TRAILER_CHECKSUM: usize = 48;
/// Where a header has its checksum.
const HEADER_CHECKSUM: usize = 48;

/// A blob, behind two bytes that say how long its content is.
pub fn blob(bytes: &[u8]) -> bool {
    let Some((length, blob)) = bytes.split_first_chunk() else { return false };
    let mut content = vec![0; u16::from_le_bytes(*length).into()];
    decode_blob_into(blob, &mut content).is_some()
}

/// The header of a pack, but for its checksum.
pub fn pack_header(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    complete_header(&mut bytes);
    is_canonical(&bytes, PackHeader::decode, |header| header.encode().to_vec())
}

/// The trailer of a pack, but for its checksum, behind the size of the pack.
pub fn pack_trailer(bytes: &[u8]) -> bool {
    let Some((size, trailer)) = bytes.split_first_chunk() else { return false };
    let (size, mut trailer) = (u64::from_le_bytes(*size), trailer.to_vec());
    complete_trailer(&mut trailer);
    let Some(decoded) = PackTrailer::decode(PACK, size, &trailer) else { return false };
    let end = decoded.directory_offset + decoded.directory_size();
    assert!(end + PackTrailer::SIZE as u64 == size, "the directory does not end where the trailer begins");
    true
}

/// The directory of a pack, of which all else is right.
pub fn pack_directory(bytes: &[u8]) -> bool {
    let entries = bytes.len() / PackEntry::SIZE;
    let last = bytes.len().checked_sub(PackEntry::SIZE).and_then(|start| bytes.get(start + 32..start + 40));
    // Where the last blob ends, as its entry says.
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let end = last.and_then(|last| number(&last[..4]).checked_add(number(&last[4..])));
    let offset = end.unwrap_or(PackHeader::SIZE as u32);
    let mut trailer = [0; PackTrailer::SIZE];
    trailer[..8].copy_from_slice(&u64::from(offset).to_le_bytes());
    trailer[8..12].copy_from_slice(&u32::try_from(entries).unwrap_or(u32::MAX).to_le_bytes());
    trailer[32..40].copy_from_slice(b"TRPKEND\x01");
    trailer[DIRECTORY_CHECKSUM].copy_from_slice(&ChecksumContext::PackDirectory.sum::<16>(bytes));
    complete_trailer(&mut trailer);
    let size = u64::from(offset) + (entries * PackEntry::SIZE + PackTrailer::SIZE) as u64;
    let Some(trailer) = PackTrailer::decode(PACK, size, &trailer) else { return false };
    let Some(decoded) = PackDirectory::decode(&trailer, bytes) else { return false };
    let again = PackDirectory::encode(PACK, offset.into(), &decoded).unwrap_or_default();
    assert!(again.get(..bytes.len()) == Some(bytes), "other bytes than these encode this directory");
    true
}

/// A whole pack of data: behind a byte that says which checksums are to be completed from within to without, so that
/// damage of each part comes up as well.
pub fn pack(bytes: &[u8]) -> bool {
    let Some((completed, pack)) = bytes.split_first() else { return false };
    let mut pack = pack.to_vec();
    complete_pack(&mut pack, *completed);
    let key = Key::pack(PackKind::Data, PACK);
    let store = Memory::default().with(key, pack).into_store();
    let Ok((mut check, entries)) = store.check_pack(PackKind::Data, PACK) else { return false };
    let mut intact = false;
    for entry in &entries {
        let is_intact = check.verify(entry).is_ok();
        // Readers ask neither for the header nor for a blob's checksum.
        if let Ok(content) = store.read_object(entry.object_type, &entry.id) {
            assert!(store.hasher().id(entry.object_type, &content) == entry.id, "it has another content");
        }
        intact |= is_intact;
    }
    intact
}

fn complete_header(bytes: &mut [u8]) {
    if let Some((head, sum)) =
        bytes.get_mut(..PackHeader::SIZE).and_then(|head| head.split_at_mut_checked(HEADER_CHECKSUM))
    {
        sum.copy_from_slice(&ChecksumContext::PackHeader.sum::<16>(head));
    }
}

fn complete_trailer(bytes: &mut [u8]) {
    if let Some((head, sum)) = bytes.split_at_mut_checked(TRAILER_CHECKSUM)
        && let Some(sum) = sum.first_chunk_mut::<16>()
    {
        *sum = ChecksumContext::PackDirectory.sum_of_parts(&[PACK.as_bytes(), head]);
    }
}

/// Completes a pack: names and checksums of blobs (1), the directory's checksum (2), the trailer's (4), the header's (8).
fn complete_pack(pack: &mut [u8], which: u8) {
    if which & 8 != 0 {
        complete_header(pack);
    }
    let Some(trailer) = pack.len().checked_sub(PackTrailer::SIZE) else { return };
    let (body, trailer) = pack.split_at_mut(trailer);
    let start = trailer.first_chunk().map_or(0, |start| u64::from_le_bytes(*start));
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    if let Some((blobs, directory)) = body.split_at_mut_checked(start) {
        if which & 1 != 0 {
            directory.chunks_exact_mut(PackEntry::SIZE).for_each(|entry| complete_entry(entry, blobs));
        }
        if which & 2 != 0 {
            let sum: [u8; 16] = ChecksumContext::PackDirectory.sum(directory);
            trailer[DIRECTORY_CHECKSUM].copy_from_slice(&sum);
        }
    }
    if which & 4 != 0 {
        complete_trailer(trailer);
    }
}

/// Gives an entry the name of what its blob decodes to, and the blob's checksum.
fn complete_entry(entry: &mut [u8], blobs: &[u8]) {
    let field = |entry: &[u8], at: usize| {
        entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    };
    let (offset, stored, plain) = (field(entry, 32), field(entry, 36), field(entry, 40));
    let Some(blob) = blobs.get(offset..).and_then(|rest| rest.get(..stored)) else { return };
    let mut content = vec![0; plain.min(MAX_CHUNK_SIZE as usize)];
    if decode_blob_into(blob, &mut content).is_some() {
        let id = ObjectHasher::new(b"").id(ObjectType::Chunk, &content);
        entry[..32].copy_from_slice(id.as_bytes());
    }
    entry[48..].copy_from_slice(&ChecksumContext::PackBlob.sum::<8>(blob));
}
