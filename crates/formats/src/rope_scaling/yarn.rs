//! YaRN (Peng et al. 2023): slow frequencies are interpolated, fast ones kept, and all sines and cosines multiplied by a factor,
//! as `_compute_yarn_parameters` of transformers does it.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use super::widen;
use crate::error::Result;
use crate::json_keys::Keys;

/// Turns within the original context from which a frequency is kept, and up to which it is divided.
const USUAL_BETAS: [f64; 2] = [32.0, 1.0];

/// The parameters: with the place p(β) = D·ln(original/2πβ) / 2·ln θ at which a frequency makes β turns within the original
/// context, and the ramp r from 0 at p(`beta_fast`) to 1 at p(`beta_slow`), ωᵢ becomes (1 − rᵢ)·ωᵢ + rᵢ·ωᵢ/factor.
#[derive(Debug, Clone, PartialEq)]
pub struct Yarn {
    /// How many times longer the context becomes.
    pub factor: f32,
    /// Turns from which a frequency stays.
    pub beta_fast: f32,
    /// Turns up to which a frequency is divided by the factor.
    pub beta_slow: f32,
    /// Whether the ends of the ramp are whole places.
    pub truncate: bool,
    /// Factor on sines and cosines.
    pub attention_factor: f32,
    /// The context first trained on.
    pub original_max_positions: usize,
}

impl Yarn {
    /// Reads them from `keys`, the object of rotary parameters within `config`, for a model made for `max_positions`.
    pub(super) fn read(config: &Keys, keys: &Keys, max_positions: usize) -> Result<Self> {
        let original = match config.count("original_max_position_embeddings")? {
            Some(beside) => Some(beside),
            None => keys.count("original_max_position_embeddings")?,
        };
        let original_max_positions = original.unwrap_or(max_positions);
        let factor = keys.positive("factor")?.unwrap_or(max_positions as f64 / original_max_positions as f64);
        // Zero counts as absent there.
        let or_usual = |key: &str, usual: f64| match keys.f64(key)? {
            None | Some(0.0) => Ok(usual),
            Some(beta) if beta.is_finite() && beta > 0.0 => Ok(beta),
            Some(beta) => Err(keys.error(key, format!("expected a number above 0, found {beta}"))),
        };
        let beta_fast = or_usual("beta_fast", USUAL_BETAS[0])?;
        let beta_slow = or_usual("beta_slow", USUAL_BETAS[1])?;
        let [scale, scale_all] = [keys.f64("mscale")?, keys.f64("mscale_all_dim")?];
        let attention_factor = match (keys.positive("attention_factor")?, scale, scale_all) {
            (Some(attention_factor), _, _) => attention_factor,
            (None, Some(scale), Some(scale_all)) if scale != 0.0 && scale_all != 0.0 => {
                magnitude(factor, scale) / magnitude(factor, scale_all)
            }
            (None, _, _) => magnitude(factor, 1.0),
        };
        if !(attention_factor.is_finite() && attention_factor > 0.0) {
            let reason =
                format!("with mscale_all_dim it gives a factor of {attention_factor} on sines and cosines");
            return Err(keys.error("mscale", reason));
        }
        Ok(Self {
            factor: factor as f32,
            beta_fast: beta_fast as f32,
            beta_slow: beta_slow as f32,
            truncate: keys.bool("truncate", true)?,
            attention_factor: attention_factor as f32,
            original_max_positions,
        })
    }

    /// As `rope_scaling`, with what follows from other keys written out.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "rope_type": "yarn",
            "factor": widen(self.factor),
            "original_max_position_embeddings": self.original_max_positions,
            "attention_factor": widen(self.attention_factor),
            "beta_fast": widen(self.beta_fast),
            "beta_slow": widen(self.beta_slow),
            "truncate": self.truncate,
        })
    }

    /// What ωᵢ are divided by, for `n` = D/2 frequencies of the base `theta`.
    pub fn divisors(&self, theta: f64, n: usize) -> Vec<f64> {
        let place = |turns: f32| {
            let positions_of_a_radian = self.original_max_positions as f64 / (TAU * f64::from(turns));
            n as f64 * positions_of_a_radian.ln() / theta.ln()
        };
        let (low, high) = (place(self.beta_fast), place(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, high) = (low.max(0.0), high.min((2 * n) as f64 - 1.0));
        // As there, so that the ramp is not divided by nothing.
        let width = if low == high { 0.001 } else { high - low };
        let divisor = |i: usize| {
            let ramp = ((i as f64 - low) / width).clamp(0.0, 1.0);
            1.0 / ((1.0 - ramp) + ramp / f64::from(self.factor))
        };
        (0..n).map(divisor).collect()
    }

    /// The positions that the scaled model is made for, where its configuration says `max_positions`.
    pub fn context(&self, max_positions: usize) -> usize {
        max_positions.max((f64::from(self.factor) * self.original_max_positions as f64) as usize)
    }
}

/// 0.1·scale·ln(factor) + 1.
fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}
