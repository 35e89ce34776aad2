//! The logarithmic loss: the mean of -ln of the probability that was given to what is true.
//!
//! Probabilities are clipped first, so that a sure and wrong answer costs much but not infinitely much. For several labels
//! it is the mean of the labels' losses. The classes are known here, so that targets which are all alike have a loss like any others;
//! scikit-learn refuses those unless it is told the classes.

use super::outputs::ClassOutputs;
use super::task::ClassTask;

/// The loss of each sample.
pub(super) fn log_losses(outputs: &ClassOutputs) -> Vec<f64> {
    let clip = outputs.clip;
    let cost = |probability: f64| -probability.clamp(clip, 1.0 - clip).ln();
    let task = outputs.task();
    let (n_outputs, n_labels) = (task.n_outputs().max(1), task.n_labels().max(1));
    let samples = outputs.probabilities.chunks(n_outputs).zip(outputs.targets.chunks(n_labels));
    samples
        .map(|(probabilities, targets)| match task {
            ClassTask::MultiClass { .. } => {
                let true_class = targets.first().and_then(|class| probabilities.get(*class));
                cost(true_class.copied().unwrap_or(0.0))
            }
            _ => {
                let of_label = |(probability, label): (&f64, &usize)| {
                    cost(if *label == 1 { *probability } else { 1.0 - probability })
                };
                probabilities.iter().zip(targets).map(of_label).sum::<f64>() / n_labels as f64
            }
        })
        .collect()
}
