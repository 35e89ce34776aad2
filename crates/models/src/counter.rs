//! Random numbers that are functions of a key and a place, so that nothing has to remember a generator's state.
//!
//! The function is the output step of SplitMix64 (Steele, Lea, Flood 2014). Good enough for initial weights and for
//! drawing tokens; not for secrets.

/// A well-mixed 64-bit value for a key and an index.
pub fn mix(key: u64, index: u64) -> u64 {
    let mut z = key.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value of [`mix`] as a number in [0, 1) with 24 random bits, which are exact in float32, too.
pub fn unit(bits: u64) -> f64 {
    (bits >> 40) as f64 / (1u64 << 24) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_values_are_those_of_splitmix64() {
        // The first outputs of the reference implementation for seed 1234567.
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([0, 1, 2].map(|i| mix(1_234_567, i)), expected);
    }

    #[test]
    fn units_fill_the_interval_evenly() {
        let values: Vec<f64> = (0..10_000).map(|i| unit(mix(7, i))).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        assert!(values.iter().any(|v| *v < 0.001) && values.iter().any(|v| *v > 0.999));
    }
}
