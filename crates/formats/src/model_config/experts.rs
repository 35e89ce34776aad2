//! Mixtures of experts: feed-forward parts of which each token takes a few.

use serde_json::Value;

use crate::error::Result;
use crate::json_keys::Keys;

/// More experts are taken for damage before anything is allocated for each.
const MOST_EXPERTS: usize = 4096;

/// The experts of a model's blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a block, E.
    pub n_experts: usize,
    /// Experts that a token takes.
    pub n_per_token: usize,
    /// Width of an expert's feed-forward part.
    pub intermediate_size: usize,
    /// The weights of the experts that a token takes sum to 1.
    pub has_normalised_weights: bool,
    /// Which blocks have experts; the others have one feed-forward part.
    pub is_sparse: Vec<bool>,
}

impl Experts {
    /// Reads Qwen's keys.
    pub(super) fn read(keys: &Keys, n_layers: usize) -> Result<Self> {
        if keys.bool("output_router_logits", false)? {
            let reason = "the loss that spreads tokens over experts is not computed; set it to false";
            return Err(keys.error("output_router_logits", reason));
        }
        // transformers 5 writes the second name.
        let n_experts = keys.count("num_experts")?.or(keys.count("num_local_experts")?).unwrap_or(128);
        if n_experts > MOST_EXPERTS {
            let reason = format!("{n_experts} experts, more than {MOST_EXPERTS}, are not believed");
            return Err(keys.error("num_experts", reason));
        }
        let n_per_token = keys.count("num_experts_per_tok")?.unwrap_or(8);
        if n_per_token > n_experts {
            let reason = format!("{n_per_token} of {n_experts} experts cannot be taken");
            return Err(keys.error("num_experts_per_tok", reason));
        }
        let step = keys.count("decoder_sparse_step")?.unwrap_or(1);
        let dense = match keys.get("mlp_only_layers") {
            None => Vec::new(),
            Some(list) => list
                .as_array()
                .and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>())
                .ok_or_else(|| keys.error("mlp_only_layers", "expected a list of numbers of blocks"))?,
        };
        let is_sparse = |i: usize| (i + 1).is_multiple_of(step) && !dense.contains(&(i as u64));
        Ok(Self {
            n_experts,
            n_per_token,
            intermediate_size: keys.count("moe_intermediate_size")?.unwrap_or(768),
            has_normalised_weights: keys.bool("norm_topk_prob", false)?,
            is_sparse: (0..n_layers).map(is_sparse).collect(),
        })
    }

    /// Whether a tensor belongs to one expert.
    pub fn is_one(name: &str) -> bool {
        name.contains(".mlp.experts.")
    }

    /// Whether a tensor chooses among the experts.
    pub fn is_router(name: &str) -> bool {
        name.ends_with(".mlp.gate.weight")
    }
}
