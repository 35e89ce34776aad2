//! GPT-2: learned positions, layer norms, one matrix for queries, keys and values, an ungated MLP.
//!
//!     x ← x + c_proj(attention(q, k, v)),   [q k v] = c_attn(layer_norm(x))
//!     x ← x + c_proj(act(c_fc(layer_norm(x))))
//!
//! Weights keep the hub's Conv1D layout [I,O], so that gradients, checkpoints and exports compare with the original's.
//! The dropouts of the original (`embd_pdrop`, `attn_pdrop`, `resid_pdrop`) are not applied in training.

use burn::tensor::Tensor;
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_ops::{Activation, AttentionOptions, Orientation, Weight, activation, embedding};

use crate::family::{self, Declarations, Family};
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::pass::Pass;

pub(crate) struct Gpt2 {
    token_embedding: usize,
    position_embedding: usize,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: usize,
    n_heads: usize,
    head_dim: usize,
    attention: AttentionOptions,
    activation: Activation,
}

struct Block {
    attention_norm: LayerNorm,
    c_attn: Linear,
    attn_c_proj: Linear,
    mlp_norm: LayerNorm,
    c_fc: Linear,
    mlp_c_proj: Linear,
}

impl Gpt2 {
    pub(crate) fn new(config: &ModelConfig, declare: &mut Declarations) -> Self {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let token_embedding = declare.tensor("transformer.wte.weight", &[config.vocab_size, c]);
        let position_embedding = declare.tensor("transformer.wpe.weight", &[config.max_positions, c]);
        let blocks = (0..config.n_layers)
            .map(|i| {
                let at = format!("transformer.h.{i}");
                let conv = |declare: &mut Declarations, name: &str, n_in, n_out| {
                    declare.linear(format!("{at}.{name}"), n_in, n_out, true, Orientation::InOut)
                };
                Block {
                    attention_norm: LayerNorm::new(declare, &format!("{at}.ln_1"), c, config.norm_eps),
                    c_attn: conv(declare, "attn.c_attn", c, 3 * c),
                    attn_c_proj: conv(declare, "attn.c_proj", c, c),
                    mlp_norm: LayerNorm::new(declare, &format!("{at}.ln_2"), c, config.norm_eps),
                    c_fc: conv(declare, "mlp.c_fc", c, f),
                    mlp_c_proj: conv(declare, "mlp.c_proj", f, c),
                }
            })
            .collect();
        let norm = LayerNorm::new(declare, "transformer.ln_f", c, config.norm_eps);
        let head = if config.tie_word_embeddings {
            token_embedding
        } else {
            declare.tensor("lm_head.weight", &[config.vocab_size, c])
        };

        Self {
            token_embedding,
            position_embedding,
            blocks,
            norm,
            head,
            n_heads: config.n_heads,
            head_dim: config.head_dim,
            attention: AttentionOptions::new(1.0 / (config.head_dim as f32).sqrt(), None),
            activation: family::activation(config.activation),
        }
    }
}

impl Family for Gpt2 {
    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        embedding(pass.weight(self.token_embedding), pass.tokens.ids)
            + embedding(pass.weight(self.position_embedding), pass.tokens.positions)
    }

    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let block = &self.blocks[block_idx];
        let [n_tokens, width] = x.dims();

        let h = block.attention_norm.forward(x.clone(), pass);
        let qkv = block.c_attn.forward(h, pass);
        let heads = |part: usize| {
            qkv.clone().slice([0..n_tokens, part * width..(part + 1) * width]).reshape([
                n_tokens,
                self.n_heads,
                self.head_dim,
            ])
        };
        let attended = pass.attention(block_idx, heads(0), heads(1), heads(2), self.attention);
        let x = x + block.attn_c_proj.forward(attended.reshape([n_tokens, width]), pass);

        let h = block.mlp_norm.forward(x.clone(), pass);
        let h = activation(block.c_fc.forward(h, pass), self.activation);
        x + block.mlp_c_proj.forward(h, pass)
    }

    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        self.norm.forward(x, pass)
    }

    fn head(&self, pass: &mut Pass<'_>) -> Weight {
        pass.weight(self.head)
    }

    fn linears(&self) -> Vec<&Linear> {
        self.blocks.iter().flat_map(|b| [&b.c_attn, &b.attn_c_proj, &b.c_fc, &b.mlp_c_proj]).collect()
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.blocks
            .iter_mut()
            .flat_map(|b| [&mut b.c_attn, &mut b.attn_c_proj, &mut b.c_fc, &mut b.mlp_c_proj])
            .collect()
    }
}
