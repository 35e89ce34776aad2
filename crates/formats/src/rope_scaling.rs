//! How a model stretches its rotary position embedding beyond the context it was first trained on.

use std::f64::consts::PI;

use serde_json::{Value, json};

use crate::error::Result;
use crate::json_keys::Keys;

/// Base of the rotary frequencies when a configuration does not say.
const DEFAULT_THETA: f64 = 10_000.0;
/// Scaling kinds that exist and are not implemented.
const OTHER_KINDS: [&str; 4] = ["yarn", "longrope", "su", "proportional"];

/// A change of the rotary frequencies ωᵢ = θ^(−2i/D), i = 0 … D/2 − 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// ωᵢ as they are.
    None,
    /// ωᵢ / factor.
    Linear {
        /// How many times longer the context becomes.
        factor: f32,
    },
    /// NTK-aware scaling: unchanged up to `original_max_positions`; for a longer sequence of L positions θ
    /// becomes θ·(factor·L/original_max_positions − (factor − 1))^(D/(D−2)).
    Dynamic {
        /// How many times longer the context becomes.
        factor: f32,
        /// The context up to which nothing changes.
        original_max_positions: usize,
    },
    /// Llama 3.1's scaling by wavelength: with n = original_max_positions·ωᵢ/2π turns within the original
    /// context and s = clamp((n − low)/(high − low), 0, 1), ωᵢ becomes (1 − s)·ωᵢ/factor + s·ωᵢ.
    Llama3 {
        /// Divisor of the slow frequencies.
        factor: f32,
        /// Frequencies with at most this many turns are divided by `factor`.
        low_freq_factor: f32,
        /// Frequencies with at least this many turns stay.
        high_freq_factor: f32,
        /// The context first trained on.
        original_max_positions: usize,
    },
}

impl RopeScaling {
    /// Reads θ and the scaling from a model configuration: `rope_theta` and `rope_scaling` as transformers 4
    /// writes them or `rope_parameters` of transformers 5.
    pub(crate) fn read(
        config: &Keys,
        config_path: &std::path::Path,
        max_positions: usize,
    ) -> Result<(f64, Self)> {
        let theta = config.positive("rope_theta")?;
        // Version 5 gives `rope_scaling` precedence, too.
        let (prefix, parameters) = match (config.get("rope_scaling"), config.get("rope_parameters")) {
            (Some(value), _) => ("rope_scaling.", value),
            (None, Some(value)) => ("rope_parameters.", value),
            (None, None) => return Ok((theta.unwrap_or(DEFAULT_THETA), Self::None)),
        };
        let keys = Keys::new(config_path, prefix, parameters)?;
        let theta = keys.positive("rope_theta")?.or(theta).unwrap_or(DEFAULT_THETA);
        if keys.f64("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
            return Err(keys.error("partial_rotary_factor", "only rotation of the whole head is supported"));
        }
        // Before version 4.43 the kind was called "type".
        let kind = match keys.string("rope_type")? {
            Some(kind) => kind,
            None => keys.string("type")?.unwrap_or("default"),
        };
        let original = keys.count("original_max_position_embeddings")?;
        let scaling = match kind {
            "default" => Self::None,
            "linear" => Self::Linear { factor: keys.required_positive("factor")? as f32 },
            "dynamic" => Self::Dynamic {
                factor: keys.required_positive("factor")? as f32,
                original_max_positions: original.unwrap_or(max_positions),
            },
            "llama3" => {
                let low = keys.required_positive("low_freq_factor")?;
                let high = keys.required_positive("high_freq_factor")?;
                if low >= high {
                    return Err(keys
                        .error("low_freq_factor", format!("{low} must be below high_freq_factor, {high}")));
                }
                Self::Llama3 {
                    factor: keys.required_positive("factor")? as f32,
                    low_freq_factor: low as f32,
                    high_freq_factor: high as f32,
                    original_max_positions: original.ok_or_else(|| {
                        keys.error("original_max_position_embeddings", "the key is missing")
                    })?,
                }
            }
            _ if OTHER_KINDS.contains(&kind) => {
                return Err(keys.error("rope_type", format!("{kind:?} scaling is not supported")));
            }
            _ => {
                let reason = format!("unknown kind {kind:?}; known are default, linear, dynamic and llama3");
                return Err(keys.error("rope_type", reason));
            }
        };
        Ok((theta, scaling))
    }

    /// The scaling as `rope_scaling` of transformers 4, `null` for none.
    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Linear { factor } => json!({ "rope_type": "linear", "factor": widen(factor) }),
            Self::Dynamic { factor, original_max_positions } => json!({
                "rope_type": "dynamic",
                "factor": widen(factor),
                "original_max_position_embeddings": original_max_positions,
            }),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => json!({
                "rope_type": "llama3",
                "factor": widen(factor),
                "low_freq_factor": widen(low_freq_factor),
                "high_freq_factor": widen(high_freq_factor),
                "original_max_position_embeddings": original_max_positions,
            }),
        }
    }

    /// Finds the scaling whose frequency divisors are `divisors` (one per ωᵢ), as GGUF files store them in
    /// place of Llama 3.1's parameters. `None` when the numbers do not follow that rule.
    ///
    /// Many parameters give the same divisors on a finite set of frequencies; those that Meta uses are
    /// tried first, otherwise the ones found are as good as the ones that were used.
    pub(crate) fn from_divisors(divisors: &[f32], theta: f64, max_positions: usize) -> Option<Self> {
        if divisors.iter().any(|divisor| !divisor.is_finite() || *divisor <= 0.0) {
            return None;
        }
        let factor = divisors.iter().copied().fold(1.0f32, f32::max);
        if divisors.iter().all(|divisor| *divisor == 1.0) {
            return Some(Self::None);
        }
        let meta = Self::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let original = ((max_positions as f64 / f64::from(factor)) as usize).max(1);
        let fitted = fit_llama3(divisors, theta, factor, original);
        [Some(meta), fitted].into_iter().flatten().find(|scaling| {
            let made = scaling.divisors(theta, divisors.len());
            made.iter().zip(divisors).all(|(made, given)| (made / f64::from(*given) - 1.0).abs() < 1e-4)
        })
    }

    /// What ωᵢ are divided by, for `n` = D/2 frequencies.
    fn divisors(self, theta: f64, n: usize) -> Vec<f64> {
        let divisor = |i| match self {
            Self::None | Self::Dynamic { .. } => 1.0,
            Self::Linear { factor } => f64::from(factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let (low, high) = (f64::from(low_freq_factor), f64::from(high_freq_factor));
                let turns = original_max_positions as f64 * turns_per_position(theta, i, n);
                let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                1.0 / ((1.0 - smooth) / f64::from(factor) + smooth)
            }
        };
        (0..n).map(divisor).collect()
    }
}

/// ωᵢ / 2π for D = 2n.
fn turns_per_position(theta: f64, i: usize, n: usize) -> f64 {
    theta.powf(-(i as f64) / n as f64) / (2.0 * PI)
}

/// Parameters of Llama 3's rule that give `divisors`, if the largest of them is the full factor.
///
/// s is a straight line in the turns per position: two frequencies with 0 < s < 1 fix it; one leaves the
/// slope open and none both ends, which are then put where the neighbours with s = 0 and s = 1 allow.
fn fit_llama3(divisors: &[f32], theta: f64, factor: f32, original: usize) -> Option<RopeScaling> {
    let points: Vec<(f64, f64)> = divisors
        .iter()
        .enumerate()
        .map(|(i, divisor)| {
            let smooth =
                (1.0 / f64::from(*divisor) - 1.0 / f64::from(factor)) / (1.0 - 1.0 / f64::from(factor));
            (turns_per_position(theta, i, divisors.len()), smooth)
        })
        .collect();
    let (zero, one) = (1e-5, 1.0 - 1e-5);
    // Frequencies fall with i: the fast ones (s = 1) come first.
    let slowest_fast = points.iter().filter(|(_, s)| *s >= one).map(|(turns, _)| *turns).reduce(f64::min)?;
    let fastest_slow = points.iter().filter(|(_, s)| *s <= zero).map(|(turns, _)| *turns).reduce(f64::max)?;
    let inner: Vec<_> = points.iter().filter(|(_, s)| (zero..one).contains(s) && *s > zero).collect();
    let (low, high) = match (inner.first(), inner.last()) {
        (Some((fast_turns, fast_s)), Some((slow_turns, slow_s))) if inner.len() > 1 => {
            let slope = (fast_s - slow_s) / (fast_turns - slow_turns);
            (fast_turns - fast_s / slope, fast_turns + (1.0 - fast_s) / slope)
        }
        (Some((turns, s)), _) => {
            // The gentlest line through the point that stays within both neighbours.
            let slope = (s / (turns - fastest_slow)).max((1.0 - s) / (slowest_fast - turns));
            (turns - s / slope, turns + (1.0 - s) / slope)
        }
        _ => (fastest_slow, slowest_fast),
    };
    let scaled = |turns: f64| (turns * original as f64) as f32;
    (low > 0.0 && high > low).then(|| RopeScaling::Llama3 {
        factor,
        low_freq_factor: scaled(low),
        high_freq_factor: scaled(high),
        original_max_positions: original,
    })
}

/// The shortest decimal of the f32, so that 0.1 is not written as 0.10000000149011612.
pub(crate) fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<(f64, RopeScaling)> {
        let value: Value = serde_json::from_str(text).unwrap();
        let path = Path::new("config.json");
        RopeScaling::read(&Keys::new(path, "", &value)?, path, 2048)
    }

    #[test]
    fn both_spellings_of_every_kind_are_read() {
        let llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 8192,
        };
        let parameters = r#""factor":8,"low_freq_factor":1,"high_freq_factor":4.0,"original_max_position_embeddings":8192"#;
        let four =
            format!(r#"{{"rope_theta":500000.0,"rope_scaling":{{"rope_type":"llama3",{parameters}}}}}"#);
        let five =
            format!(r#"{{"rope_parameters":{{"rope_theta":500000,"rope_type":"llama3",{parameters}}}}}"#);
        for text in [four, five] {
            assert_eq!(read(&text).unwrap(), (500_000.0, llama3), "{text}");
        }
        assert_eq!(read("{}").unwrap(), (10_000.0, RopeScaling::None));
        assert_eq!(read(r#"{"rope_theta":7,"rope_scaling":null}"#).unwrap(), (7.0, RopeScaling::None));
        let linear = read(r#"{"rope_scaling":{"type":"linear","factor":2.5}}"#).unwrap().1;
        assert_eq!(linear, RopeScaling::Linear { factor: 2.5 });
        let dynamic = read(r#"{"rope_scaling":{"type":"dynamic","factor":4}}"#).unwrap().1;
        assert_eq!(dynamic, RopeScaling::Dynamic { factor: 4.0, original_max_positions: 2048 });
        for scaling in [llama3, linear, dynamic, RopeScaling::None] {
            let text = json!({ "rope_scaling": scaling.to_json() }).to_string();
            assert_eq!(read(&text).unwrap().1, scaling, "{text}");
        }
    }

    #[test]
    fn unsupported_kinds_are_named() {
        let refusal = |text| read(text).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"rope_scaling":{"type":"yarn","factor":4}}"#),
            "config.json: rope_scaling.rope_type: \"yarn\" scaling is not supported"
        );
        assert!(refusal(r#"{"rope_scaling":{"type":"x"}}"#).contains("unknown kind \"x\""));
        assert!(
            refusal(r#"{"rope_scaling":{"type":"linear"}}"#)
                .ends_with("rope_scaling.factor: the key is missing")
        );
        assert!(refusal(r#"{"rope_parameters":{"partial_rotary_factor":0.5}}"#).contains("whole head"));
    }

    #[test]
    fn parameters_found_from_divisors_give_the_divisors_back() {
        let llama3 = |factor, low_freq_factor, high_freq_factor, original_max_positions| {
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions }
        };
        // Llama 3.1 and 3.2, then rules with many, one and no frequency between the two ends.
        for (scaling, theta, n, max_positions) in [
            (llama3(8.0, 1.0, 4.0, 8192), 500_000.0, 64, 131_072),
            (llama3(32.0, 1.0, 4.0, 8192), 500_000.0, 32, 131_072),
            (llama3(4.0, 0.5, 9.0, 512), 10_000.0, 32, 2048),
            (llama3(8.0, 0.5, 4.0, 32), 500_000.0, 8, 256),
            (llama3(8.0, 1.0, 1.1, 128), 10_000.0, 4, 1024),
        ] {
            let divisors: Vec<f32> = scaling.divisors(theta, n).into_iter().map(|d| d as f32).collect();
            let found = RopeScaling::from_divisors(&divisors, theta, max_positions).unwrap();
            let again = found.divisors(theta, n);
            for (i, (given, made)) in divisors.iter().zip(&again).enumerate() {
                let off = (made / f64::from(*given) - 1.0).abs();
                assert!(off < 1e-6, "{scaling:?}, frequency {i}: {given} became {made} by {found:?}");
            }
            if scaling == llama3(8.0, 1.0, 4.0, 8192) {
                assert_eq!(found, scaling);
            }
        }
        assert_eq!(RopeScaling::from_divisors(&[1.0; 4], 1e4, 64), Some(RopeScaling::None));
        assert_eq!(RopeScaling::from_divisors(&[8.0, 1.0, 2.0, 1.0], 1e4, 64), None);
        assert_eq!(RopeScaling::from_divisors(&[1.0, f32::NAN], 1e4, 64), None);
    }
}
