//! Cuts at fixed offsets of the file, so that a file that holds an image has the chunks that a stream of it has.

/// Cuts data extents at multiples of a chunk size.
///
/// The offsets are those in the file, not in the extent. So a chunk that a data extent covers is that of an image, and
/// where holes begin or end inside a chunk, the rest of it is a shorter chunk of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedCutter {
    chunk_size: u32,
}

impl FixedCutter {
    /// A cutter at multiples of a repository's chunk size in bytes.
    pub(crate) fn new(chunk_size: u32) -> Self {
        Self { chunk_size: chunk_size.max(1) }
    }

    /// The longest chunk in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.chunk_size as usize
    }

    /// The length of the chunk with which a buffer of `available` bytes at `offset` in the file begins; see
    /// [`Cutter::cut`](super::Cutter::cut).
    pub(crate) fn cut(&self, offset: u64, available: usize, is_end: bool) -> Option<usize> {
        let beyond = (offset % u64::from(self.chunk_size)) as usize;
        let wanted = self.longest() - beyond;
        let is_whole = available >= wanted;
        (is_whole || (is_end && available > 0)).then_some(wanted.min(available))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u32 = 64 << 10;

    #[test]
    fn cuts_lie_at_multiples_of_the_chunk_size_in_the_file() {
        let cutter = FixedCutter::new(CHUNK);
        assert_eq!(cutter.cut(0, 200_000, false), Some(65_536));
        assert_eq!(cutter.cut(4096, 200_000, false), Some(65_536 - 4096));
        assert_eq!(cutter.cut(65_535, 200_000, false), Some(1));
        assert_eq!(cutter.cut(u64::MAX, 200_000, false), Some(1));
    }

    #[test]
    fn a_chunk_waits_for_all_its_bytes_but_at_the_end() {
        let cutter = FixedCutter::new(CHUNK);
        assert_eq!(cutter.cut(0, 65_535, false), None);
        assert_eq!(cutter.cut(0, 65_535, true), Some(65_535));
        assert_eq!(cutter.cut(60_000, 5_536, false), Some(5_536));
    }
}
