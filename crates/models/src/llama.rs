//! Llama and its relatives: Mistral, H2O Danube, Qwen, SmolLM, OLMo 2, Phi 3, Gemma 2 and 3. [`Structure`] says what they vary.
//!
//! Per block, with RMS norms, rotary positions, grouped-query attention (within a window where the configuration has
//! one) and a gated MLP:
//!
//!     x ← x + o(attention(rot(q(h)), rot(k(h)), v(h))),   h = rms_norm(x)
//!     x ← x + down(act(gate(h)) · up(h)),                 h = rms_norm(x)
//!
//! A relative may have norms after attention and MLP instead of before them, norms on queries and keys before their
//! rotation, blocks that rotate nothing or by other frequencies, one matrix in place of several that share their input,
//! experts of which each token takes a few in place of one MLP ([`SparseMlp`]), norms whose weights are stored without the 1
//! they are near, scaled embeddings, and caps on the scores of attention and of the next token.

use burn::tensor::Tensor;
use tunesmith_formats::model_config::{Experts, LayerAttention, ModelConfig, Positions};
use tunesmith_ops::{Activation, AttentionOptions, Orientation, Weight, embedding, gated, rms_norm, rotary};

use crate::error::Result;
use crate::family::{self, Declarations, Family};
use crate::linear::Linear;
use crate::pass::Pass;
use crate::projections::Projections;
use crate::rope::Rotary;
use crate::sparse_mlp::SparseMlp;
use crate::structure::{QkNorm, Structure};

pub(crate) struct Llama {
    embed_tokens: usize,
    blocks: Vec<Block>,
    norm: usize,
    head: usize,
    rotary: Rotary,
    /// That of blocks with a window, where it is another.
    window_rotary: Option<Rotary>,
    norm_eps: f32,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    attention_scale: f32,
    attention_cap: Option<f32>,
    logit_cap: Option<f32>,
    activation: Activation,
    qk_norm: Option<QkNorm>,
    has_norms_around_one: bool,
    embedding_scale: Option<f32>,
}

struct Block {
    layer: LayerAttention,
    before_attention: Option<usize>,
    qkv: Projections<3>,
    qk_norms: Option<[usize; 2]>,
    o: Linear,
    after_attention: Option<usize>,
    before_mlp: Option<usize>,
    mlp: Mlp,
    after_mlp: Option<usize>,
}

/// The feed-forward part of a block.
enum Mlp {
    /// down(act(gate(h)) · up(h))
    Dense {
        gate_up: Projections<2>,
        down: Box<Linear>,
        takes_adapters: bool,
    },
    Sparse(SparseMlp),
}

impl Llama {
    pub(crate) fn new(config: &ModelConfig, declare: &mut Declarations) -> Result<Self> {
        let c = config.hidden_size;
        let structure = Structure::of(config.architecture);
        let embed_tokens = declare.tensor("model.embed_tokens.weight", &[config.vocab_size, c]);
        let blocks = config
            .layers
            .iter()
            .enumerate()
            .map(|(i, layer)| Block::new(config, structure, i, *layer, declare))
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
            window_rotary: config
                .window_rope_theta
                .map(|theta| Rotary::unscaled(config, theta))
                .transpose()?,
            norm_eps: config.norm_eps,
            n_heads: config.n_heads,
            n_kv_heads: config.n_kv_heads,
            head_dim: config.head_dim,
            attention_scale: config.attention_scale,
            attention_cap: config.attention_cap,
            logit_cap: config.logit_cap,
            activation: family::activation(config.activation),
            qk_norm: structure.qk_norm,
            has_norms_around_one: structure.has_norms_around_one,
            embedding_scale: structure.scales_embeddings.then(|| (c as f32).sqrt()),
        })
    }

    /// rms_norm(x), or x where there is no such norm.
    fn norm(&self, x: Tensor<2>, weight: Option<usize>, pass: &mut Pass<'_>) -> Tensor<2> {
        match weight {
            None => x,
            Some(weight) => {
                let stored = pass.vector(weight);
                let weight = if self.has_norms_around_one { stored.add_scalar(1.0) } else { stored };
                rms_norm(x, weight, self.norm_eps)
            }
        }
    }

    /// The norm of queries or keys [N,heads·D], as [N,heads,D].
    fn heads(&self, x: Tensor<2>, n_heads: usize, norm: Option<usize>, pass: &mut Pass<'_>) -> Tensor<3> {
        let [n_tokens, width] = x.dims();
        let x = match self.qk_norm {
            Some(QkNorm::EachHead) => self.norm(x.reshape([n_tokens * n_heads, self.head_dim]), norm, pass),
            Some(QkNorm::AllHeads) => self.norm(x.reshape([n_tokens, width]), norm, pass),
            None => x,
        };
        x.reshape([n_tokens, n_heads, self.head_dim])
    }

    fn attend(&self, block_idx: usize, block: &Block, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let [n_tokens, _] = x.dims();
        let [q, k, v] = block.qkv.forward(x, pass);
        let [q_norm, k_norm] = block.qk_norms.map_or([None, None], |norms| norms.map(Some));
        let mut q = self.heads(q, self.n_heads, q_norm, pass);
        let mut k = self.heads(k, self.n_kv_heads, k_norm, pass);
        let v = v.reshape([n_tokens, self.n_kv_heads, self.head_dim]);
        if block.layer.positions == Positions::Rotary {
            let positions = pass.tokens.positions;
            let rotary_of_block = match &self.window_rotary {
                Some(rotary) if block.layer.window.is_some() => rotary,
                _ => &self.rotary,
            };
            let table = rotary_of_block.table(positions);
            (q, k) = (rotary(q, positions, &table), rotary(k, positions, &table));
        }
        let options = AttentionOptions {
            cap: self.attention_cap,
            ..AttentionOptions::new(self.attention_scale, block.layer.window)
        };
        let attended = pass.attention(block_idx, q, k, v, options);
        block.o.forward(attended.reshape([n_tokens, self.n_heads * self.head_dim]), pass)
    }

    fn feed_forward(&self, block: &Block, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        match &block.mlp {
            Mlp::Dense { gate_up, down, .. } => {
                let [gate, up] = gate_up.forward(x, pass);
                down.forward(gated(gate, up, self.activation), pass)
            }
            Mlp::Sparse(mlp) => mlp.forward(x, pass),
        }
    }
}

impl Block {
    fn new(
        config: &ModelConfig,
        structure: Structure,
        block_idx: usize,
        layer: LayerAttention,
        declare: &mut Declarations,
    ) -> Self {
        let at = &format!("model.layers.{block_idx}");
        let c = config.hidden_size;
        let q_features = config.n_heads * config.head_dim;
        let kv_features = config.n_kv_heads * config.head_dim;
        let norm = |declare: &mut Declarations, name: Option<&str>| {
            name.map(|name| declare.tensor(format!("{at}.{name}.weight"), &[c]))
        };
        let linear = |declare: &mut Declarations, name: &str, n_in, n_out, has_bias| {
            declare.linear(format!("{at}.{name}"), n_in, n_out, has_bias, Orientation::OutIn)
        };

        let before_attention = norm(declare, structure.norms.before_attention);
        let widths = [q_features, kv_features, kv_features];
        let has_bias = config.attention_bias;
        let qkv = if structure.is_fused {
            let n_out = widths.iter().sum();
            let linear = Box::new(linear(declare, "self_attn.qkv_proj", c, n_out, has_bias));
            Projections::Fused { linear, widths }
        } else {
            let mut part = |name, n_out| linear(declare, name, c, n_out, has_bias);
            Projections::Separate(Box::new([
                part("self_attn.q_proj", q_features),
                part("self_attn.k_proj", kv_features),
                part("self_attn.v_proj", kv_features),
            ]))
        };
        let o = linear(declare, "self_attn.o_proj", q_features, c, config.attention_output_bias);
        let qk_norms = structure.qk_norm.map(|over| {
            [("q", q_features), ("k", kv_features)].map(|(name, all_heads)| {
                let width = if over == QkNorm::EachHead { config.head_dim } else { all_heads };
                declare.tensor(format!("{at}.self_attn.{name}_norm.weight"), &[width])
            })
        });
        let after_attention = norm(declare, structure.norms.after_attention);

        let before_mlp = norm(declare, structure.norms.before_mlp);
        let is_sparse = |experts: &&Experts| experts.is_sparse.get(block_idx) == Some(&true);
        let mlp = match config.experts.as_ref().filter(is_sparse) {
            Some(experts) => Mlp::Sparse(SparseMlp::new(config, experts, &format!("{at}.mlp"), declare)),
            None => Mlp::dense(config, structure, at, declare),
        };
        let after_mlp = norm(declare, structure.norms.after_mlp);
        Self { layer, before_attention, qkv, qk_norms, o, after_attention, before_mlp, mlp, after_mlp }
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.qkv.linears().iter().chain([&self.o]).chain(self.mlp.linears())
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.qkv.linears_mut().iter_mut().chain([&mut self.o]).chain(self.mlp.linears_mut())
    }
}

impl Mlp {
    fn dense(config: &ModelConfig, structure: Structure, at: &str, declare: &mut Declarations) -> Self {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let mut linear = |name: &str, n_in, n_out| {
            declare.linear(format!("{at}.mlp.{name}"), n_in, n_out, config.mlp_bias, Orientation::OutIn)
        };
        let gate_up = if structure.is_fused {
            Projections::Fused { linear: Box::new(linear("gate_up_proj", c, 2 * f)), widths: [f, f] }
        } else {
            Projections::Separate(Box::new([linear("gate_proj", c, f), linear("up_proj", c, f)]))
        };
        let down = Box::new(linear("down_proj", f, c));
        // Where other blocks have experts, peft takes an adapter on `gate_proj` for one on them.
        Self::Dense { gate_up, down, takes_adapters: config.experts.is_none() }
    }

    /// The linear layers that adapters go on: none in models with experts.
    fn linears(&self) -> Vec<&Linear> {
        match self {
            Self::Dense { gate_up, down, takes_adapters: true } => {
                gate_up.linears().iter().chain([&**down]).collect()
            }
            Self::Dense { .. } | Self::Sparse(_) => Vec::new(),
        }
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        match self {
            Self::Dense { gate_up, down, takes_adapters: true } => {
                gate_up.linears_mut().iter_mut().chain([&mut **down]).collect()
            }
            Self::Dense { .. } | Self::Sparse(_) => Vec::new(),
        }
    }
}

impl Family for Llama {
    fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        let embedded = embedding(pass.weight(self.embed_tokens), pass.tokens.ids);
        match self.embedding_scale {
            Some(scale) => embedded.mul_scalar(scale),
            None => embedded,
        }
    }

    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let block = &self.blocks[block_idx];
        let h = self.norm(x.clone(), block.before_attention, pass);
        let h = self.attend(block_idx, block, h, pass);
        let x = x + self.norm(h, block.after_attention, pass);

        let h = self.norm(x.clone(), block.before_mlp, pass);
        let h = self.feed_forward(block, h, pass);
        x + self.norm(h, block.after_mlp, pass)
    }

    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        self.norm(x, Some(self.norm), pass)
    }

    fn head(&self, pass: &mut Pass<'_>) -> Weight {
        pass.weight(self.head)
    }

    fn logit_cap(&self) -> Option<f32> {
        self.logit_cap
    }

    fn linears(&self) -> Vec<&Linear> {
        self.blocks.iter().flat_map(Block::linears).collect()
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        self.blocks.iter_mut().flat_map(Block::linears_mut).collect()
    }
}
