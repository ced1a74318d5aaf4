//! What every decoder of an object that is named by its content must do, for tests.

use std::fmt::Debug;

/// Asserts that a value comes back from its encoding, that no shorter or longer bytes are taken, and that whatever
/// else is taken after a flip of one bit is the encoding of what it was taken for.
pub(super) fn assert_canonical<T: Debug + PartialEq>(
    value: &T,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Option<T>,
) {
    let bytes = encode(value);
    assert_eq!(decode(&bytes).as_ref(), Some(value));
    for length in 0..bytes.len() {
        assert_eq!(decode(&bytes[..length]), None, "the first {length} bytes");
    }
    assert_eq!(decode(&[bytes.as_slice(), &[0]].concat()), None, "a byte more");
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Some(other) = decode(&flipped) {
            assert!(encode(&other) == flipped, "bit {bit}: {other:?}");
        }
    }
}
