//! The numbers that define a model, read from `config.json` as transformers 4 and 5 write it.
//!
//! Keys whose absence has a default in `transformers` have the same default here; settings that would
//! change the computation and are not implemented are refused rather than ignored.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

mod architecture;
mod experts;
mod gpt2;
mod gpt_neox;
mod layers;
mod relatives;
mod t5;
#[cfg(test)]
mod tests;

pub use architecture::Architecture;
pub(crate) use architecture::unknown;
pub use experts::Experts;
pub use layers::{LayerAttention, Positions};
pub use t5::EncoderDecoder;

use crate::atomic::write_file;
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::json_keys::Keys;
use crate::rope_scaling::widen;
pub use crate::rope_scaling::{RopeScaling, Yarn};

/// The non-linearity of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x·σ(x).
    Silu,
    /// GELU by its tanh approximation ("gelu_new").
    GeluTanh,
    /// GELU by the error function.
    Gelu,
    /// max(x, 0).
    Relu,
}

/// A model's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// Rows of the embedding, V.
    pub vocab_size: usize,
    /// Model width, C.
    pub hidden_size: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads, H.
    pub n_heads: usize,
    /// Key and value heads, K; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of a head, D; even for models with rotary positions.
    pub head_dim: usize,
    /// Positions the model is made for; GPT-2 has a learned vector for each and no more.
    pub max_positions: usize,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// Elements of a head that are rotated, from the first on; even, at most `head_dim`.
    pub rotary_dim: usize,
    /// Base of the rotary frequencies; of no meaning for GPT-2.
    pub rope_theta: f32,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Base of the rotary frequencies of blocks with a window, where it is another; those are never changed.
    pub window_rope_theta: Option<f32>,
    /// Factor on the products of queries and keys, usually 1/√D.
    pub attention_scale: f32,
    /// Bound c of attention's scores z, as c·tanh(z/c).
    pub attention_cap: Option<f32>,
    /// The same of the scores of the next token.
    pub logit_cap: Option<f32>,
    /// What each block's attention sees, and how it tells positions apart.
    pub layers: Vec<LayerAttention>,
    /// The output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// The projections to queries, keys and values have biases.
    pub attention_bias: bool,
    /// The projection of what attention gives has a bias.
    pub attention_output_bias: bool,
    /// The feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
    /// Attention and the feed-forward part of a block have the same input, and what both give is added to it at once.
    pub has_parallel_blocks: bool,
    /// Beginning-of-sequence token.
    pub bos_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_ids: Vec<u32>,
    /// Padding token.
    pub pad_id: Option<u32>,
    /// The experts of its blocks; `None` where each has one feed-forward part.
    pub experts: Option<Experts>,
    /// What a model with an encoder has besides; `None` for a decoder alone.
    pub encoder_decoder: Option<EncoderDecoder>,
    /// The whole `config.json` (for GGUF files, one made from their metadata).
    pub raw: Value,
}

impl ModelConfig {
    /// Reads the `config.json` at `path`.
    ///
    /// # Errors
    /// [`FormatError::Missing`], [`FormatError::Json`], and as [`ModelConfig::from_json`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FormatError::Missing {
                path: path.parent().map(Path::to_owned).unwrap_or_default(),
                what: "config.json".into(),
            },
            _ => FormatError::io(path, "read")(source),
        })?;
        Self::from_json(path, serde_json::from_slice(&text).map_err(FormatError::json(path))?)
    }

    /// Interprets the content of a `config.json`; `path` is named in errors.
    ///
    /// # Errors
    /// [`FormatError::UnknownArchitecture`]; [`FormatError::Config`] for a key that is missing, of the wrong
    /// kind, out of range, or asks for a computation that is not implemented.
    pub fn from_json(path: &Path, raw: Value) -> Result<Self> {
        let keys = Keys::new(path, "", &raw)?;
        let architecture = Architecture::of(path, &keys)?;
        if let Some(quantisation) = keys.get("quantization_config") {
            let method =
                quantisation.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
            let reason =
                format!("the weights are stored quantised by {method}; use the unquantised model or a GGUF");
            return Err(keys.error("quantization_config", reason));
        }
        let mut config = match architecture {
            Architecture::Gpt2 => gpt2::read(&keys)?,
            Architecture::GptNeoX => gpt_neox::read(path, &keys)?,
            Architecture::T5 => t5::read(&keys)?,
            _ => relatives::read(path, &keys, architecture)?,
        };
        config.check(&keys)?;
        config.raw = raw;
        Ok(config)
    }

    /// The content of a `config.json` for these weights stored as `dtype`: everything the original had,
    /// with the keys that transformers 4 and 5 spell differently in both spellings.
    pub fn to_json(&self, dtype: StoreDtype) -> Value {
        let mut raw = self.raw.as_object().cloned().unwrap_or_default();
        let mut set = |key: &str, value: Value| raw.insert(key.to_owned(), value);
        set("architectures", json!([self.architecture.class_name()]));
        set("model_type", json!(self.architecture.model_type()));
        set("torch_dtype", json!(dtype.torch_name()));
        set("dtype", json!(dtype.torch_name()));
        set("vocab_size", json!(self.vocab_size));
        set("tie_word_embeddings", json!(self.tie_word_embeddings));
        if let Some(experts) = &self.experts {
            set("num_experts", json!(experts.n_experts));
            set("num_local_experts", json!(experts.n_experts));
        }
        if let Some(parts) = &self.encoder_decoder {
            set("scale_decoder_outputs", json!(parts.scales_head_input));
        }
        if self.has_rotary_positions() {
            set("rope_theta", json!(widen(self.rope_theta)));
            let scaling = self.rope_scaling.to_json(self.max_positions);
            let mut parameters = scaling.as_object().cloned().unwrap_or_default();
            parameters.entry("rope_type").or_insert(json!("default"));
            parameters.insert("rope_theta".into(), json!(widen(self.rope_theta)));
            let is_neox = self.architecture == Architecture::GptNeoX;
            if is_neox {
                set("rotary_emb_base", json!(widen(self.rope_theta)));
            }
            if self.rotary_dim != self.head_dim || is_neox {
                let share = json!(self.rotary_dim as f64 / self.head_dim as f64);
                set(if is_neox { "rotary_pct" } else { "partial_rotary_factor" }, share.clone());
                parameters.insert("partial_rotary_factor".into(), share);
            }
            if let RopeScaling::LongRope { original_max_positions, .. } = self.rope_scaling {
                set("original_max_position_embeddings", json!(original_max_positions));
                parameters.insert("rope_type".into(), json!("longrope"));
                parameters.insert("original_max_position_embeddings".into(), json!(original_max_positions));
            }
            set("rope_scaling", scaling);
            let parameters = match self.window_rope_theta.map(widen) {
                None => parameters.into(),
                Some(theta) => {
                    set("rope_local_base_freq", json!(theta));
                    let of_windows = json!({ "rope_type": "default", "rope_theta": theta });
                    json!({ "full_attention": parameters, "sliding_attention": of_windows })
                }
            };
            set("rope_parameters", parameters);
        }
        raw.into()
    }

    /// Writes [`ModelConfig::to_json`] as `config.json` into the folder `dir`; returns the file.
    ///
    /// # Errors
    /// [`FormatError::Io`].
    pub fn save(&self, dir: &Path, dtype: StoreDtype) -> Result<PathBuf> {
        let path = dir.join("config.json");
        let text = serde_json::to_string_pretty(&self.to_json(dtype)).map_err(FormatError::json(&path))?;
        write_file(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Width of the feed-forward part as one token sees it: of one, or of all experts that it takes.
    pub fn active_intermediate_size(&self) -> usize {
        match &self.experts {
            Some(experts) => (experts.n_per_token * experts.intermediate_size)
                .max(if experts.is_sparse.contains(&false) { self.intermediate_size } else { 0 }),
            None => self.intermediate_size,
        }
    }

    fn has_rotary_positions(&self) -> bool {
        !matches!(self.architecture, Architecture::Gpt2 | Architecture::T5)
    }

    fn check(&self, keys: &Keys) -> Result<()> {
        let is_gpt2 = self.architecture == Architecture::Gpt2;
        let heads_key = match self.architecture {
            Architecture::Gpt2 => "n_head",
            Architecture::T5 => "num_heads",
            _ => "num_attention_heads",
        };
        if is_gpt2 && self.head_dim * self.n_heads != self.hidden_size {
            let reason = format!("{} does not divide n_embd, {}", self.n_heads, self.hidden_size);
            return Err(keys.error(heads_key, reason));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let reason = format!("{} does not divide {heads_key}, {}", self.n_kv_heads, self.n_heads);
            return Err(keys.error("num_key_value_heads", reason));
        }
        if self.has_rotary_positions() && !self.rotary_dim.is_multiple_of(2) {
            let reason = format!("{} is odd; rotary positions need pairs", self.rotary_dim);
            return Err(keys.error("head_dim", reason));
        }
        Ok(())
    }
}

/// The non-linearity named by `key`.
fn activation(keys: &Keys, key: &str, default: Activation) -> Result<Activation> {
    match keys.string(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        Some("relu") => Ok(Activation::Relu),
        Some(other) => {
            Err(keys
                .error(key, format!("unknown activation {other:?}; known are silu, gelu_new, gelu and relu")))
        }
    }
}
