//! Causal attention within each segment of a packed batch, with grouped key/value heads.
//!
//! For query head h, its key/value head k = h / (H/K), a token t and the tokens s of the same segment with
//! t − window < s ≤ t:  p[t, s] = softmax over s of scale · q[t, h]·k[s, k],  y[t, h] = Σ over s of p[t, s] v[s, k].
//! Shapes: q, y [N, H, D]; k, v [N, K, D].

use burn::tensor::{Bool, Tensor, TensorData, activation::softmax};
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Compute, Level, attention as kernel};

use crate::check::{require, require_equal};
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;
use crate::weight::rounded;
use crate::{Device, Segments};

/// Settings of [`attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Factor on the scores, usually 1/√D.
    pub scale: f32,
    /// Bound c that scores z approach and never pass, as c·tanh(z/c); `None` leaves them as they are.
    pub cap: Option<f32>,
    /// Tokens a token sees, itself included, so at least 1; `None` is all before it.
    pub window: Option<usize>,
    /// Number format that the factors of all products are rounded to.
    pub compute: Compute,
}

impl AttentionOptions {
    /// Options with float32 products.
    pub fn new(scale: f32, window: Option<usize>) -> Self {
        Self { scale, cap: None, window, compute: Compute::F32 }
    }
}

/// Causal attention within each segment; see the module's formula.
pub fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    segments: &Segments,
    options: AttentionOptions,
) -> Tensor<3> {
    check_arguments("attention", [&q, &k, &v], segments, options);
    if !(cpu::on_cpu(&q) && cpu::on_cpu(&k) && cpu::on_cpu(&v)) {
        return attention_composed(q, k, v, segments, options);
    }
    let heads = heads(&q, &k, options);
    let op = Attention { heads, segments: segments.clone(), compute: options.compute };
    cpu::apply(op, [cpu::input(q), cpu::input(k), cpu::input(v)])
}

/// Inputs q, k, v.
#[derive(Clone, Debug)]
struct Attention {
    heads: kernel::Heads,
    segments: Segments,
    compute: Compute,
}

#[derive(Clone, Debug)]
struct Saved {
    q: Values,
    k: Values,
    v: Values,
    y: Values,
    /// Logarithm of each softmax's denominator [N, H]
    log_sums: Vec<f32>,
}

impl Attention {
    /// Tokens that see each other, or themselves, in a segment of `n` tokens.
    fn n_pairs(&self, n: usize) -> usize {
        let window = self.heads.window.min(n);
        window * (window + 1) / 2 + (n - window) * window
    }
}

impl CpuOp<3> for Attention {
    type Saved = Saved;

    const NAMES: [&'static str; 2] = ["attention forward", "attention backward"];

    fn work(&self, pass: Pass<3>, [q, k, _]: &Shapes<3>) -> Work {
        // Each query-key pair of each head: q·k and p v; those again with their four gradients.
        let (n_products, n_arrays) = if pass == Pass::Forward { (2, 2) } else { (5, 4) };
        let n_pairs: usize = self.segments.ranges().map(|segment| self.n_pairs(segment.len())).sum();
        let n_flops = 2 * n_products * n_pairs * self.heads.n_heads * self.heads.width;
        // q and y with k and v; both sides with their gradients
        let traffic = Work::traffic(n_arrays * (n_elements(q) + n_elements(k)));
        Work { n_flops: n_flops as u64, ..traffic }
    }

    fn forward(&self, [q, k, v]: [Values; 3], _: [bool; 3]) -> (Values, Saved) {
        let mut y = unfilled(q.as_slice().len());
        let mut log_sums = unfilled(q.dim(0) * q.dim(1));
        let (q_, k_, v_) = (q.as_slice(), k.as_slice(), v.as_slice());
        let offsets = self.segments.offsets();
        kernel::forward(Level::best(), self.compute, self.heads, offsets, q_, k_, v_, &mut y, &mut log_sums);
        let y = Values::from_vec(y, &q.shape());
        (y.clone(), Saved { q, k, v, y, log_sums })
    }

    /// With e[t, h] = dy[t, h]·y[t, h] and dz[t, s] = p[t, s] (dy[t, h]·v[s] − e[t, h]):
    /// dq[t] = scale Σ dz[t, s] k[s],  dk[s] = scale Σ dz[t, s] q[t],  dv[s] = Σ p[t, s] dy[t]
    fn backward(self, saved: Saved, dy: Values, wanted: [bool; 3]) -> [Option<Values>; 3] {
        let Saved { q, k, v, y, log_sums } = saved;
        let mut dq = unfilled(q.as_slice().len());
        let mut dk = unfilled(k.as_slice().len());
        let mut dv = unfilled(v.as_slice().len());
        kernel::backward(
            Level::best(),
            self.compute,
            self.heads,
            self.segments.offsets(),
            q.as_slice(),
            k.as_slice(),
            v.as_slice(),
            y.as_slice(),
            &log_sums,
            dy.as_slice(),
            kernel::Gradients { q: &mut dq, k: &mut dk, v: &mut dv },
        );
        let gradients = [(dq, &q), (dk, &k), (dv, &v)].map(|(d, of)| Values::from_vec(d, &of.shape()));
        let mut wanted = wanted.into_iter();
        gradients.map(|gradient| wanted.next().unwrap_or(false).then_some(gradient))
    }
}

/// The kernels' view of the heads of q [N, H, D] and k [N, K, D].
pub(crate) fn heads(q: &Tensor<3>, k: &Tensor<3>, options: AttentionOptions) -> kernel::Heads {
    let [_, n_heads, width] = q.dims();
    kernel::Heads {
        n_heads,
        n_kv_heads: k.dims()[1],
        width,
        scale: options.scale,
        cap: options.cap,
        window: options.window.unwrap_or(usize::MAX),
    }
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
    let (q, k, v) = [q, k, v].map(|x| rounded(x, options.compute)).into();
    let scores = capped(q.matmul(k.permute([1, 2, 0])) * options.scale, options.cap);
    let scores = scores.reshape([n_kv_heads, n_groups, n_new, n_keys]);
    let hidden = hidden_keys(n_new, n_keys, options.window, &device).unsqueeze::<4>();
    let hidden = hidden.expand([n_kv_heads, n_groups, n_new, n_keys]);
    let probabilities = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
    let probabilities = rounded(probabilities, options.compute);
    let y = probabilities.reshape([n_kv_heads, n_groups * n_new, n_keys]).matmul(v.permute([1, 0, 2]));
    let y = y.reshape([n_kv_heads, n_groups, n_new, head_width]).permute([2, 0, 1, 3]);
    y.reshape([n_new, n_heads, head_width])
}

/// cap·tanh(z/cap), or z without a cap.
pub fn capped<const D: usize>(z: Tensor<D>, cap: Option<f32>) -> Tensor<D> {
    match cap {
        Some(cap) => (z / cap).tanh() * cap,
        None => z,
    }
}

/// Stops unless q, k, v, the segments and the options fit together.
pub(crate) fn check_arguments(
    op: &str,
    [q, k, v]: [&Tensor<3>; 3],
    segments: &Segments,
    options: AttentionOptions,
) {
    let [n_tokens, n_heads, head_width] = q.dims();
    let [_, n_kv_heads, _] = k.dims();
    require_equal(op, "k [N, K, D]", k.dims(), [n_tokens, n_kv_heads, head_width]);
    require_equal(op, "v [N, K, D]", v.dims(), [n_tokens, n_kv_heads, head_width]);
    require_equal(op, "number of tokens in the segments", segments.n_tokens(), n_tokens);
    require(options.window != Some(0), op, || "the window is 0, but a token sees itself".to_owned());
    require(n_kv_heads != 0 && n_heads.is_multiple_of(n_kv_heads), op, || {
        format!("{n_heads} query heads cannot share {n_kv_heads} key/value heads evenly")
    });
}

/// [n_new, n_keys]: true where a new token must not look.
pub(crate) fn hidden_keys(
    n_new: usize,
    n_keys: usize,
    window: Option<usize>,
    device: &Device,
) -> Tensor<2, Bool> {
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
