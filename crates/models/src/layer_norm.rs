//! A layer norm with weight and bias, as families that have mean and variance in their norms declare it.

use burn::tensor::Tensor;
use tunesmith_ops::layer_norm;

use crate::family::Declarations;
use crate::pass::Pass;

/// (x − mean)/√(variance + ε) · weight + bias over the C numbers of each token.
pub(crate) struct LayerNorm {
    weight: usize,
    bias: usize,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn new(declare: &mut Declarations, path: &str, width: usize, eps: f32) -> Self {
        Self {
            weight: declare.tensor(format!("{path}.weight"), &[width]),
            bias: declare.tensor(format!("{path}.bias"), &[width]),
            eps,
        }
    }

    /// [N,C] to [N,C].
    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        layer_norm(x, pass.vector(self.weight), pass.vector(self.bias), self.eps)
    }
}
