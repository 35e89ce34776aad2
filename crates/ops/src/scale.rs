//! Columns scaled one by one: y[n, o] = x[n, o] · scale[o] + bias[o].
//!
//! Shapes: x, y [N, O], scale, bias [O]. It is what turns a linear layer's result into that of weights with other lengths of
//! rows (DoRA).

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, linear::bias_gradient, scale as kernel};

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// y = x ∘ scale + bias, row by row.
pub fn scale_columns(x: Tensor<2>, scale: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let [_, width] = x.dims();
    require_equal("scale_columns", "scale [O]", scale.dims(), [width]);
    if let Some(bias) = &bias {
        require_equal("scale_columns", "bias [O]", bias.dims(), [width]);
    }
    if !(cpu::on_cpu(&x) && cpu::on_cpu(&scale)) {
        return scale_columns_composed(x, scale, bias);
    }
    let op = ScaleColumns { has_bias: bias.is_some() };
    cpu::apply(op, [cpu::input(x), cpu::input(scale), bias.map_or_else(cpu::absent, cpu::input)])
}

/// Inputs x, scale, bias (or nothing in its place).
#[derive(Clone, Debug)]
struct ScaleColumns {
    has_bias: bool,
}

impl CpuOp<3> for ScaleColumns {
    /// x, if the gradient of the scale is wanted, and scale.
    type Saved = (Option<Values>, Values);

    const NAMES: [&'static str; 2] = ["scale_columns forward", "scale_columns backward"];

    fn work(&self, pass: Pass<3>, [x, _, _]: &Shapes<3>) -> Work {
        let n_arrays = match pass {
            Pass::Forward => 2,
            Pass::Backward([dx, d_scale, d_bias]) => 1 + usize::from(dx) + usize::from(d_scale || d_bias),
        };
        Work::traffic(n_arrays * n_elements(x))
    }

    fn forward(&self, [x, scale, bias]: [Values; 3], wanted: [bool; 3]) -> (Values, Self::Saved) {
        let mut y = unfilled(x.as_slice().len());
        let bias = self.has_bias.then(|| bias.as_slice());
        kernel::forward(x.as_slice(), scale.as_slice(), bias, &mut y);
        (Values::from_vec(y, &x.shape()), (wanted[1].then_some(x), scale))
    }

    /// dx[n] = dy[n] ∘ scale,  dscale = Σ over n of dy[n] ∘ x[n],  dbias = Σ over n of dy[n]
    fn backward(self, (x, scale): Self::Saved, dy: Values, wanted: [bool; 3]) -> [Option<Values>; 3] {
        let width = scale.as_slice().len();
        let dx = wanted[0].then(|| {
            let mut dx = unfilled(dy.as_slice().len());
            kernel::input_gradient(dy.as_slice(), scale.as_slice(), &mut dx);
            Values::from_vec(dx, &dy.shape())
        });
        let d_scale = x.map(|x| {
            let mut d_scale = vec![0.0; width];
            kernel::scale_gradient(Level::best(), x.as_slice(), dy.as_slice(), &mut d_scale);
            Values::from_vec(d_scale, &[width])
        });
        let d_bias = wanted[2].then(|| {
            let mut d_bias = vec![0.0; width];
            bias_gradient(Level::best(), dy.as_slice(), &mut d_bias);
            Values::from_vec(d_bias, &[width])
        });
        [dx, d_scale, d_bias]
    }
}

/// [`scale_columns`] from Burn's operations.
pub fn scale_columns_composed(x: Tensor<2>, scale: Tensor<1>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x * scale.unsqueeze::<2>();
    match bias {
        Some(bias) => y + bias.unsqueeze::<2>(),
        None => y,
    }
}
