//! What tells the relatives of Llama apart besides the numbers of their configurations.

use tunesmith_formats::model_config::Architecture;

/// The variations on Llama's block that a family has, and the names of what it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Structure {
    pub(crate) norms: BlockNorms,
    pub(crate) qk_norm: Option<QkNorm>,
    /// Queries, keys and values come from one matrix, and so do gate and up.
    pub(crate) is_fused: bool,
    /// Weights of norms are stored as their differences from 1.
    pub(crate) has_norms_around_one: bool,
    /// Embeddings are multiplied by √C.
    pub(crate) scales_embeddings: bool,
}

/// Names of a block's norms: of what attention and the feed-forward part are given, and of what they give before it is
/// added to the residual sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockNorms {
    pub(crate) before_attention: Option<&'static str>,
    pub(crate) after_attention: Option<&'static str>,
    pub(crate) before_mlp: Option<&'static str>,
    pub(crate) after_mlp: Option<&'static str>,
}

/// What the norms of queries and keys go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QkNorm {
    /// Each head for itself, with one weight for all heads.
    EachHead,
    /// All heads together.
    AllHeads,
}

const BEFORE: BlockNorms = BlockNorms {
    before_attention: Some("input_layernorm"),
    after_attention: None,
    before_mlp: Some("post_attention_layernorm"),
    after_mlp: None,
};
const AFTER: BlockNorms = BlockNorms {
    before_attention: None,
    after_attention: Some("post_attention_layernorm"),
    before_mlp: None,
    after_mlp: Some("post_feedforward_layernorm"),
};

const AROUND: BlockNorms = BlockNorms {
    before_attention: Some("input_layernorm"),
    after_attention: Some("post_attention_layernorm"),
    before_mlp: Some("pre_feedforward_layernorm"),
    after_mlp: Some("post_feedforward_layernorm"),
};

impl Structure {
    /// That of a family.
    pub(crate) fn of(architecture: Architecture) -> Self {
        let llama = Self {
            norms: BEFORE,
            qk_norm: None,
            is_fused: false,
            has_norms_around_one: false,
            scales_embeddings: false,
        };
        match architecture {
            Architecture::Llama
            | Architecture::Mistral
            | Architecture::Qwen2
            | Architecture::SmolLm3
            | Architecture::Gpt2
            | Architecture::GptNeoX
            | Architecture::T5 => llama,
            Architecture::Qwen3 | Architecture::Qwen3Moe => Self { qk_norm: Some(QkNorm::EachHead), ..llama },
            Architecture::Olmo2 => Self { norms: AFTER, qk_norm: Some(QkNorm::AllHeads), ..llama },
            Architecture::Phi3 => Self { is_fused: true, ..llama },
            Architecture::Gemma2 => {
                Self { norms: AROUND, has_norms_around_one: true, scales_embeddings: true, ..llama }
            }
            Architecture::Gemma3 => Self {
                norms: AROUND,
                qk_norm: Some(QkNorm::EachHead),
                is_fused: false,
                has_norms_around_one: true,
                scales_embeddings: true,
            },
        }
    }
}

impl BlockNorms {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        [self.before_attention, self.after_attention, self.before_mlp, self.after_mlp]
            .iter()
            .flatten()
            .count()
    }
}
