//! The order of samples in an epoch: a pure function of seed and epoch, the same on every machine and in every
//! later version.

use crate::counter_random::CounterRandom;

/// A permutation of 0..n: Fisher–Yates (from the end, as in Durstenfeld's form) over [`CounterRandom`].
pub(crate) fn permutation(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = CounterRandom::new(seed, epoch);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last, random.below(last + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

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
