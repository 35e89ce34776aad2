//! The area under the receiver operating characteristic.
//!
//! It is the probability that a positive sample has a higher score than a negative one, ties counting half:
//! AUC = (pairs in the right order + tied pairs / 2) / all pairs. Pairs are counted in whole numbers, so that the result does
//! not depend on the order of samples and is rounded once.

use super::outputs::ClassOutputs;
use crate::error::{MetricError, not_empty};
use crate::score::mean;

pub(super) const NAME: &str = "AUC";

/// The mean over outputs: the label's, every label's, or in multi-class each class against the rest.
pub(super) fn auc(outputs: &ClassOutputs) -> Result<f64, MetricError> {
    let areas = auc_per_output(outputs)?;
    if let Some(column) = areas.iter().position(Option::is_none) {
        let label = outputs.column(column).first().is_some_and(|(_, is_positive)| *is_positive);
        return Err(MetricError::OneClass { metric: NAME, column, label: usize::from(label) });
    }
    Ok(mean(&areas.into_iter().flatten().collect::<Vec<_>>()))
}

/// The area for each output of the model, `None` where its targets are all alike. [`super::ClassMetric::Auc`] is the mean of
/// these, and has no value if one of them has none.
pub fn auc_per_output(outputs: &ClassOutputs) -> Result<Vec<Option<f64>>, MetricError> {
    not_empty(NAME, outputs.n_samples())?;
    Ok((0..outputs.task().n_outputs()).map(|output| area(outputs.column(output))).collect())
}

/// The area of one column of scores, each with whether it should be high.
fn area(mut column: Vec<(f64, bool)>) -> Option<f64> {
    column.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of pairs in the right order, so that ties count a whole.
    let (mut n_positive, mut n_negative, mut twice_right) = (0_u128, 0_u128, 0_u128);
    for ties in column.chunk_by(|a, b| a.0 == b.0) {
        let positive = ties.iter().filter(|(_, is_positive)| *is_positive).count() as u128;
        let negative = ties.len() as u128 - positive;
        twice_right += positive * (2 * n_negative + negative);
        n_positive += positive;
        n_negative += negative;
    }
    let twice_all = 2 * n_positive * n_negative;
    (twice_all != 0).then(|| twice_right as f64 / twice_all as f64)
}
