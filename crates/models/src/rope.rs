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
/// - longrope: divided by the factors for short sequences, which is exact within [`context_length`].
fn inverse_frequencies(theta: f32, scaling: &RopeScaling, rotary_dim: usize) -> Result<Vec<f32>> {
    let theta = f64::from(theta);
    let plain = (0..rotary_dim / 2).map(|i| theta.powf(-((2 * i) as f64) / rotary_dim as f64));
    let scaled: Vec<f64> = match scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / f64::from(*factor)).collect(),
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
