//! Early stopping: how many evaluations have brought nothing better.
//!
//! What counts as better is measured against the last value that counted, not against the best one: many small improvements
//! add up to one that counts.

use serde::{Deserialize, Serialize};

use crate::judge::Judge;
use crate::state::Exact;

/// What is remembered from one evaluation to the next; part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EarlyStopping {
    /// The last value that counted as better.
    pub best: Option<Exact>,
    /// Evaluations since then.
    pub n_without_improvement: u64,
}

impl EarlyStopping {
    /// Takes in an evaluation. One whose metric has no value says nothing.
    pub(crate) fn evaluated(&mut self, judge: &Judge, value: Option<f64>, min_delta: f64) {
        let Some(value) = value else { return };
        let threshold = self.best.map(|Exact(best)| match judge.higher_is_better {
            true => best + min_delta,
            false => best - min_delta,
        });
        if judge.is_better(value, threshold) {
            *self = Self { best: Some(Exact(value)), n_without_improvement: 0 };
        } else {
            self.n_without_improvement += 1;
        }
    }

    /// Whether there were as many of them as `patience` allows; 0 allows any number.
    pub(crate) fn is_out_of_patience(&self, patience: usize) -> bool {
        patience > 0 && patience as u64 <= self.n_without_improvement
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_config::{ExperimentConfig, Metric};

    /// The number of evaluations without improvement after each value.
    fn counts(metric: Metric, min_delta: f64, values: &[Option<f64>]) -> Vec<u64> {
        let mut config = ExperimentConfig::default();
        config.prediction.metric = metric;
        let judge = crate::judge::judged_by(&config, true);
        let mut state = EarlyStopping::default();
        let evaluated = values.iter().map(|value| {
            state.evaluated(&judge, *value, min_delta);
            state.n_without_improvement
        });
        evaluated.collect()
    }

    #[test]
    fn evaluations_without_improvement_are_counted_in_the_direction_of_the_metric() {
        let values = [3.0, 2.0, 2.0, 2.5, 1.9].map(Some);
        assert_eq!(counts(Metric::Perplexity, 0.0, &values), [0, 0, 1, 2, 0]);
        assert_eq!(counts(Metric::Bleu, 0.0, &values), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn small_improvements_add_up_and_undefined_values_say_nothing() {
        let values = [Some(3.0), Some(2.75), None, Some(2.5), Some(2.25)];
        assert_eq!(counts(Metric::Perplexity, 0.25, &values), [0, 1, 1, 0, 1]);
    }

    #[test]
    fn patience_of_0_is_endless() {
        let state = EarlyStopping { best: None, n_without_improvement: 3 };
        assert!(!state.is_out_of_patience(0) && !state.is_out_of_patience(4));
        assert!(state.is_out_of_patience(3) && state.is_out_of_patience(2));
    }
}
