//! Root-mean-square normalisation (Zhang & Sennrich 2019).
//!
//! y[n, c] = weight[c] · x[n, c] · r[n] with r[n] = 1 / √(mean over c of x[n, c]² + eps); x, y [N, C], weight [C].

use burn::tensor::Tensor;

use crate::check::require_equal;

/// rms_norm(x) for x [N, C] and weight [C].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    require_equal("rms_norm", "weight [C]", weight.dims(), [width]);
    rms_norm_composed(x, weight, eps)
}

/// [`rms_norm`] from Burn's operations.
pub fn rms_norm_composed(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    x * (mean_square + eps).sqrt().recip() * weight.unsqueeze::<2>()
}
