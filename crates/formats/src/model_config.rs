//! The numbers that define a model, read from `config.json` as transformers 4 and 5 write it.
//!
//! Keys whose absence has a default in `transformers` have the same default here; settings that would
//! change the computation and are not implemented are refused rather than ignored.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::atomic::write_file;
use crate::dtype::StoreDtype;
use crate::error::{FormatError, Result};
use crate::json_keys::Keys;
pub use crate::rope_scaling::RopeScaling;
use crate::rope_scaling::widen;
use crate::sequence_classifier::is_classifier_of;

/// The model families that can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `LlamaForCausalLM`: Llama 1 to 3.3, TinyLlama, SmolLM, Danube 3 and many others.
    Llama,
    /// `MistralForCausalLM`: Llama with an optional sliding attention window; Mistral 7B, Danube 1 and 2.
    Mistral,
    /// `GPT2LMHeadModel`.
    Gpt2,
}

impl Architecture {
    const ALL: [Self; 3] = [Self::Llama, Self::Mistral, Self::Gpt2];

    /// The class name in `architectures`.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Gpt2 => "GPT2LMHeadModel",
        }
    }

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Gpt2 => "gpt2",
        }
    }

    /// The module that holds everything but the output head; all tensor names but the head's start with it.
    pub(crate) fn base_prefix(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral => "model.",
            Self::Gpt2 => "transformer.",
        }
    }
}

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
    /// Base of the rotary frequencies; of no meaning for GPT-2.
    pub rope_theta: f32,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// A position attends to itself and the `window − 1` positions before it.
    pub sliding_window: Option<usize>,
    /// The output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// The attention projections have biases.
    pub attention_bias: bool,
    /// The feed-forward projections have biases.
    pub mlp_bias: bool,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
    /// Beginning-of-sequence token.
    pub bos_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_ids: Vec<u32>,
    /// Padding token.
    pub pad_id: Option<u32>,
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
        let architecture = architecture(path, &keys)?;
        if let Some(quantisation) = keys.get("quantization_config") {
            let method =
                quantisation.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
            let reason =
                format!("the weights are stored quantised by {method}; use the unquantised model or a GGUF");
            return Err(keys.error("quantization_config", reason));
        }
        let mut config = match architecture {
            Architecture::Llama | Architecture::Mistral => llama(path, &keys, architecture)?,
            Architecture::Gpt2 => gpt2(&keys)?,
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
        if self.architecture != Architecture::Gpt2 {
            set("rope_theta", json!(widen(self.rope_theta)));
            let scaling = self.rope_scaling.to_json();
            let mut parameters = scaling.as_object().cloned().unwrap_or_default();
            parameters.entry("rope_type").or_insert(json!("default"));
            parameters.insert("rope_theta".into(), json!(widen(self.rope_theta)));
            set("rope_scaling", scaling);
            set("rope_parameters", parameters.into());
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

    fn check(&self, keys: &Keys) -> Result<()> {
        let is_gpt2 = self.architecture == Architecture::Gpt2;
        let heads_key = if is_gpt2 { "n_head" } else { "num_attention_heads" };
        if is_gpt2 && self.head_dim * self.n_heads != self.hidden_size {
            let reason = format!("{} does not divide n_embd, {}", self.n_heads, self.hidden_size);
            return Err(keys.error(heads_key, reason));
        }
        if !self.n_heads.is_multiple_of(self.n_kv_heads) {
            let reason = format!("{} does not divide {heads_key}, {}", self.n_kv_heads, self.n_heads);
            return Err(keys.error("num_key_value_heads", reason));
        }
        if !is_gpt2 && !self.head_dim.is_multiple_of(2) {
            return Err(
                keys.error("head_dim", format!("{} is odd; rotary positions need pairs", self.head_dim))
            );
        }
        Ok(())
    }
}

fn llama(path: &Path, keys: &Keys, architecture: Architecture) -> Result<ModelConfig> {
    let is_mistral = architecture == Architecture::Mistral;
    let hidden_size = keys.required_count("hidden_size")?;
    let n_heads = keys.required_count("num_attention_heads")?;
    let head_dim = match keys.count("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(n_heads) => hidden_size / n_heads,
        None => {
            let reason =
                format!("{n_heads} does not divide hidden_size, {hidden_size}, and there is no head_dim");
            return Err(keys.error("num_attention_heads", reason));
        }
    };
    if keys.f64("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(keys.error("partial_rotary_factor", "only rotation of the whole head is supported"));
    }
    let max_positions =
        keys.count("max_position_embeddings")?.unwrap_or(if is_mistral { 131_072 } else { 2048 });
    let (rope_theta, rope_scaling) = RopeScaling::read(keys, path, max_positions)?;
    let sliding_window = match keys.count("sliding_window")? {
        _ if !is_mistral => None,
        // Absent means 4096, null means none.
        None if !keys.has("sliding_window") => Some(4096),
        window => window,
    };
    Ok(ModelConfig {
        architecture,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.required_count("intermediate_size")?,
        n_layers: keys.required_count("num_hidden_layers")?,
        n_heads,
        n_kv_heads: keys.count("num_key_value_heads")?.unwrap_or(match keys.has("num_key_value_heads") {
            false if is_mistral => 8,
            _ => n_heads,
        }),
        head_dim,
        max_positions,
        norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope_theta: rope_theta as f32,
        rope_scaling,
        sliding_window,
        tie_word_embeddings: keys.bool("tie_word_embeddings", false)?,
        // Mistral's projections never have biases, whatever its configuration says.
        attention_bias: !is_mistral && keys.bool("attention_bias", false)?,
        mlp_bias: !is_mistral && keys.bool("mlp_bias", false)?,
        activation: activation(keys, "hidden_act", Activation::Silu)?,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: keys.token_ids("eos_token_id")?,
        pad_id: keys.token_id("pad_token_id")?,
        raw: Value::Null,
    })
}

fn gpt2(keys: &Keys) -> Result<ModelConfig> {
    for (key, supported) in [
        ("scale_attn_weights", true),
        ("scale_attn_by_inverse_layer_idx", false),
        ("add_cross_attention", false),
    ] {
        if keys.bool(key, supported)? != supported {
            return Err(keys.error(key, format!("only {supported} is supported")));
        }
    }
    // GPT-2's own names, and the general ones that some tools write.
    let count = |key, general| match keys.count(key)? {
        Some(count) => Ok(count),
        None => keys.count(general)?.ok_or_else(|| keys.error(key, "the key is missing")),
    };
    let hidden_size = count("n_embd", "hidden_size")?;
    let n_heads = count("n_head", "num_attention_heads")?;
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size: keys.required_count("vocab_size")?,
        hidden_size,
        intermediate_size: keys.count("n_inner")?.unwrap_or(4 * hidden_size),
        n_layers: count("n_layer", "num_hidden_layers")?,
        n_heads,
        n_kv_heads: n_heads,
        head_dim: hidden_size / n_heads,
        max_positions: keys.count("n_positions")?.or(keys.count("n_ctx")?).unwrap_or(1024),
        norm_eps: keys.positive("layer_norm_epsilon")?.unwrap_or(1e-5) as f32,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        sliding_window: None,
        tie_word_embeddings: keys.bool("tie_word_embeddings", true)?,
        attention_bias: true,
        mlp_bias: true,
        activation: activation(keys, "activation_function", Activation::GeluTanh)?,
        bos_id: keys.token_id("bos_token_id")?,
        eos_ids: keys.token_ids("eos_token_id")?,
        pad_id: keys.token_id("pad_token_id")?,
        raw: Value::Null,
    })
}

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

fn architecture(path: &Path, keys: &Keys) -> Result<Architecture> {
    let class = keys.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
    let find = |wanted: &str, name: fn(Architecture) -> &'static str| {
        Architecture::ALL.into_iter().find(|known| name(*known) == wanted).ok_or_else(|| {
            let nearest =
                Architecture::ALL.into_iter().map(name).min_by_key(|known| edit_distance(known, wanted));
            FormatError::UnknownArchitecture {
                path: path.to_owned(),
                name: wanted.to_owned(),
                nearest: nearest.unwrap_or_default().to_owned(),
            }
        })
    };
    let classified = |class| Architecture::ALL.into_iter().find(|a| is_classifier_of(a.class_name(), class));
    if let Some(architecture) = class.and_then(classified) {
        return Ok(architecture);
    }
    match (class, keys.string("model_type")?) {
        (Some(class), _) => find(class, Architecture::class_name),
        (None, Some(model_type)) => find(model_type, Architecture::model_type),
        (None, None) => Err(keys.error("architectures", "neither it nor model_type is there")),
    }
}

/// Levenshtein distance in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let cost = diagonal + usize::from(x != y);
            diagonal = *cell;
            left = cost.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: Value) -> Result<ModelConfig> {
        let mut base = json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48,
            "num_hidden_layers": 2, "num_attention_heads": 4,
        });
        for (key, value) in change.as_object().unwrap() {
            base[key] = value.clone();
        }
        ModelConfig::from_json(Path::new("config.json"), base)
    }

    #[test]
    fn absent_keys_take_the_defaults_of_transformers() {
        let llama = config(json!({})).unwrap();
        assert_eq!((llama.n_kv_heads, llama.head_dim, llama.max_positions), (4, 8, 2048));
        assert_eq!((llama.norm_eps, llama.rope_theta, llama.sliding_window), (1e-6, 10_000.0, None));
        assert!(!llama.tie_word_embeddings && !llama.attention_bias && !llama.mlp_bias);
        assert_eq!((llama.bos_id, llama.pad_id), (None, None));

        let mistral = |window| {
            let mut change = json!({ "architectures": ["MistralForCausalLM"], "num_key_value_heads": 2 });
            if let Some(window) = window {
                change["sliding_window"] = window;
            }
            config(change).unwrap().sliding_window
        };
        assert_eq!(
            [mistral(None), mistral(Some(Value::Null)), mistral(Some(json!(64)))],
            [Some(4096), None, Some(64)]
        );

        let gpt2 = json!({"model_type": "gpt2", "vocab_size": 9, "n_embd": 8, "n_head": 2, "n_layer": 1});
        let gpt2 = ModelConfig::from_json(Path::new("c"), gpt2).unwrap();
        assert_eq!((gpt2.intermediate_size, gpt2.max_positions, gpt2.head_dim), (32, 1024, 4));
        assert!(gpt2.tie_word_embeddings && gpt2.attention_bias && gpt2.mlp_bias);
        assert_eq!(gpt2.activation, Activation::GeluTanh);
    }

    #[test]
    fn token_ids_may_be_numbers_lists_or_nothing() {
        let ids = |value| config(json!({ "eos_token_id": value, "pad_token_id": -1 })).unwrap();
        assert_eq!(ids(json!(2)).eos_ids, [2]);
        assert_eq!(ids(json!([128_001, 128_009])).eos_ids, [128_001, 128_009]);
        assert!(ids(Value::Null).eos_ids.is_empty());
        assert_eq!(ids(json!(2)).pad_id, None);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        let refusal = |change| config(change).unwrap_err().to_string();
        assert_eq!(
            refusal(json!({ "architectures": ["Qwen2ForCausalLM"] })),
            "config.json: unknown model architecture \"Qwen2ForCausalLM\"; the nearest known one is \"LlamaForCausalLM\""
        );
        assert!(
            refusal(json!({ "architectures": ["MixtralForCausalLM"] })).contains("\"MistralForCausalLM\"")
        );
        assert!(refusal(json!({ "hidden_act": "quick_gelu" })).contains("hidden_act: unknown activation"));
        assert!(refusal(json!({ "num_key_value_heads": 3 })).contains("3 does not divide"));
        assert!(refusal(json!({ "head_dim": 7 })).contains("odd"));
        assert!(refusal(json!({ "num_attention_heads": 5 })).contains("5 does not divide hidden_size, 32"));
        assert!(refusal(json!({ "num_attention_heads": 0 })).contains("expected a count from 1"));
        assert!(refusal(json!({ "vocab_size": 1u64 << 40 })).contains("expected a count from 1"));
        assert!(refusal(json!({ "vocab_size": null })).contains("vocab_size: the key is missing"));
        assert!(
            refusal(json!({ "rms_norm_eps": "x" }))
                .contains("rms_norm_eps: expected a number above 0, found \"x\"")
        );
        let quantised = json!({ "quantization_config": { "quant_method": "bitsandbytes" } });
        assert!(refusal(quantised).contains("quantised by bitsandbytes"));
    }

    #[test]
    fn written_configurations_keep_everything_and_speak_both_dialects() {
        let scaling = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        });
        let change = json!({ "rope_theta": 500000.0, "rope_scaling": scaling, "initializer_range": 0.02 });
        let original = config(change).unwrap();
        let written = original.to_json(StoreDtype::BF16);
        assert_eq!(written["dtype"], "bfloat16");
        assert_eq!(written["torch_dtype"], "bfloat16");
        assert_eq!(written["initializer_range"], 0.02);
        assert_eq!(written["rope_parameters"]["rope_theta"], 500000.0);
        assert_eq!(written["rope_parameters"]["rope_type"], "llama3");
        for dropped in [["rope_parameters", "rope_parameters"], ["rope_theta", "rope_scaling"]] {
            let mut one_dialect = written.clone();
            for key in dropped {
                one_dialect.as_object_mut().unwrap().remove(key);
            }
            let read = ModelConfig::from_json(Path::new("c"), one_dialect).unwrap();
            assert_eq!(
                ModelConfig { raw: Value::Null, ..read },
                ModelConfig { raw: Value::Null, ..original.clone() }
            );
        }
    }

    #[test]
    fn edit_distance_counts_changes() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "ab"), 2);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
