//! Gradients of one accumulation window: their norm and the factor that clips them.

use burn::tensor::Tensor;
use tunesmith_ops::sum_of_squares;

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
