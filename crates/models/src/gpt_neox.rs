//! GPT-NeoX and Pythia: layer norms, one matrix for queries, keys and values head by head, rotary positions on a part of each
//! head, an ungated MLP.
//!
//! With parallel blocks, which all published models have, attention and MLP read the same x; otherwise one after the other:
//!
//!     x ← x + dense(attention(rot(q), rot(k), v)) + mlp(layer_norm₂(x)),   [q k v] of each head = query_key_value(layer_norm₁(x))
//!     mlp(h) = dense_4h_to_h(act(dense_h_to_4h(h)))
//!
//! The dropouts of the original (`attention_dropout`, `hidden_dropout`) are not applied in training.

use burn::tensor::Tensor;
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_ops::{Activation, AttentionOptions, Orientation, Weight, activation, embedding, rotary};

use crate::error::Result;
use crate::family::{self, Declarations, Family};
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::pass::Pass;
use crate::rope::Rotary;

pub(crate) struct GptNeoX {
    embed_in: usize,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: usize,
    rotary: Rotary,
    n_heads: usize,
    head_dim: usize,
    attention: AttentionOptions,
    activation: Activation,
    is_parallel: bool,
}

struct Block {
    attention_norm: LayerNorm,
    query_key_value: Linear,
    dense: Linear,
    mlp_norm: LayerNorm,
    dense_h_to_4h: Linear,
    dense_4h_to_h: Linear,
}

impl GptNeoX {
    pub(crate) fn new(config: &ModelConfig, declare: &mut Declarations) -> Result<Self> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let embed_in = declare.tensor("gpt_neox.embed_in.weight", &[config.vocab_size, c]);
        let blocks = (0..config.n_layers)
            .map(|i| {
                let at = format!("gpt_neox.layers.{i}");
                let linear = |declare: &mut Declarations, name: &str, n_in, n_out, has_bias| {
                    declare.linear(format!("{at}.{name}"), n_in, n_out, has_bias, Orientation::OutIn)
                };
                let norm = |declare: &mut Declarations, name: &str| {
                    LayerNorm::new(declare, &format!("{at}.{name}"), c, config.norm_eps)
                };
                let has_bias = config.attention_bias;
                Block {
                    attention_norm: norm(declare, "input_layernorm"),
                    mlp_norm: norm(declare, "post_attention_layernorm"),
                    query_key_value: linear(declare, "attention.query_key_value", c, 3 * c, has_bias),
                    dense: linear(declare, "attention.dense", c, c, config.attention_output_bias),
                    dense_h_to_4h: linear(declare, "mlp.dense_h_to_4h", c, f, config.mlp_bias),
                    dense_4h_to_h: linear(declare, "mlp.dense_4h_to_h", f, c, config.mlp_bias),
                }
            })
            .collect();
        let norm = LayerNorm::new(declare, "gpt_neox.final_layer_norm", c, config.norm_eps);
        let head = if config.tie_word_embeddings {
            embed_in
        } else {
            declare.tensor(config.architecture.head_name(), &[config.vocab_size, c])
        };
        Ok(Self {
            embed_in,
            blocks,
            norm,
            head,
            rotary: Rotary::new(config)?,
            n_heads: config.n_heads,
            head_dim: config.head_dim,
            attention: AttentionOptions::new(config.attention_scale, None),
            activation: family::activation(config.activation),
            is_parallel: config.has_parallel_blocks,
        })
    }

    fn attend(&self, block_idx: usize, block: &Block, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let [n_tokens, width] = x.dims();
        let qkv = block.query_key_value.forward(x, pass).reshape([n_tokens, self.n_heads, 3 * self.head_dim]);
        let part = |part: usize| qkv.clone().narrow(2, part * self.head_dim, self.head_dim);
        let positions = pass.tokens.positions;
        let table = self.rotary.table(positions);
        let (q, k) = (rotary(part(0), positions, &table), rotary(part(1), positions, &table));
        let attended = pass.attention(block_idx, q, k, part(2), self.attention);
        block.dense.forward(attended.reshape([n_tokens, width]), pass)
    }

    fn feed_forward(&self, block: &Block, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let h = block.mlp_norm.forward(x, pass);
        let h = activation(block.dense_h_to_4h.forward(h, pass), self.activation);
        block.dense_4h_to_h.forward(h, pass)
    }
}

impl Family for GptNeoX {
    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        embedding(pass.weight(self.embed_in), pass.tokens.ids)
    }

    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let block = &self.blocks[block_idx];
        let h = block.attention_norm.forward(x.clone(), pass);
        let attended = self.attend(block_idx, block, h, pass);
        if self.is_parallel {
            let fed = self.feed_forward(block, x.clone(), pass);
            return x + attended + fed;
        }
        let x = x + attended;
        let fed = self.feed_forward(block, x.clone(), pass);
        x + fed
    }

    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        self.norm.forward(x, pass)
    }

    fn head(&self, pass: &mut Pass<'_>) -> Weight {
        pass.weight(self.head)
    }

    fn linears(&self) -> Vec<&Linear> {
        self.blocks
            .iter()
            .flat_map(|b| [&b.query_key_value, &b.dense, &b.dense_h_to_4h, &b.dense_4h_to_h])
            .collect()
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.blocks
            .iter_mut()
            .flat_map(|b| [&mut b.query_key_value, &mut b.dense, &mut b.dense_h_to_4h, &mut b.dense_4h_to_h])
            .collect()
    }
}
