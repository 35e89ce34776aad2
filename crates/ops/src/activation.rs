//! Elementwise activations, alone or as the gate of a gated feed-forward layer.

use burn::tensor::{Tensor, activation as burn_activation};

use crate::check::require_equal;

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), GPT-2's approximation of GELU.
    GeluTanh,
    /// ½ x (1 + erf(x / √2)).
    Gelu,
    /// max(x, 0).
    Relu,
}

/// act(x), elementwise on [N, C].
pub fn activation(x: Tensor<2>, kind: Activation) -> Tensor<2> {
    activation_composed(x, kind)
}

/// [`activation`] from Burn's operations.
pub fn activation_composed(x: Tensor<2>, kind: Activation) -> Tensor<2> {
    match kind {
        Activation::Silu => burn_activation::silu(x),
        Activation::GeluTanh => {
            let inner =
                (x.clone() + x.clone().powi_scalar(3) * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * (inner.tanh() + 1.0) * 0.5
        }
        Activation::Gelu => x.clone() * ((x / std::f64::consts::SQRT_2).erf() + 1.0) * 0.5,
        Activation::Relu => burn_activation::relu(x),
    }
}

/// act(gate) · up, elementwise on [N, C].
pub fn gated(gate: Tensor<2>, up: Tensor<2>, kind: Activation) -> Tensor<2> {
    require_equal("gated", "up [N, C]", up.dims(), gate.dims());
    gated_composed(gate, up, kind)
}

/// [`gated`] from Burn's operations.
pub fn gated_composed(gate: Tensor<2>, up: Tensor<2>, kind: Activation) -> Tensor<2> {
    activation_composed(gate, kind) * up
}
