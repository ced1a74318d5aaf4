//! Versions of what has no envelope: told where they are newer than what this program knows (`docs/format.md`, section 13).

use super::FORMAT_VERSION;
use crate::error::Error;

/// The version that ends a magic, if these bytes begin with that magic in a newer version. They must have been verified:
/// what is merely damaged may look newer.
pub(super) fn newer_magic(known: [u8; 8], bytes: &[u8]) -> Option<u8> {
    let [word @ .., version] = known;
    let [found @ .., found_version] = *bytes.first_chunk::<8>()?;
    (found == word && found_version > version).then_some(found_version)
}

/// The greatest kind that a node of a newer version may have: what is beyond it is no node.
const NODE_KIND_MAX: u8 = 31;

/// The version of a node of whatever kind, if it is newer. Every node begins with its kind, its version, its level and a zero.
pub(crate) fn newer_node_version(content: &[u8]) -> Option<u8> {
    match *content.first_chunk::<4>()? {
        [kind, version, _, 0] if kind <= NODE_KIND_MAX && u16::from(version) > FORMAT_VERSION => {
            Some(version)
        }
        _ => None,
    }
}

/// Refuses an object that a newer program wrote.
pub(crate) fn incompatible(object: impl Into<String>, version: impl std::fmt::Display, known: u16) -> Error {
    Error::Incompatible {
        object: object.into(),
        found: format!("format version {version}"),
        supported: format!("version {known}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_version_of_the_same_thing_is_newer() {
        let known = *b"TRINDEX\x01";
        assert_eq!(newer_magic(known, b"TRINDEX\x02 and more"), Some(2));
        for other in [&b"TRINDEX\x01"[..], b"TRINDEX\0", b"TRINDEY\x02", b"TRINDEX"] {
            assert_eq!(newer_magic(known, other), None, "{}", other.escape_ascii());
        }
        assert_eq!(newer_node_version(&[9, 2, 0, 0]), Some(2));
        for other in [&[1, 1, 0, 0][..], &[1, 2, 0, 1], &[1, 2, 0], b"nonsense"] {
            assert_eq!(newer_node_version(other), None, "{other:?}");
        }
    }
}
