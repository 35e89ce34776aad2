//! Causal attention within each segment of a packed batch, with grouped key/value heads.
//!
//! For query head h, its key/value head k = h / (H/K), a token t and the tokens s of the same segment with
//! t − window < s ≤ t:  p[t, s] = softmax over s of scale · q[t, h]·k[s, k],  y[t, h] = Σ over s of p[t, s] v[s, k].
//! Shapes: q, y [N, H, D]; k, v [N, K, D].

use burn::tensor::{Bool, Tensor, TensorData, activation::softmax};

use crate::check::{require, require_equal};
use crate::{Device, Segments};

/// Settings of [`attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Factor on the scores, usually 1/√D.
    pub scale: f32,
    /// Tokens a token sees, itself included; `None` is all before it.
    pub window: Option<usize>,
}

/// Causal attention within each segment; see the module's formula.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    segments: &Segments,
    options: AttentionOptions,
) -> Tensor<3> {
    check_shapes("attention", &q, &k, &v, segments);
    attention_composed(q, k, v, segments, options)
}

/// [`attention`] from Burn's operations: one matrix of scores per segment.
pub fn attention_composed(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    segments: &Segments,
    options: AttentionOptions,
) -> Tensor<3> {
    let [_, n_heads, head_width] = q.dims();
    let n_kv_heads = k.dims()[1];
    if segments.n_tokens() == 0 {
        return q;
    }
    let outputs = segments.ranges().filter(|range| !range.is_empty()).map(|range| {
        let q = q.clone().slice([range.clone(), 0..n_heads, 0..head_width]);
        let k = k.clone().slice([range.clone(), 0..n_kv_heads, 0..head_width]);
        let v = v.clone().slice([range, 0..n_kv_heads, 0..head_width]);
        attend(q, k, v, options)
    });
    Tensor::cat(outputs.collect(), 0)
}

/// Attention of T new tokens q [T, H, D] over P + T known ones k, v [P + T, K, D], the new being the last.
pub(crate) fn attend(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, options: AttentionOptions) -> Tensor<3> {
    let [n_new, n_heads, head_width] = q.dims();
    let [n_keys, n_kv_heads, _] = k.dims();
    let n_groups = n_heads / n_kv_heads;
    let device = q.device();
    // The query heads of one key/value head become rows of one matrix, so that keys and values are not repeated.
    let q = q.reshape([n_new, n_kv_heads, n_groups, head_width]).permute([1, 2, 0, 3]);
    let q = q.reshape([n_kv_heads, n_groups * n_new, head_width]);
    let scores = q.matmul(k.permute([1, 2, 0])) * options.scale;
    let scores = scores.reshape([n_kv_heads, n_groups, n_new, n_keys]);
    let hidden = hidden_keys(n_new, n_keys, options.window, &device).unsqueeze::<4>();
    let hidden = hidden.expand([n_kv_heads, n_groups, n_new, n_keys]);
    let probabilities = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    let y = probabilities.reshape([n_kv_heads, n_groups * n_new, n_keys]).matmul(v.permute([1, 0, 2]));
    let y = y.reshape([n_kv_heads, n_groups, n_new, head_width]).permute([2, 0, 1, 3]);
    y.reshape([n_new, n_heads, head_width])
}

/// Stops unless q, k, v and the segments fit together.
pub(crate) fn check_shapes(op: &str, q: &Tensor<3>, k: &Tensor<3>, v: &Tensor<3>, segments: &Segments) {
    let [n_tokens, n_heads, head_width] = q.dims();
    let [_, n_kv_heads, _] = k.dims();
    require_equal(op, "k [N, K, D]", k.dims(), [n_tokens, n_kv_heads, head_width]);
    require_equal(op, "v [N, K, D]", v.dims(), [n_tokens, n_kv_heads, head_width]);
    require_equal(op, "number of tokens in the segments", segments.n_tokens(), n_tokens);
    require(n_kv_heads != 0 && n_heads.is_multiple_of(n_kv_heads), op, || {
        format!("{n_heads} query heads cannot share {n_kv_heads} key/value heads evenly")
    });
}

/// [n_new, n_keys]: true where a new token must not look.
fn hidden_keys(n_new: usize, n_keys: usize, window: Option<usize>, device: &Device) -> Tensor<2, Bool> {
    let n_past = n_keys - n_new;
    let window = window.unwrap_or(usize::MAX);
    let hidden: Vec<bool> =
        (0..n_new).flat_map(|new| (0..n_keys).map(move |key| !visible(n_past + new, key, window))).collect();
    Tensor::from_data(TensorData::new(hidden, [n_new, n_keys]), device)
}

/// Whether the token at position `query` sees the one at `key`.
fn visible(query: usize, key: usize, window: usize) -> bool {
    key <= query && query - key < window
}
