//! A linear layer as a family holds it: which parameters it applies, and its adapter if it has one.

use burn::tensor::Tensor;
use tunesmith_ops::{LowRank, Orientation, linear, linear_low_rank};

use crate::pass::Pass;

/// y = x Wᵀ + b, with s·(dropout(x) Aᵀ) Bᵀ added when an adapter is attached.
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Adapter {
    /// Index of A [R,I] among the parameters.
    pub(crate) a: usize,
    /// Index of B [O,R].
    pub(crate) b: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: f32,
}

impl Linear {
    /// [N,I] to [N,O].
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        let weight = pass.weight(self.weight).lying(self.orientation);
        let bias = self.bias.map(|bias| pass.vector(bias));
        match self.adapter.filter(|_| pass.has_adapter()) {
            None => linear(x, weight, bias),
            Some(adapter) => {
                let low_rank = LowRank {
                    a: pass.matrix(adapter.a),
                    b: pass.matrix(adapter.b),
                    scale: adapter.scale,
                    dropout: pass.dropout(adapter.dropout, self.module_idx),
                };
                linear_low_rank(x, weight, bias, low_rank)
            }
        }
    }
}
