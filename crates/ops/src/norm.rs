//! Root-mean-square normalisation (Zhang & Sennrich 2019).
//!
//! y[n, c] = weight[c] · x[n, c] · r[n] with r[n] = 1 / √(mean over c of x[n, c]² + eps); x, y [N, C], weight [C].

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, rms_norm as kernel};

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// rms_norm(x) for x [N, C] and weight [C].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    require_equal("rms_norm", "weight [C]", weight.dims(), [width]);
    if cpu::on_cpu(&x) && cpu::on_cpu(&weight) {
        cpu::apply(RmsNorm { eps }, [cpu::input(x), cpu::input(weight)])
    } else {
        rms_norm_composed(x, weight, eps)
    }
}

/// Inputs x, weight.
#[derive(Clone, Debug)]
struct RmsNorm {
    eps: f32,
}

#[derive(Clone, Debug)]
struct Saved {
    x: Values,
    weight: Values,
    /// 1 / root mean square of each row
    r: Vec<f32>,
}

impl CpuOp<2> for RmsNorm {
    type Saved = Saved;

    const NAMES: [&'static str; 2] = ["rms_norm forward", "rms_norm backward"];

    fn work(&self, pass: Pass<2>, [x, _]: &Shapes<2>) -> Work {
        // x and y; x, dy and dx. Weight and row statistics are small beside them.
        let n_arrays = match pass {
            Pass::Forward => 2,
            Pass::Backward([wants_dx, _]) => 2 + usize::from(wants_dx),
        };
        Work::traffic(n_arrays * n_elements(x))
    }

    fn forward(&self, [x, weight]: [Values; 2], _: [bool; 2]) -> (Values, Saved) {
        let mut y = unfilled(x.as_slice().len());
        let mut r = unfilled(x.dim(0));
        kernel::forward(Level::best(), x.as_slice(), weight.as_slice(), self.eps, &mut y, &mut r);
        (Values::from_vec(y, &x.shape()), Saved { x, weight, r })
    }

    /// With g = weight ∘ dy:  dx[n] = r g[n] − x[n] r³/C · g[n]·x[n],  dweight = Σ over n of r dy[n] ∘ x[n]
    fn backward(self, saved: Saved, dy: Values, wanted: [bool; 2]) -> [Option<Values>; 2] {
        let Saved { x, weight, r } = saved;
        let mut dx = wanted[0].then(|| unfilled(x.as_slice().len()));
        let mut d_weight = wanted[1].then(|| vec![0.0; weight.as_slice().len()]);
        let (x_values, weight_values) = (x.as_slice(), weight.as_slice());
        let outputs = (dx.as_deref_mut(), d_weight.as_deref_mut());
        kernel::backward(Level::best(), x_values, weight_values, &r, dy.as_slice(), outputs.0, outputs.1);
        [
            dx.map(|dx| Values::from_vec(dx, &x.shape())),
            d_weight.map(|d| Values::from_vec(d, &weight.shape())),
        ]
    }
}

/// [`rms_norm`] from Burn's operations.
pub fn rms_norm_composed(x: Tensor<2>, weight: Tensor<1>, eps: f32) -> Tensor<2> {
    let mean_square = x.clone().square().mean_dim(1);
    x * (mean_square + eps).sqrt().recip() * weight.unsqueeze::<2>()
}
