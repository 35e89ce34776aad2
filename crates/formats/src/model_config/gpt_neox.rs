//! `config.json` of GPT-NeoX and Pythia.

use std::path::Path;

use serde_json::Value;

use super::{Activation, Architecture, LayerAttention, ModelConfig, Positions, activation, layers};
use crate::error::Result;
use crate::json_keys::Keys;
use crate::rope_scaling::{Rope, RopeDefaults};

/// Reads it, with the rotary positions under their own names (`rotary_pct`, `rotary_emb_base`) or those of transformers 5.
pub(super) fn read(path: &Path, keys: &Keys) -> Result<ModelConfig> {
    let hidden_size = keys.required_count("hidden_size")?;
    let n_heads = keys.required_count("num_attention_heads")?;
    if !hidden_size.is_multiple_of(n_heads) {
        let reason = format!("{n_heads} does not divide hidden_size, {hidden_size}");
        return Err(keys.error("num_attention_heads", reason));
    }
    let head_dim = hidden_size / n_heads;
    let max_positions = keys.count("max_position_embeddings")?.unwrap_or(2048);
    let share = keys.positive("rotary_pct")?.unwrap_or(0.25);
    if share > 1.0 {
        return Err(keys.error("rotary_pct", format!("expected a share above 0 and up to 1, found {share}")));
    }
    let rope = Rope::read(
        keys,
        path,
        &RopeDefaults {
            theta: keys.positive("rotary_emb_base")?.unwrap_or(10_000.0),
            max_positions,
            is_partial: true,
            rotated_share: share,
            window_theta: None,
        },
    )?;
    let n_layers = layers::n_layers(keys, "num_hidden_layers", keys.required_count("num_hidden_layers")?)?;
    let has_bias = keys.bool("attention_bias", true)?;
    let config = ModelConfig {
        architecture: Architecture::GptNeoX,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.required_count("intermediate_size")?,
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        head_dim,
        max_positions,
        norm_eps: keys.positive("layer_norm_eps")?.unwrap_or(1e-5) as f32,
        rotary_dim: (head_dim as f64 * rope.rotated_share) as usize,
        rope_theta: rope.theta as f32,
        rope_scaling: rope.scaling,
        window_rope_theta: None,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        attention_cap: None,
        logit_cap: None,
        layers: vec![LayerAttention { window: None, positions: Positions::Rotary }; n_layers],
        tie_word_embeddings: keys.bool("tie_word_embeddings", false)?,
        attention_bias: has_bias,
        attention_output_bias: has_bias,
        mlp_bias: true,
        activation: activation(keys, "hidden_act", Activation::Gelu)?,
        has_parallel_blocks: keys.bool("use_parallel_residual", true)?,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: keys.token_ids("eos_token_id")?,
        pad_id: keys.token_id("pad_token_id")?,
        experts: None,
        encoder_decoder: None,
        raw: Value::Null,
    };
    config.rope_scaling.check_width(keys, config.rotary_dim)?;
    Ok(config)
}
