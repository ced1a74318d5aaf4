//! Numbers at random, for samples.

/// SplitMix64 from a random seed: a sample must not be the same each night.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        // Of a random UUID the first half has fixed bits in its middle, the second one at its top: it is only a seed.
        Self(uuid::Uuid::new_v4().as_u64_pair().1)
    }

    /// The same numbers for the same seed.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound, each as probable as another; 0 if there is none below it.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_a_range_are_drawn_alike() {
        let mut random = Random::new();
        for bound in [16, 1000, 1 << 16, 5 << 15, u64::MAX] {
            let mut drawn = [0; 16];
            for _ in 0..1600 {
                let number = random.below(bound);
                assert!(number < bound);
                drawn[(u128::from(number) * 16 / u128::from(bound)) as usize] += 1;
            }
            assert!(drawn.iter().all(|&count| (40..200).contains(&count)), "{bound}: {drawn:?}");
        }
        assert_eq!((random.below(0), random.below(1)), (0, 0));
    }
}
