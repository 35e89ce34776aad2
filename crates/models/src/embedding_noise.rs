//! Noise on the embeddings of a training step (NEFTune, Jain et al. 2023).
//!
//! ```text
//! x ← x + ε,   ε uniform in ±α / √(L·C),   L tokens of the segment, C model width
//! ```
//!
//! Each segment has a key of its own, and each number of ε is a function of that key and its place in the segment: what
//! lies beside a segment in a batch does not matter. The gradient passes through unchanged.

use burn::tensor::{Tensor, TensorData};
use tunesmith_ops::Segments;

use crate::counter::{mix, unit};
use crate::error::{ModelError, Result};

/// Noise on the embedded tokens of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingNoise<'a> {
    /// α, the strength.
    pub alpha: f32,
    /// One for each segment of the batch; give each sample of each epoch its own.
    pub keys: &'a [u64],
}

impl EmbeddingNoise<'_> {
    /// Checks that there is a key for each segment.
    pub(crate) fn check(&self, segments: &Segments) -> Result<()> {
        let (n_keys, n_segments) = (self.keys.len(), segments.len());
        if n_keys == n_segments {
            return Ok(());
        }
        Err(ModelError::Batch { reason: format!("{n_keys} keys of noise for {n_segments} segments") })
    }

    /// x [N,C] with the noise on it.
    pub(crate) fn added_to(&self, x: Tensor<2>, segments: &Segments) -> Tensor<2> {
        let [n_tokens, width] = x.dims();
        let mut noise = Vec::with_capacity(n_tokens * width);
        for (range, &key) in segments.ranges().zip(self.keys) {
            let n_values = range.len() * width;
            let largest = f64::from(self.alpha) / (n_values as f64).sqrt();
            let value = |place: usize| (largest * (2.0 * unit(mix(key, place as u64)) - 1.0)) as f32;
            noise.extend((0..n_values).map(value));
        }
        let device = x.device();
        x + Tensor::from_data(TensorData::new(noise, [n_tokens, width]), &device)
    }
}

#[cfg(test)]
mod tests {
    use tunesmith_ops::open_device;

    use super::*;
    use crate::parameters::read_back;

    fn noise(alpha: f32, keys: &[u64], lengths: &[usize], width: usize) -> Vec<f32> {
        let segments = Segments::new(lengths);
        let x = Tensor::zeros([segments.n_tokens(), width], &open_device("cpu").unwrap().inner());
        read_back(EmbeddingNoise { alpha, keys }.added_to(x, &segments), "noise").unwrap()
    }

    #[test]
    fn gv_3_11_noise_is_uniform_up_to_its_bound() {
        // α = 5, L = 100, C = 64: at most 0.0625.
        let values = noise(5.0, &[3], &[100], 64);
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!(largest <= 0.0625 && largest > 0.0624, "{largest}");
        let mean = values.iter().sum::<f32>() / 6400.0;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / 6400.0;
        // The standard deviations of these means of 6400 values are 0.00045 and 0.000015.
        assert!(mean.abs() < 0.0015, "{mean}");
        assert!((variance - 0.0625 * 0.0625 / 3.0).abs() < 0.00005, "{variance}");
    }

    #[test]
    fn a_segment_has_its_noise_wherever_it_lies() {
        let together = noise(2.0, &[7, 9, 8], &[3, 0, 5], 4);
        assert_eq!(together[..12], noise(2.0, &[7], &[3], 4));
        assert_eq!(together[12..], noise(2.0, &[8], &[5], 4));
        assert_ne!(noise(2.0, &[7], &[5], 4), noise(2.0, &[8], &[5], 4));
    }
}
