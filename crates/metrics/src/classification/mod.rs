//! Metrics of classes: binary, multi-class and multi-label.

mod auc;
mod confusion;
mod log_loss;
mod outputs;
mod task;

pub use auc::auc_per_output;
pub use confusion::{Average, ClassCounts, ClassScores, Confusion};
pub use outputs::{ClassOutputs, Link};
pub use task::{ClassTask, Labels};

use crate::error::{MetricError, not_empty};
use crate::score::{Direction, Scores, ratio};

/// A metric of a model that classifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassMetric {
    /// Share of right labels. For several labels each counts for itself: two of three right are two thirds.
    Accuracy,
    /// Share of samples with all labels right.
    SubsetAccuracy,
    /// Area under the receiver operating characteristic; see [`auc_per_output`].
    Auc,
    /// Mean of -ln of the probability given to what is true.
    LogLoss,
    /// Part of those given a class that have it.
    Precision(Average),
    /// Part of those that have a class that were given it.
    Recall(Average),
    /// Harmonic mean of precision and recall of a class.
    F1(Average),
}

impl ClassMetric {
    /// The name in experiment files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "Accuracy",
            Self::SubsetAccuracy => "SubsetAccuracy",
            Self::Auc => auc::NAME,
            Self::LogLoss => "LogLoss",
            Self::Precision(Average::Macro) => "Precision-macro",
            Self::Precision(Average::Micro) => "Precision-micro",
            Self::Recall(Average::Macro) => "Recall-macro",
            Self::Recall(Average::Micro) => "Recall-micro",
            Self::F1(Average::Macro) => "F1-macro",
            Self::F1(Average::Micro) => "F1-micro",
        }
    }

    /// Whether more is better.
    pub fn direction(self) -> Direction {
        match self {
            Self::LogLoss => Direction::LowerIsBetter,
            _ => Direction::HigherIsBetter,
        }
    }

    /// Scores all samples. The area under the curve is an error if targets are all alike; scikit-learn gives NaN.
    pub fn score(self, outputs: &ClassOutputs) -> Result<Scores, MetricError> {
        not_empty(self.name(), outputs.n_samples())?;
        let confusion = |average| Ok(Confusion::new(&outputs.labels())?.scores(average));
        let of_all = |value| Scores::of_all(outputs.n_samples(), value);
        match self {
            Self::Accuracy => accuracy(&outputs.labels()),
            Self::SubsetAccuracy => subset_accuracy(&outputs.labels()),
            Self::Auc => auc::auc(outputs).map(of_all),
            Self::LogLoss => Ok(Scores::mean_of(log_loss::log_losses(outputs))),
            Self::Precision(average) => confusion(average).map(|scores| of_all(scores.precision)),
            Self::Recall(average) => confusion(average).map(|scores| of_all(scores.recall)),
            Self::F1(average) => confusion(average).map(|scores| of_all(scores.f1)),
        }
    }
}

/// Accuracy from labels alone: for each sample the share of its labels that are right.
pub fn accuracy(labels: &Labels) -> Result<Scores, MetricError> {
    mean_over_samples(labels, ClassMetric::Accuracy, ratio)
}

/// Subset accuracy from labels alone: 1 for each sample whose labels are all right, else 0.
pub fn subset_accuracy(labels: &Labels) -> Result<Scores, MetricError> {
    mean_over_samples(labels, ClassMetric::SubsetAccuracy, |n_right, n_labels| {
        f64::from(u8::from(n_right == n_labels))
    })
}

/// The mean of what is made of each sample's number of right labels and of labels.
fn mean_over_samples(
    labels: &Labels,
    metric: ClassMetric,
    value: fn(usize, usize) -> f64,
) -> Result<Scores, MetricError> {
    not_empty(metric.name(), labels.n_samples())?;
    let of_sample = |(predicted, targets): (&[usize], &[usize])| {
        value(predicted.iter().zip(targets).filter(|(a, b)| a == b).count(), targets.len())
    };
    Ok(Scores::mean_of(labels.samples().map(of_sample).collect()))
}
