//! Ranges of bytes or slots that are gathered piece by piece.

use std::ops::Range;

/// Appends a range that begins no earlier than the last one. Where the two touch or overlap they become one.
pub(crate) fn push_joined(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    }
}

/// Ranges in any order, sorted; those that touch or overlap become one, and empty ones go.
pub(crate) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined = Vec::new();
    ranges.into_iter().for_each(|range| push_joined(&mut joined, range));
    joined
}

/// Bytes, or slots, of all ranges.
pub(crate) fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_and_overlapping_ranges_become_one_and_gaps_stay() {
        let ranges = vec![7..9, 0..2, 3..3, 2..4, 5..6, 1..3, 8..8];
        assert_eq!(joined(ranges), [0..4, 5..6, 7..9]);
        assert_eq!(total(&[0..4, 5..6]), 5);
    }

    #[test]
    fn a_range_within_the_last_one_does_not_shorten_it() {
        let mut ranges = Vec::new();
        push_joined(&mut ranges, 0..10);
        push_joined(&mut ranges, 2..5);
        assert_eq!(ranges.as_slice(), std::slice::from_ref(&(0..10)));
    }
}
