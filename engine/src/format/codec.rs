//! The encoding of payloads of sealed objects (`docs/format.md`, section 7). The only place that names bincode.

use bincode::config;
use serde::{Serialize, de::DeserializeOwned};

use super::sealed::MAX_PAYLOAD_SIZE;

type Config<const LIMIT: usize> =
    config::Configuration<config::LittleEndian, config::Fixint, config::Limit<LIMIT>>;

const MAX_LIMIT: usize = MAX_PAYLOAD_SIZE as usize;

const fn configuration<const LIMIT: usize>() -> Config<LIMIT> {
    config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// Encodes a payload.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, configuration::<MAX_LIMIT>()).map_err(|error| error.to_string())
}

/// Decodes a payload that must fill `bytes` to the last one.
///
/// bincode makes room for a string before it looks whether there are so many bytes; so its limit is to be near what there
/// is. It is a constant, hence the steps.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.len() {
        0..=0x1000 => decode_within::<T, 0x1000>(bytes),
        0x1001..=0x1_0000 => decode_within::<T, 0x1_0000>(bytes),
        0x1_0001..=0x10_0000 => decode_within::<T, 0x10_0000>(bytes),
        _ => decode_within::<T, MAX_LIMIT>(bytes),
    }
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, String> {
    let (value, read) = bincode::serde::decode_from_slice(bytes, configuration::<LIMIT>())
        .map_err(|error| error.to_string())?;
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(format!("{} bytes follow the payload", bytes.len() - read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 64 bytes once made its reader take 10 MiB, for a string that was said to be so long.
    #[test]
    fn no_room_is_made_for_a_string_that_is_not_there() {
        for length in [0x1000, 0x1_0000, 0x10_0000] {
            let mut bytes = encode(&"x".repeat(length - 8)).unwrap();
            assert!(decode::<String>(&bytes).is_ok_and(|text| text.len() == length - 8));
            bytes[..8].copy_from_slice(&(length as u64 - 7).to_le_bytes());
            let error = decode::<String>(&bytes).unwrap_err();
            assert!(error.contains("LimitExceeded"), "room was made first: {error}");
        }
    }
}
