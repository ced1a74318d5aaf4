//! What is read, what is a hole, and what is taken over: a list of pieces from the first chunk to the last.

use std::ops::Range;

use super::hints::Hints;
use crate::error::Result;
use crate::extent::joined;
use crate::source::ImageSource;

/// A range of slots and where its content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Read from the source.
    Read(Range<u64>),
    /// Holes.
    Holes(Range<u64>),
    /// As in the base.
    Base(Range<u64>),
}

/// The pieces of a backup that reads all data of the source, found while it goes on.
pub(super) struct FullPlan<'a> {
    source: &'a dyn ImageSource,
    chunk_size: u64,
    end: u64,
    position: u64,
    /// A range of data that comes next, in slots.
    pending: Option<Range<u64>>,
}

impl<'a> FullPlan<'a> {
    pub(super) fn new(source: &'a dyn ImageSource, chunk_size: u32) -> Self {
        let slot_count = source.size().div_ceil(chunk_size.into());
        Self::within(source, chunk_size, 0..slot_count)
    }

    /// The same for a range of slots.
    pub(super) fn within(source: &'a dyn ImageSource, chunk_size: u32, slots: Range<u64>) -> Self {
        let chunk_size = u64::from(chunk_size);
        Self { source, chunk_size, end: slots.end, position: slots.start, pending: None }
    }

    fn advance(&mut self) -> Result<Option<Piece>> {
        if let Some(range) = self.pending.take() {
            self.position = range.end;
            return Ok(Some(Piece::Read(range)));
        }
        if self.position >= self.end {
            return Ok(None);
        }
        let data = self.source.next_data(self.position * self.chunk_size)?;
        // The next data may lie behind the end: all up to there is a hole then, and what follows is not ours to tell.
        let (start, end) = match data {
            Some(data) => (data.start / self.chunk_size, data.end.div_ceil(self.chunk_size)),
            None => (self.end, self.end),
        };
        let (start, end) = (start.min(self.end), end.min(self.end));
        let (start, from) = (start.max(self.position), self.position);
        if start == from {
            self.position = end;
            return Ok(Some(Piece::Read(start..end)));
        }
        self.pending = (start < end).then_some(start..end);
        self.position = start;
        Ok(Some(Piece::Holes(from..start)))
    }
}

impl Iterator for FullPlan<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// The pieces of a backup by hints: only what they name is read, and `also_read` (slots, in any order).
pub(super) fn hinted_plan(
    hints: &Hints,
    also_read: &[Range<u64>],
    chunk_size: u32,
    slot_count: u64,
    size: u64,
    has_base: bool,
) -> Vec<Piece> {
    let chunk_size = u64::from(chunk_size);
    let mut reads: Vec<Range<u64>> = also_read.to_vec();
    let mut holes = Vec::new();
    for hint in &hints.ranges {
        let Range { start, end } = hint.range;
        let widened = start / chunk_size..end.div_ceil(chunk_size);
        // The last chunk is covered by a range that goes up to the size.
        let covered_end = if end == size { widened.end } else { end / chunk_size };
        let covered = start.div_ceil(chunk_size)..covered_end;
        if hint.exists || covered.is_empty() {
            reads.push(widened);
        } else {
            reads.push(widened.start..covered.start);
            reads.push(covered.end..widened.end);
            holes.push(covered);
        }
    }
    let reads = joined(reads);
    // A chunk that anything wants to be read is read.
    let holes = subtract(joined(holes), &reads);
    let mut named: Vec<Piece> =
        reads.into_iter().map(Piece::Read).chain(holes.into_iter().map(Piece::Holes)).collect();
    named.sort_by_key(|piece| piece.range().start);
    let mut pieces = Vec::new();
    let mut position = 0;
    for piece in named {
        push_rest(&mut pieces, position..piece.range().start, has_base);
        position = piece.range().end;
        pieces.push(piece);
    }
    push_rest(&mut pieces, position..slot_count, has_base);
    pieces
}

impl Piece {
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Self::Read(range) | Self::Holes(range) | Self::Base(range) => range.clone(),
        }
    }
}

fn push_rest(pieces: &mut Vec<Piece>, range: Range<u64>, has_base: bool) {
    if !range.is_empty() {
        pieces.push(if has_base { Piece::Base(range) } else { Piece::Holes(range) });
    }
}

/// What of `ranges` is in none of `others`; both joined.
fn subtract(ranges: Vec<Range<u64>>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut rest = Vec::new();
    for range in ranges {
        let mut start = range.start;
        let first = others.partition_point(|other| other.end <= range.start);
        for other in others.iter().skip(first).take_while(|other| other.start < range.end) {
            if start < other.start {
                rest.push(start..other.start);
            }
            start = start.max(other.end);
        }
        if start < range.end {
            rest.push(start..range.end);
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FileEvidence;
    use crate::operations::backup::image::hints::Hint;

    /// A source of 20 chunks of 100 bytes, with data in two ranges of it.
    struct Sparse([Range<u64>; 2]);

    impl ImageSource for Sparse {
        fn name(&self) -> String {
            "sparse".to_owned()
        }

        fn size(&self) -> u64 {
            2000
        }

        fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
            let found = self.0.iter().find(|range| range.end > offset);
            Ok(found.map(|range| range.start.max(offset)..range.end))
        }

        fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> Result<()> {
            unreachable!("a plan reads nothing")
        }

        fn will_read(&self, _range: Range<u64>) {}

        fn write_back(&self) -> bool {
            true
        }

        fn evidence(&self) -> Result<Option<FileEvidence>> {
            Ok(None)
        }
    }

    fn pieces_within(slots: Range<u64>) -> Vec<Piece> {
        let source = Sparse([250..420, 1500..1600]);
        FullPlan::within(&source, 100, slots).map(Result::unwrap).collect()
    }

    #[test]
    fn data_is_read_and_the_rest_is_holes() {
        let expected = [
            Piece::Holes(0..2),
            Piece::Read(2..5),
            Piece::Holes(5..15),
            Piece::Read(15..16),
            Piece::Holes(16..20),
        ];
        assert_eq!(pieces_within(0..20), expected);
    }

    /// Where a part lay in a hole, the plan of it once went on to the next data, far behind its end: what was to be taken
    /// over there became a hole.
    #[test]
    fn a_part_of_a_source_ends_where_it_ends() {
        assert_eq!(pieces_within(7..9), [Piece::Holes(7..9)]);
        assert_eq!(pieces_within(3..4), [Piece::Read(3..4)]);
        assert_eq!(pieces_within(4..7), [Piece::Read(4..5), Piece::Holes(5..7)]);
        assert_eq!(pieces_within(17..20), [Piece::Holes(17..20)]);
        assert_eq!(pieces_within(15..15), []);
    }

    fn plan(ranges: &[(Range<u64>, bool)], also_read: &[Range<u64>]) -> Vec<Piece> {
        let ranges =
            ranges.iter().map(|(range, exists)| Hint { range: range.clone(), exists: *exists }).collect();
        // 10 slots of 100 bytes, the last one of 50.
        hinted_plan(&Hints { ranges }, also_read, 100, 10, 950, true)
    }

    #[test]
    fn ranges_are_widened_to_chunks_and_the_rest_is_taken_over() {
        assert_eq!(
            plan(&[(150..160, true)], &[]),
            [Piece::Base(0..1), Piece::Read(1..2), Piece::Base(2..10)]
        );
    }

    #[test]
    fn only_chunks_that_became_holes_wholly_are_holes() {
        let pieces = plan(&[(150..420, false)], &[]);
        let expected =
            [Piece::Base(0..1), Piece::Read(1..2), Piece::Holes(2..4), Piece::Read(4..5), Piece::Base(5..10)];
        assert_eq!(pieces, expected);
        assert_eq!(plan(&[(110..190, false)], &[])[1], Piece::Read(1..2));
    }

    #[test]
    fn a_hole_up_to_the_size_covers_the_last_chunk() {
        assert_eq!(plan(&[(800..950, false)], &[]), [Piece::Base(0..8), Piece::Holes(8..10)]);
    }

    #[test]
    fn what_must_be_read_anyway_wins_over_a_hole() {
        let read_anyway = 3..4;
        let pieces = plan(&[(200..500, false)], std::slice::from_ref(&read_anyway));
        let expected = [
            Piece::Base(0..2),
            Piece::Holes(2..3),
            Piece::Read(3..4),
            Piece::Holes(4..5),
            Piece::Base(5..10),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn two_ranges_in_one_chunk_read_it_once() {
        let pieces = plan(&[(100..120, true), (130..150, false)], &[]);
        assert_eq!(pieces, [Piece::Base(0..1), Piece::Read(1..2), Piece::Base(2..10)]);
    }
}
