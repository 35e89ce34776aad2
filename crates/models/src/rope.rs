//! Frequencies of the rotary position embedding, as transformers computes them for each `rope_type`.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use tunesmith_formats::model_config::{ModelConfig, RopeScaling};
use tunesmith_ops::RotaryTable;

use crate::error::{ModelError, Result};

/// Positions covered by the first table: enough for most batches.
const N_FIRST_POSITIONS: usize = 1024;

/// Inverse frequencies [T/2] of T rotated elements of a head: θ^(-2i/T), then scaled.
///
/// - linear: divided by the factor (positions are interpolated).
/// - llama3: wavelengths above `original/low_freq_factor` are divided by the factor, those below
///   `original/high_freq_factor` are kept, and those between are blended.
/// - dynamic: unscaled, which is exact within [`context_length`].
/// - yarn: divided by what [`tunesmith_formats::model_config::Yarn::divisors`] says.
/// - longrope: divided by the factors for short sequences, which is exact within [`context_length`].
fn inverse_frequencies(theta: f32, scaling: &RopeScaling, rotary_dim: usize) -> Result<Vec<f32>> {
    let theta = f64::from(theta);
    let plain = (0..rotary_dim / 2).map(|i| theta.powf(-((2 * i) as f64) / rotary_dim as f64));
    let scaled: Vec<f64> = match scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / f64::from(*factor)).collect(),
        RopeScaling::Yarn(yarn) => {
            plain.zip(yarn.divisors(theta, rotary_dim / 2)).map(|(f, divisor)| f / divisor).collect()
        }
        RopeScaling::LongRope { short_factors, .. } => {
            plain.zip(short_factors.iter()).map(|(f, factor)| f / f64::from(*factor)).collect()
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
            let (factor, low, high) =
                (f64::from(*factor), f64::from(*low_freq_factor), f64::from(*high_freq_factor));
            let original = *original_max_positions as f64;
            let scale = |frequency: f64| {
                let n_turns = original * frequency / (2.0 * PI);
                let kept = ((n_turns - low) / (high - low)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            };
            plain.map(scale).collect()
        }
    };
    if scaled.iter().any(|f| !f.is_finite()) {
        return Err(ModelError::Config {
            key: "rope_parameters",
            reason: format!("theta {theta} with {scaling:?} gives frequencies that are not finite"),
        });
    }
    Ok(scaled.into_iter().map(|f| f as f32).collect())
}

/// Longest sequence in tokens. With dynamic scaling it is the length up to which nothing is scaled, with LongRoPE that of
/// the factors for short sequences: beyond it the frequencies would depend on the length of the sequence, and keys in a
/// cache would be stale.
pub(crate) fn context_length(config: &ModelConfig) -> usize {
    match config.rope_scaling {
        RopeScaling::Dynamic { original_max_positions, .. }
        | RopeScaling::LongRope { original_max_positions, .. } => {
            config.max_positions.min(original_max_positions)
        }
        RopeScaling::Yarn(ref yarn) => yarn.context(config.max_positions),
        _ => config.max_positions,
    }
}

/// Sines and cosines, grown as longer sequences come: a table for the 131072 positions that some models allow would
/// take tens of megabytes that hardly anybody uses.
pub(crate) struct Rotary {
    inv_freq: Vec<f32>,
    attention_factor: f32,
    n_max_positions: usize,
    table: Mutex<(usize, Arc<RotaryTable>)>,
}

impl Rotary {
    pub(crate) fn new(config: &ModelConfig) -> Result<Self> {
        Self::with(config, config.rope_theta, &config.rope_scaling)
    }

    /// That of another θ, whatever the model's scaling.
    pub(crate) fn unscaled(config: &ModelConfig, theta: f32) -> Result<Self> {
        Self::with(config, theta, &RopeScaling::None)
    }

    fn with(config: &ModelConfig, theta: f32, scaling: &RopeScaling) -> Result<Self> {
        let inv_freq = inverse_frequencies(theta, scaling, config.rotary_dim)?;
        let attention_factor = match scaling {
            RopeScaling::LongRope { attention_factor, .. } => *attention_factor,
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            _ => 1.0,
        };
        let n_positions = N_FIRST_POSITIONS.min(config.max_positions);
        let table = RotaryTable::new(&inv_freq, attention_factor, n_positions);
        let table = Mutex::new((n_positions, Arc::new(table)));
        Ok(Self { inv_freq, attention_factor, n_max_positions: config.max_positions, table })
    }

    /// A table that covers the positions.
    pub(crate) fn table(&self, positions: &[u32]) -> Arc<RotaryTable> {
        let n_needed = positions.iter().max().map_or(0, |&last| last as usize + 1);
        // A table is replaced as a whole, so one left behind by a panic elsewhere is sound.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if n_needed > table.0 {
            let n_positions = n_needed.next_power_of_two().min(self.n_max_positions.max(n_needed));
            let larger = RotaryTable::new(&self.inv_freq, self.attention_factor, n_positions);
            *table = (n_positions, Arc::new(larger));
        }
        Arc::clone(&table.1)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `tests/golden/make_rope.py`, all in float32 there.
    #[test]
    fn frequencies_and_factors_are_those_of_transformers() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/rope.json");
        let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (mut worst, mut n_yarn) = (0.0f64, 0);
        for case in golden["cases"].as_array().unwrap() {
            let config = ModelConfig::from_json(Path::new("config.json"), case["config"].clone()).unwrap();
            let rotary = Rotary::new(&config).unwrap();
            let expected: Vec<f64> = serde_json::from_value(case["inv_freq"].clone()).unwrap();
            assert_eq!(rotary.inv_freq.len(), expected.len());
            let scaling = &config.rope_scaling;
            for (i, (found, expected)) in rotary.inv_freq.iter().zip(&expected).enumerate() {
                let off = (f64::from(*found) / expected - 1.0).abs();
                worst = worst.max(off);
                assert!(off < 2e-6, "{scaling:?}, frequency {i}: {found} {expected}");
            }
            let factor = case["attention_factor"].as_f64().unwrap();
            assert!(
                (f64::from(rotary.attention_factor) / factor - 1.0).abs() < 1e-7,
                "{scaling:?}: {factor}"
            );
            n_yarn += usize::from(matches!(scaling, RopeScaling::Yarn(_)));
            // What is written for it means the same.
            let written = config.to_json(tunesmith_formats::StoreDtype::F32);
            let again = ModelConfig::from_json(Path::new("config.json"), written).unwrap();
            assert_eq!(Rotary::new(&again).unwrap().inv_freq, rotary.inv_freq, "{scaling:?}");
            assert_eq!(again.rope_scaling, config.rope_scaling);
        }
        assert!(n_yarn > 9);
        println!("rotary frequencies: worst relative difference {worst:.1e}");
    }

    #[test]
    fn yarn_reaches_as_far_as_it_scales() {
        let config = |max_positions: usize| {
            let raw = serde_json::json!({
                "model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48,
                "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": max_positions,
                "rope_scaling": { "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768 },
            });
            ModelConfig::from_json(Path::new("config.json"), raw).unwrap()
        };
        assert_eq!(context_length(&config(32_768)), 131_072);
        assert_eq!(context_length(&config(262_144)), 262_144);
    }
}
