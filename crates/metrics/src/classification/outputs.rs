//! What the model gave for each sample, as scores to rank by and as probabilities, with the true labels.

use super::task::{ClassTask, Labels, check_labels};
use crate::error::{MetricError, all_finite, same_length};

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Over all outputs of a sample, which then sum to 1: after cross entropy.
    Softmax,
    /// Each output for itself: after binary cross entropy.
    Sigmoid,
}

/// Outputs and true labels of samples, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassOutputs {
    task: ClassTask,
    /// What areas under curves rank by: logits where there are any, whose ties are not made by rounding near 0 and 1.
    pub(super) scores: Vec<f64>,
    pub(super) probabilities: Vec<f64>,
    pub(super) targets: Vec<usize>,
    pub(super) clip: f64,
}

impl ClassOutputs {
    /// From logits, `n_outputs` for each sample, sample after sample, and `n_labels` targets for each.
    pub fn from_logits(
        task: ClassTask,
        link: Link,
        logits: &[f64],
        targets: &[usize],
    ) -> Result<Self, MetricError> {
        check(task, logits, targets)?;
        let probabilities = match link {
            Link::Softmax => logits.chunks(task.n_outputs().max(1)).flat_map(softmax).collect(),
            Link::Sigmoid => logits.iter().copied().map(sigmoid).collect(),
        };
        Ok(Self::new(task, logits, probabilities, targets))
    }

    /// From probabilities, laid out as logits are. They need not sum to 1.
    pub fn from_probabilities(
        task: ClassTask,
        probabilities: &[f64],
        targets: &[usize],
    ) -> Result<Self, MetricError> {
        check(task, probabilities, targets)?;
        let is_outside = |(_, value): &(usize, &f64)| !(0.0..=1.0).contains(*value);
        if let Some((idx, value)) = probabilities.iter().enumerate().find(is_outside) {
            return Err(MetricError::NotAProbability {
                sample: idx / task.n_outputs().max(1),
                value: *value,
            });
        }
        Ok(Self::new(task, probabilities, probabilities.to_owned(), targets))
    }

    fn new(task: ClassTask, scores: &[f64], probabilities: Vec<f64>, targets: &[usize]) -> Self {
        Self {
            task,
            scores: scores.to_owned(),
            probabilities,
            targets: targets.to_owned(),
            clip: f64::EPSILON,
        }
    }

    /// Lets the log loss clip probabilities to `clip` and `1 - clip`, where 2⁻⁵² is the default. H2O LLM Studio, whose
    /// probabilities are float32, clips at 2⁻²³, `f32::EPSILON`.
    pub fn with_clip(mut self, clip: f64) -> Self {
        self.clip = if clip.is_nan() { f64::EPSILON } else { clip.clamp(f64::MIN_POSITIVE, 0.5) };
        self
    }

    /// What is told apart.
    pub fn task(&self) -> ClassTask {
        self.task
    }

    /// Number of samples.
    pub fn n_samples(&self) -> usize {
        self.targets.len() / self.task.n_labels().max(1)
    }

    /// Probabilities, `n_outputs` for each sample, sample after sample.
    pub fn probabilities(&self) -> &[f64] {
        &self.probabilities
    }

    /// Predicted labels: the most likely class, of equally likely ones the first; 1 where a probability is above a half.
    pub fn labels(&self) -> Labels {
        let predicted: Vec<usize> = match self.task {
            ClassTask::Binary | ClassTask::MultiLabel { .. } => {
                self.probabilities.iter().map(|probability| usize::from(0.5 < *probability)).collect()
            }
            ClassTask::MultiClass { n_classes } => {
                self.probabilities.chunks(n_classes.max(1)).map(first_largest).collect()
            }
        };
        Labels::trusted(self.task, predicted, self.targets.clone())
    }

    /// Column `output` of the scores, and for each sample whether that output should be high: its label, or in
    /// multi-class whether it is the sample's class.
    pub(super) fn column(&self, output: usize) -> Vec<(f64, bool)> {
        let (n_outputs, n_labels) = (self.task.n_outputs().max(1), self.task.n_labels().max(1));
        let scores = self.scores.iter().skip(output).step_by(n_outputs).copied();
        match self.task {
            ClassTask::MultiClass { .. } => {
                scores.zip(&self.targets).map(|(score, class)| (score, *class == output)).collect()
            }
            _ => {
                let labels = self.targets.iter().skip(output).step_by(n_labels);
                scores.zip(labels).map(|(score, label)| (score, *label == 1)).collect()
            }
        }
    }
}

fn check(task: ClassTask, outputs: &[f64], targets: &[usize]) -> Result<(), MetricError> {
    check_labels(task, "target", targets)?;
    let n_samples = targets.len() / task.n_labels().max(1);
    same_length("outputs", n_samples * task.n_outputs(), outputs.len())?;
    all_finite("output", outputs, task.n_outputs())
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The place of the largest value, of equal ones the first.
fn first_largest(values: &[f64]) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (idx, value) in values.iter().enumerate() {
        if best.1 < *value {
            best = (idx, *value);
        }
    }
    best.0
}
