//! y = x Wᵀ + bias, alone or with a low-rank branch beside it.
//!
//! Shapes: x [N, I], W [O, I], bias [O], A [R, I], B [O, R], y [N, O].

use burn::tensor::Tensor;

use crate::check::require_equal;
use crate::dropout::{Dropout, dropout_composed};

/// The low-rank branch `scale · (dropout(x) Aᵀ) Bᵀ` of a linear layer (LoRA, Hu et al. 2021).
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, [R, I].
    pub a: Tensor<2>,
    /// B, [O, R].
    pub b: Tensor<2>,
    /// Factor on the branch (alpha / R for LoRA).
    pub scale: f32,
    /// Dropout on the branch's input only.
    pub dropout: Option<Dropout>,
}

/// y = x Wᵀ + bias. The gradient of W is computed only when W is tracked.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    check_shapes("linear", &x, &weight, bias.as_ref());
    linear_composed(x, weight, bias)
}

/// [`linear`] from Burn's operations.
pub fn linear_composed(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(weight.transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}

/// y = x Wᵀ + bias + scale · (dropout(x) Aᵀ) Bᵀ.
pub fn linear_low_rank(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    low_rank: LowRank,
) -> Tensor<2> {
    check_low_rank_shapes(&x, &weight, bias.as_ref(), &low_rank);
    linear_low_rank_composed(x, weight, bias, low_rank)
}

/// [`linear_low_rank`] from Burn's operations.
pub fn linear_low_rank_composed(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    low_rank: LowRank,
) -> Tensor<2> {
    let LowRank { a, b, scale, dropout } = low_rank;
    let branch_input = match dropout {
        Some(dropout) => dropout_composed(x.clone(), dropout),
        None => x.clone(),
    };
    let branch = branch_input.matmul(a.transpose()).matmul(b.transpose());
    linear_composed(x, weight, bias) + branch * scale
}

fn check_shapes(op: &str, x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>) {
    let [_, n_in] = x.dims();
    let [n_out, _] = weight.dims();
    require_equal(op, "weight [O, I]", weight.dims(), [n_out, n_in]);
    if let Some(bias) = bias {
        require_equal(op, "bias [O]", bias.dims(), [n_out]);
    }
}

fn check_low_rank_shapes(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, low_rank: &LowRank) {
    let op = "linear_low_rank";
    check_shapes(op, x, weight, bias);
    let [n_out, n_in] = weight.dims();
    let [rank, _] = low_rank.a.dims();
    require_equal(op, "A [R, I]", low_rank.a.dims(), [rank, n_in]);
    require_equal(op, "B [O, R]", low_rank.b.dims(), [n_out, rank]);
}
