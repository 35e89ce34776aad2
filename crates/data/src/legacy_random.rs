//! NumPy's legacy random permutation, bit for bit, so that a split here holds the rows it holds in Python tools.
//!
//! MT19937 (Matsumoto and Nishimura, 1998), seeded with one 32-bit number, drives a Fisher-Yates shuffle whose
//! bounded draws reject values above the bound under the smallest mask of ones.

/// `numpy.random.RandomState(seed).permutation(n)`. The first k entries are what NumPy and pandas draw as k out
/// of n without replacement. `n` may be at most 2³².
pub fn permutation(n: usize, seed: u32) -> Vec<usize> {
    let mut random = Mt19937::new(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = random.at_most(u32::try_from(i).unwrap_or(u32::MAX)) as usize;
        order.swap(i, j);
    }
    order
}

const N_WORDS: usize = 624;
const SHIFT: usize = 397;

struct Mt19937 {
    words: [u32; N_WORDS],
    next_idx: usize,
}

impl Mt19937 {
    fn new(seed: u32) -> Self {
        let mut words = [seed; N_WORDS];
        for i in 1..N_WORDS {
            let previous = words[i - 1];
            words[i] = (previous ^ (previous >> 30)).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        Self { words, next_idx: N_WORDS }
    }

    /// Uniform in `0..=max`.
    fn at_most(&mut self, max: u32) -> u32 {
        if max == 0 {
            return 0;
        }
        let mask = u32::MAX >> max.leading_zeros();
        loop {
            let value = self.next_word() & mask;
            if value <= max {
                return value;
            }
        }
    }

    fn next_word(&mut self) -> u32 {
        if self.next_idx == N_WORDS {
            self.refill();
        }
        let mut word = self.words[self.next_idx];
        self.next_idx += 1;
        // The tempering of the reference implementation.
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for i in 0..N_WORDS {
            let joined = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % N_WORDS] & 0x7fff_ffff);
            let twisted = (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.words[i] = self.words[(i + SHIFT) % N_WORDS] ^ twisted;
        }
        self.next_idx = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gv_11_3_permutations_are_numpys() {
        // numpy.random.RandomState(seed).permutation(n), NumPy 2.4.6.
        assert_eq!(permutation(10, 1337), [6, 3, 0, 4, 5, 2, 1, 9, 8, 7]);
        assert_eq!(permutation(7, 1337), [6, 2, 1, 3, 0, 4, 5]);
        assert_eq!(permutation(20, 1337)[..10], [5, 3, 4, 0, 15, 11, 2, 12, 13, 1]);
        assert_eq!(permutation(30, 7331)[..12], [20, 14, 6, 19, 5, 24, 16, 28, 8, 0, 26, 11]);
        assert_eq!(permutation(10, 7331)[..3], [7, 8, 0]);
        assert!(permutation(0, 1).is_empty());
        assert_eq!(permutation(1, 1), [0]);
    }

    #[test]
    fn long_permutations_are_numpys() {
        // Position-weighted sums, which notice any two entries exchanged: sum(i * p[i]) and the last entries.
        let checksum = |n: usize, seed: u32| -> u64 {
            permutation(n, seed).iter().enumerate().map(|(i, &p)| (i * p) as u64).sum()
        };
        assert_eq!(checksum(1000, 1337), 253_262_704);
        assert_eq!(checksum(100_000, 7331), 249_787_298_637_657);
        assert_eq!(permutation(100_000, 7331)[99_997..], [60_498, 30_033, 57_967]);
    }
}
