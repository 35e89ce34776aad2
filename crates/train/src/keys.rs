//! Random keys as pure functions of the seed and a position in the run, so that resuming needs no generator state.

/// What a key is for. Different uses of the same position must not share random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum KeyUse {
    /// Dropout masks of one micro-batch; `models` mixes in the module.
    Dropout = 1,
    /// Starting values of the adapters.
    AdapterInit = 2,
    /// Token ids on which an exported model is compared.
    Probe = 3,
    /// Starting values of a score head.
    HeadInit = 4,
    /// Noise on the embeddings of one sample.
    EmbeddingNoise = 5,
}

/// A 64-bit key for `use_of` at `position` (for instance epoch and micro-batch) of the run with this `seed`.
///
/// Each word goes through the SplitMix64 finaliser (Steele, Lea and Flood 2014), which is a bijection, so positions
/// of the same length that differ in one word never collide.
pub fn derive_key(seed: u64, use_of: KeyUse, position: &[u64]) -> u64 {
    let start = finalise(seed ^ finalise(use_of as u64));
    position.iter().fold(start, |key, word| finalise(key.wrapping_add(GOLDEN_GAMMA) ^ finalise(*word)))
}

/// 2^64 divided by the golden ratio, made odd.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn finalise(word: u64) -> u64 {
    let word = word.wrapping_add(GOLDEN_GAMMA);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_differ_by_seed_use_and_position() {
        let mut keys = BTreeSet::new();
        let mut n_keys = 0;
        for seed in [0, 1, 42] {
            for use_of in [KeyUse::Dropout, KeyUse::AdapterInit] {
                for epoch in 0..4 {
                    for batch_idx in 0..50 {
                        keys.insert(derive_key(seed, use_of, &[epoch, batch_idx]));
                        n_keys += 1;
                    }
                }
            }
        }
        assert_eq!(keys.len(), n_keys);
        assert_eq!(derive_key(7, KeyUse::Dropout, &[1, 2]), derive_key(7, KeyUse::Dropout, &[1, 2]));
        assert_ne!(derive_key(7, KeyUse::Dropout, &[1, 2]), derive_key(7, KeyUse::Dropout, &[2, 1]));
    }
}
