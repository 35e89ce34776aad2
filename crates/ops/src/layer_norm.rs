//! Layer normalisation (Ba et al. 2016).
//!
//! y[n, c] = weight[c] · (x[n, c] − mean[n]) · r[n] + bias[c] with r[n] = 1 / √(variance[n] + eps), the variance being
//! the biased one; x, y [N, C], weight and bias [C].

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, layer_norm as kernel};

use crate::check::require_equal;
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// layer_norm(x) for x [N, C], weight [C] and bias [C].
pub fn layer_norm(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    require_equal("layer_norm", "weight [C]", weight.dims(), [width]);
    require_equal("layer_norm", "bias [C]", bias.dims(), [width]);
    if cpu::on_cpu(&x) && cpu::on_cpu(&weight) && cpu::on_cpu(&bias) {
        cpu::apply(LayerNorm { eps }, [cpu::input(x), cpu::input(weight), cpu::input(bias)])
    } else {
        layer_norm_composed(x, weight, bias, eps)
    }
}

/// Inputs x, weight, bias.
#[derive(Clone, Debug)]
struct LayerNorm {
    eps: f32,
}

#[derive(Clone, Debug)]
struct Saved {
    x: Values,
    weight: Values,
    statistics: Vec<kernel::RowStatistics>,
}

impl CpuOp<3> for LayerNorm {
    type Saved = Saved;

    const NAMES: [&'static str; 2] = ["layer_norm forward", "layer_norm backward"];

    fn work(&self, pass: Pass<3>, [x, _, _]: &Shapes<3>) -> Work {
        // x and y; x, dy and dx. Weight, bias and row statistics are small beside them.
        let n_arrays = match pass {
            Pass::Forward => 2,
            Pass::Backward([wants_dx, _, _]) => 2 + usize::from(wants_dx),
        };
        Work::traffic(n_arrays * n_elements(x))
    }

    fn forward(&self, [x, weight, bias]: [Values; 3], _: [bool; 3]) -> (Values, Saved) {
        let mut y = unfilled(x.as_slice().len());
        let mut statistics = vec![kernel::RowStatistics::default(); x.dim(0)];
        let (w, b) = (weight.as_slice(), bias.as_slice());
        kernel::forward(Level::best(), x.as_slice(), w, b, self.eps, &mut y, &mut statistics);
        (Values::from_vec(y, &x.shape()), Saved { x, weight, statistics })
    }

    /// With g = weight ∘ dy and z the normalised x:  dx[n] = r (g[n] − mean g[n] − z[n] · mean g[n]∘z[n]),
    /// dweight = Σ over n of dy[n] ∘ z[n],  dbias = Σ over n of dy[n]
    fn backward(self, saved: Saved, dy: Values, wanted: [bool; 3]) -> [Option<Values>; 3] {
        let Saved { x, weight, statistics } = saved;
        let width = weight.as_slice().len();
        let mut dx = wanted[0].then(|| unfilled(x.as_slice().len()));
        let mut d_weight = wanted[1].then(|| vec![0.0; width]);
        let mut d_bias = wanted[2].then(|| vec![0.0; width]);
        let gradients = kernel::Gradients {
            x: dx.as_deref_mut(),
            weight: d_weight.as_deref_mut(),
            bias: d_bias.as_deref_mut(),
        };
        kernel::backward(
            Level::best(),
            x.as_slice(),
            weight.as_slice(),
            &statistics,
            dy.as_slice(),
            gradients,
        );
        let vector = |values: Option<Vec<f32>>| values.map(|values| Values::from_vec(values, &[width]));
        [dx.map(|dx| Values::from_vec(dx, &x.shape())), vector(d_weight), vector(d_bias)]
    }
}

/// [`layer_norm`] from Burn's operations.
pub fn layer_norm_composed(x: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f32) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred * (variance + eps).sqrt().recip() * weight.unsqueeze::<2>() + bias.unsqueeze::<2>()
}
