//! Random numbers that are functions of a seed and a position, the same on every machine and in every later version.

/// The SplitMix64 sequence (Steele, Lea and Flood, 2014): the k-th number is a mix of key + k·γ.
pub(crate) struct CounterRandom {
    state: u64,
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

impl CounterRandom {
    /// Mixing the position before and after adding the seed keeps neighbouring seeds and positions (epochs, samples)
    /// apart.
    pub(crate) fn new(seed: u64, position: u64) -> Self {
        Self { state: mix(mix(seed).wrapping_add(mix(position.wrapping_add(GAMMA)))) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in 0..bound (bound > 0), without bias: Lemire's multiplication, rejecting the short remainder.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
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
}
