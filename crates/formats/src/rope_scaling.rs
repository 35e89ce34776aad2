//! How a model stretches its rotary position embedding beyond the context it was first trained on.

use std::f64::consts::PI;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::Result;
use crate::json_keys::Keys;

mod yarn;

pub use yarn::Yarn;

/// Scaling kinds that exist and are not implemented.
const OTHER_KINDS: [&str; 1] = ["proportional"];

/// The rotary position embedding of a configuration.
pub(crate) struct Rope {
    /// Base of the frequencies, θ.
    pub(crate) theta: f64,
    pub(crate) scaling: RopeScaling,
    /// How much of each head is rotated, above 0 and at most 1.
    pub(crate) rotated_share: f64,
    /// θ of blocks with a window, in families where it is one of its own.
    pub(crate) window_theta: Option<f64>,
}

/// What a family's configuration means where it says nothing.
pub(crate) struct RopeDefaults {
    pub(crate) theta: f64,
    /// Positions that the model is made for.
    pub(crate) max_positions: usize,
    /// Whether a part of each head may be rotated.
    pub(crate) is_partial: bool,
    /// How much of each head is rotated.
    pub(crate) rotated_share: f64,
    /// θ of blocks with a window, in families where it is one of its own.
    pub(crate) window_theta: Option<f64>,
}

/// A change of the rotary frequencies ωᵢ = θ^(−2i/D), i = 0 … D/2 − 1, where D are the rotated elements of a head.
#[derive(Debug, Clone, PartialEq)]
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
    /// YaRN.
    Yarn(Yarn),
    /// LongRoPE: ωᵢ divided by a factor of its own, one for sequences of up to `original_max_positions` and another for
    /// longer ones; all sines and cosines are multiplied by `attention_factor`.
    LongRope {
        /// [D/2] divisors for sequences within the original context.
        short_factors: Arc<[f32]>,
        /// [D/2] divisors for longer sequences.
        long_factors: Arc<[f32]>,
        /// Factor on sines and cosines.
        attention_factor: f32,
        /// The context first trained on.
        original_max_positions: usize,
    },
}

impl Rope {
    /// Reads θ, the scaling and the rotated share of heads: `rope_theta`, `rope_scaling` and `partial_rotary_factor` as
    /// transformers 4 writes them or `rope_parameters` of transformers 5.
    pub(crate) fn read(config: &Keys, config_path: &Path, defaults: &RopeDefaults) -> Result<Self> {
        let mut rope = Self {
            theta: config.positive("rope_theta")?.unwrap_or(defaults.theta),
            scaling: RopeScaling::None,
            rotated_share: share_of_head(config, defaults)?.unwrap_or(defaults.rotated_share),
            window_theta: match defaults.window_theta {
                Some(theta) => Some(config.positive("rope_local_base_freq")?.unwrap_or(theta)),
                None => None,
            },
        };
        // Version 5 gives `rope_scaling` precedence, too.
        if let Some(scaling) = config.get("rope_scaling") {
            rope.apply(config, &Keys::new(config_path, "rope_scaling.", scaling)?, defaults)?;
        } else if let Some(parameters) = config.get("rope_parameters") {
            let all = Keys::new(config_path, "rope_parameters.", parameters)?;
            let of = |kind: &str| all.get(kind).filter(|_| defaults.window_theta.is_some());
            match of("full_attention") {
                Some(full) => {
                    rope.apply(
                        config,
                        &Keys::new(config_path, "rope_parameters.full_attention.", full)?,
                        defaults,
                    )?;
                }
                None => rope.apply(config, &all, defaults)?,
            }
            if let Some(windows) = of("sliding_attention") {
                let keys = Keys::new(config_path, "rope_parameters.sliding_attention.", windows)?;
                if keys.string("rope_type")?.is_some_and(|kind| kind != "default") {
                    return Err(keys.error("rope_type", "scaling in blocks with a window is not supported"));
                }
                rope.window_theta = keys.positive("rope_theta")?.or(rope.window_theta);
            }
        }
        Ok(rope)
    }

    /// Takes over what an object of rotary parameters says.
    fn apply(&mut self, config: &Keys, keys: &Keys, defaults: &RopeDefaults) -> Result<()> {
        self.theta = keys.positive("rope_theta")?.unwrap_or(self.theta);
        self.rotated_share = share_of_head(keys, defaults)?.unwrap_or(self.rotated_share);
        self.scaling = RopeScaling::read(config, keys, defaults.max_positions)?;
        Ok(())
    }
}

/// How much of each head is rotated, if it is said.
fn share_of_head(keys: &Keys, defaults: &RopeDefaults) -> Result<Option<f64>> {
    let share = keys.f64("partial_rotary_factor")?;
    match share {
        Some(share) if share != 1.0 && !defaults.is_partial => {
            Err(keys.error("partial_rotary_factor", "only rotation of the whole head is supported"))
        }
        Some(share) if !(share > 0.0 && share <= 1.0) => Err(keys
            .error("partial_rotary_factor", format!("expected a share above 0 and up to 1, found {share}"))),
        _ => Ok(share),
    }
}

impl RopeScaling {
    /// Reads the scaling from `keys`, the object of rotary parameters within `config`.
    fn read(config: &Keys, keys: &Keys, max_positions: usize) -> Result<Self> {
        // Before version 4.43 the kind was called "type".
        let kind = match keys.string("rope_type")? {
            Some(kind) => kind,
            None => keys.string("type")?.unwrap_or("default"),
        };
        let original = keys.count("original_max_position_embeddings")?;
        Ok(match kind {
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
            "yarn" => Self::Yarn(Yarn::read(config, keys, max_positions)?),
            "longrope" | "su" => {
                // Phi 3 keeps the number beside the scaling, and prefers it.
                let original = config.count("original_max_position_embeddings")?.or(original);
                let original_max_positions = original.unwrap_or(max_positions);
                let attention_factor = match (keys.positive("attention_factor")?, keys.positive("factor")?) {
                    (Some(attention_factor), _) => attention_factor as f32,
                    (None, Some(factor)) => long_rope_attention_of(factor, original_max_positions),
                    (None, None) => long_rope_attention(max_positions, original_max_positions),
                };
                Self::LongRope {
                    short_factors: factors(keys, "short_factor")?,
                    long_factors: factors(keys, "long_factor")?,
                    attention_factor,
                    original_max_positions,
                }
            }
            _ if OTHER_KINDS.contains(&kind) => {
                return Err(keys.error("rope_type", format!("{kind:?} scaling is not supported")));
            }
            _ => {
                let reason = format!(
                    "unknown kind {kind:?}; known are default, linear, dynamic, llama3, yarn and longrope"
                );
                return Err(keys.error("rope_type", reason));
            }
        })
    }

    /// Checks that there is a factor for each pair of the rotated elements of a head.
    pub(crate) fn check_width(&self, config: &Keys, rotary_dim: usize) -> Result<()> {
        let Self::LongRope { short_factors, long_factors, .. } = self else { return Ok(()) };
        for (key, factors) in [("short_factor", short_factors), ("long_factor", long_factors)] {
            if factors.len() != rotary_dim / 2 {
                let reason = format!("{} factors for {rotary_dim} rotated elements of a head", factors.len());
                return Err(config.error(&format!("rope_scaling.{key}"), reason));
            }
        }
        Ok(())
    }

    /// The scaling as `rope_scaling` of transformers 4, `null` for none, for a model made for `max_positions`.
    pub(crate) fn to_json(&self, max_positions: usize) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Linear { factor } => json!({ "rope_type": "linear", "factor": widen(*factor) }),
            Self::Dynamic { factor, original_max_positions } => json!({
                "rope_type": "dynamic",
                "factor": widen(*factor),
                "original_max_position_embeddings": original_max_positions,
            }),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => json!({
                "rope_type": "llama3",
                "factor": widen(*factor),
                "low_freq_factor": widen(*low_freq_factor),
                "high_freq_factor": widen(*high_freq_factor),
                "original_max_position_embeddings": original_max_positions,
            }),
            Self::Yarn(yarn) => yarn.to_json(),
            Self::LongRope { short_factors, long_factors, attention_factor, original_max_positions } => {
                let list = |factors: &[f32]| factors.iter().map(|f| widen(*f)).collect::<Vec<f64>>();
                // Version 4 takes these three keys and no other, so the rest is written only where it has to be.
                let mut scaling = json!({
                    "type": "longrope",
                    "short_factor": list(short_factors),
                    "long_factor": list(long_factors),
                });
                if *attention_factor != long_rope_attention(max_positions, *original_max_positions) {
                    scaling["attention_factor"] = json!(widen(*attention_factor));
                }
                scaling
            }
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
    fn divisors(&self, theta: f64, n: usize) -> Vec<f64> {
        if let Self::Yarn(yarn) = self {
            return yarn.divisors(theta, n);
        }
        let divisor = |i| match *self {
            Self::Yarn(_) => 1.0,
            Self::None | Self::Dynamic { .. } => 1.0,
            Self::LongRope { ref short_factors, .. } => short_factors.get(i).copied().map_or(1.0, f64::from),
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

/// A list of numbers above 0.
fn factors(keys: &Keys, key: &str) -> Result<Arc<[f32]>> {
    let is_positive = |factor: &f32| factor.is_finite() && *factor > 0.0;
    let factor = |value: &Value| value.as_f64().map(|factor| factor as f32).filter(is_positive);
    let list = keys.get(key).and_then(Value::as_array);
    list.and_then(|list| list.iter().map(factor).collect::<Option<Vec<f32>>>())
        .map(Arc::from)
        .ok_or_else(|| keys.error(key, "expected a list of numbers above 0"))
}

/// LongRoPE's factor on sines and cosines for a context that becomes `factor` times longer.
fn long_rope_attention_of(factor: f64, original_max_positions: usize) -> f32 {
    if factor <= 1.0 {
        return 1.0;
    }
    (1.0 + factor.ln() / (original_max_positions as f64).ln()).sqrt() as f32
}

/// The same for a model made for `max_positions`.
pub(crate) fn long_rope_attention(max_positions: usize, original_max_positions: usize) -> f32 {
    long_rope_attention_of(max_positions as f64 / original_max_positions as f64, original_max_positions)
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

    fn read(text: &str) -> Result<(f64, RopeScaling)> {
        let value: Value = serde_json::from_str(text).unwrap();
        let path = Path::new("config.json");
        let defaults = RopeDefaults {
            theta: 10_000.0,
            max_positions: 2048,
            is_partial: false,
            rotated_share: 1.0,
            window_theta: None,
        };
        let rope = Rope::read(&Keys::new(path, "", &value)?, path, &defaults)?;
        Ok((rope.theta, rope.scaling))
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
            assert_eq!(read(&text).unwrap(), (500_000.0, llama3.clone()), "{text}");
        }
        assert_eq!(read("{}").unwrap(), (10_000.0, RopeScaling::None));
        assert_eq!(read(r#"{"rope_theta":7,"rope_scaling":null}"#).unwrap(), (7.0, RopeScaling::None));
        let linear = read(r#"{"rope_scaling":{"type":"linear","factor":2.5}}"#).unwrap().1;
        assert_eq!(linear, RopeScaling::Linear { factor: 2.5 });
        let dynamic = read(r#"{"rope_scaling":{"type":"dynamic","factor":4}}"#).unwrap().1;
        assert_eq!(dynamic, RopeScaling::Dynamic { factor: 4.0, original_max_positions: 2048 });
        let yarn = |text: &str| read(&format!(r#"{{"rope_scaling":{{"type":"yarn",{text}}}}}"#)).unwrap().1;
        let plain = yarn(r#""factor":4,"original_max_position_embeddings":512"#);
        let RopeScaling::Yarn(found) = &plain else { panic!("{plain:?}") };
        assert_eq!((found.original_max_positions, found.truncate, found.beta_fast), (512, true, 32.0));
        assert_eq!(found.context(2048), 2048);
        let deepseek =
            yarn(r#""factor":40,"mscale":1.0,"mscale_all_dim":0.5,"beta_fast":16,"truncate":false"#);
        let RopeScaling::Yarn(found) = &deepseek else { panic!("{deepseek:?}") };
        assert_eq!((found.original_max_positions, found.context(2048)), (2048, 81_920));
        for scaling in [llama3, linear, dynamic, plain, deepseek, RopeScaling::None] {
            let text = json!({ "rope_scaling": scaling.to_json(2048) }).to_string();
            assert_eq!(read(&text).unwrap().1, scaling, "{text}");
        }
    }

    #[test]
    fn unsupported_kinds_are_named() {
        let refusal = |text| read(text).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"rope_scaling":{"type":"proportional","factor":4}}"#),
            "config.json: rope_scaling.rope_type: \"proportional\" scaling is not supported"
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
