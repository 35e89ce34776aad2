//! `config.json` of Llama and its relatives: the same keys, with defaults and a few settings of each family's own.

use std::path::Path;

use serde_json::Value;

use super::{Activation, Architecture, Experts, LayerAttention, ModelConfig, Positions, activation, layers};
use crate::error::Result;
use crate::json_keys::Keys;
use crate::rope_scaling::{Rope, RopeDefaults};

/// What a key that is absent means.
struct Defaults {
    max_positions: usize,
    norm_eps: f64,
    theta: f64,
    /// `None`: as many as query heads.
    n_kv_heads: Option<usize>,
    /// `None`: what the model's width leaves for each head.
    head_dim: Option<usize>,
    ties_head: bool,
    activation: Activation,
}

impl Defaults {
    /// Those of transformers.
    fn of(architecture: Architecture) -> Self {
        let llama = Self {
            max_positions: 2048,
            norm_eps: 1e-6,
            theta: 10_000.0,
            n_kv_heads: None,
            head_dim: None,
            ties_head: false,
            activation: Activation::Silu,
        };
        match architecture {
            Architecture::Mistral => Self { max_positions: 131_072, n_kv_heads: Some(8), ..llama },
            Architecture::Qwen2 => Self { max_positions: 32_768, n_kv_heads: Some(32), ..llama },
            Architecture::Qwen3 => {
                Self { max_positions: 32_768, n_kv_heads: Some(32), head_dim: Some(128), ..llama }
            }
            Architecture::Qwen3Moe => Self { max_positions: 32_768, n_kv_heads: Some(4), ..llama },
            Architecture::SmolLm3 => Self {
                max_positions: 32_768,
                theta: 2_000_000.0,
                n_kv_heads: Some(4),
                ties_head: true,
                ..llama
            },
            Architecture::Olmo2 => Self { norm_eps: 1e-5, ..llama },
            Architecture::Phi3 => Self { max_positions: 4096, norm_eps: 1e-5, ..llama },
            Architecture::Gemma2 => Self {
                max_positions: 8192,
                n_kv_heads: Some(4),
                head_dim: Some(256),
                ties_head: true,
                activation: Activation::GeluTanh,
                ..llama
            },
            Architecture::Gemma3 => Self {
                max_positions: 131_072,
                theta: 1_000_000.0,
                n_kv_heads: Some(4),
                head_dim: Some(256),
                ties_head: true,
                activation: Activation::GeluTanh,
                ..llama
            },
            Architecture::Llama | Architecture::Gpt2 | Architecture::GptNeoX | Architecture::T5 => llama,
        }
    }
}

/// Reads the configuration of a family whose blocks are Llama's with variations.
pub(super) fn read(path: &Path, keys: &Keys, architecture: Architecture) -> Result<ModelConfig> {
    let defaults = Defaults::of(architecture);
    let hidden_size = keys.required_count("hidden_size")?;
    let n_heads = keys.required_count("num_attention_heads")?;
    let head_dim = head_dim(keys, hidden_size, n_heads, defaults.head_dim)?;
    let max_positions = keys.count("max_position_embeddings")?.unwrap_or(defaults.max_positions);
    let rope = Rope::read(
        keys,
        path,
        &RopeDefaults {
            theta: defaults.theta,
            max_positions,
            is_partial: architecture == Architecture::Phi3,
            rotated_share: 1.0,
            window_theta: (architecture == Architecture::Gemma3).then_some(10_000.0),
        },
    )?;
    refuse_unbuilt(keys, architecture)?;
    let is_gemma = matches!(architecture, Architecture::Gemma2 | Architecture::Gemma3);
    // Absent means the family's own, null means none.
    let cap = |key: &str, default: f64| {
        let cap = keys.positive(key)?.or(Some(default).filter(|_| !keys.has(key)));
        Ok(cap.filter(|_| architecture == Architecture::Gemma2).map(|cap| cap as f32))
    };
    let query_scale =
        if is_gemma { keys.positive("query_pre_attn_scalar")?.unwrap_or(256.0) } else { head_dim as f64 };
    let n_layers = layers::n_layers(keys, "num_hidden_layers", keys.required_count("num_hidden_layers")?)?;
    let (attention_bias, attention_output_bias, mlp_bias) = biases(keys, architecture)?;
    let experts = match architecture {
        Architecture::Qwen3Moe => Some(Experts::read(keys, n_layers)?),
        _ => None,
    };
    let config = ModelConfig {
        architecture,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.required_count("intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads: match keys.count("num_key_value_heads")? {
            Some(n_kv_heads) => n_kv_heads,
            // `null` means as many as query heads, whatever absence means.
            None if keys.has("num_key_value_heads") => n_heads,
            None => defaults.n_kv_heads.unwrap_or(n_heads),
        },
        head_dim,
        max_positions,
        norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(defaults.norm_eps) as f32,
        rotary_dim: (head_dim as f64 * rope.rotated_share) as usize,
        rope_theta: rope.theta as f32,
        rope_scaling: rope.scaling,
        window_rope_theta: rope.window_theta.map(|theta| theta as f32),
        attention_scale: 1.0 / (query_scale as f32).sqrt(),
        attention_cap: cap("attn_logit_softcapping", 50.0)?,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        layers: layer_attention(keys, architecture, n_layers)?,
        tie_word_embeddings: keys.bool("tie_word_embeddings", defaults.ties_head)?,
        attention_bias,
        attention_output_bias,
        mlp_bias,
        activation: activation(
            keys,
            if is_gemma { "hidden_activation" } else { "hidden_act" },
            defaults.activation,
        )?,
        has_parallel_blocks: false,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: keys.token_ids("eos_token_id")?,
        pad_id: keys.token_id("pad_token_id")?,
        experts,
        encoder_decoder: None,
        raw: Value::Null,
    };
    config.rope_scaling.check_width(keys, config.rotary_dim)?;
    Ok(config)
}

/// Refuses what changes the numbers and is not computed.
fn refuse_unbuilt(keys: &Keys, architecture: Architecture) -> Result<()> {
    match architecture {
        Architecture::Gemma3 => {
            for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
                if keys.get(key).is_some() {
                    return Err(keys.error(key, "caps on logits are not supported"));
                }
            }
        }
        Architecture::Gemma2 => {}
        _ => return Ok(()),
    }
    if keys.bool("use_bidirectional_attention", false)? {
        return Err(
            keys.error("use_bidirectional_attention", "only attention to earlier tokens is supported")
        );
    }
    Ok(())
}

fn head_dim(keys: &Keys, hidden_size: usize, n_heads: usize, default: Option<usize>) -> Result<usize> {
    match keys.count("head_dim")?.or(default.filter(|_| !keys.has("head_dim"))) {
        Some(head_dim) => Ok(head_dim),
        None if hidden_size.is_multiple_of(n_heads) => Ok(hidden_size / n_heads),
        None => {
            let reason =
                format!("{n_heads} does not divide hidden_size, {hidden_size}, and there is no head_dim");
            Err(keys.error("num_attention_heads", reason))
        }
    }
}

/// Whether there are biases in the projections to queries, keys and values, in that of what attention gives, and in the
/// feed-forward part. Some families have or lack them whatever the configuration says.
fn biases(keys: &Keys, architecture: Architecture) -> Result<(bool, bool, bool)> {
    let has_attention = keys.bool("attention_bias", false)?;
    let has_mlp = keys.bool("mlp_bias", false)?;
    Ok(match architecture {
        Architecture::Mistral | Architecture::Phi3 => (false, false, false),
        Architecture::Qwen2 => (true, false, false),
        Architecture::Qwen3
        | Architecture::Qwen3Moe
        | Architecture::Olmo2
        | Architecture::Gemma2
        | Architecture::Gemma3 => (has_attention, has_attention, false),
        _ => (has_attention, has_attention, has_mlp),
    })
}

/// Windows and positions of the blocks.
fn layer_attention(keys: &Keys, architecture: Architecture, n_layers: usize) -> Result<Vec<LayerAttention>> {
    let window = keys.count("sliding_window")?;
    let (window, slides) = match architecture {
        // Absent means 4096, null means none.
        Architecture::Mistral if !keys.has("sliding_window") => (Some(4096), vec![true; n_layers]),
        Architecture::Mistral | Architecture::Phi3 => (window, vec![true; n_layers]),
        Architecture::Qwen2 | Architecture::Qwen3 if keys.bool("use_sliding_window", false)? => {
            let window = if keys.has("sliding_window") { window } else { Some(4096) };
            let n_full = keys.whole("max_window_layers")?.unwrap_or(28);
            (window, layers::sliding(keys, n_layers, |i| i >= n_full)?)
        }
        // Every block has it, where it is used at all.
        Architecture::Qwen3Moe if keys.bool("use_sliding_window", false)? => {
            let window = if keys.has("sliding_window") { window } else { Some(4096) };
            (window, vec![true; n_layers])
        }
        Architecture::Gemma2 => {
            let window = if keys.has("sliding_window") { window } else { Some(4096) };
            (window, layers::sliding(keys, n_layers, |i| i.is_multiple_of(2))?)
        }
        Architecture::Gemma3 => {
            let window = if keys.has("sliding_window") { window } else { Some(4096) };
            let pattern = keys.count("sliding_window_pattern")?.unwrap_or(6);
            (window, layers::sliding(keys, n_layers, |i| !(i + 1).is_multiple_of(pattern))?)
        }
        Architecture::SmolLm3 if keys.bool("use_sliding_window", false)? => {
            let rotates = rotating(keys, n_layers)?;
            (window, layers::sliding(keys, n_layers, |i| rotates.get(i) == Some(&false))?)
        }
        _ => (None, vec![false; n_layers]),
    };
    let rotates = match architecture {
        Architecture::SmolLm3 => rotating(keys, n_layers)?,
        _ => vec![true; n_layers],
    };
    let layer = |(slides, rotates)| LayerAttention {
        window: window.filter(|_| slides),
        positions: if rotates { Positions::Rotary } else { Positions::None },
    };
    Ok(slides.into_iter().zip(rotates).map(layer).collect())
}

/// Which blocks of SmolLM3 rotate positions: all but every fourth, if nothing else is said.
fn rotating(keys: &Keys, n_layers: usize) -> Result<Vec<bool>> {
    let interval = keys.count("no_rope_layer_interval")?.unwrap_or(4);
    Ok(layers::flags(keys, "no_rope_layers", n_layers)?
        .unwrap_or_else(|| (1..=n_layers).map(|i| !i.is_multiple_of(interval)).collect()))
}
