//! A `config.json` made from the metadata of a GGUF file, such that `transformers` loads it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{FormatError, Result};
use crate::gguf::GgufFile;
use crate::model_config::{Architecture, ModelConfig, RopeScaling, unknown};
use crate::rope_scaling::{long_rope_attention, widen};

/// The frequency divisors that stand for Llama 3.1's rotary scaling.
const ROPE_DIVISORS: &str = "rope_freqs.weight";
/// Those of LongRoPE, for sequences within the original context and for longer ones.
const SHORT_DIVISORS: &str = "rope_factors_short.weight";
const LONG_DIVISORS: &str = "rope_factors_long.weight";

/// Tensors that belong to the configuration and are no weights.
pub(crate) const CONFIGURING: [&str; 3] = [ROPE_DIVISORS, SHORT_DIVISORS, LONG_DIVISORS];

/// The families that are read from GGUF files, by the name that llama.cpp gives them.
const FAMILIES: [(&str, Architecture); 7] = [
    ("llama", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
    ("smollm3", Architecture::SmolLm3),
    ("olmo2", Architecture::Olmo2),
    ("phi3", Architecture::Phi3),
    ("gpt2", Architecture::Gpt2),
];

/// The configuration of the model in `file`.
///
/// # Errors
/// [`FormatError::UnknownArchitecture`] for a family that is not among [`FAMILIES`]; [`FormatError::Config`] naming
/// the metadata key that is missing or not usable.
pub(crate) fn model_config(file: &GgufFile) -> Result<ModelConfig> {
    let name = file.metadata().string("general.architecture")?.unwrap_or_default();
    let Some((_, family)) = FAMILIES.into_iter().find(|(known, _)| *known == name) else {
        return Err(unknown(file.path(), name, FAMILIES.map(|(known, _)| known).to_vec()));
    };
    let reader = Reader { file, architecture: name };
    let raw = match family {
        Architecture::Gpt2 => reader.gpt2()?,
        _ => reader.relative(family)?,
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
    /// Llama and its relatives.
    fn relative(&self, family: Architecture) -> Result<Value> {
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
        let rotary_dim = self.count("rope.dimension_count")?.unwrap_or(head_dim);
        if rotary_dim != head_dim && family != Architecture::Phi3 {
            return Err(self.error("rope.dimension_count", "only rotation of the whole head is supported"));
        }
        let max_positions = self.required("context_length")?;
        let theta = self.number("rope.freq_base")?.unwrap_or(10_000.0);
        let mut raw = json!({
            "architectures": [family.class_name()],
            "attention_dropout": 0.0,
            "head_dim": head_dim,
            "hidden_act": "silu",
            "hidden_size": hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": self.required("feed_forward_length")?,
            "max_position_embeddings": max_positions,
            "model_type": family.model_type(),
            "num_attention_heads": n_heads,
            "num_hidden_layers": self.required("block_count")?,
            "num_key_value_heads": self.count("attention.head_count_kv")?.unwrap_or(n_heads),
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
            "rope_theta": theta,
            "use_cache": true,
        });
        let scaling = match family {
            Architecture::Phi3 => self.long_rope(rotary_dim, max_positions, &mut raw)?,
            _ => self.rope_scaling(theta, head_dim, max_positions)?,
        };
        raw["rope_scaling"] = scaling.to_json(max_positions);
        self.add_particulars(family, &mut raw)?;
        if rotary_dim != head_dim {
            raw["partial_rotary_factor"] = json!(rotary_dim as f64 / head_dim as f64);
        }
        self.add_common(raw)
    }

    /// What only some families have.
    fn add_particulars(&self, family: Architecture, raw: &mut Value) -> Result<()> {
        let window = self.count("attention.sliding_window")?.filter(|n| *n > 0);
        let has = |name: &str| self.file.tensor(name).is_some();
        match family {
            Architecture::Llama | Architecture::SmolLm3 => {
                raw["attention_bias"] = json!(has("blk.0.attn_q.bias"));
                raw["mlp_bias"] = json!(has("blk.0.ffn_gate.bias"));
            }
            _ => (),
        }
        match (family, window) {
            (_, None) => (),
            (Architecture::Llama, Some(window)) => {
                raw["architectures"] = json!([Architecture::Mistral.class_name()]);
                raw["model_type"] = json!(Architecture::Mistral.model_type());
                raw["sliding_window"] = json!(window);
            }
            (Architecture::Phi3, Some(window)) => raw["sliding_window"] = json!(window),
            // OLMo 3 goes by the name of OLMo 2, and files of the others do not say which blocks have the window.
            _ => return Err(self.error("attention.sliding_window", "not supported for this architecture")),
        }
        Ok(())
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

    /// Phi 3's scaling, by its tensors of divisors; the context first trained on goes beside it.
    fn long_rope(&self, rotary_dim: usize, max_positions: usize, raw: &mut Value) -> Result<RopeScaling> {
        let divisors = |name: &str| -> Result<Option<Arc<[f32]>>> {
            if self.file.tensor(name).is_none() {
                return Ok(None);
            }
            let (shape, divisors) = self.file.read_f32(name)?;
            if divisors.len() == rotary_dim / 2 {
                return Ok(Some(divisors.into()));
            }
            let expected = vec![rotary_dim / 2];
            let path = self.file.path().to_owned();
            Err(FormatError::Shape { path, name: name.to_owned(), expected, actual: shape })
        };
        let (Some(short_factors), Some(long_factors)) = (divisors(SHORT_DIVISORS)?, divisors(LONG_DIVISORS)?)
        else {
            return Ok(RopeScaling::None);
        };
        let original_max_positions = self.required("rope.scaling.original_context_length")?;
        raw["original_max_position_embeddings"] = json!(original_max_positions);
        let attention_factor = match self.number("rope.scaling.attn_factor")? {
            Some(factor) => factor as f32,
            None => long_rope_attention(max_positions, original_max_positions),
        };
        Ok(RopeScaling::LongRope { short_factors, long_factors, attention_factor, original_max_positions })
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
