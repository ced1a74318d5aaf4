//! Names of entries and targets of symlinks: bytes that were checked once, when they were made.

use std::fmt;

/// The name of an entry: 1 to 255 bytes, none of them 0 or `/`, neither `.` nor `..`. They need not be UTF-8.
///
/// The root of a tree alone has a name without bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryName(Box<[u8]>);

impl EntryName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// Takes a name; `None` if no entry may have it.
    pub fn new(name: &[u8]) -> Option<Self> {
        let dots = name == b"." || name == b"..";
        let fits = (1..=Self::MAX_LEN).contains(&name.len()) && !dots;
        let allowed = fits && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        allowed.then(|| Self(name.into()))
    }

    /// The name of a tree's root: empty.
    pub fn of_root() -> Self {
        Self(Box::default())
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the name marks the end of a node of this level, from some count on.
    pub(super) fn marks_end(&self, level: u8) -> bool {
        let hash = blake3::hash(&self.0);
        hash.as_bytes().get(usize::from(level)).is_some_and(|byte| byte.trailing_zeros() >= 6)
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Where a symlink leads: 1 to 4,095 bytes, none of them 0.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SymlinkTarget(Box<[u8]>);

impl SymlinkTarget {
    /// The longest target, in bytes.
    pub const MAX_LEN: usize = 4095;

    /// Takes a target; `None` if no symlink may have it.
    pub fn new(target: &[u8]) -> Option<Self> {
        let allowed = (1..=Self::MAX_LEN).contains(&target.len()) && !target.contains(&0);
        allowed.then(|| Self(target.into()))
    }

    /// The target's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SymlinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert_eq!(EntryName::new(name), None, "{}", name.escape_ascii());
        }
        for name in [&b"..."[..], b".a", b"\xff\xfe", b"\n", b"\\", &[b'x'; 255]] {
            assert_eq!(EntryName::new(name).unwrap().as_bytes(), name);
        }
    }

    #[test]
    fn targets_that_no_symlink_has_are_refused() {
        for target in [&b""[..], b"a\0", &[b'x'; 4096]] {
            assert_eq!(SymlinkTarget::new(target), None);
        }
        for target in [&b".."[..], b"/", &[b'x'; 4095]] {
            assert_eq!(SymlinkTarget::new(target).unwrap().as_bytes(), target);
        }
    }
}
