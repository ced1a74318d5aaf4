//! What nodes of images' and files' maps have in common: their header, and codes of a few bits
//! (`docs/format.md`, sections 10 and 11).

use super::bytes::Fields;

const VERSION: u8 = 1;

/// The eight bytes that a node begins with, but for its kind.
pub(super) struct NodeHead {
    pub(super) level: u8,
    pub(super) count: usize,
}

impl NodeHead {
    pub(super) fn encode(bytes: &mut Vec<u8>, kind: u8, level: u8, count: usize) {
        let count = u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
        bytes.extend_from_slice(&[kind, VERSION, level, 0]);
        bytes.extend_from_slice(&count);
        bytes.extend_from_slice(&[0, 0]);
    }

    /// `None` unless it is of this kind. Neither level nor count is bounded yet.
    pub(super) fn decode(fields: &mut Fields<'_>, kind: u8) -> Option<Self> {
        fields.expect([kind, VERSION])?;
        let level = fields.u8()?;
        fields.expect([0])?;
        let count = fields.u16()?.into();
        fields.expect([0; 2])?;
        Some(Self { level, count })
    }
}

/// Packs codes of `BITS` bits each into bytes, low bits first.
pub(super) fn encode_codes<const BITS: usize>(bytes: &mut Vec<u8>, codes: impl Iterator<Item = u8>) {
    let per_byte = 8 / BITS;
    for (index, code) in codes.enumerate() {
        if index % per_byte == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= code << (BITS * (index % per_byte));
        }
    }
}

/// Unpacks `count` codes; `None` if bits behind the last one are set.
pub(super) fn decode_codes<const BITS: usize>(fields: &mut Fields<'_>, count: usize) -> Option<Vec<u8>> {
    let per_byte = 8 / BITS;
    let bytes = fields.bytes(count.div_ceil(per_byte))?;
    let mask = (1u8 << BITS) - 1;
    let mut codes: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..per_byte).map(move |index| byte >> (BITS * index) & mask)).collect();
    codes.get(count..)?.iter().all(|&code| code == 0).then(|| codes.truncate(count))?;
    Some(codes)
}
