//! `config.json` of GPT-2.

use serde_json::Value;

use super::{Activation, Architecture, LayerAttention, ModelConfig, Positions, activation, layers};
use crate::error::Result;
use crate::json_keys::Keys;
use crate::rope_scaling::RopeScaling;

/// Reads it, under GPT-2's own names or the general ones that some tools write.
pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    for (key, supported) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        if keys.bool(key, supported)? != supported {
            return Err(keys.error(key, format!("only {supported} is supported")));
        }
    }
    let count = |key, general| match keys.count(key)? {
        Some(count) => Ok(count),
        None => keys.count(general)?.ok_or_else(|| keys.error(key, "the key is missing")),
    };
    let hidden_size = count("n_embd", "hidden_size")?;
    let n_heads = count("n_head", "num_attention_heads")?;
    let n_layers = layers::n_layers(keys, "n_layer", count("n_layer", "num_hidden_layers")?)?;
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.count("n_inner")?.unwrap_or(4 * hidden_size),
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: hidden_size / n_heads,
        max_positions: keys.count("n_positions")?.or(keys.count("n_ctx")?).unwrap_or(1024),
        norm_eps: keys.positive("layer_norm_epsilon")?.unwrap_or(1e-5) as f32,
        rotary_dim: 0,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        window_rope_theta: None,
        attention_scale: 1.0 / ((hidden_size / n_heads) as f32).sqrt(),
        attention_cap: None,
        logit_cap: None,
        layers: vec![LayerAttention { window: None, positions: Positions::None }; n_layers],
        tie_word_embeddings: keys.bool("tie_word_embeddings", true)?,
        attention_bias: true,
        attention_output_bias: true,
        mlp_bias: true,
        activation: activation(keys, "activation_function", Activation::GeluTanh)?,
        has_parallel_blocks: false,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: keys.token_ids("eos_token_id")?,
        pad_id: keys.token_id("pad_token_id")?,
        experts: None,
        encoder_decoder: None,
        raw: Value::Null,
    })
}
