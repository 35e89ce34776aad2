//! Cross-entropy of a language model's head, straight from the final hidden states.
//!
//! For each position n with a label y ≥ 0: ce[n] = logsumexp over v of hidden[n]·head[v] − hidden[n]·head[y], and the
//! result is Σ weights[n] · ce[n]. Shapes: hidden [N, C], head [V, C]. The vocabulary is walked in chunks and only
//! labelled positions are computed, so no [N, V] matrix exists, not even for the gradient:
//! With a cap c, c·tanh(z/c) takes the place of each product z = hidden·head, and its derivative is multiplied by 1 − tanh²(z/c).
//! With label smoothing ε, (1 − ε)·onehot(y) + ε/V takes the place of onehot(y), in the value and in the gradient.
//! dhidden[n] = weights[n] · (softmax(hidden[n] headᵀ) − onehot(y)) head,  dhead = Σ over n of the same ⊗ hidden[n].

use std::sync::Arc;

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, cross_entropy as kernel, embedding, linear::Weights};

use crate::attention::capped;
use crate::check::{read, require, require_equal, upload, upload_rows};
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::{self, Work};
use crate::weight::{Weight, rounded, widened};

/// Vocabulary entries whose logits exist at the same time in the composed version.
const CHUNK: usize = 8192;

/// The result of [`cross_entropy_from_hidden`].
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Σ weights[n] · ce[n], one element; tracked when hidden or head is.
    pub weighted_sum: Tensor<1>,
    /// ce[n] for every position, without its weight; 0 where the label is negative.
    pub per_token: Vec<f32>,
}

/// What is done to logits and labels before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyOptions {
    /// Bound that logits approach and never pass.
    pub cap: Option<f32>,
    /// Share of each label's probability that is spread evenly over the vocabulary, from 0 to below 1.
    pub label_smoothing: f32,
}

/// Weighted cross-entropy of hidden [N, C] against head [V, C].
///
/// `labels[n]` is the wanted vocabulary entry, or negative (−100) for no label; `weights[n]` is its factor.
pub fn cross_entropy_from_hidden(
    hidden: Tensor<2>,
    head: impl Into<Weight>,
    labels: &[i64],
    weights: &[f32],
) -> CrossEntropy {
    cross_entropy_from_hidden_with(hidden, head, labels, weights, CrossEntropyOptions::default())
}

/// The same with options. `per_token` has the smoothing, too.
pub fn cross_entropy_from_hidden_with(
    hidden: Tensor<2>,
    head: impl Into<Weight>,
    labels: &[i64],
    weights: &[f32],
    options: CrossEntropyOptions,
) -> CrossEntropy {
    let head = head.into();
    check(&hidden, &head, labels, weights);
    if cpu::on_cpu(&hidden) && head.on_cpu() {
        on_cpu(hidden, head, labels, weights, options)
    } else {
        cross_entropy_from_hidden_with_composed(hidden, head, labels, weights, options)
    }
}

/// The value and the gradients in one pass, before the operation enters the graph: its own gradient is a single number
/// that only scales them.
fn on_cpu(
    hidden: Tensor<2>,
    head: Weight,
    labels: &[i64],
    weights: &[f32],
    options: CrossEntropyOptions,
) -> CrossEntropy {
    let wanted = [hidden.is_tracked(), head.is_tracked()];
    let rows: Vec<u32> = (0..labels.len()).filter(|&row| 0 <= labels[row]).map(|row| row as u32).collect();
    let targets: Vec<u32> = rows.iter().map(|&row| labels[row as usize] as u32).collect();
    let row_weights: Vec<f32> = rows.iter().map(|&row| weights[row as usize]).collect();

    let [n_tokens, width] = hidden.dims();
    let mut labelled = unfilled(rows.len() * width);
    let all = cpu::values(hidden.clone());
    embedding::forward(Level::best(), Weights::trained(all.as_slice()), width, &rows, &mut labelled);
    let head_dims = head.dims();
    let (head_input, head) = head.into_input();
    let head_values = head_input.values();
    let mut losses = vec![0.0; rows.len()];
    let mut d_hidden = wanted[0].then(|| unfilled(labelled.len()));
    let mut d_head = wanted[1].then(|| vec![0.0; head_dims[0] * head_dims[1]]);
    // A product for the logits and one for each gradient.
    let product = Work::product(rows.len(), width, head_dims[0]);
    let work = || product + product.when(wanted[0]) + product.when(wanted[1]);
    profile::measure("cross_entropy", work, || {
        kernel::cross_entropy(
            Level::best(),
            head.compute,
            kernel::Problem {
                hidden: &labelled,
                head: head.weights(&head_values),
                width,
                targets: &targets,
                weights: &row_weights,
                cap: options.cap,
                smoothing: options.label_smoothing,
            },
            &mut losses,
            kernel::Gradients { hidden: d_hidden.as_deref_mut(), head: d_head.as_deref_mut() },
        );
    });
    let value: f64 =
        losses.iter().zip(&row_weights).map(|(loss, weight)| f64::from(*loss) * f64::from(*weight)).sum();
    let mut per_token = vec![0.0; n_tokens];
    for (&row, loss) in rows.iter().zip(&losses) {
        per_token[row as usize] = *loss;
    }
    let n_rows = rows.len();
    let op = WeightedSum {
        value: value as f32,
        n_tokens,
        rows: rows.into(),
        d_hidden: d_hidden.map(|d| Values::from_vec(d, &[n_rows, width])),
        d_head: d_head.map(|d| Values::from_vec(d, &head_dims)),
    };
    CrossEntropy { weighted_sum: cpu::apply(op, [cpu::input(hidden), head_input]), per_token }
}

/// Inputs hidden, head; everything is computed already.
#[derive(Clone, Debug)]
struct WeightedSum {
    value: f32,
    n_tokens: usize,
    /// The labelled positions.
    rows: Arc<[u32]>,
    /// The gradient of the labelled positions.
    d_hidden: Option<Values>,
    d_head: Option<Values>,
}

impl CpuOp<2> for WeightedSum {
    type Saved = ();

    const NAMES: [&'static str; 2] = ["cross_entropy result forward", "cross_entropy result backward"];

    fn work(&self, pass: Pass<2>, [hidden, _]: &Shapes<2>) -> Work {
        // All gradients are there already; those of the labelled positions are put among all of them.
        match pass {
            Pass::Forward => Work::default(),
            Pass::Backward([wants_hidden, _]) => Work::traffic(n_elements(hidden)).when(wants_hidden),
        }
    }

    fn forward(&self, _: [Values; 2], _: [bool; 2]) -> (Values, ()) {
        (Values::from_vec(vec![self.value], &[1]), ())
    }

    fn backward(self, (): (), dy: Values, _: [bool; 2]) -> [Option<Values>; 2] {
        let factor = dy.as_slice().first().copied().unwrap_or(0.0);
        let d_hidden = self.d_hidden.map(|labelled| {
            let width = labelled.dim(1);
            let mut d_hidden = vec![0.0; self.n_tokens * width];
            for (&row, d) in self.rows.iter().zip(labelled.as_slice().chunks(width.max(1))) {
                let target = &mut d_hidden[row as usize * width..(row as usize + 1) * width];
                target.iter_mut().zip(d).for_each(|(target, d)| *target = d * factor);
            }
            Values::from_vec(d_hidden, &[self.n_tokens, width])
        });
        let d_head = self.d_head.map(|d_head| {
            if factor == 1.0 {
                return d_head;
            }
            let mut d_head = d_head.into_owned();
            d_head.as_mut_slice().iter_mut().for_each(|d| *d *= factor);
            d_head.into_values()
        });
        [d_hidden, d_head]
    }
}

/// [`cross_entropy_from_hidden`] from Burn's operations.
///
/// The value and both gradients are computed chunk by chunk without a graph. A linear function with that gradient then
/// stands in for the loss in the graph, because Burn's own graph would keep every chunk's logits.
pub fn cross_entropy_from_hidden_composed(
    hidden: Tensor<2>,
    head: impl Into<Weight>,
    labels: &[i64],
    weights: &[f32],
) -> CrossEntropy {
    cross_entropy_from_hidden_with_composed(hidden, head, labels, weights, CrossEntropyOptions::default())
}

/// [`cross_entropy_from_hidden_with`] from Burn's operations.
pub fn cross_entropy_from_hidden_with_composed(
    hidden: Tensor<2>,
    head: impl Into<Weight>,
    labels: &[i64],
    weights: &[f32],
    options: CrossEntropyOptions,
) -> CrossEntropy {
    let CrossEntropyOptions { cap, label_smoothing } = options;
    let head = head.into();
    let compute = head.compute();
    let head = head.into_tensor(&hidden.device().inner());
    let [_, width] = hidden.dims();
    let [vocabulary, _] = head.dims();
    let device = hidden.device().inner();
    let rows: Vec<usize> = (0..labels.len()).filter(|&row| 0 <= labels[row]).collect();
    let mut per_token = vec![0.0; labels.len()];
    if rows.is_empty() {
        return CrossEntropy { weighted_sum: (hidden.sum() + head.sum()) * 0.0, per_token };
    }
    let n_rows = rows.len();
    let targets: Vec<usize> = rows.iter().map(|&row| labels[row] as usize).collect();
    let row_weights: Vec<f32> = rows.iter().map(|&row| weights[row]).collect();

    let h = hidden.clone().inner().select(0, upload_rows(rows.iter().copied(), &device));
    let h = rounded(h, compute);
    let kept = head.clone().inner();
    let factor = |rows: Tensor<2>| rounded(widened(rows), compute);
    let chunks: Vec<_> =
        (0..vocabulary).step_by(CHUNK).map(|start| start..vocabulary.min(start + CHUNK)).collect();
    let head_rows = |chunk: &std::ops::Range<usize>| factor(kept.clone().slice([chunk.clone(), 0..width]));
    let logits = |chunk: &std::ops::Range<usize>| capped(h.clone().matmul(head_rows(chunk).transpose()), cap);
    let slope = |capped: Tensor<2>| cap.map(|cap| ((capped / cap).powi_scalar(2) - 1.0).neg());
    let times = |values: Tensor<2>, slope: Option<Tensor<2>>| match slope {
        Some(slope) => values * slope,
        None => values,
    };

    let mut maximum = Tensor::<2>::full([n_rows, 1], f32::NEG_INFINITY, (&device, h.dtype()));
    let mut sum = Tensor::<2>::zeros([n_rows, 1], (&device, h.dtype()));
    let mut mean = Tensor::<2>::zeros([n_rows, 1], (&device, h.dtype()));
    for chunk in &chunks {
        let logits = logits(chunk);
        if label_smoothing > 0.0 {
            mean = mean + logits.clone().sum_dim(1) / vocabulary as f32;
        }
        let larger = maximum.clone().max_pair(logits.clone().max_dim(1));
        sum = sum * (maximum - larger.clone()).exp() + (logits - larger.clone()).exp().sum_dim(1);
        maximum = larger;
    }
    let log_sum_exp = maximum + sum.log();
    let label_rows = factor(kept.clone().select(0, upload_rows(targets.iter().copied(), &device)));
    let wanted = capped((h.clone() * label_rows.clone()).sum_dim(1), cap);
    let losses = match label_smoothing > 0.0 {
        true => log_sum_exp.clone() - wanted.clone() * (1.0 - label_smoothing) - mean * label_smoothing,
        false => log_sum_exp.clone() - wanted.clone(),
    };
    let row_weights = upload(row_weights, [n_rows, 1], &h);
    let value = (losses.clone() * row_weights.clone()).sum();
    for (&row, loss) in rows.iter().zip(read(&losses)) {
        per_token[row] = loss;
    }

    let (hidden_tracked, head_tracked) = (hidden.is_tracked(), head.is_tracked());
    if !hidden_tracked && !head_tracked {
        return CrossEntropy { weighted_sum: value, per_token };
    }
    let d_wanted = times(row_weights.clone() * (label_smoothing - 1.0), slope(wanted));
    let spread = row_weights.clone() * (label_smoothing / vocabulary as f32);
    let mut d_hidden = label_rows * d_wanted.clone();
    let mut d_head_chunks = Vec::new();
    for chunk in &chunks {
        let logits = logits(chunk);
        let d_logits = (logits.clone() - log_sum_exp.clone()).exp() * row_weights.clone();
        let d_logits = if label_smoothing > 0.0 { d_logits - spread.clone() } else { d_logits };
        let d_logits = rounded(times(d_logits, slope(logits)), compute);
        if head_tracked {
            d_head_chunks.push(d_logits.clone().transpose().matmul(h.clone()));
        }
        d_hidden = d_hidden + d_logits.matmul(head_rows(chunk));
    }
    let mut weighted_sum = value.autodiff();
    if hidden_tracked {
        let index = upload_rows(rows.iter().copied(), &hidden.device());
        weighted_sum = weighted_sum + linear_stand_in(hidden.select(0, index), d_hidden);
    }
    if head_tracked {
        let d_head = Tensor::cat(d_head_chunks, 0);
        let index = upload_rows(targets.iter().copied(), &device);
        let d_head = d_head.select_assign(0, index, h * d_wanted, burn::tensor::IndexingUpdateOp::Add);
        weighted_sum = weighted_sum + linear_stand_in(head, d_head);
    }
    CrossEntropy { weighted_sum, per_token }
}

/// A scalar of value 0 whose gradient with respect to `x` is `gradient`.
fn linear_stand_in(x: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    let product = (x * gradient.autodiff()).sum();
    product.clone() - product.detach()
}

fn check(hidden: &Tensor<2>, head: &Weight, labels: &[i64], weights: &[f32]) {
    let op = "cross_entropy_from_hidden";
    let [n_tokens, width] = hidden.dims();
    let [vocabulary, _] = head.dims();
    require_equal(op, "head [V, C]", head.dims(), [vocabulary, width]);
    require_equal(op, "number of labels", labels.len(), n_tokens);
    require_equal(op, "number of weights", weights.len(), n_tokens);
    let largest = labels.iter().copied().max().unwrap_or(-1);
    require(largest < vocabulary as i64, op, || {
        format!("label {largest} lies beyond the vocabulary of {vocabulary}")
    });
}
