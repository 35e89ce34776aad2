//! Metrics of numbers, one or several for each sample.
//!
//! With e the differences of predictions and targets: MSE and MAE are the means of e² and |e| over a sample's numbers and then
//! over samples. RMSE is the square root of each column's mean of e², then the mean over columns. R² of a column is
//! 1 - Σe² / Σ(target - their mean)², then the mean over columns; where the targets of a column are all alike it is 1 if they
//! are met and 0 if not, as in scikit-learn.

use crate::error::{MetricError, all_finite, not_empty, same_length};
use crate::score::{Direction, Scores, mean};

/// A metric of a model that predicts numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RegressionMetric {
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Root of the mean squared error.
    Rmse,
    /// Share of the variance that is explained; 0 for one who always says the mean, negative for worse.
    R2,
}

/// Predicted and true numbers of samples, all of them finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    width: usize,
    predicted: Vec<f64>,
    targets: Vec<f64>,
}

impl Values {
    /// Checks numbers. Both slices hold `width` of them for each sample, sample after sample.
    pub fn new(width: usize, predicted: &[f64], targets: &[f64]) -> Result<Self, MetricError> {
        let width = width.max(1);
        same_length("predicted numbers", targets.len(), predicted.len())?;
        same_length("numbers", targets.len().div_ceil(width) * width, targets.len())?;
        all_finite("prediction", predicted, width)?;
        all_finite("target", targets, width)?;
        Ok(Self { width, predicted: predicted.to_owned(), targets: targets.to_owned() })
    }

    /// Number of samples.
    pub fn n_samples(&self) -> usize {
        self.targets.len() / self.width
    }

    /// For each sample the mean of what is made of its differences.
    fn means(&self, cost: fn(f64) -> f64) -> Vec<f64> {
        let of_sample = |(predicted, targets): (&[f64], &[f64])| {
            predicted.iter().zip(targets).map(|(predicted, target)| cost(predicted - target)).sum::<f64>()
                / self.width as f64
        };
        self.predicted.chunks(self.width).zip(self.targets.chunks(self.width)).map(of_sample).collect()
    }

    /// The mean over columns of what is made of a column's squared differences and targets.
    fn mean_over_columns(&self, value: fn(&[f64], &[f64]) -> f64) -> f64 {
        let of_column = |column: usize| {
            let take = |numbers: &[f64]| -> Vec<f64> {
                numbers.iter().skip(column).step_by(self.width).copied().collect()
            };
            let (predicted, targets) = (take(&self.predicted), take(&self.targets));
            let squares: Vec<f64> = predicted
                .iter()
                .zip(&targets)
                .map(|(predicted, target)| (predicted - target).powi(2))
                .collect();
            value(&squares, &targets)
        };
        mean(&(0..self.width).map(of_column).collect::<Vec<_>>())
    }
}

impl RegressionMetric {
    /// The name in experiment files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mse => "MSE",
            Self::Mae => "MAE",
            Self::Rmse => "RMSE",
            Self::R2 => "R2",
        }
    }

    /// Whether more is better.
    pub fn direction(self) -> Direction {
        match self {
            Self::R2 => Direction::HigherIsBetter,
            _ => Direction::LowerIsBetter,
        }
    }

    /// Scores all samples. R² takes two of them.
    pub fn score(self, values: &Values) -> Result<Scores, MetricError> {
        let n_samples = values.n_samples();
        not_empty(self.name(), n_samples)?;
        Ok(match self {
            Self::Mse => Scores::mean_of(values.means(|difference| difference * difference)),
            Self::Mae => Scores::mean_of(values.means(f64::abs)),
            Self::Rmse => {
                Scores::of_all(n_samples, values.mean_over_columns(|squares, _| mean(squares).sqrt()))
            }
            Self::R2 if n_samples < 2 => {
                return Err(MetricError::TooFewSamples { metric: self.name(), needed: 2, found: n_samples });
            }
            Self::R2 => Scores::of_all(n_samples, values.mean_over_columns(explained)),
        })
    }
}

/// R² of one column from its squared differences and its targets.
fn explained(squares: &[f64], targets: &[f64]) -> f64 {
    let middle = mean(targets);
    let missed: f64 = squares.iter().sum();
    let spread: f64 = targets.iter().map(|target| (target - middle).powi(2)).sum();
    match (missed == 0.0, spread == 0.0) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => 1.0 - missed / spread,
    }
}
