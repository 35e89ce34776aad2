//! What every metric gives: a value for each sample, one for all of them, and the direction in which it is better.

use crate::error::MetricError;

/// The result of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// One entry for each sample, in the order given. `None` where there is no value for this sample alone, as with
    /// an area under a curve, or where the sample was left out of the aggregate.
    pub per_sample: Vec<Option<f64>>,
    /// The number for all samples together, by which runs are compared. Numbers too large to be squared make it infinite
    /// or NaN; nothing else does.
    pub aggregate: f64,
}

impl Scores {
    /// Values whose aggregate is their mean; `values` must not be empty.
    pub(crate) fn mean_of(values: Vec<f64>) -> Self {
        Self { aggregate: mean(&values), per_sample: values.into_iter().map(Some).collect() }
    }

    /// Values whose aggregate is the mean of those there are; an error if there are none.
    pub(crate) fn mean_of_some(
        metric: &'static str,
        per_sample: Vec<Option<f64>>,
    ) -> Result<Self, MetricError> {
        let values: Vec<f64> = per_sample.iter().flatten().copied().collect();
        if values.is_empty() {
            return Err(MetricError::NoneScored { metric, n_samples: per_sample.len() });
        }
        Ok(Self { aggregate: mean(&values), per_sample })
    }

    /// A number that only the `n` samples together have.
    pub(crate) fn of_all(n: usize, aggregate: f64) -> Self {
        Self { per_sample: vec![None; n], aggregate }
    }
}

/// Whether a metric is better when it is higher or lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// As accuracy.
    HigherIsBetter,
    /// As a loss.
    LowerIsBetter,
}

impl Direction {
    /// Whether `new` is strictly better than `best`. NaN never is, and any number is better than NaN.
    pub fn is_improvement(self, new: f64, best: f64) -> bool {
        match self {
            _ if best.is_nan() => !new.is_nan(),
            Self::HigherIsBetter => best < new,
            Self::LowerIsBetter => new < best,
        }
    }
}

/// The arithmetic mean; NaN for no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// `part / whole`, 0 where there is no whole: what scikit-learn calls `zero_division=0`.
pub(crate) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_strictly_better_number_is_an_improvement() {
        use Direction::{HigherIsBetter, LowerIsBetter};
        assert!(HigherIsBetter.is_improvement(2.0, 1.0) && !LowerIsBetter.is_improvement(2.0, 1.0));
        assert!(LowerIsBetter.is_improvement(1.0, f64::INFINITY));
        for direction in [HigherIsBetter, LowerIsBetter] {
            assert!(!direction.is_improvement(1.0, 1.0));
            assert!(!direction.is_improvement(f64::NAN, 1.0));
            assert!(!direction.is_improvement(f64::NAN, f64::NAN));
            assert!(direction.is_improvement(1.0, f64::NAN));
        }
    }
}
