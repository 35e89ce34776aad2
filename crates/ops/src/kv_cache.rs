//! Keys and values of the tokens seen so far, and attention of new tokens over them (no gradient).
//!
//! On the CPU they are kept in plain growing vectors, so that a step appends instead of copying what is known; on other
//! devices in tensors.

use std::ops::Range;

use burn::tensor::Tensor;
use tunesmith_kernels::{Level, cached_attention as kernel};

use crate::attention::{attend, check_arguments, heads};
use crate::check::{require, require_equal};
use crate::cpu::{self, Values};
use crate::{AttentionOptions, Segments};

/// Keys and values per layer and sequence.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// `layers[layer_idx][sequence_idx]`
    layers: Vec<Vec<Entry>>,
    /// The same for the sources that sequences look at as a whole; no layers where there are none.
    sources: Vec<Vec<OnDevice>>,
}

/// Keys and values of one sequence in one layer.
#[derive(Clone, Debug, Default)]
enum Entry {
    #[default]
    Empty,
    /// Rows of `width` = K·D elements.
    Host {
        keys: Vec<f32>,
        values: Vec<f32>,
        width: usize,
    },
    Device(Box<OnDevice>),
}

/// [T, K, D]
#[derive(Clone, Debug)]
struct OnDevice {
    keys: Tensor<3>,
    values: Tensor<3>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(n_layers: usize, n_sequences: usize) -> Self {
        Self { layers: vec![vec![Entry::Empty; n_sequences]; n_layers], sources: Vec::new() }
    }

    /// A cache without tokens whose sequences look at a source each: the texts `sources` in the keys and values [M, K, D] of
    /// every layer, which have no gradient.
    pub fn with_sources(sources: &Segments, layers: Vec<(Tensor<3>, Tensor<3>)>) -> Self {
        let text = |x: &Tensor<3>, range: Range<usize>| x.clone().inner().narrow(0, range.start, range.len());
        let of_layer = |(keys, values): &(Tensor<3>, Tensor<3>)| {
            let source = |range: Range<usize>| OnDevice {
                keys: text(keys, range.clone()),
                values: text(values, range),
            };
            sources.ranges().map(source).collect()
        };
        let sources_of_layers = layers.iter().map(of_layer).collect();
        Self { sources: sources_of_layers, ..Self::new(layers.len(), sources.len()) }
    }

    /// Tokens that went through all layers, per sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.layers.last().map(|layer| layer.iter().map(Entry::length).collect()).unwrap_or_default()
    }

    /// Sequences held.
    pub fn n_sequences(&self) -> usize {
        self.layers.first().map_or(0, Vec::len)
    }

    /// Keeps only the sequences at these positions, in this order; a position given twice is copied.
    pub fn keep(&mut self, sequence_idxs: &[usize]) {
        let n_sequences = self.n_sequences();
        for &idx in sequence_idxs {
            require(idx < n_sequences, "KvCache::keep", || format!("sequence {idx} of {n_sequences}"));
        }
        for layer in &mut self.sources {
            *layer = sequence_idxs.iter().map(|&idx| layer[idx].clone()).collect();
        }
        for layer in &mut self.layers {
            let mut old = std::mem::take(layer);
            for (position, &idx) in sequence_idxs.iter().enumerate() {
                let needed_again = sequence_idxs[position + 1..].contains(&idx);
                layer.push(if needed_again { old[idx].clone() } else { std::mem::take(&mut old[idx]) });
            }
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

    /// Appends keys and values [T, K, D] to a sequence in one layer and returns all that it has there.
    pub(crate) fn extended(
        &mut self,
        layer_idx: usize,
        sequence_idx: usize,
        keys: Tensor<3>,
        values: Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>) {
        let n_layers = self.layers.len();
        require(layer_idx < n_layers, "KvCache", || {
            format!("layer {layer_idx} of a cache with {n_layers} layers")
        });
        self.layers[layer_idx][sequence_idx].append_on_device(keys, values)
    }

    /// The keys and values of a sequence's source in one layer.
    pub(crate) fn source(&self, layer_idx: usize, sequence_idx: usize) -> (Tensor<3>, Tensor<3>) {
        let n_layers = self.sources.len();
        require(layer_idx < n_layers, "KvCache", || {
            format!("layer {layer_idx} of a cache with the sources of {n_layers} layers")
        });
        let OnDevice { keys, values } = self.sources[layer_idx][sequence_idx].clone();
        (keys, values)
    }
}

impl Entry {
    fn length(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Host { keys, width, .. } => keys.len().checked_div(*width).unwrap_or(0),
            Self::Device(known) => known.keys.dims()[0],
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Self::Empty => {}
            _ if length == 0 => *self = Self::Empty,
            Self::Host { keys, values, width } => {
                keys.truncate(length * *width);
                values.truncate(length * *width);
            }
            Self::Device(known) => {
                let [n_known, n_heads, head_width] = known.keys.dims();
                let kept = [0..length.min(n_known), 0..n_heads, 0..head_width];
                known.keys = known.keys.clone().slice(kept.clone());
                known.values = known.values.clone().slice(kept);
            }
        }
    }

    /// Appends rows of `row_width` elements.
    fn append_on_host(&mut self, new_keys: &[f32], new_values: &[f32], row_width: usize) {
        if let Self::Empty = self {
            *self = Self::Host { keys: Vec::new(), values: Vec::new(), width: row_width };
        }
        let Self::Host { keys, values, width } = self else {
            return require(false, "attention_cached", || "the cache began on another device".to_owned());
        };
        require_equal("attention_cached", "K·D of the new keys", row_width, *width);
        keys.extend_from_slice(new_keys);
        values.extend_from_slice(new_values);
    }

    /// Appends [T, K, D] and returns all keys and values.
    fn append_on_device(&mut self, keys: Tensor<3>, values: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let new = OnDevice { keys, values };
        let all = match std::mem::take(self) {
            Self::Empty => new,
            Self::Device(known) => OnDevice {
                keys: Tensor::cat(vec![known.keys, new.keys], 0),
                values: Tensor::cat(vec![known.values, new.values], 0),
            },
            Self::Host { .. } => {
                require(false, "attention_cached", || "the cache began on the CPU".to_owned());
                new
            }
        };
        *self = Self::Device(Box::new(all.clone()));
        (all.keys, all.values)
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
    check_arguments(op, [&q, &k, &v], new_tokens, options);
    require_equal(op, "number of segments", new_tokens.len(), cache.n_sequences());
    let n_layers = cache.layers.len();
    require(layer_idx < n_layers, op, || format!("layer {layer_idx} of a cache with {n_layers} layers"));
    let layer = &mut cache.layers[layer_idx];
    let (q, k, v) = (q.inner(), k.inner(), v.inner());
    if cpu::on_cpu(&q) && cpu::on_cpu(&k) && cpu::on_cpu(&v) {
        attend_on_host(q, k, v, new_tokens, layer, options)
    } else {
        attend_on_device(q, k, v, new_tokens, layer, options)
    }
}

fn attend_on_host(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    new_tokens: &Segments,
    layer: &mut [Entry],
    options: AttentionOptions,
) -> Tensor<3> {
    let heads = heads(&q, &k, options);
    let width = heads.n_kv_heads * heads.width;
    let (q, k, v) = (cpu::values(q), cpu::values(k), cpu::values(v));
    for (range, entry) in new_tokens.ranges().zip(&mut *layer).filter(|(range, _)| !range.is_empty()) {
        let rows = range.start * width..range.end * width;
        entry.append_on_host(&k.as_slice()[rows.clone()], &v.as_slice()[rows], width);
    }
    let sequences: Vec<_> = new_tokens
        .ranges()
        .zip(&*layer)
        .filter_map(|(range, entry)| match entry {
            Entry::Host { keys, values, .. } => {
                Some(kernel::Sequence { first_row: range.start, n_queries: range.len(), keys, values })
            }
            _ => None,
        })
        .collect();
    let mut y = vec![0.0; q.as_slice().len()];
    kernel::forward(Level::best(), heads, &sequences, q.as_slice(), &mut y);
    Values::from_vec(y, &q.shape()).into_tensor()
}

fn attend_on_device(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    new_tokens: &Segments,
    layer: &mut [Entry],
    options: AttentionOptions,
) -> Tensor<3> {
    let [_, n_heads, head_width] = q.dims();
    let n_kv_heads = k.dims()[1];
    let mut outputs = Vec::with_capacity(new_tokens.len());
    for (range, entry) in new_tokens.ranges().zip(layer).filter(|(range, _)| !range.is_empty()) {
        let of_kv = [range.clone(), 0..n_kv_heads, 0..head_width];
        let (keys, values) = entry.append_on_device(k.clone().slice(of_kv.clone()), v.clone().slice(of_kv));
        let q = q.clone().slice([range, 0..n_heads, 0..head_width]);
        outputs.push(attend(q, keys, values, options));
    }
    if outputs.is_empty() { q } else { Tensor::cat(outputs, 0) }
}
