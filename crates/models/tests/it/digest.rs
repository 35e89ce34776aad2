//! Gradients as the golden scripts store them, for the tests of models and of the losses over them.

/// Norm and projections of a gradient onto fixed directions, as the golden scripts' `digest`.
pub(crate) fn digest(gradient: &[f32]) -> [f64; 4] {
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let projection = |k: f64| -> f64 {
        let direction = (1..=gradient.len()).map(|place| (0.37 * k * place as f64 + k).sin());
        gradient.iter().zip(direction).map(|(g, direction)| f64::from(*g) * direction).sum()
    };
    [norm, projection(1.0), projection(2.0), projection(3.0)]
}
