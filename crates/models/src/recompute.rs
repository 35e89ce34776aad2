//! Which blocks keep their activations until their gradients are due, and which are run again: a function of shapes
//! and a budget. Both ways give the same bits, so the budget may differ from machine to machine.

use tunesmith_formats::model_config::ModelConfig;

use crate::structure::Structure;

const N_BYTES: u64 = 4;

/// Whether blocks store what their backward pass needs, or only their inputs and run again: less memory, for at most a
/// third more work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Every block stores its activations.
    #[default]
    Off,
    /// Every block is run again.
    EveryBlock,
    /// As few blocks as possible are run again.
    ToFit {
        /// What the activations of a slice may take, in bytes.
        activation_bytes: u64,
    },
}

impl Recompute {
    /// How many blocks, counted from the first, are run again for a slice of `n_tokens` tokens whose longest text has `longest`
    /// of them. The backward pass begins
    /// at the last, so that by the time the first ones are run again the stored activations are gone.
    pub fn n_blocks(self, config: &ModelConfig, n_tokens: usize, longest: usize) -> usize {
        let activation_bytes = match self {
            Self::Off => return 0,
            Self::EveryBlock => return config.n_layers,
            Self::ToFit { activation_bytes } => activation_bytes,
        };
        let fits = |n: &usize| slice_activation_bytes(config, n_tokens, longest, *n) <= activation_bytes;
        (0..config.n_layers).find(fits).unwrap_or(config.n_layers)
    }
}

/// Estimated bytes of activations at their peak for a slice of `n_tokens` tokens, with texts of at most `longest`, whose first
/// `n_recomputed` blocks are run again: the inner values of every other block, at least of one, and the inputs of those run again. The gradients
/// of a block under way take about as much as the block's values.
pub fn slice_activation_bytes(
    config: &ModelConfig,
    n_tokens: usize,
    longest: usize,
    n_recomputed: usize,
) -> u64 {
    let n_stored = config.n_layers.saturating_sub(n_recomputed).max(1) as u64;
    let input_bytes = N_BYTES * config.hidden_size as u64;
    let per_token =
        (n_stored + 1) * block_activation_bytes(config, longest) + n_recomputed as u64 * input_bytes;
    per_token.saturating_mul(n_tokens as u64)
}

/// Bytes that a block stores for each token, in float32: a row of the model's width for each residual sum and each norm,
/// queries before and after their rotation and what attention makes of them, keys before and after and values, and three
/// rows of the inner width (gate, up and their product). Norms of queries and keys keep what they are given, and parts of
/// a fused matrix's output are copies. A block of a decoder behind an encoder, which those of the encoder are taken for, too,
/// has a second attention, and stores each score of both in three steps, for texts of `longest` tokens.
pub fn block_activation_bytes(config: &ModelConfig, longest: usize) -> u64 {
    if let Some(parts) = &config.encoder_decoder {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let inner = config.n_heads * config.head_dim;
        let scores = 3 * config.n_heads * longest;
        let n_projections = if parts.is_gated { 3 } else { 2 };
        return N_BYTES * (6 * c + 2 * (4 * inner + scores) + n_projections * f) as u64;
    }
    let structure = Structure::of(config.architecture);
    let (c, f) = (config.hidden_size, config.active_intermediate_size());
    let queries = config.n_heads * config.head_dim;
    let keys = config.n_kv_heads * config.head_dim;
    let mut n_values = (2 + structure.norms.len()) * c + 3 * queries + 3 * keys + 3 * f;
    if structure.qk_norm.is_some() {
        n_values += queries + keys;
    }
    if let Some(experts) = &config.experts {
        // Each expert keeps its rows and what it makes of them.
        n_values += 2 * experts.n_per_token * c + 3 * experts.n_experts;
    }
    if structure.is_fused {
        n_values += queries + 2 * keys + 2 * f;
    }
    N_BYTES * n_values as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        let raw = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 96, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 128,
        });
        ModelConfig::from_json(std::path::Path::new("config.json"), raw).unwrap()
    }

    #[test]
    fn as_few_blocks_as_fit_are_run_again() {
        let config = config();
        let block = block_activation_bytes(&config, 10);
        assert_eq!(block, 4 * (4 * 32 + 3 * 32 + 3 * 32 + 3 * 48));
        let n_blocks = |activation_bytes| Recompute::ToFit { activation_bytes }.n_blocks(&config, 10, 10);
        assert_eq!(n_blocks(u64::MAX), 0);
        assert_eq!(n_blocks(10 * 5 * block), 0);
        assert_eq!(n_blocks(10 * 5 * block - 1), 1);
        assert_eq!(n_blocks(10 * (4 * block + 4 * 32)), 1);
        assert_eq!(n_blocks(10 * (3 * block + 2 * 4 * 32)), 2);
        assert_eq!(n_blocks(10 * (2 * block + 3 * 4 * 32)), 3);
        // What cannot fit takes as little as there is a way to.
        assert_eq!(n_blocks(0), 4);
        assert_eq!(Recompute::Off.n_blocks(&config, 10, 10), 0);
        assert_eq!(Recompute::EveryBlock.n_blocks(&config, 10, 10), 4);
    }
}
