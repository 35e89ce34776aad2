//! Weights of a direction and a length (DoRA, Liu et al. 2024): row o of an adapted weight is
//!
//! ```text
//! m_o · (W + s·B·A)_o / ‖(W + s·B·A)_o‖
//! ```
//!
//! with trained lengths m [O]. As in PEFT, the norm takes no part in the gradient. Dropout acts on the branch's input alone;
//! PEFT drops the same inputs of W·(m/‖·‖ − 1), too.

use burn::tensor::Tensor;
use tunesmith_ops::{LowRank, Weight, linear};

/// ‖W_o‖² [O] of each row of W [O,I].
pub(crate) fn squared_norms(weight: Weight, like: &Tensor<1>) -> Tensor<1> {
    weight.into_tensor(&like.device()).square().sum_dim(1).flatten(0, 1)
}

/// ‖(W + s·B·A)_o‖ [O] of each row, outside of any graph, from ‖W_o‖². Written out, W + s·B·A, which is as large as W, need
/// not be made:
///
/// ```text
/// ‖W_o‖² + 2s B_o·(W_o Aᵀ) + s² B_o (A Aᵀ) B_oᵀ
/// ```
pub(crate) fn row_norms(weight: Weight, squared: Tensor<1>, low_rank: &LowRank) -> Tensor<1> {
    let (a, b, s) = (low_rank.a.clone().inner(), low_rank.b.clone().inner(), low_rank.scale);
    let of_weight = linear(a.clone(), weight, None).transpose();
    let of_itself = linear(b.clone(), linear(a.clone(), a, None), None);
    let change = (of_weight * (2.0 * s) + of_itself * (s * s)) * b;
    (squared + change.sum_dim(1).flatten(0, 1)).clamp_min(0.0).sqrt()
}
