//! The model families that can be computed, and which of them a configuration names.

use std::path::Path;

use serde_json::Value;

use crate::error::{FormatError, Result};
use crate::json_keys::Keys;
use crate::sequence_classifier::is_classifier_of;

/// The model families that can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `LlamaForCausalLM`: Llama 1 to 3.3, TinyLlama, SmolLM, Danube 3 and many others.
    Llama,
    /// `MistralForCausalLM`: Llama with an optional sliding attention window; Mistral 7B, Danube 1 and 2.
    Mistral,
    /// `Qwen2ForCausalLM`: Qwen 1.5 to 2.5.
    Qwen2,
    /// `Qwen3ForCausalLM`.
    Qwen3,
    /// `Qwen3MoeForCausalLM`: Qwen 3 with experts.
    Qwen3Moe,
    /// `SmolLM3ForCausalLM`.
    SmolLm3,
    /// `Olmo2ForCausalLM`.
    Olmo2,
    /// `Phi3ForCausalLM`: Phi 3, 3.5 and 4 but for those with experts or images.
    Phi3,
    /// `Gemma2ForCausalLM`.
    Gemma2,
    /// `Gemma3ForCausalLM`: the models for text alone.
    Gemma3,
    /// `GPT2LMHeadModel`.
    Gpt2,
    /// `GPTNeoXForCausalLM`: GPT-NeoX and Pythia.
    GptNeoX,
    /// `T5ForConditionalGeneration`: T5 1.0 and 1.1, Flan-T5; an encoder and a decoder.
    T5,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Llama,
        Self::Mistral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::SmolLm3,
        Self::Olmo2,
        Self::Phi3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Gpt2,
        Self::GptNeoX,
        Self::T5,
    ];

    /// The class name in `architectures`.
    pub fn class_name(self) -> &'static str {
        self.names().0
    }

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Llama => ("LlamaForCausalLM", "llama"),
            Self::Mistral => ("MistralForCausalLM", "mistral"),
            Self::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Self::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
            Self::Qwen3Moe => ("Qwen3MoeForCausalLM", "qwen3_moe"),
            Self::SmolLm3 => ("SmolLM3ForCausalLM", "smollm3"),
            Self::Olmo2 => ("Olmo2ForCausalLM", "olmo2"),
            Self::Phi3 => ("Phi3ForCausalLM", "phi3"),
            Self::Gemma2 => ("Gemma2ForCausalLM", "gemma2"),
            Self::Gemma3 => ("Gemma3ForCausalLM", "gemma3_text"),
            Self::Gpt2 => ("GPT2LMHeadModel", "gpt2"),
            Self::GptNeoX => ("GPTNeoXForCausalLM", "gpt_neox"),
            Self::T5 => ("T5ForConditionalGeneration", "t5"),
        }
    }

    /// The module that holds everything but the output head; all tensor names but the head's start with it.
    pub(crate) fn base_prefix(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.",
            Self::GptNeoX => "gpt_neox.",
            Self::T5 => "",
            _ => "model.",
        }
    }

    /// The name of an output matrix that is not the embedding.
    pub fn head_name(self) -> &'static str {
        match self {
            Self::GptNeoX => "embed_out.weight",
            _ => "lm_head.weight",
        }
    }

    /// The name of the embedding of the input tokens.
    pub fn embedding_name(self) -> &'static str {
        match self {
            Self::Gpt2 => "transformer.wte.weight",
            Self::GptNeoX => "gpt_neox.embed_in.weight",
            Self::T5 => "shared.weight",
            _ => "model.embed_tokens.weight",
        }
    }

    /// The family that a configuration names.
    pub(super) fn of(path: &Path, keys: &Keys) -> Result<Self> {
        let class = keys.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        let find = |wanted: &str, name: fn(Self) -> &'static str| {
            let known = Self::ALL.map(name);
            let found = Self::ALL.into_iter().find(|known| name(*known) == wanted);
            found.ok_or_else(|| unknown(path, wanted, known.to_vec()))
        };
        let classified = |class| Self::ALL.into_iter().find(|a| is_classifier_of(a.class_name(), class));
        if let Some(architecture) = class.and_then(classified) {
            return Ok(architecture);
        }
        match (class, keys.string("model_type")?) {
            // What the class was called when the first models were published.
            (Some("T5WithLMHeadModel"), _) => Ok(Self::T5),
            (Some(class), _) => find(class, Self::class_name),
            (None, Some(model_type)) => find(model_type, Self::model_type),
            (None, None) => Err(keys.error("architectures", "neither it nor model_type is there")),
        }
    }
}

/// The error about an architecture that is none of the known ones.
pub(crate) fn unknown(path: &Path, name: &str, known: Vec<&'static str>) -> FormatError {
    let nearest = known.iter().min_by_key(|known| edit_distance(known, name)).copied();
    FormatError::UnknownArchitecture {
        path: path.to_owned(),
        name: name.to_owned(),
        nearest: nearest.unwrap_or_default().to_owned(),
        known,
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

    #[test]
    fn edit_distance_counts_changes() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "ab"), 2);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
