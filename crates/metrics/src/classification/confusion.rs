//! What was taken for what, and precision, recall and F1 from it.
//!
//! Of a class, with tp samples that have it and were given it, fp that were wrongly given it and fn that were wrongly not:
//! precision = tp / (tp + fp), recall = tp / (tp + fn), F1 = 2tp / (2tp + fp + fn), each 0 where it would divide by 0.

use super::task::{ClassTask, Labels};
use crate::error::{MetricError, not_empty};
use crate::score::{mean, ratio};

/// How numbers of classes become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Average {
    /// The mean over classes, rare ones counting as much as frequent ones. In binary and multi-class over those that occur
    /// among targets or predictions, for several labels over all of them.
    Macro,
    /// From tp, fp and fn summed over classes. Where each sample has one label, all three are then the accuracy.
    Micro,
}

/// Precision, recall and F1, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScores {
    /// Part of those given the class that have it.
    pub precision: f64,
    /// Part of those that have the class that were given it.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

/// Right and wrong decisions about one class or label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// Samples that have it and were given it.
    pub true_positives: usize,
    /// Samples that were given it and have it not.
    pub false_positives: usize,
    /// Samples that have it and were not given it.
    pub false_negatives: usize,
    /// All others.
    pub true_negatives: usize,
}

impl ClassCounts {
    /// Precision, recall and F1 of this class alone. Those of class 1 are what is meant by the F1 of a binary task.
    pub fn scores(&self) -> ClassScores {
        let Self { true_positives: hits, false_positives, false_negatives, .. } = *self;
        ClassScores {
            precision: ratio(hits, hits + false_positives),
            recall: ratio(hits, hits + false_negatives),
            f1: ratio(2 * hits, 2 * hits + false_positives + false_negatives),
        }
    }

    fn occurs(&self) -> bool {
        0 < self.true_positives + self.false_positives + self.false_negatives
    }
}

/// Counts of every class in binary and multi-class tasks, of every label where there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    task: ClassTask,
    /// Row: true class, column: predicted class. Empty where there are several labels.
    matrix: Vec<Vec<usize>>,
    counts: Vec<ClassCounts>,
}

impl Confusion {
    /// Counts what was taken for what.
    pub fn new(labels: &Labels) -> Result<Self, MetricError> {
        not_empty("confusion matrix", labels.n_samples())?;
        let task = labels.task();
        if let ClassTask::MultiLabel { n_labels } = task {
            let mut counts = vec![ClassCounts::default(); n_labels];
            for (predicted, targets) in labels.samples() {
                for (counts, (predicted, target)) in counts.iter_mut().zip(predicted.iter().zip(targets)) {
                    *match (predicted, target) {
                        (1, 1) => &mut counts.true_positives,
                        (1, _) => &mut counts.false_positives,
                        (_, 1) => &mut counts.false_negatives,
                        _ => &mut counts.true_negatives,
                    } += 1;
                }
            }
            return Ok(Self { task, matrix: Vec::new(), counts });
        }
        let mut matrix = vec![vec![0; task.n_classes()]; task.n_classes()];
        for (predicted, targets) in labels.samples() {
            if let ([predicted], [target]) = (predicted, targets)
                && let Some(cell) = matrix.get_mut(*target).and_then(|row| row.get_mut(*predicted))
            {
                *cell += 1;
            }
        }
        let counts = one_against_rest(&matrix, labels.n_samples());
        Ok(Self { task, matrix, counts })
    }

    /// How many samples of a true class (row) were given which class (column). Empty where there are several labels, whose
    /// tables of two by two are in [`Self::counts`].
    pub fn matrix(&self) -> &[Vec<usize>] {
        &self.matrix
    }

    /// One entry for each class or label.
    pub fn counts(&self) -> &[ClassCounts] {
        &self.counts
    }

    /// One number each for all classes.
    pub fn scores(&self, average: Average) -> ClassScores {
        match average {
            Average::Micro => {
                let mut sum = ClassCounts::default();
                for counts in &self.counts {
                    sum.true_positives += counts.true_positives;
                    sum.false_positives += counts.false_positives;
                    sum.false_negatives += counts.false_negatives;
                }
                sum.scores()
            }
            Average::Macro => {
                let takes_all = matches!(self.task, ClassTask::MultiLabel { .. });
                let present = self.counts.iter().filter(|counts| takes_all || counts.occurs());
                let scores: Vec<ClassScores> = present.map(ClassCounts::scores).collect();
                let mean_of =
                    |part: fn(&ClassScores) -> f64| mean(&scores.iter().map(part).collect::<Vec<_>>());
                ClassScores {
                    precision: mean_of(|scores| scores.precision),
                    recall: mean_of(|scores| scores.recall),
                    f1: mean_of(|scores| scores.f1),
                }
            }
        }
    }
}

/// The decisions about each class of a matrix, all other classes being one.
fn one_against_rest(matrix: &[Vec<usize>], n_samples: usize) -> Vec<ClassCounts> {
    let cell = |row: &Vec<usize>, class: usize| row.get(class).copied().unwrap_or_default();
    let of_class = |(class, row): (usize, &Vec<usize>)| {
        let true_positives = cell(row, class);
        let false_negatives = row.iter().sum::<usize>() - true_positives;
        let false_positives = matrix.iter().map(|row| cell(row, class)).sum::<usize>() - true_positives;
        let true_negatives = n_samples - true_positives - false_negatives - false_positives;
        ClassCounts { true_positives, false_positives, false_negatives, true_negatives }
    };
    matrix.iter().enumerate().map(of_class).collect()
}
