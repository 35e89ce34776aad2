//! `config.json` of T5: version 1.0, and 1.1 with its descendants such as Flan-T5.

use serde_json::Value;

use super::{Activation, Architecture, LayerAttention, ModelConfig, Positions, layers};
use crate::error::Result;
use crate::json_keys::Keys;
use crate::rope_scaling::RopeScaling;

/// What a model of encoder and decoder has besides the numbers of every model.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderDecoder {
    /// Blocks of the encoder, which stand before those of the decoder in [`ModelConfig::n_layers`].
    pub n_encoder_layers: usize,
    /// Blocks of the decoder.
    pub n_decoder_layers: usize,
    /// Distances between positions are told apart by so many buckets.
    pub n_buckets: usize,
    /// The distance from which on all are in the last bucket.
    pub max_distance: usize,
    /// The feed-forward part multiplies an activated projection by a second one.
    pub is_gated: bool,
    /// What the head is given is multiplied by 1/√C.
    pub scales_head_input: bool,
    /// The token before the first one of the decoder's text.
    pub start_id: u32,
    /// Probability that an activation is dropped in training.
    pub dropout: f32,
}

/// More positions than anybody's memory holds: distances beyond the last bucket are no error, so T5 has no longest sequence.
const UNLIMITED_POSITIONS: usize = 1 << 24;

/// Reads it.
pub(super) fn read(keys: &Keys) -> Result<ModelConfig> {
    if !keys.bool("is_encoder_decoder", true)? {
        return Err(keys.error("is_encoder_decoder", "only models of encoder and decoder are supported"));
    }
    let hidden_size = keys.required_count("d_model")?;
    let n_heads = keys.required_count("num_heads")?;
    let n_encoder_layers = layers::n_layers(keys, "num_layers", keys.required_count("num_layers")?)?;
    let n_decoder_layers = keys.count("num_decoder_layers")?.unwrap_or(n_encoder_layers);
    let n_decoder_layers = layers::n_layers(keys, "num_decoder_layers", n_decoder_layers)?;
    let n_layers = n_encoder_layers + n_decoder_layers;
    let (is_gated, activation) = feed_forward(keys)?;
    // Old files say by the tied head whether its input is scaled; transformers 5 ties all of them and says it by itself.
    let tie_word_embeddings = keys.bool("tie_word_embeddings", true)?;
    let (n_buckets, max_distance) = distances(keys)?;
    let pad_id = keys.token_id("pad_token_id")?.or(Some(0));
    Ok(ModelConfig {
        architecture: Architecture::T5,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.required_count("d_ff")?,
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: keys.required_count("d_kv")?,
        max_positions: UNLIMITED_POSITIONS,
        norm_eps: keys.positive("layer_norm_epsilon")?.unwrap_or(1e-6) as f32,
        rotary_dim: 0,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        window_rope_theta: None,
        attention_scale: 1.0,
        attention_cap: None,
        logit_cap: None,
        layers: vec![LayerAttention { window: None, positions: Positions::None }; n_layers],
        tie_word_embeddings,
        attention_bias: false,
        attention_output_bias: false,
        mlp_bias: false,
        activation,
        has_parallel_blocks: false,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: if keys.has("eos_token_id") { keys.token_ids("eos_token_id")? } else { vec![1] },
        pad_id,
        experts: None,
        encoder_decoder: Some(EncoderDecoder {
            n_encoder_layers,
            n_decoder_layers,
            n_buckets,
            max_distance,
            is_gated,
            scales_head_input: keys.bool("scale_decoder_outputs", tie_word_embeddings)?,
            start_id: keys.token_id("decoder_start_token_id")?.or(pad_id).unwrap_or(0),
            dropout: dropout(keys)?,
        }),
        raw: Value::Null,
    })
}

/// Whether the feed-forward part is gated, and its activation: `relu`, `gated-gelu`, `gated-silu`.
fn feed_forward(keys: &Keys) -> Result<(bool, Activation)> {
    const KEY: &str = "feed_forward_proj";
    let named = keys.string(KEY)?.unwrap_or("relu");
    let (is_gated, name) = match named.strip_prefix("gated-") {
        Some(name) => (true, name),
        None => (false, named),
    };
    let activation = match name {
        // What is called GELU in a gate has always been its approximation.
        "gelu" if is_gated => Activation::GeluTanh,
        "gelu_new" => Activation::GeluTanh,
        "gelu" => Activation::Gelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        _ => {
            let reason =
                format!("unknown {named:?}; known are relu, gelu, silu and each with gated- before it");
            return Err(keys.error(KEY, reason));
        }
    };
    Ok((is_gated, activation))
}

/// The number of buckets and the distance that the last one begins with. Half of the buckets are for either direction in the
/// encoder, and half of those for single distances.
fn distances(keys: &Keys) -> Result<(usize, usize)> {
    const BUCKETS: &str = "relative_attention_num_buckets";
    const FARTHEST: &str = "relative_attention_max_distance";
    let n_buckets = keys.count(BUCKETS)?.unwrap_or(32);
    if !n_buckets.is_multiple_of(4) {
        return Err(keys.error(BUCKETS, format!("{n_buckets} is no multiple of 4")));
    }
    let max_distance = keys.count(FARTHEST)?.unwrap_or(128);
    if max_distance <= n_buckets / 2 {
        let reason = format!("{max_distance} is not above half of {BUCKETS}, {n_buckets}");
        return Err(keys.error(FARTHEST, reason));
    }
    Ok((n_buckets, max_distance))
}

fn dropout(keys: &Keys) -> Result<f32> {
    const KEY: &str = "dropout_rate";
    match keys.f64(KEY)?.unwrap_or(0.1) {
        rate if (0.0..1.0).contains(&rate) => Ok(rate as f32),
        rate => Err(keys.error(KEY, format!("{rate} is not at least 0 and below 1"))),
    }
}
