//! The encoding of payloads of sealed objects (`docs/format.md`, section 7). The only place that names bincode.

use bincode::config;
use serde::{Serialize, de::DeserializeOwned};

use super::sealed::MAX_PAYLOAD_SIZE;

type Config =
    config::Configuration<config::LittleEndian, config::Fixint, config::Limit<{ MAX_PAYLOAD_SIZE as usize }>>;

const fn configuration() -> Config {
    config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<{ MAX_PAYLOAD_SIZE as usize }>()
}

/// Encodes a payload.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    bincode::serde::encode_to_vec(value, configuration()).map_err(|error| error.to_string())
}

/// Decodes a payload that must fill `bytes` to the last one.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, configuration()).map_err(|error| error.to_string())?;
    if read == bytes.len() {
        Ok(value)
    } else {
        Err(format!("{} bytes follow the payload", bytes.len() - read))
    }
}
