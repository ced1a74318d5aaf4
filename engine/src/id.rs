//! Identifiers, each a type of its own.
//!
//! Objects are named by their content, everything else by random ids that are never used again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a stored object: the keyed BLAKE3 hash of its plain content (`docs/format.md`, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId([u8; 32]);

impl ObjectId {
    /// Length of an id in bytes.
    pub const LEN: usize = 32;

    /// Takes the bytes of an id.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight bytes as a number. Ids are uniform, so this is where to look in a sorted table.
    pub(crate) fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Parses 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..6])
    }
}

/// Declares an id of 16 random bytes that is written as 32 hexadecimal digits.
macro_rules! random_hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub(crate) struct $name([u8; 16]);

        impl $name {
            /// Makes a new random id.
            pub(crate) fn random() -> Self {
                Self(*uuid::Uuid::new_v4().as_bytes())
            }

            /// Takes the bytes of an id.
            pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id.
            pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Parses 32 hexadecimal digits.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                parse_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
    };
}

random_hex_id!(
    /// Names a pack.
    PackId
);
random_hex_id!(
    /// Names an index table.
    TableId
);

/// Declares an id that is a random UUID in the dashed form.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $visible:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visible struct $name(uuid::Uuid);

        impl $name {
            /// Makes a new random id.
            $visible fn random() -> Self {
                Self(uuid::Uuid::new_v4())
            }

            /// Takes the bytes of an id.
            $visible const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }

            /// The bytes of the id.
            $visible const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// Parses the dashed form of 36 characters, and no other.
            $visible fn parse(text: &str) -> Option<Self> {
                if text.len() != uuid::fmt::Hyphenated::LENGTH {
                    return None;
                }
                let id = Self(uuid::Uuid::try_parse(text).ok()?);
                (id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        // Sixteen plain bytes, whatever the format that serde writes.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.as_bytes().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <[u8; 16]>::deserialize(deserializer).map(Self::from_bytes)
            }
        }
    };
}

uuid_id!(
    /// Names a repository.
    pub RepositoryId
);
uuid_id!(
    /// Names a stream, whatever it is called.
    pub StreamId
);
uuid_id!(
    /// Names a revision.
    pub RevisionId
);
uuid_id!(
    /// Names a session or a pin: something that lives as long as a process.
    pub(crate) ClaimId
);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_and_parsed_the_same() {
        let pack = PackId::random();
        assert_eq!(PackId::parse(&pack.to_string()), Some(pack));
        let stream = StreamId::random();
        assert_eq!(StreamId::parse(&stream.to_string()), Some(stream));
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        assert_eq!(PackId::parse("00"), None);
        assert_eq!(PackId::parse("ABABABABABABABABABABABABABABABAB"), None);
        assert_eq!(PackId::parse("é0000000000000000000000000000000"), None);
        assert_eq!(StreamId::parse("018f0000000040008000000000000000"), None);
        assert_eq!(StreamId::parse("018F0000-0000-4000-8000-000000000000"), None);
    }
}
