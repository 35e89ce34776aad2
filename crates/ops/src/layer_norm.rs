//! Layer normalisation (Ba et al. 2016).
//!
//! y[n, c] = weight[c] · (x[n, c] − mean[n]) · r[n] + bias[c] with r[n] = 1 / √(variance[n] + eps), the variance being
//! the biased one; x, y [N, C], weight and bias [C].

use burn::tensor::Tensor;

use crate::check::require_equal;

/// layer_norm(x) for x [N, C], weight [C] and bias [C].
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    require_equal("layer_norm", "weight [C]", weight.dims(), [width]);
    require_equal("layer_norm", "bias [C]", bias.dims(), [width]);
    layer_norm_composed(x, weight, bias, eps)
}

/// [`layer_norm`] from Burn's operations.
pub fn layer_norm_composed(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred * (variance + eps).sqrt().recip() * weight.unsqueeze::<2>() + bias.unsqueeze::<2>()
}
