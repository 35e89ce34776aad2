//! Llama and its relatives: Llama 2 and 3, SmolLM2, TinyLlama, Mistral, H2O Danube.
//!
//! Per block, with RMS norms, rotary positions, grouped-query attention (within a window where the configuration has
//! one) and a gated MLP:
//!
//!     x ← x + o(attention(rot(q(h)), rot(k(h)), v(h))),   h = rms_norm(x)
//!     x ← x + down(act(gate(h)) · up(h)),                 h = rms_norm(x)

use burn::tensor::Tensor;
use tunesmith_formats::model_config::ModelConfig;
use tunesmith_ops::{Activation, AttentionOptions, Orientation, Weight, embedding, gated, rms_norm, rotary};

use crate::error::Result;
use crate::family::{self, Declarations, Family};
use crate::linear::Linear;
use crate::pass::Pass;
use crate::rope::Rotary;

pub(crate) struct Llama {
    embed_tokens: usize,
    blocks: Vec<Block>,
    norm: usize,
    head: usize,
    rotary: Rotary,
    norm_eps: f32,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    attention: AttentionOptions,
    activation: Activation,
}

struct Block {
    input_norm: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    post_attention_norm: usize,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Llama {
    pub(crate) fn new(config: &ModelConfig, declare: &mut Declarations) -> Result<Self> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let q_features = config.n_heads * config.head_dim;
        let kv_features = config.n_kv_heads * config.head_dim;

        let embed_tokens = declare.tensor("model.embed_tokens.weight", &[config.vocab_size, c]);
        let blocks = (0..config.n_layers)
            .map(|i| {
                let at = format!("model.layers.{i}");
                let input_norm = declare.tensor(format!("{at}.input_layernorm.weight"), &[c]);
                let mut attn = |name, n_in, n_out| {
                    let path = format!("{at}.self_attn.{name}");
                    declare.linear(path, n_in, n_out, config.attention_bias, Orientation::OutIn)
                };
                let q = attn("q_proj", c, q_features);
                let k = attn("k_proj", c, kv_features);
                let v = attn("v_proj", c, kv_features);
                let o = attn("o_proj", q_features, c);
                let post_attention_norm =
                    declare.tensor(format!("{at}.post_attention_layernorm.weight"), &[c]);
                let mut mlp = |name, n_in, n_out| {
                    let path = format!("{at}.mlp.{name}");
                    declare.linear(path, n_in, n_out, config.mlp_bias, Orientation::OutIn)
                };
                let gate = mlp("gate_proj", c, f);
                let up = mlp("up_proj", c, f);
                let down = mlp("down_proj", f, c);
                Block { input_norm, q, k, v, o, post_attention_norm, gate, up, down }
            })
            .collect();
        let norm = declare.tensor("model.norm.weight", &[c]);
        let head = if config.tie_word_embeddings {
            embed_tokens
        } else {
            declare.tensor("lm_head.weight", &[config.vocab_size, c])
        };

        Ok(Self {
            embed_tokens,
            blocks,
            norm,
            head,
            rotary: Rotary::new(config)?,
            norm_eps: config.norm_eps,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            attention: AttentionOptions::new(1.0 / (config.head_dim as f32).sqrt(), config.sliding_window),
            activation: family::activation(config.activation),
        })
    }
}

impl Family for Llama {
    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        embedding(pass.weight(self.embed_tokens), pass.tokens.ids)
    }

    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let block = &self.blocks[block_idx];
        let [n_tokens, _] = x.dims();
        let positions = pass.tokens.positions;
        let table = self.rotary.table(positions);

        let h = rms_norm(x.clone(), pass.vector(block.input_norm), self.norm_eps);
        let q = block.q.forward(h.clone(), pass).reshape([n_tokens, self.n_heads, self.head_dim]);
        let k = block.k.forward(h.clone(), pass).reshape([n_tokens, self.n_kv_heads, self.head_dim]);
        let v = block.v.forward(h, pass).reshape([n_tokens, self.n_kv_heads, self.head_dim]);
        let (q, k) = (rotary(q, positions, &table), rotary(k, positions, &table));
        let attended = pass.attention(block_idx, q, k, v, self.attention);
        let x = x + block.o.forward(attended.reshape([n_tokens, self.n_heads * self.head_dim]), pass);

        let h = rms_norm(x.clone(), pass.vector(block.post_attention_norm), self.norm_eps);
        let gate = block.gate.forward(h.clone(), pass);
        let up = block.up.forward(h, pass);
        x + block.down.forward(gated(gate, up, self.activation), pass)
    }

    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        rms_norm(x, pass.vector(self.norm), self.norm_eps)
    }

    fn head(&self, pass: &mut Pass<'_>) -> Weight {
        pass.weight(self.head)
    }

    fn linears(&self) -> Vec<&Linear> {
        self.blocks.iter().flat_map(|b| [&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down]).collect()
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.blocks
            .iter_mut()
            .flat_map(|b| [&mut b.q, &mut b.k, &mut b.v, &mut b.o, &mut b.gate, &mut b.up, &mut b.down])
            .collect()
    }
}
