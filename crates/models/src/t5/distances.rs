//! T5's buckets of distances between positions, each of which adds a trained number to the scores of a head.
//!
//! With d = key − query, counted from 0 for each text: single distances up to half of a direction's buckets, then ever wider
//! ranges up to the largest distance, beyond which all are in the last bucket. Encoders have half of the buckets for either
//! direction; in decoders a key never comes after its query.

use tunesmith_formats::model_config::EncoderDecoder;

/// Which distances share a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Distances {
    /// Buckets of one direction.
    n_buckets: usize,
    max_distance: usize,
    is_bidirectional: bool,
}

impl Distances {
    pub(crate) fn of_encoder(config: &EncoderDecoder) -> Self {
        Self { n_buckets: config.n_buckets / 2, max_distance: config.max_distance, is_bidirectional: true }
    }

    pub(crate) fn of_decoder(config: &EncoderDecoder) -> Self {
        Self { n_buckets: config.n_buckets, max_distance: config.max_distance, is_bidirectional: false }
    }

    /// The bucket of each pair of the last `n_queries` of `n_keys` positions (or of as many positions) and all keys, query by
    /// query.
    pub(crate) fn buckets(self, n_queries: usize, n_keys: usize) -> Vec<u32> {
        let first_query = n_keys as i64 - n_queries as i64;
        let pairs = (first_query..n_keys as i64)
            .flat_map(|query| (0..n_keys as i64).map(move |key| self.bucket(key - query)));
        pairs.collect()
    }

    fn bucket(self, distance: i64) -> u32 {
        let (offset, distance) = match self.is_bidirectional {
            true if distance > 0 => (self.n_buckets, distance as usize),
            true => (0, distance.unsigned_abs() as usize),
            false => (0, (-distance).max(0) as usize),
        };
        (offset + self.of_one_direction(distance)) as u32
    }

    fn of_one_direction(self, distance: usize) -> usize {
        let n_single = self.n_buckets / 2;
        if distance < n_single {
            return distance;
        }
        // In float32, as in the programs that models were trained with: at some borders it decides.
        let growth = (self.max_distance as f64 / n_single as f64).ln() as f32;
        let beyond = (distance as f32 / n_single as f32).ln() / growth * (self.n_buckets - n_single) as f32;
        (n_single + beyond as usize).min(self.n_buckets - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/t5-buckets.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let first = golden["first_distance"].as_i64().unwrap();
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let number = |key: &str| case[key].as_u64().unwrap() as usize;
            let is_bidirectional = case["is_bidirectional"].as_bool().unwrap();
            let n_buckets = if is_bidirectional { number("n_buckets") / 2 } else { number("n_buckets") };
            let distances = Distances { n_buckets, max_distance: number("max_distance"), is_bidirectional };
            let expected: Vec<u32> = serde_json::from_value(case["buckets"].clone()).unwrap();
            let found: Vec<u32> = (first..).take(expected.len()).map(|d| distances.bucket(d)).collect();
            assert_eq!(found, expected, "{is_bidirectional} {n_buckets}");
        }
    }

    #[test]
    fn queries_are_the_last_of_the_keys() {
        let distances = Distances { n_buckets: 8, max_distance: 20, is_bidirectional: false };
        assert_eq!(distances.buckets(3, 3), [0, 0, 0, 1, 0, 0, 2, 1, 0]);
        assert_eq!(distances.buckets(1, 4), [3, 2, 1, 0]);
        let both = Distances { n_buckets: 4, max_distance: 20, is_bidirectional: true };
        assert_eq!(both.buckets(2, 2), [0, 5, 1, 0]);
    }
}
