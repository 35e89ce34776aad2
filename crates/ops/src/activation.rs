//! Elementwise activations, alone or as the gate of a gated feed-forward layer.

use burn::tensor::{Tensor, activation as burn_activation};
pub use tunesmith_kernels::activation::Activation;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, activation as kernel};

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// act(x), elementwise on [N, C].
pub fn activation(x: Tensor<2>, kind: Activation) -> Tensor<2> {
    if cpu::on_cpu(&x) {
        cpu::apply(Elementwise { kind }, [cpu::input(x)])
    } else {
        activation_composed(x, kind)
    }
}

/// Input x.
#[derive(Clone, Debug)]
struct Elementwise {
    kind: Activation,
}

impl CpuOp<1> for Elementwise {
    type Saved = Values;

    const NAMES: [&'static str; 2] = ["activation forward", "activation backward"];

    fn work(&self, pass: Pass<1>, [x]: &Shapes<1>) -> Work {
        // x and y; x, dy and dx
        let n_arrays = if pass == Pass::Forward { 2 } else { 3 };
        Work::traffic(n_arrays * n_elements(x))
    }

    fn forward(&self, [x]: [Values; 1], _: [bool; 1]) -> (Values, Values) {
        let mut y = unfilled(x.as_slice().len());
        kernel::forward(Level::best(), self.kind, x.as_slice(), &mut y);
        (Values::from_vec(y, &x.shape()), x)
    }

    /// dx = act′(x) ∘ dy
    fn backward(self, x: Values, dy: Values, _: [bool; 1]) -> [Option<Values>; 1] {
        let mut d = dy.into_owned();
        kernel::backward(Level::best(), self.kind, x.as_slice(), d.as_mut_slice());
        [Some(d.into_values())]
    }
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
    if cpu::on_cpu(&gate) && cpu::on_cpu(&up) {
        cpu::apply(Gated { kind }, [cpu::input(gate), cpu::input(up)])
    } else {
        gated_composed(gate, up, kind)
    }
}

/// Inputs gate, up.
#[derive(Clone, Debug)]
struct Gated {
    kind: Activation,
}

impl CpuOp<2> for Gated {
    type Saved = (Values, Values);

    const NAMES: [&'static str; 2] = ["gated forward", "gated backward"];

    fn work(&self, pass: Pass<2>, [gate, _]: &Shapes<2>) -> Work {
        // Both inputs and y; both inputs, dy and both gradients
        let n_arrays = if pass == Pass::Forward { 3 } else { 5 };
        Work::traffic(n_arrays * n_elements(gate))
    }

    fn forward(&self, [gate, up]: [Values; 2], _: [bool; 2]) -> (Values, (Values, Values)) {
        let mut y = unfilled(gate.as_slice().len());
        kernel::gated_forward(Level::best(), self.kind, gate.as_slice(), up.as_slice(), &mut y);
        (Values::from_vec(y, &gate.shape()), (gate, up))
    }

    /// dgate = act′(gate) ∘ up ∘ dy,  dup = act(gate) ∘ dy
    fn backward(self, (gate, up): (Values, Values), dy: Values, _: [bool; 2]) -> [Option<Values>; 2] {
        let mut d_up = unfilled(up.as_slice().len());
        let mut d = dy.into_owned();
        let (gate, up) = (gate.as_slice(), up.as_slice());
        kernel::gated_backward(Level::best(), self.kind, gate, up, d.as_mut_slice(), &mut d_up);
        let d_gate = d.into_values();
        let d_up = Values::from_vec(d_up, &d_gate.shape());
        [Some(d_gate), Some(d_up)]
    }
}

/// [`gated`] from Burn's operations.
pub fn gated_composed(gate: Tensor<2>, up: Tensor<2>, kind: Activation) -> Tensor<2> {
    activation_composed(gate, kind) * up
}
