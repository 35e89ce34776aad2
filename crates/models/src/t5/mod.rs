//! T5: an encoder that reads the source as a whole, and a decoder that looks at it and at its own text so far.
//!
//!     encoder  s ← s + o(attention(q, k, v) + distances),   of RMS-normalised s; every token sees all of its source
//!              s ← s + wo(act(wi s))                        or wo(act(wi_0 s) · wi_1 s), of RMS-normalised s
//!     decoder  t ← t + o(attention(q, k, v) + distances),   causal
//!              t ← t + o(attention(q of t, k and v of the encoded source))
//!              t ← t + the same feed-forward part
//!
//! Scores of attention are not scaled. Trained numbers for the distances of query and key stand in the first block of encoder
//! and decoder and are added in all of them. A batch has both kinds of rows in one stream ([`pairs`]): a block of the encoder
//! passes the rows of texts on as they are and one of the decoder those of sources, which are the encoded source then. With the
//! blocks of both in one row, gradients flow through the stream as in a decoder alone.

mod distances;
mod pairs;

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tunesmith_formats::model_config::{EncoderDecoder, ModelConfig};
use tunesmith_ops::{
    Activation, BiasedAttention, Dropout, Orientation, Segments, Weight, activation, attention_biased,
    dropout, embedding, gated, rms_norm,
};

use self::distances::Distances;
use self::pairs::Pairs;
use crate::family::{self, Declarations, Family};
use crate::linear::Linear;
use crate::pass::Pass;

pub(crate) struct T5 {
    embedding: usize,
    encoder: Stack<EncoderBlock>,
    decoder: Stack<DecoderBlock>,
    head: usize,
    head_scale: Option<f32>,
    norm_eps: f32,
    n_heads: usize,
    head_dim: usize,
    activation: Activation,
    dropout: f32,
}

struct Stack<B> {
    blocks: Vec<B>,
    norm: usize,
    /// Index of the trained numbers [buckets,H].
    bias: usize,
    distances: Distances,
}

struct EncoderBlock {
    attention: Attention,
    feed_forward: FeedForward,
}

struct DecoderBlock {
    attention: Attention,
    to_source: Attention,
    feed_forward: FeedForward,
}

struct Attention {
    norm: usize,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
}

struct FeedForward {
    norm: usize,
    /// One, or the activated one and the other.
    wi: Vec<Linear>,
    wo: Linear,
}

/// Where a decoder's block finds the encoded sources.
enum Sources<'a> {
    Rows { rows: &'a Tensor<2>, texts: &'a Segments },
    InCache,
}

/// The places of a block where activations are dropped.
#[derive(Clone, Copy)]
enum Place {
    Input,
    Attention,
    AfterAttention,
    SourceAttention,
    AfterSourceAttention,
    InFeedForward,
    AfterFeedForward,
    Output,
}

impl T5 {
    pub(crate) fn new(config: &ModelConfig, parts: &EncoderDecoder, declare: &mut Declarations) -> Self {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let inner = config.n_heads * config.head_dim;
        let linear = |declare: &mut Declarations, path: String, n_in, n_out| {
            declare.linear(path, n_in, n_out, false, Orientation::OutIn)
        };
        let norm = |declare: &mut Declarations, at: &str| declare.tensor(format!("{at}.weight"), &[c]);
        let attention = |declare: &mut Declarations, at: &str, name: &str| Attention {
            norm: norm(declare, &format!("{at}.layer_norm")),
            q: linear(declare, format!("{at}.{name}.q"), c, inner),
            k: linear(declare, format!("{at}.{name}.k"), c, inner),
            v: linear(declare, format!("{at}.{name}.v"), c, inner),
            o: linear(declare, format!("{at}.{name}.o"), inner, c),
        };
        let feed_forward = |declare: &mut Declarations, at: &str| {
            let names = if parts.is_gated { &["wi_0", "wi_1"][..] } else { &["wi"][..] };
            FeedForward {
                norm: norm(declare, &format!("{at}.layer_norm")),
                wi: names
                    .iter()
                    .map(|name| linear(declare, format!("{at}.DenseReluDense.{name}"), c, f))
                    .collect(),
                wo: linear(declare, format!("{at}.DenseReluDense.wo"), f, c),
            }
        };
        let bias = |declare: &mut Declarations, stack: &str| {
            let name = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
            declare.tensor(name, &[parts.n_buckets, config.n_heads])
        };

        let embedding = declare.tensor("shared.weight", &[config.vocab_size, c]);
        let encoder = Stack {
            bias: bias(declare, "encoder"),
            blocks: (0..parts.n_encoder_layers)
                .map(|i| EncoderBlock {
                    attention: attention(declare, &format!("encoder.block.{i}.layer.0"), "SelfAttention"),
                    feed_forward: feed_forward(declare, &format!("encoder.block.{i}.layer.1")),
                })
                .collect(),
            norm: norm(declare, "encoder.final_layer_norm"),
            distances: Distances::of_encoder(parts),
        };
        let decoder = Stack {
            bias: bias(declare, "decoder"),
            blocks: (0..parts.n_decoder_layers)
                .map(|i| DecoderBlock {
                    attention: attention(declare, &format!("decoder.block.{i}.layer.0"), "SelfAttention"),
                    to_source: attention(declare, &format!("decoder.block.{i}.layer.1"), "EncDecAttention"),
                    feed_forward: feed_forward(declare, &format!("decoder.block.{i}.layer.2")),
                })
                .collect(),
            norm: norm(declare, "decoder.final_layer_norm"),
            distances: Distances::of_decoder(parts),
        };
        let head = if config.tie_word_embeddings {
            embedding
        } else {
            declare.tensor("lm_head.weight", &[config.vocab_size, c])
        };

        Self {
            embedding,
            encoder,
            decoder,
            head,
            head_scale: parts.scales_head_input.then(|| 1.0 / (c as f32).sqrt()),
            norm_eps: config.norm_eps,
            n_heads: config.n_heads,
            head_dim: config.head_dim,
            activation: family::activation(config.activation),
            dropout: parts.dropout,
        }
    }

    /// A block of the encoder over the rows of sources s.
    fn encode(&self, block_idx: usize, s: Tensor<2>, texts: &Segments, pass: &mut Pass<'_>) -> Tensor<2> {
        let Some(block) = self.encoder.blocks.get(block_idx) else { return s };
        let dropped = |place| self.dropout(block_idx, place, pass);
        let [input, in_attention, after] =
            [Place::Input, Place::Attention, Place::AfterAttention].map(dropped);
        let s = if block_idx == 0 { drop(s, input) } else { s };
        let h = self.norm(s.clone(), block.attention.norm, pass);
        let qkv = self.projections(&block.attention, h.clone(), h, pass);
        let options = self.options(false, in_attention, pass);
        let table = pass.weight(self.encoder.bias);
        let mut bias = self.bias(table, self.encoder.distances);
        let attended = attention_biased(qkv, [texts, texts], Some(&mut bias), options);
        let s = s + drop(self.output(&block.attention, attended, pass), after);
        let s = self.feed_forward(&block.feed_forward, block_idx, s, pass);
        if block_idx + 1 < self.encoder.blocks.len() {
            return s;
        }
        let output = self.dropout(block_idx, Place::Output, pass);
        drop(self.norm(s, self.encoder.norm, pass), output)
    }

    /// A block of the decoder over the rows of texts t.
    fn decode(
        &self,
        layer_idx: usize,
        t: Tensor<2>,
        texts: &Segments,
        sources: Sources<'_>,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let Some(block) = self.decoder.blocks.get(layer_idx) else { return t };
        let block_idx = self.encoder.blocks.len() + layer_idx;
        let dropped = |place| self.dropout(block_idx, place, pass);
        let [input, in_attention, after] =
            [Place::Input, Place::Attention, Place::AfterAttention].map(dropped);
        let [to_source, after_source] = [Place::SourceAttention, Place::AfterSourceAttention].map(dropped);
        let t = if layer_idx == 0 { drop(t, input) } else { t };

        let h = self.norm(t.clone(), block.attention.norm, pass);
        let qkv = self.projections(&block.attention, h.clone(), h, pass);
        let options = self.options(true, in_attention, pass);
        let table = pass.weight(self.decoder.bias);
        let mut bias = self.bias(table, self.decoder.distances);
        let attended = match sources {
            Sources::Rows { .. } => attention_biased(qkv, [texts, texts], Some(&mut bias), options),
            Sources::InCache => pass.attention_biased_cached(layer_idx, qkv, &mut bias),
        };
        let t = t + drop(self.output(&block.attention, attended, pass), after);

        let h = self.norm(t.clone(), block.to_source.norm, pass);
        let attended = match sources {
            Sources::Rows { rows, texts: of_sources } => {
                let qkv = self.projections(&block.to_source, h, rows.clone(), pass);
                let options = self.options(false, to_source, pass);
                attention_biased(qkv, [texts, of_sources], None, options)
            }
            Sources::InCache => {
                let q = block.to_source.q.forward(h, pass);
                pass.attention_to_sources(layer_idx, self.heads(q))
            }
        };
        let t = t + drop(self.output(&block.to_source, attended, pass), after_source);
        self.feed_forward(&block.feed_forward, block_idx, t, pass)
    }

    fn norm(&self, x: Tensor<2>, weight: usize, pass: &mut Pass<'_>) -> Tensor<2> {
        rms_norm(x, pass.vector(weight), self.norm_eps)
    }

    /// [N,H·D] as [N,H,D].
    fn heads(&self, x: Tensor<2>) -> Tensor<3> {
        let [n_tokens, _] = x.dims();
        x.reshape([n_tokens, self.n_heads, self.head_dim])
    }

    /// Queries of `x`, keys and values of `looked_at`.
    fn projections(
        &self,
        attention: &Attention,
        x: Tensor<2>,
        looked_at: Tensor<2>,
        pass: &mut Pass<'_>,
    ) -> [Tensor<3>; 3] {
        [(&attention.q, x), (&attention.k, looked_at.clone()), (&attention.v, looked_at)]
            .map(|(linear, x)| self.heads(linear.forward(x, pass)))
    }

    fn output(&self, attention: &Attention, attended: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<2> {
        let [n_tokens, n_heads, head_dim] = attended.dims();
        attention.o.forward(attended.reshape([n_tokens, n_heads * head_dim]), pass)
    }

    fn feed_forward(
        &self,
        part: &FeedForward,
        block_idx: usize,
        x: Tensor<2>,
        pass: &mut Pass<'_>,
    ) -> Tensor<2> {
        let [inside, after] =
            [Place::InFeedForward, Place::AfterFeedForward].map(|place| self.dropout(block_idx, place, pass));
        let h = self.norm(x.clone(), part.norm, pass);
        let mut projected = part.wi.iter().map(|wi| wi.forward(h.clone(), pass));
        let h = match (projected.next(), projected.next()) {
            (Some(gate), Some(up)) => gated(gate, up, self.activation),
            (Some(projected), None) => activation(projected, self.activation),
            (None, _) => unreachable!("a feed-forward part begins with one or two layers"),
        };
        x + drop(part.wo.forward(drop(h, inside), pass), after)
    }

    fn options(&self, is_causal: bool, dropout: Option<Dropout>, pass: &Pass<'_>) -> BiasedAttention {
        BiasedAttention { is_causal, compute: pass.compute(), dropout }
    }

    /// Gives the numbers [H,T,S] that are added to the scores of T queries and S keys.
    fn bias(&self, table: Weight, distances: Distances) -> impl FnMut(usize, usize) -> Tensor<3> + use<> {
        let n_heads = self.n_heads;
        let mut known: BTreeMap<(usize, usize), Tensor<3>> = BTreeMap::new();
        move |n_queries, n_keys| {
            let bias = known.entry((n_queries, n_keys)).or_insert_with(|| {
                let numbers = embedding(table.clone(), &distances.buckets(n_queries, n_keys));
                numbers.reshape([n_queries, n_keys, n_heads]).permute([2, 0, 1])
            });
            bias.clone()
        }
    }

    /// What is dropped at a place of a block, in training.
    fn dropout(&self, block_idx: usize, place: Place, pass: &Pass<'_>) -> Option<Dropout> {
        pass.dropout_at(self.dropout, block_idx, place as usize)
    }
}

impl Family for T5 {
    fn n_blocks(&self) -> usize {
        self.encoder.blocks.len() + self.decoder.blocks.len()
    }

    fn has_encoder(&self) -> bool {
        true
    }

    fn embed(&self, pass: &mut Pass<'_>) -> Tensor<2> {
        embedding(pass.weight(self.embedding), pass.tokens.ids)
    }

    fn block(&self, block_idx: usize, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let layer_idx = block_idx.checked_sub(self.encoder.blocks.len());
        if pass.is_cached() {
            let texts = pass.tokens.segments;
            return match layer_idx {
                None => x,
                Some(layer_idx) => self.decode(layer_idx, x, texts, Sources::InCache, pass),
            };
        }
        let pairs = Pairs::of(pass.tokens.segments);
        let [s, t] = pairs.split(x);
        let rows = match layer_idx {
            None => [self.encode(block_idx, s, &pairs.sources, pass), t],
            Some(layer_idx) => {
                let sources = Sources::Rows { rows: &s, texts: &pairs.sources };
                let t = self.decode(layer_idx, t, &pairs.texts, sources, pass);
                [s, t]
            }
        };
        pairs.join(rows)
    }

    fn sources(&self, pass: &mut Pass<'_>) -> Vec<(Tensor<3>, Tensor<3>)> {
        let texts = pass.tokens.segments;
        let embedded = self.embed(pass);
        let encoded = (0..self.encoder.blocks.len())
            .fold(embedded, |s, block_idx| self.encode(block_idx, s, texts, pass));
        let keys_and_values = self.decoder.blocks.iter().map(|block| {
            let Attention { k, v, .. } = &block.to_source;
            let [keys, values] = [k, v].map(|linear| self.heads(linear.forward(encoded.clone(), pass)));
            (keys, values)
        });
        keys_and_values.collect()
    }

    /// Of the decoder; what it makes of the rows of sources is of no use.
    fn final_norm(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let output = self.dropout(self.n_blocks(), Place::Output, pass);
        let x = drop(self.norm(x, self.decoder.norm, pass), output);
        match self.head_scale {
            Some(scale) => x * scale,
            None => x,
        }
    }

    fn head(&self, pass: &mut Pass<'_>) -> Weight {
        pass.weight(self.head)
    }

    fn linears(&self) -> Vec<&Linear> {
        let of_encoder = self.encoder.blocks.iter().flat_map(EncoderBlock::linears);
        of_encoder.chain(self.decoder.blocks.iter().flat_map(DecoderBlock::linears)).collect()
    }

    fn linears_mut(&mut self) -> Vec<&mut Linear> {
        let of_encoder = self.encoder.blocks.iter_mut().flat_map(EncoderBlock::linears_mut);
        of_encoder.chain(self.decoder.blocks.iter_mut().flat_map(DecoderBlock::linears_mut)).collect()
    }
}

impl EncoderBlock {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.attention.linears().into_iter().chain(self.feed_forward.linears())
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.attention.linears_mut().into_iter().chain(self.feed_forward.linears_mut())
    }
}

impl DecoderBlock {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let attentions = self.attention.linears().into_iter().chain(self.to_source.linears());
        attentions.chain(self.feed_forward.linears())
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let attentions = self.attention.linears_mut().into_iter().chain(self.to_source.linears_mut());
        attentions.chain(self.feed_forward.linears_mut())
    }
}

impl Attention {
    fn linears(&self) -> [&Linear; 4] {
        [&self.q, &self.k, &self.v, &self.o]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [&mut self.q, &mut self.k, &mut self.v, &mut self.o]
    }
}

impl FeedForward {
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.wi.iter().chain([&self.wo])
    }

    fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.wi.iter_mut().chain([&mut self.wo])
    }
}

fn drop(x: Tensor<2>, mask: Option<Dropout>) -> Tensor<2> {
    match mask {
        Some(mask) => dropout(x, mask),
        None => x,
    }
}
