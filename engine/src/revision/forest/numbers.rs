//! Which of several trees.

use std::ops::Range;

/// Some of several trees, by their numbers. Revisions that have something in common mostly follow each other, so few
/// runs say much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeNumbers {
    /// In order, no two of them touching, none empty.
    runs: Vec<Range<u32>>,
}

impl TreeNumbers {
    /// One tree.
    pub(crate) fn one(number: u32) -> Self {
        Self { runs: std::iter::once(number..number.saturating_add(1)).collect() }
    }

    /// The first `count` trees.
    pub(crate) fn first(count: u32) -> Self {
        Self { runs: std::iter::once(0..count).filter(|run| !run.is_empty()).collect() }
    }

    /// The trees of all sets.
    pub(crate) fn union<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all: Vec<Range<u32>> = sets.into_iter().flat_map(|set| &set.runs).cloned().collect();
        all.sort_by_key(|run| run.start);
        let mut runs: Vec<Range<u32>> = Vec::new();
        for run in all {
            match runs.last_mut() {
                Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                _ => runs.push(run),
            }
        }
        Self { runs }
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(Clone::clone)
    }

    /// The runs of numbers that follow each other, each as its first and its last one, in order.
    pub fn runs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.runs.iter().map(|run| (run.start, run.end - 1))
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.end - run.start)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The lowest number.
    pub fn lowest(&self) -> Option<u32> {
        self.runs.first().map(|run| run.start)
    }

    /// The highest number.
    pub fn highest(&self) -> Option<u32> {
        self.runs.last().map(|run| run.end - 1)
    }

    /// Whether this tree is among them.
    pub fn contains(&self, number: u32) -> bool {
        let behind = self.runs.partition_point(|run| run.start <= number);
        behind.checked_sub(1).and_then(|index| self.runs.get(index)).is_some_and(|run| number < run.end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::revision::test_maps::numbers;

    #[test]
    fn sets_of_numbers_are_those_of_a_plain_set() {
        let mut random = numbers(3);
        for _ in 0..300 {
            let members: BTreeSet<u32> = (0..random(30)).map(|_| random(40) as u32).collect();
            let ones: Vec<TreeNumbers> = members.iter().map(|&number| TreeNumbers::one(number)).collect();
            let (odd, even) = ones.iter().partition::<Vec<_>, _>(|set| set.lowest().unwrap() % 2 == 1);
            let halves = [TreeNumbers::union(odd), TreeNumbers::union(even)];
            let set = TreeNumbers::union(&halves);
            assert_eq!(set.iter().collect::<BTreeSet<_>>(), members);
            assert_eq!(set.count(), members.len() as u64);
            let runs: Vec<(u32, u32)> = set.runs().collect();
            assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "none touch: {runs:?}");
            assert_eq!(
                runs.iter().flat_map(|(first, last)| *first..=*last).collect::<BTreeSet<_>>(),
                members
            );
            assert_eq!(set.is_empty(), members.is_empty());
            assert_eq!((set.lowest(), set.highest()), (members.first().copied(), members.last().copied()));
            assert!((0..45).all(|number| set.contains(number) == members.contains(&number)));
        }
        let all: Vec<TreeNumbers> = (0..7).map(TreeNumbers::one).collect();
        assert_eq!(TreeNumbers::union(&all), TreeNumbers::first(7));
        assert_eq!(TreeNumbers::first(0), TreeNumbers::default());
    }
}
