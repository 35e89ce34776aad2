//! Gradients of one accumulation window: their sum, their norm and the factor that clips them.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tunesmith_ops::profile::{Work, measure};
use tunesmith_ops::sum_of_squares;

/// Sum of the gradients (flat f32, untracked) of the micro-batches of one window, by parameter index.
///
/// The weights of the tokens are normalised over the whole window, so a plain sum is the window's gradient.
#[derive(Debug, Default)]
pub struct GradientSum {
    sums: BTreeMap<usize, Tensor<1>>,
}

impl GradientSum {
    /// Adds the gradients of one micro-batch. The first ones are moved in, not copied.
    pub fn add(&mut self, gradients: Vec<(usize, Tensor<1>)>) {
        for (parameter_idx, gradient) in gradients {
            let sum = match self.sums.remove(&parameter_idx) {
                // Two values are read and one is written.
                Some(sum) => {
                    let work = Work::traffic(3 * sum.dims()[0]);
                    measure("adding gradients", || work, || sum + gradient)
                }
                None => gradient,
            };
            self.sums.insert(parameter_idx, sum);
        }
    }

    /// The sums by ascending parameter index.
    pub fn into_sorted(self) -> Vec<(usize, Tensor<1>)> {
        self.sums.into_iter().collect()
    }
}

/// ‖g‖ = √Σ g², over all tensors together, added in the order given and in double precision.
pub fn global_norm(gradients: &[(usize, Tensor<1>)]) -> f64 {
    gradients.iter().map(|(_, gradient)| sum_of_squares(gradient)).sum::<f64>().sqrt()
}

/// The factor that brings gradients of this `norm` down to `max_norm`: `min(1, max_norm / (norm + 1e-6))`, as in
/// PyTorch. A `max_norm` of 0 switches clipping off.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    const EPSILON: f64 = 1e-6;
    if max_norm > 0.0 { (max_norm / (norm + EPSILON)).min(1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_ops::open_device;

    fn tensor(values: &[f32]) -> Tensor<1> {
        Tensor::from_data(values, &open_device("cpu").unwrap())
    }

    #[test]
    fn sums_come_sorted() {
        let mut sum = GradientSum::default();
        sum.add(vec![(3, tensor(&[1.0, 2.0])), (1, tensor(&[5.0]))]);
        sum.add(vec![(3, tensor(&[0.5, -4.0])), (2, tensor(&[7.0]))]);
        let sorted: Vec<(usize, Vec<f32>)> = sum
            .into_sorted()
            .into_iter()
            .map(|(parameter_idx, gradient)| (parameter_idx, gradient.try_into_vec_as().unwrap()))
            .collect();
        assert_eq!(sorted, [(1, vec![5.0]), (2, vec![7.0]), (3, vec![1.5, -2.0])]);
    }

    #[test]
    fn norm_spans_all_tensors() {
        assert_eq!(global_norm(&[(0, tensor(&[2.0, -3.0])), (4, tensor(&[6.0]))]), 7.0);
        assert_eq!(global_norm(&[]), 0.0);
    }

    #[test]
    fn clipping_only_shrinks() {
        assert_eq!(clip_factor(10.0, 0.0), 1.0);
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 1.0 / 4.000001).abs() < 1e-15);
        assert!((clip_factor(0.0, 1e-7) - 0.1).abs() < 1e-15);
    }
}
