//! A linear layer as a family holds it: which parameters it applies, and its adapter if it has one.

use burn::tensor::Tensor;
use tunesmith_ops::{LowRank, Orientation, linear, linear_low_rank, scale_columns};

use crate::dora::{row_norms, squared_norms};
use crate::pass::Pass;

/// y = x Wᵀ + b, with s·(dropout(x) Aᵀ) Bᵀ added when an adapter is attached, and the rows of the sum of both weights given
/// other lengths when the adapter has those ([`crate::dora`]).
#[derive(Debug)]
pub(crate) struct Linear {
    /// Path of the module on the hub, e.g. `model.layers.0.self_attn.q_proj`.
    pub(crate) path: String,
    pub(crate) in_features: usize,
    pub(crate) out_features: usize,
    /// How the weight lies in memory and on the hub: [O,I] as in nn.Linear, or [I,O] as in GPT-2's Conv1D.
    pub(crate) orientation: Orientation,
    /// Index of the weight among the parameters.
    pub(crate) weight: usize,
    pub(crate) bias: Option<usize>,
    /// Number of the module in the model: part of its dropout key.
    pub(crate) module_idx: usize,
    pub(crate) adapter: Option<Adapter>,
}

/// The low-rank branch of a linear layer.
#[derive(Debug, Clone)]
pub(crate) struct Adapter {
    /// Index of A [R,I] among the parameters.
    pub(crate) a: usize,
    /// Index of B [O,R].
    pub(crate) b: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
    /// A₀ [R,I] and −B₀ [O,R], which take off the branch what it started with ([`crate::pissa`]).
    pub(crate) start: Option<[Tensor<2>; 2]>,
    pub(crate) lengths: Option<Lengths>,
}

/// Trained lengths of the rows.
#[derive(Debug, Clone)]
pub(crate) struct Lengths {
    /// Index of m [O] among the parameters.
    pub(crate) magnitude: usize,
    /// ‖W_o‖² [O] of the frozen weight.
    pub(crate) squared_norms: Tensor<1>,
}

impl Adapter {
    /// A and B as they act: with what the branch started with taken off.
    pub(crate) fn matrices(&self, a: Tensor<2>, b: Tensor<2>) -> [Tensor<2>; 2] {
        let Some([start_a, start_b]) = &self.start else { return [a, b] };
        // Both parts of a tracked matrix have to be in the graph.
        let beside = |part: &Tensor<2>, matrix: &Tensor<2>| {
            if matrix.is_autodiff() { part.clone().autodiff() } else { part.clone() }
        };
        let (start_a, start_b) = (beside(start_a, &a), beside(start_b, &b));
        [Tensor::cat(vec![a, start_a], 0), Tensor::cat(vec![b, start_b], 1)]
    }
}

impl Linear {
    /// [N,I] to [N,O].
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let weight = pass.weight(self.weight).lying(self.orientation);
        let bias = self.bias.map(|bias| pass.vector(bias));
        let Some(adapter) = &self.adapter else { return linear(x, weight, bias) };
        let [a, b] = adapter.matrices(pass.matrix(adapter.a), pass.matrix(adapter.b));
        let dropout = pass.dropout(adapter.dropout, self.module_idx);
        let low_rank = LowRank { a, b, scale: adapter.scale, dropout };
        let Some(lengths) = &adapter.lengths else { return linear_low_rank(x, weight, bias, low_rank) };
        let magnitude = pass.vector(lengths.magnitude);
        let (frozen, is_trained) = pass.detached_weight(self.weight);
        let frozen = frozen.lying(self.orientation);
        let squared = match is_trained {
            true => squared_norms(frozen.clone(), &lengths.squared_norms),
            false => lengths.squared_norms.clone(),
        };
        let scale = magnitude / row_norms(frozen, squared, &low_rank);
        scale_columns(linear_low_rank(x, weight, None, low_rank), scale, bias)
    }
}
