//! What is classified, and the labels that come out of it.

use crate::error::{MetricError, same_length};

/// What a model that classifies tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassTask {
    /// One output and one label, 0 or 1.
    Binary,
    /// One output for each class, one label: the number of the class.
    MultiClass {
        /// Labels are 0 to one below this.
        n_classes: usize,
    },
    /// One output and one label, 0 or 1, for each of several questions.
    MultiLabel {
        /// How many questions.
        n_labels: usize,
    },
}

impl ClassTask {
    /// Outputs of the model for a sample.
    pub fn n_outputs(self) -> usize {
        match self {
            Self::Binary => 1,
            Self::MultiClass { n_classes } => n_classes,
            Self::MultiLabel { n_labels } => n_labels,
        }
    }

    /// Labels of a sample.
    pub fn n_labels(self) -> usize {
        match self {
            Self::Binary | Self::MultiClass { .. } => 1,
            Self::MultiLabel { n_labels } => n_labels,
        }
    }

    /// Values that a label takes, counted from 0.
    pub fn n_classes(self) -> usize {
        match self {
            Self::Binary | Self::MultiLabel { .. } => 2,
            Self::MultiClass { n_classes } => n_classes,
        }
    }
}

/// Predicted and true labels of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    task: ClassTask,
    predicted: Vec<usize>,
    targets: Vec<usize>,
}

impl Labels {
    /// Checks labels. Both slices hold `n_labels` of them for each sample, sample after sample.
    pub fn new(task: ClassTask, predicted: &[usize], targets: &[usize]) -> Result<Self, MetricError> {
        same_length("predicted labels", targets.len(), predicted.len())?;
        check_labels(task, "prediction", predicted)?;
        check_labels(task, "target", targets)?;
        Ok(Self::trusted(task, predicted.to_owned(), targets.to_owned()))
    }

    /// Labels that are known to be right.
    pub(super) fn trusted(task: ClassTask, predicted: Vec<usize>, targets: Vec<usize>) -> Self {
        Self { task, predicted, targets }
    }

    /// What is told apart.
    pub fn task(&self) -> ClassTask {
        self.task
    }

    /// Number of samples.
    pub fn n_samples(&self) -> usize {
        self.targets.len() / self.task.n_labels().max(1)
    }

    /// For each sample its predicted and its true labels, of equal length.
    pub fn samples(&self) -> impl Iterator<Item = (&[usize], &[usize])> {
        let width = self.task.n_labels().max(1);
        self.predicted.chunks_exact(width).zip(self.targets.chunks_exact(width))
    }
}

/// Errors if labels do not fill whole samples or are not below the number of classes.
pub(super) fn check_labels(task: ClassTask, what: &'static str, labels: &[usize]) -> Result<(), MetricError> {
    let (width, n_classes) = (task.n_labels().max(1), task.n_classes());
    // A task without questions has no labels, however many samples.
    let n_whole = if task.n_labels() == 0 { 0 } else { labels.len().div_ceil(width) * width };
    same_length("labels", n_whole, labels.len())?;
    match labels.iter().enumerate().find(|(_, label)| n_classes <= **label) {
        Some((idx, label)) => {
            Err(MetricError::UnknownClass { sample: idx / width, what, label: *label, n_classes })
        }
        None => Ok(()),
    }
}
