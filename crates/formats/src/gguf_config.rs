//! A `config.json` made from the metadata of a GGUF file, such that `transformers` loads it.

use serde_json::{Value, json};

use crate::error::{FormatError, Result};
use crate::gguf::GgufFile;
use crate::model_config::{ModelConfig, RopeScaling};
use crate::rope_scaling::widen;

/// The frequency divisors that stand for Llama 3.1's rotary scaling.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// The configuration of the model in `file`.
///
/// # Errors
/// [`FormatError::UnknownArchitecture`] for anything but `llama` and `gpt2`; [`FormatError::Config`] naming
/// the metadata key that is missing or not usable.
pub(crate) fn model_config(file: &GgufFile) -> Result<ModelConfig> {
    let name = file.metadata().string("general.architecture")?.unwrap_or_default();
    let reader = Reader { file, architecture: name };
    let raw = match name {
        "llama" => reader.llama()?,
        "gpt2" => reader.gpt2()?,
        _ => {
            return Err(FormatError::UnknownArchitecture {
                path: file.path().to_owned(),
                name: name.to_owned(),
                nearest: if name.starts_with("gpt") { "gpt2" } else { "llama" }.to_owned(),
            });
        }
    };
    ModelConfig::from_json(file.path(), raw)
}

/// Whether the output head is the embedding: there is none of its own, or it is a byte-wise copy.
pub(crate) fn is_tied(file: &GgufFile) -> bool {
    match (file.tensor("output.weight"), file.tensor("token_embd.weight")) {
        (None, _) => true,
        (Some(head), Some(embedding)) => {
            head.dtype == embedding.dtype
                && head.shape == embedding.shape
                && file.bytes(head) == file.bytes(embedding)
        }
        (Some(_), None) => false,
    }
}

struct Reader<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl Reader<'_> {
    fn llama(&self) -> Result<Value> {
        if self.count("expert_count")?.is_some_and(|n| n > 0) {
            return Err(self.error("expert_count", "mixture-of-experts models are not supported"));
        }
        let hidden_size = self.required("embedding_length")?;
        let n_heads = self.required("attention.head_count")?;
        let head_dim = match self.count("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => hidden_size.checked_div(n_heads).unwrap_or_default(),
        };
        if self.count("attention.value_length")?.is_some_and(|n| n != head_dim) {
            return Err(
                self.error("attention.value_length", "keys and values of different width are not supported")
            );
        }
        if self.count("rope.dimension_count")?.is_some_and(|n| n != head_dim) {
            return Err(self.error("rope.dimension_count", "only rotation of the whole head is supported"));
        }
        let max_positions = self.required("context_length")?;
        let theta = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        let sliding_window = self.count("attention.sliding_window")?.filter(|n| *n > 0);
        let has = |name: &str| self.file.tensor(name).is_some();
        let mut raw = json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": has("blk.0.attn_q.bias"),
            "attention_dropout": 0.0,
            "head_dim": head_dim,
            "hidden_act": "silu",
            "hidden_size": hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.required("feed_forward_length")?,
            "max_position_embeddings": max_positions,
            "mlp_bias": has("blk.0.ffn_gate.bias"),
            "model_type": "llama",
            "num_attention_heads": n_heads,
            "num_hidden_layers": self.required("block_count")?,
            "num_key_value_heads": self.count("attention.head_count_kv")?.unwrap_or(n_heads),
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            "rope_theta": theta,
            "rope_scaling": self.rope_scaling(theta, head_dim, max_positions)?.to_json(),
            "use_cache": true,
        });
        if let Some(window) = sliding_window {
            raw["architectures"] = json!(["MistralForCausalLM"]);
            raw["model_type"] = json!("mistral");
            raw["sliding_window"] = json!(window);
        }
        self.add_common(raw)
    }

    fn gpt2(&self) -> Result<Value> {
        self.add_common(json!({
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            "layer_norm_epsilon": self.number("attention.layer_norm_epsilon")?.unwrap_or(1e-5),
            "model_type": "gpt2",
            "n_embd": self.required("embedding_length")?,
            "n_head": self.required("attention.head_count")?,
            "n_inner": self.count("feed_forward_length")?,
            "n_layer": self.required("block_count")?,
            "n_positions": self.required("context_length")?,
            "use_cache": true,
        }))
    }

    fn add_common(&self, mut raw: Value) -> Result<Value> {
        let Some(embedding) = self.file.tensor("token_embd.weight") else {
            return Err(FormatError::NoSuchTensor {
                path: self.file.path().to_owned(),
                name: "token_embd.weight".into(),
            });
        };
        let metadata = self.file.metadata();
        // The metadata's vocabulary size may leave out padding rows.
        raw["vocab_size"] = json!(embedding.shape.first());
        raw["tie_word_embeddings"] = json!(is_tied(self.file));
        raw["bos_token_id"] = json!(metadata.u32("tokenizer.ggml.bos_token_id")?);
        raw["eos_token_id"] = json!(metadata.u32("tokenizer.ggml.eos_token_id")?);
        raw["pad_token_id"] = json!(metadata.u32("tokenizer.ggml.padding_token_id")?);
        raw["torch_dtype"] = json!("float32");
        raw["dtype"] = json!("float32");
        Ok(raw)
    }

    /// Scaling by key (linear) or by the tensor of frequency divisors (Llama 3.1).
    fn rope_scaling(&self, theta: f64, head_dim: usize, max_positions: usize) -> Result<RopeScaling> {
        if self.file.tensor(ROPE_DIVISORS).is_some() {
            let (shape, divisors) = self.file.read_f32(ROPE_DIVISORS)?;
            if divisors.len() != head_dim / 2 {
                return Err(FormatError::Shape {
                    path: self.file.path().to_owned(),
                    name: ROPE_DIVISORS.into(),
                    expected: vec![head_dim / 2],
                    actual: shape,
                });
            }
            return RopeScaling::from_divisors(&divisors, theta, max_positions).ok_or_else(|| {
                self.error("rope.scaling", "rope_freqs.weight does not follow the rule of Llama 3.1")
            });
        }
        let metadata = self.file.metadata();
        let kind = metadata.string(&self.key("rope.scaling.type"))?;
        let factor = match self.number("rope.scaling.factor")? {
            Some(factor) => Some(factor),
            // The key's first name.
            None => self.number("rope.scale_linear")?,
        };
        match (kind, factor) {
            (Some("none"), _) | (None | Some("linear"), None | Some(0.0 | 1.0)) => Ok(RopeScaling::None),
            (None | Some("linear"), Some(factor)) => Ok(RopeScaling::Linear { factor: factor as f32 }),
            (Some(kind), _) => {
                Err(self.error("rope.scaling.type", &format!("{kind:?} scaling is not supported")))
            }
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn count(&self, key: &str) -> Result<Option<usize>> {
        self.file.metadata().usize(&self.key(key))
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.count(key)?.ok_or_else(|| self.error(key, "the key is missing"))
    }

    /// Numbers are stored as float32; written with the digits a person would have typed.
    fn number(&self, key: &str) -> Result<Option<f64>> {
        Ok(self.file.metadata().f64(&self.key(key))?.map(|number| widen(number as f32)))
    }

    fn error(&self, key: &str, reason: &str) -> FormatError {
        FormatError::Config {
            path: self.file.path().to_owned(),
            key: self.key(key),
            reason: reason.to_owned(),
        }
    }
}
