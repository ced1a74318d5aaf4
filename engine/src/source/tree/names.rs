//! The names in one directory, sorted by their bytes.
//!
//! They lie in one piece of memory: a directory may have millions.

use std::os::fd::AsFd;

use rustix::fs::RawDir;
use rustix::io::Errno;

/// What one request for names may bring, in bytes.
const REQUEST_BYTES: usize = 64 << 10;

/// The names in a directory, each once, in the order of their bytes.
#[derive(Default)]
pub(crate) struct Names {
    /// The names as they came, each behind its length in two bytes: some file systems have longer ones than are stored.
    bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    starts: Vec<u32>,
}

impl Names {
    /// Reads the names. If that fails on the way, the error comes with those that were read.
    pub(crate) fn read(directory: impl AsFd) -> (Self, Result<(), Errno>) {
        let mut names = Self::default();
        let outcome = names.fill(directory);
        names.sort();
        (names, outcome)
    }

    /// The names, sorted.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut sorted = Self::default();
        for name in names {
            // No more than a few.
            let _ = sorted.add(name);
        }
        sorted.sort();
        sorted
    }

    fn fill(&mut self, directory: impl AsFd) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(REQUEST_BYTES);
        let mut listing = RawDir::new(directory, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            match entry {
                Ok(entry) => self.add(entry.file_name().to_bytes())?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8]) -> Result<(), Errno> {
        if name.is_empty() || name == b"." || name == b".." {
            return Ok(());
        }
        let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        self.starts.push(u32::try_from(self.bytes.len()).map_err(|_| Errno::OVERFLOW)?);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(name);
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.starts.sort_unstable_by_key(|&start| name_at(bytes, start));
        // A directory that changes while it is listed may show a name twice.
        self.starts.dedup_by_key(|start| name_at(bytes, *start));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether one of them is `name`.
    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.starts.binary_search_by_key(&name, |&start| name_at(&self.bytes, start)).is_ok()
    }

    /// Up to `count` names from `first` on.
    pub(crate) fn part(&self, first: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        self.starts.iter().skip(first).take(count).map(|&start| name_at(&self.bytes, start))
    }
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = bytes.get(start as usize..).and_then(<[u8]>::split_first_chunk);
    let name = rest.and_then(|(&length, rest)| rest.get(..usize::from(u16::from_le_bytes(length))));
    name.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_once_and_in_the_order_of_their_bytes() {
        let long = [b'z'; 1000];
        let names =
            Names::new([&b"b"[..], b"a/", b".", b"\xff", b"a", &long, b"b", b"..", b"A", b"a!", b"\xc3\xa4"]);
        let sorted: Vec<&[u8]> = names.part(0, usize::MAX).collect();
        assert_eq!(sorted, [&b"A"[..], b"a", b"a!", b"a/", b"b", &long, b"\xc3\xa4", b"\xff"]);
        assert_eq!(names.part(2, 2).collect::<Vec<_>>(), [b"a!", b"a/"]);
        assert_eq!(names.len(), 8);
        assert!(names.contains(b"b") && !names.contains(b"c"));
    }
}
