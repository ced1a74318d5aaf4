//! Small objects in one checksummed envelope (`docs/format.md`, section 7).

use serde::{Serialize, de::DeserializeOwned};

use super::bytes::Fields;
use super::codec;
use super::hash::ChecksumContext;
use super::version::incompatible;
use crate::error::{Corrupt, Error, Result};

const MAGIC: [u8; 8] = *b"TREERING";
const HEAD_SIZE: usize = 20;
const CHECKSUM_SIZE: usize = 32;

/// The longest payload that is read or written.
pub(super) const MAX_PAYLOAD_SIZE: u32 = 16 << 20;

/// The longest sealed object.
pub(crate) const MAX_SEALED_SIZE: u64 = MAX_PAYLOAD_SIZE as u64 + (HEAD_SIZE + CHECKSUM_SIZE) as u64;

/// Something that is stored as a sealed object.
pub(crate) trait SealedKind: Serialize + DeserializeOwned {
    /// Four letters that tell the kinds apart.
    const KIND: [u8; 4];
    /// What it is, for messages.
    const NOUN: &'static str;
    /// The newest version of this kind that is known.
    const VERSION: u16 = 1;
}

/// Encodes an object with its envelope.
pub(crate) fn seal<T: SealedKind>(value: &T) -> Result<Vec<u8>> {
    let too_large = |reason| Error::NotStorable { object: T::NOUN, reason };
    let payload = codec::encode(value).map_err(too_large)?;
    let length = u32::try_from(payload.len()).ok().filter(|&length| length <= MAX_PAYLOAD_SIZE);
    let length = length.ok_or_else(|| too_large(format!("{} bytes are too many", payload.len())))?;
    let mut bytes = Vec::with_capacity(HEAD_SIZE + payload.len() + CHECKSUM_SIZE);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&T::KIND);
    bytes.extend_from_slice(&T::VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload);
    let sum: [u8; CHECKSUM_SIZE] = ChecksumContext::SealedObject.sum(&bytes);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// Verifies and decodes an object; `object` names it in errors.
pub(crate) fn open<T: SealedKind>(object: &str, bytes: &[u8]) -> Result<T> {
    let corrupt = |expected: &str| Error::from(Corrupt::new(object, expected));
    let (body, sum) = bytes.split_last_chunk::<CHECKSUM_SIZE>().ok_or_else(|| corrupt("it is too short"))?;
    let intact = ChecksumContext::SealedObject.sum::<CHECKSUM_SIZE>(body) == *sum;
    let head = parse_head(body).filter(|_| intact);
    let head = head.ok_or_else(|| corrupt("its checksum does not match"))?;
    if head.kind != T::KIND {
        return Err(corrupt(&format!("it is not a {}", T::NOUN)));
    }
    if head.version != T::VERSION {
        return Err(incompatible(object, head.version, T::VERSION));
    }
    codec::decode(head.payload).map_err(|reason| corrupt(&reason))
}

struct Head<'a> {
    kind: [u8; 4],
    version: u16,
    payload: &'a [u8],
}

fn parse_head(body: &[u8]) -> Option<Head<'_>> {
    let mut fields = Fields::new(body);
    fields.expect(MAGIC)?;
    let kind = fields.array()?;
    let version = fields.u16()?;
    fields.expect([0; 2])?;
    let length = fields.u32().filter(|&length| length <= MAX_PAYLOAD_SIZE)?;
    let payload = fields.bytes(usize::try_from(length).ok()?)?;
    fields.end()?;
    Some(Head { kind, version, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Labels;
    use crate::id::RevisionId;

    fn sealed() -> Vec<u8> {
        let labels =
            Labels { revision: RevisionId::from_bytes([7; 16]), tags: vec!["daily".into()], protected: true };
        seal(&labels).unwrap()
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = sealed();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Labels>("labels", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_and_a_longer_tail_are_found() {
        let bytes = sealed();
        for length in 0..bytes.len() {
            assert!(open::<Labels>("labels", &bytes[..length]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(open::<Labels>("labels", &longer).is_err());
    }

    #[test]
    fn a_newer_version_is_incompatible_and_not_damaged() {
        let mut bytes = sealed();
        bytes[12] = 2;
        let end = bytes.len() - CHECKSUM_SIZE;
        let sum: [u8; 32] = ChecksumContext::SealedObject.sum(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum);
        let error = open::<Labels>("labels", &bytes).unwrap_err();
        assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    }

    #[test]
    fn another_kind_is_refused() {
        let error = open::<crate::format::Damage>("damage", &sealed()).unwrap_err();
        assert!(error.to_string().contains("not a damage list"), "{error}");
    }
}
