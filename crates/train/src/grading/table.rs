//! Scores and reasons of the judge in the table of predictions.

use tunesmith_metrics::JUDGE;

use super::Graded;
use crate::predictions::{PredictionTable, number_text};

/// Puts score and explanation of each row into the table; empty where the row was not graded.
pub(crate) fn add(table: &mut PredictionTable, graded: &Graded) {
    table.columns.extend([JUDGE.to_owned(), "explanation".to_owned()]);
    for row in &mut table.rows {
        let verdict = graded.verdicts.get(&row.row);
        row.cells.push(verdict.map(|verdict| number_text(verdict.score)).unwrap_or_default());
        row.cells.push(verdict.map(|verdict| verdict.explanation.clone()).unwrap_or_default());
    }
}
