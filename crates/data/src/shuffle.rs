//! The order of samples in an epoch: a pure function of seed and epoch, the same on every machine and in every
//! later version.

/// A permutation of 0..n: Fisher–Yates (from the end, as in Durstenfeld's form) over [`CounterRandom`].
pub(crate) fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = CounterRandom::new(seed, epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, random.below(last + 1));
    }
    order
}

/// The SplitMix64 sequence (Steele, Lea and Flood, 2014): the k-th number is a mix of key + k·γ.
struct CounterRandom {
    state: u64,
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl CounterRandom {
    /// Mixing the epoch before and after adding the seed keeps neighbouring seeds and epochs apart.
    fn new(seed: u64, epoch: u64) -> Self {
        Self { state: mix(mix(seed).wrapping_add(mix(epoch.wrapping_add(GAMMA)))) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in 0..bound (bound > 0), without bias: Lemire's multiplication, rejecting the short remainder.
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            if product as u64 >= threshold {
                // The high half is below `bound`, which came from a usize.
                return (product >> 64) as usize;
            }
        }
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_is_the_published_sequence() {
        // java.util.SplittableRandom(1234567).nextLong(), as listed with the reference implementation
        let mut random = CounterRandom { state: 1_234_567 };
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], expected);
    }

    #[test]
    fn orders_are_permutations_and_stay_what_they_are() {
        for n in [0, 1, 2, 7, 1000] {
            let mut order = permutation(n, 1, 0);
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
        assert_eq!(permutation(50, 3, 4), permutation(50, 3, 4));
        assert_ne!(permutation(50, 3, 4), permutation(50, 3, 5));
        assert_ne!(permutation(50, 3, 4), permutation(50, 4, 3));
        // Computed by another implementation. A changed order would change what a resumed run trains on.
        assert_eq!(permutation(10, 0, 0), [1, 4, 5, 0, 7, 6, 9, 8, 2, 3]);
        assert_eq!(permutation(10, 42, 3), [1, 0, 2, 6, 5, 7, 4, 8, 3, 9]);
    }

    #[test]
    fn every_place_is_equally_likely() {
        // 4! orders, 24 000 draws: each is expected 1000 times, with a standard deviation of 31.
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(permutation(4, 9, epoch)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        let worst = counts.values().map(|count: &i32| (count - 1000).abs()).max().unwrap();
        assert!(worst < 160, "largest deviation {worst}");
    }
}
