//! Keys and values of the tokens seen so far, and attention of new tokens over them (no gradient).

use burn::tensor::Tensor;

use crate::attention::{attend, check_shapes};
use crate::check::{require, require_equal};
use crate::{AttentionOptions, Segments};

/// Keys and values per layer and sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// `layers[layer_idx][sequence_idx]`
    layers: Vec<Vec<Entry>>,
}

/// Keys and values [T, K, D] of one sequence in one layer.
#[derive(Clone, Debug, Default)]
struct Entry {
    known: Option<(Tensor<3>, Tensor<3>)>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(n_layers: usize, n_sequences: usize) -> Self {
        Self { layers: vec![vec![Entry::default(); n_sequences]; n_layers] }
    }

    /// Tokens that went through all layers, per sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.layers.last().map(|layer| layer.iter().map(Entry::length).collect()).unwrap_or_default()
    }

    /// Sequences held.
    pub fn n_sequences(&self) -> usize {
        self.layers.first().map_or(0, Vec::len)
    }

    /// Keeps only the sequences at these positions, in this order.
    pub fn keep(&mut self, sequence_idxs: &[usize]) {
        let n_sequences = self.n_sequences();
        for &idx in sequence_idxs {
            require(idx < n_sequences, "KvCache::keep", || format!("sequence {idx} of {n_sequences}"));
        }
        for layer in &mut self.layers {
            *layer = sequence_idxs.iter().map(|&idx| layer[idx].clone()).collect();
        }
    }

    /// Forgets all tokens of a sequence from position `length` on.
    pub fn truncate(&mut self, sequence_idx: usize, length: usize) {
        let n_sequences = self.n_sequences();
        require(sequence_idx < n_sequences, "KvCache::truncate", || {
            format!("sequence {sequence_idx} of {n_sequences}")
        });
        for layer in &mut self.layers {
            layer[sequence_idx].truncate(length);
        }
    }
}

impl Entry {
    fn length(&self) -> usize {
        self.known.as_ref().map_or(0, |(k, _)| k.dims()[0])
    }

    fn truncate(&mut self, length: usize) {
        if let Some((k, v)) = self.known.take()
            && 0 < length
        {
            let [n_known, n_heads, head_width] = k.dims();
            let kept = [0..length.min(n_known), 0..n_heads, 0..head_width];
            self.known = Some((k.slice(kept.clone()), v.slice(kept)));
        }
    }
}

/// Appends the new tokens' keys and values to layer `layer_idx` of the cache, then lets each new token attend to all
/// tokens of its sequence up to itself.
///
/// `new_tokens` has one segment per sequence of the cache (zero length: nothing new); q [N, H, D]; k, v [N, K, D].
pub fn attention_cached(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    new_tokens: &Segments,
    cache: &mut KvCache,
    layer_idx: usize,
    options: AttentionOptions,
) -> Tensor<3> {
    let op = "attention_cached";
    check_shapes(op, &q, &k, &v, new_tokens);
    require_equal(op, "number of segments", new_tokens.len(), cache.n_sequences());
    let n_layers = cache.layers.len();
    require(layer_idx < n_layers, op, || format!("layer {layer_idx} of a cache with {n_layers} layers"));
    let (q, k, v) = (q.inner(), k.inner(), v.inner());
    let [_, n_heads, head_width] = q.dims();
    let n_kv_heads = k.dims()[1];
    let mut outputs = Vec::with_capacity(new_tokens.len());
    for (range, entry) in new_tokens.ranges().zip(&mut cache.layers[layer_idx]) {
        if range.is_empty() {
            continue;
        }
        let q = q.clone().slice([range.clone(), 0..n_heads, 0..head_width]);
        let new_k = k.clone().slice([range.clone(), 0..n_kv_heads, 0..head_width]);
        let new_v = v.clone().slice([range, 0..n_kv_heads, 0..head_width]);
        let (k, v) = match entry.known.take() {
            Some((known_k, known_v)) => {
                (Tensor::cat(vec![known_k, new_k], 0), Tensor::cat(vec![known_v, new_v], 0))
            }
            None => (new_k, new_v),
        };
        entry.known = Some((k.clone(), v.clone()));
        outputs.push(attend(q, k, v, options));
    }
    if outputs.is_empty() { q } else { Tensor::cat(outputs, 0) }
}
