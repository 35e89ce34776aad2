//! Generated answers against the expected ones: all text metrics at once, for the table and as figures.

use std::collections::BTreeMap;

use tunesmith_config::Metric;

use crate::error::TrainError;
use crate::predictions::{PredictionTable, number_text};

/// Puts the answers and the value of each metric into the table, and gives the metrics over all rows.
pub(crate) fn add(
    table: &mut PredictionTable,
    answers: &BTreeMap<usize, String>,
) -> Result<BTreeMap<String, f64>, TrainError> {
    const PENDING: [Metric; 1] = [Metric::ExactMatch];
    let mut sums = BTreeMap::new();
    let n_rows = table.rows.len().max(1) as f64;
    for row in &mut table.rows {
        let given = answers.get(&row.row).cloned().unwrap_or_default();
        let mut scores = Vec::new();
        for metric in PENDING {
            let score = f64::from(u8::from(given.trim() == row.answer.trim()));
            *sums.entry(metric.as_str().to_owned()).or_insert(0.0) += score / n_rows;
            scores.push(number_text(score));
        }
        row.cells.insert(0, given);
        row.cells.extend(scores);
    }
    table.columns.insert(0, "prediction".to_owned());
    table.columns.extend(PENDING.map(|metric| metric.as_str().to_owned()));
    Ok(sums)
}
