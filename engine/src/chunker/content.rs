//! Cuts where the content says so (FastCDC, as of 2020): an insertion changes the chunks around it and no others.

use fastcdc::v2020::FastCDC;

/// The average length of a chunk, measured (`docs/decisions.md`).
const AVERAGE: usize = 128 << 10;

/// The averages that can be asked for: with them no chunk is longer than the 8 MiB that a chunk may have.
const AVERAGES: (usize, usize) = (4 << 10, 2 << 20);

/// How much longer than the average a chunk may be, and how much shorter.
const SPREAD: usize = 4;

/// Cuts data extents by content.
///
/// It has no state: each cut depends on the bytes from the last one on, and on nothing before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentCutter {
    average: usize,
}

impl Default for ContentCutter {
    fn default() -> Self {
        Self::new(AVERAGE)
    }
}

impl ContentCutter {
    /// A cutter for chunks of `average` bytes, which is raised to a power of two between 4 KiB and 2 MiB.
    pub(crate) fn new(average: usize) -> Self {
        let (least, most) = AVERAGES;
        Self { average: average.clamp(least, most).next_power_of_two() }
    }

    /// The shortest chunk in bytes, but for the last of an extent.
    pub(crate) fn shortest(&self) -> usize {
        self.average / SPREAD
    }

    /// The longest chunk in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.average * SPREAD
    }

    /// The length of the chunk with which `buffer` begins; see [`Cutter::cut`](super::Cutter::cut).
    ///
    /// It waits for a buffer of the longest chunk, so that no byte is looked at twice.
    pub(crate) fn cut(&self, buffer: &[u8], is_end: bool) -> Option<usize> {
        let window = buffer.get(..self.longest()).or(is_end.then_some(buffer))?;
        let (_, cut) =
            FastCDC::new(window, self.shortest(), self.average, self.longest()).cut(0, window.len());
        (cut > 0).then_some(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::noise;
    use super::*;

    fn lengths(cutter: ContentCutter, mut rest: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(length) = cutter.cut(rest, true) {
            lengths.push(length);
            rest = &rest[length..];
        }
        lengths
    }

    /// What is stored was cut so: other cuts would share nothing with it. Guards against an update of the crate.
    #[test]
    fn cuts_stay_where_they_are() {
        let cuts = [299_867, 192_085, 40_585, 151_536, 82_124, 146_515, 135_864];
        assert_eq!(lengths(ContentCutter::default(), &noise(1, 1 << 20)), cuts);
    }

    #[test]
    fn chunks_are_neither_too_short_nor_too_long_and_average_out() {
        let cutter = ContentCutter::new(4 << 10);
        let mut lengths = lengths(cutter, &noise(2, 8 << 20));
        lengths.pop();
        assert!(lengths.iter().all(|length| (cutter.shortest()..=cutter.longest()).contains(length)));
        let average = lengths.iter().sum::<usize>() / lengths.len();
        assert!((3 << 10..6 << 10).contains(&average), "the average is {average}");
    }

    #[test]
    fn zeros_are_cut_at_the_longest_chunk() {
        let cutter = ContentCutter::new(4 << 10);
        let longest = cutter.longest();
        assert_eq!(lengths(cutter, &vec![0; longest * 3 + 7]), [longest, longest, longest, 7]);
    }

    #[test]
    fn no_average_makes_a_chunk_longer_than_chunks_may_be() {
        for (asked, average) in [(0, 4 << 10), (5000, 8 << 10), (128 << 10, 128 << 10), (usize::MAX, 2 << 20)]
        {
            assert_eq!(ContentCutter::new(asked).longest(), average * SPREAD);
        }
        assert_eq!(ContentCutter::new(usize::MAX).longest(), 8 << 20);
    }

    #[test]
    fn a_file_that_is_shorter_than_a_chunk_is_one() {
        for length in [1, 100, 20_000] {
            assert_eq!(lengths(ContentCutter::default(), &noise(3, length)), [length]);
        }
    }
}
