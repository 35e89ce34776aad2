//! Attention with a number of the model's own added to each score, over the same tokens or over those of another text
//! (T5, Raffel et al. 2020).
//!
//! For head h, a token t of a text and the tokens s that it looks at:
//! p[t, s] = softmax over s of q[t, h]·k[s, h] + bias[h, t, s],  y[t, h] = Σ over s of dropout(p)[t, s] v[s, h].
//! Shapes: q, y [N, H, D]; k, v [M, H, D]; bias [H, T, S] for a text of T tokens that looks at S.
//!
//! Composed of Burn's operations on every device, one matrix of scores for each text: there is no kernel of our own for it.

use burn::tensor::Tensor;
use tunesmith_kernels::Compute;

use crate::attention::hidden_keys;
use crate::check::require_equal;
use crate::dropout::{Dropout, dropout};
use crate::weight::rounded;
use crate::{KvCache, Segments};

/// Settings of [`attention_biased`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BiasedAttention {
    /// Whether a token sees only itself and those before it; the queries are the last of the keys then.
    pub is_causal: bool,
    /// Number format that the factors of all products are rounded to.
    pub compute: Compute,
    /// Dropout on the probabilities; each text has a mask of its own.
    pub dropout: Option<Dropout>,
}

/// The bias [H, T, S] of T queries, the last of which belongs to the last of S keys where both are of the same text.
pub type BiasOf<'a> = dyn FnMut(usize, usize) -> Tensor<3> + 'a;

/// Attention of the texts `queries` of q over the texts `keys` of k and v, one for each; see the module's formula. Without
/// `bias` there is none.
pub fn attention_biased(
    [q, k, v]: [Tensor<3>; 3],
    [queries, keys]: [&Segments; 2],
    mut bias: Option<&mut BiasOf<'_>>,
    options: BiasedAttention,
) -> Tensor<3> {
    let op = "attention_biased";
    require_equal(op, "v [M, H, D]", v.dims(), k.dims());
    require_equal(op, "number of queries", queries.n_tokens(), q.dims()[0]);
    require_equal(op, "number of keys", keys.n_tokens(), k.dims()[0]);
    require_equal(op, "texts of keys", keys.len(), queries.len());
    let mut outputs = Vec::with_capacity(queries.len());
    for (text_idx, (of_queries, of_keys)) in queries.ranges().zip(keys.ranges()).enumerate() {
        if of_queries.is_empty() {
            continue;
        }
        let bias = bias.as_deref_mut().map(|bias| bias(of_queries.len(), of_keys.len()));
        let [k, v] = [&k, &v].map(|x| x.clone().narrow(0, of_keys.start, of_keys.len()));
        let q = q.clone().narrow(0, of_queries.start, of_queries.len());
        outputs.push(attend(q, k, v, bias, options.of_text(text_idx)));
    }
    if outputs.is_empty() { q } else { Tensor::cat(outputs, 0) }
}

/// Appends the new tokens' keys and values to layer `layer_idx` of the cache, then lets each look at all tokens of its text
/// up to itself, with the bias. Shapes and segments as of [`crate::attention_cached`], without a gradient.
pub fn attention_biased_cached(
    [q, k, v]: [Tensor<3>; 3],
    new_tokens: &Segments,
    cache: &mut KvCache,
    layer_idx: usize,
    bias: &mut BiasOf<'_>,
    compute: Compute,
) -> Tensor<3> {
    let op = "attention_biased_cached";
    require_equal(op, "number of segments", new_tokens.len(), cache.n_sequences());
    let options = BiasedAttention { is_causal: true, compute, dropout: None };
    let mut outputs = Vec::with_capacity(new_tokens.len());
    for (sequence_idx, range) in new_tokens.ranges().enumerate().filter(|(_, range)| !range.is_empty()) {
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().inner().narrow(0, range.start, range.len()));
        let (k, v) = cache.extended(layer_idx, sequence_idx, k, v);
        let bias = bias(range.len(), k.dims()[0]);
        outputs.push(attend(q, k, v, Some(bias), options));
    }
    if outputs.is_empty() { q } else { Tensor::cat(outputs, 0) }
}

/// Attention of the new tokens q [N, H, D] over the sources that the cache holds for layer `layer_idx`, without a bias or a
/// gradient.
pub fn attention_to_sources(
    q: Tensor<3>,
    new_tokens: &Segments,
    cache: &KvCache,
    layer_idx: usize,
    compute: Compute,
) -> Tensor<3> {
    let op = "attention_to_sources";
    require_equal(op, "number of segments", new_tokens.len(), cache.n_sequences());
    let options = BiasedAttention { is_causal: false, compute, dropout: None };
    let mut outputs = Vec::with_capacity(new_tokens.len());
    for (sequence_idx, range) in new_tokens.ranges().enumerate().filter(|(_, range)| !range.is_empty()) {
        let (k, v) = cache.source(layer_idx, sequence_idx);
        let q = q.clone().inner().narrow(0, range.start, range.len());
        outputs.push(attend(q, k, v, None, options));
    }
    if outputs.is_empty() { q } else { Tensor::cat(outputs, 0) }
}

impl BiasedAttention {
    /// The same with the dropout mask of one of the texts.
    fn of_text(self, text_idx: usize) -> Self {
        // Odd, so that different texts have different keys.
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let key_of = |key: u64| key.wrapping_add(STEP.wrapping_mul(text_idx as u64));
        Self { dropout: self.dropout.map(|d| Dropout { key: key_of(d.key), ..d }), ..self }
    }
}

/// q [T, H, D] over k, v [S, H, D].
fn attend(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    bias: Option<Tensor<3>>,
    options: BiasedAttention,
) -> Tensor<3> {
    let [n_queries, n_heads, _] = q.dims();
    let n_keys = k.dims()[0];
    let device = q.device();
    let (q, k, v) = [q, k, v].map(|x| rounded(x, options.compute)).into();
    let mut scores = q.permute([1, 0, 2]).matmul(k.permute([1, 2, 0]));
    if let Some(bias) = bias {
        require_equal("attention_biased", "bias [H, T, S]", bias.dims(), scores.dims());
        // A table that is not trained lies outside of the graph.
        let bias = if scores.is_autodiff() && !bias.is_autodiff() { bias.autodiff() } else { bias };
        scores = scores + bias;
    }
    if options.is_causal && 1 < n_queries {
        let hidden = hidden_keys(n_queries, n_keys, None, &device).unsqueeze::<3>();
        scores = scores.mask_fill(hidden.expand([n_heads, n_queries, n_keys]), f32::NEG_INFINITY);
    }
    let mut probabilities = softmax(scores);
    if let Some(mask) = options.dropout {
        let flat = dropout(probabilities.reshape([n_heads * n_queries, n_keys]), mask);
        probabilities = flat.reshape([n_heads, n_queries, n_keys]);
    }
    rounded(probabilities, options.compute).matmul(v.permute([1, 0, 2])).permute([1, 0, 2])
}

/// Softmax over the last dimension. Burn's own computes in another way, and to other bits, where there is a graph.
fn softmax(scores: Tensor<3>) -> Tensor<3> {
    let largest = scores.clone().detach().max_dim(2);
    let weights = (scores - largest).exp();
    let sums = weights.clone().sum_dim(2);
    weights / sums
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{AttentionOptions, attention, open_device};

    fn device() -> Device {
        open_device("cpu").unwrap().inner()
    }

    fn wave(shape: [usize; 3], step: f32) -> Tensor<3> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| (i as f32 * step).sin()).collect();
        Tensor::from_data(TensorData::new(values, shape), &device())
    }

    fn values(x: Tensor<3>) -> Vec<f32> {
        x.try_into_vec_as::<f32>().unwrap()
    }

    #[track_caller]
    fn assert_close(a: &[f32], b: &[f32]) {
        assert_eq!(a.len(), b.len());
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-5, "differ by {worst}");
    }

    const CAUSAL: BiasedAttention = BiasedAttention { is_causal: true, compute: Compute::F32, dropout: None };

    #[test]
    fn without_a_bias_it_is_causal_attention() {
        let segments = Segments::new(&[3, 0, 1, 6]);
        let [q, k, v] = [0.7, 0.9, 1.1].map(|step| wave([10, 2, 4], step));
        let expected =
            attention(q.clone(), k.clone(), v.clone(), &segments, AttentionOptions::new(1.0, None));
        let found = attention_biased([q, k, v], [&segments, &segments], None, CAUSAL);
        assert_close(&values(found), &values(expected));
    }

    #[test]
    fn a_bias_decides_what_is_looked_at() {
        let (queries, keys) = (Segments::new(&[2, 1]), Segments::new(&[4, 3]));
        let v = wave([7, 2, 3], 0.4);
        // So large that all attention is on the key with the number of the query.
        let mut bias = |n_queries: usize, n_keys: usize| {
            let pairs = (0..2 * n_queries * n_keys).map(|i| {
                let (query, key) = (i / n_keys % n_queries, i % n_keys);
                if query == key { 1000.0 } else { 0.0_f32 }
            });
            Tensor::from_data(TensorData::new(pairs.collect(), [2, n_queries, n_keys]), &device())
        };
        let options = BiasedAttention { is_causal: false, ..CAUSAL };
        let inputs = [wave([3, 2, 3], 0.3), wave([7, 2, 3], 0.2), v.clone()];
        let found = attention_biased(inputs, [&queries, &keys], Some(&mut bias), options);
        let expected = Tensor::cat(vec![v.clone().narrow(0, 0, 2), v.narrow(0, 4, 1)], 0);
        assert_close(&values(found), &values(expected));
    }

    #[test]
    fn a_cache_gives_what_all_tokens_at_once_give() {
        let segments = Segments::new(&[5, 3]);
        let inputs = [0.7, 0.9, 1.1].map(|step| wave([8, 2, 4], step));
        let mut bias = |n_queries: usize, n_keys: usize| {
            let distance = |i: usize| {
                let (query, key) = (n_keys - n_queries + i / n_keys % n_queries, i % n_keys);
                -0.3 * (query as f32 - key as f32) * (1 + i / (n_queries * n_keys)) as f32
            };
            let all = (0..2 * n_queries * n_keys).map(distance).collect();
            Tensor::from_data(TensorData::new(all, [2, n_queries, n_keys]), &device())
        };
        let expected =
            values(attention_biased(inputs.clone(), [&segments, &segments], Some(&mut bias), CAUSAL));
        let mut cache = KvCache::new(1, 2);
        let mut found = [vec![], vec![]];
        for (portion, rows) in [([3, 0], vec![0, 1, 2]), ([1, 2], vec![3, 5, 6]), ([1, 1], vec![4, 7])] {
            let part = inputs
                .clone()
                .map(|x| Tensor::cat(rows.iter().map(|&row| x.clone().narrow(0, row, 1)).collect(), 0));
            let new = Segments::new(&portion);
            let y = values(attention_biased_cached(part, &new, &mut cache, 0, &mut bias, Compute::F32));
            let (first, second) = y.split_at(portion[0] * 8);
            found[0].extend_from_slice(first);
            found[1].extend_from_slice(second);
        }
        assert_eq!(cache.lengths(), [5, 3]);
        assert_close(&found.concat(), &expected);
    }

    #[test]
    fn sources_are_looked_at_as_a_whole() {
        let (queries, sources) = (Segments::new(&[2, 1]), Segments::new(&[4, 3]));
        let [k, v] = [0.2, 0.4].map(|step| wave([7, 2, 3], step));
        let q = wave([3, 2, 3], 0.3);
        let options = BiasedAttention { is_causal: false, ..CAUSAL };
        let expected =
            attention_biased([q.clone(), k.clone(), v.clone()], [&queries, &sources], None, options);
        let mut cache = KvCache::with_sources(&sources, vec![(k, v)]);
        let found = attention_to_sources(q.clone(), &queries, &cache, 0, Compute::F32);
        assert_close(&values(found), &values(expected.clone()));
        // They stay with their sequences.
        cache.keep(&[1]);
        let second = attention_to_sources(q.narrow(0, 2, 1), &Segments::new(&[1]), &cache, 0, Compute::F32);
        assert_close(&values(second), &values(expected.narrow(0, 2, 1)));
    }

    #[test]
    fn each_text_has_a_dropout_mask_of_its_own() {
        let segments = Segments::new(&[6, 6]);
        let inputs = [0.0, 0.0, 0.3].map(|step| wave([12, 1, 8], step));
        let mut options = CAUSAL;
        options.is_causal = false;
        options.dropout = Some(Dropout { probability: 0.5, key: 3 });
        // Both texts have the same values.
        let v = Tensor::cat(vec![inputs[2].clone().narrow(0, 0, 6); 2], 0);
        let [q, k, _] = inputs;
        let again = [q.clone(), k.clone(), v.clone()];
        let found = values(attention_biased([q, k, v], [&segments, &segments], None, options));
        let (first, second) = found.split_at(48);
        assert_ne!(first, second);
        assert_eq!(found, values(attention_biased(again, [&segments, &segments], None, options)));
    }
}
