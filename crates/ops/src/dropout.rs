//! y = x · mask / (1 − p), with a mask that is a pure function of (key, element index).
//!
//! No generator state exists: recomputing a block, resuming a run or moving to another device gives the same mask.

use burn::tensor::Tensor;
use tunesmith_kernels::buffer::unfilled;
use tunesmith_kernels::{Level, dropout as kernel};

use crate::check::{require, upload};
use crate::cpu::{self, CpuOp, Pass, Shapes, Values, n_elements};
use crate::profile::Work;

/// Which elements to drop, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability p in 0..=1 that an element becomes 0; the others are divided by 1 − p.
    pub probability: f32,
    /// Names the mask: equal keys give equal masks. Give every use in a step its own key.
    pub key: u64,
}

/// dropout(x): elementwise on x [N, C]; the gradient is masked and scaled in the same way.
pub fn dropout(x: Tensor<2>, dropout: Dropout) -> Tensor<2> {
    check(dropout);
    if dropout.probability == 0.0 {
        return x;
    }
    if cpu::on_cpu(&x) { cpu::apply(dropout, [cpu::input(x)]) } else { dropout_composed(x, dropout) }
}

impl CpuOp<1> for Dropout {
    type Saved = ();

    const NAMES: [&'static str; 2] = ["dropout forward", "dropout backward"];

    fn work(&self, _: Pass<1>, [x]: &Shapes<1>) -> Work {
        Work::traffic(2 * n_elements(x))
    }

    fn forward(&self, [x]: [Values; 1], _: [bool; 1]) -> (Values, ()) {
        (self.mask(&x), ())
    }

    /// dx = dy · mask / (1 − p)
    fn backward(self, (): (), dy: Values, _: [bool; 1]) -> [Option<Values>; 1] {
        [Some(self.mask(&dy))]
    }
}

impl Dropout {
    fn mask(&self, x: &Values) -> Values {
        let mut y = unfilled(x.as_slice().len());
        kernel::forward(Level::best(), x.as_slice(), self.probability, self.key, 0, &mut y);
        Values::from_vec(y, &x.shape())
    }
}

/// [`dropout`] from Burn's operations; the mask is made on the host.
pub fn dropout_composed(x: Tensor<2>, dropout: Dropout) -> Tensor<2> {
    let [n_rows, n_columns] = x.dims();
    let ones = vec![1.0; n_rows * n_columns];
    let mut factors = vec![0.0; n_rows * n_columns];
    kernel::forward(Level::best(), &ones, dropout.probability, dropout.key, 0, &mut factors);
    let factors = upload(factors, [n_rows, n_columns], &x);
    x * factors
}

fn check(dropout: Dropout) {
    require((0.0..=1.0).contains(&dropout.probability), "dropout", || {
        format!("probability is {}, expected 0 to 1", dropout.probability)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::check::read;

    #[test]
    fn the_kept_share_and_the_mean_are_right() {
        let x = Tensor::<2>::ones([200, 500], &Device::flex());
        let y = read(&dropout(x, Dropout { probability: 0.3, key: 5 }));
        let n_kept = y.iter().filter(|value| **value != 0.0).count();
        let share = n_kept as f64 / y.len() as f64;
        // Standard deviation of the share is 0.0014.
        assert!((share - 0.7).abs() < 0.006, "kept share {share}");
        assert!(y.iter().all(|value| *value == 0.0 || (*value - 1.0 / 0.7).abs() < 1e-6));
    }
}
