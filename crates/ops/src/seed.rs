//! Starting a backward pass in the middle of a model: a number of value 0 whose gradient is given.
//!
//! For y of any shape and a gradient g of the same shape, `seed_gradient(y, g)` is 0 and ∂/∂y is g. Differentiating it
//! continues a backward pass that arrived at y with ∂loss/∂y = g from another graph.

use burn::tensor::Tensor;

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values};
use crate::profile::Work;

/// One element of value 0 with the gradient `gradient` (outside of any graph) with respect to `y`.
pub fn seed_gradient<const D: usize>(y: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    require_equal("seed_gradient", "gradient", gradient.dims(), y.dims());
    if cpu::on_cpu(&y) && cpu::on_cpu(&gradient) {
        cpu::apply(Seed { gradient: cpu::values(gradient) }, [cpu::input(y)])
    } else {
        seed_gradient_composed(y, gradient)
    }
}

/// Input y.
#[derive(Clone, Debug)]
struct Seed {
    gradient: Values,
}

impl CpuOp<1> for Seed {
    type Saved = ();

    const NAMES: [&'static str; 2] = ["seed_gradient forward", "seed_gradient backward"];

    fn work(&self, _: Pass<1>, _: &Shapes<1>) -> Work {
        Work::default()
    }

    fn forward(&self, _: [Values; 1], _: [bool; 1]) -> (Values, ()) {
        (Values::from_vec(vec![0.0], &[1]), ())
    }

    /// dy[i] = gradient[i] · (gradient of the result), which is 1 where a backward pass begins.
    fn backward(self, (): (), dy: Values, _: [bool; 1]) -> [Option<Values>; 1] {
        let factor = dy.as_slice().first().copied().unwrap_or(0.0);
        if factor == 1.0 {
            return [Some(self.gradient)];
        }
        let mut gradient = self.gradient.into_owned();
        gradient.as_mut_slice().iter_mut().for_each(|g| *g *= factor);
        [Some(gradient.into_values())]
    }
}

/// [`seed_gradient`] from Burn's operations.
pub fn seed_gradient_composed<const D: usize>(y: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    let product = (y * gradient.inner().autodiff()).sum();
    product.clone() - product.detach()
}
