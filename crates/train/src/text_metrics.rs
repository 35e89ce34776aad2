//! Generated answers against the expected ones: all text metrics at once, for the table and as figures.

use std::collections::BTreeMap;

use tunesmith_config::Metric;
use tunesmith_metrics::{ExactMatch, Rouge, RougeKind, TextMetric, TextPrediction};

use crate::error::TrainError;
use crate::predictions::{PredictionTable, number_text};

/// The metrics with their names in configurations and tables.
fn metrics() -> [(Metric, TextMetric); 4] {
    let whole = ExactMatch { trimmed: true, ..ExactMatch::default() };
    let number = ExactMatch { final_number: true, trimmed: true, ..ExactMatch::default() };
    [
        (Metric::Bleu, TextMetric::Bleu),
        (Metric::RougeL, TextMetric::Rouge(Rouge { kind: RougeKind::L, use_stemmer: false })),
        (Metric::ExactMatch, TextMetric::ExactMatch(whole)),
        (Metric::FinalNumber, TextMetric::ExactMatch(number)),
    ]
}

/// Puts the answers, by row, and the value of each metric into the table, and gives the metrics over all rows.
///
/// # Errors
/// When there is no row.
pub(crate) fn add(
    table: &mut PredictionTable,
    answers: &BTreeMap<usize, String>,
) -> Result<BTreeMap<String, f64>, TrainError> {
    let given: Vec<&str> =
        table.rows.iter().map(|row| answers.get(&row.row).map_or("", String::as_str)).collect();
    let expected: Vec<String> = table.rows.iter().map(|row| row.answer.clone()).collect();
    let pairs = TextPrediction::pairs(&given, &expected)?;
    let mut figures = BTreeMap::new();
    for (metric, text_metric) in metrics() {
        let scores = text_metric.score(&pairs)?;
        figures.insert(metric.as_str().to_owned(), scores.aggregate);
        table.columns.push(metric.as_str().to_owned());
        for (row, score) in table.rows.iter_mut().zip(scores.per_sample) {
            row.cells.push(score.map(number_text).unwrap_or_default());
        }
    }
    table.columns.insert(0, "prediction".to_owned());
    for (row, answer) in table.rows.iter_mut().zip(given) {
        row.cells.insert(0, answer.to_owned());
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictions::PredictionRow;

    #[test]
    fn answers_are_compared_by_row() {
        let row = |row: usize, answer: &str| PredictionRow {
            row,
            answer: answer.to_owned(),
            cells: vec!["0.5".to_owned()],
            ..PredictionRow::default()
        };
        let mut table = PredictionTable {
            columns: vec!["loss".to_owned()],
            rows: vec![row(4, "it is 12"), row(2, "Hello world")],
            ..PredictionTable::default()
        };
        let answers = BTreeMap::from([(2, "Hello universe".to_owned()), (4, "so 12".to_owned())]);
        let figures = add(&mut table, &answers).unwrap();
        assert_eq!(table.columns, ["prediction", "loss", "BLEU", "ROUGE-L", "ExactMatch", "FinalNumber"]);
        assert_eq!(table.rows[0].cells[..2], ["so 12", "0.5"]);
        assert_eq!(table.rows[0].cells[4..], ["0", "1"]);
        let bleu: f64 = table.rows[1].cells[2].parse().unwrap();
        assert!((bleu - 50.0).abs() < 1e-9, "{bleu}");
        assert_eq!((figures["ExactMatch"], figures["FinalNumber"]), (0.0, 0.5));
    }
}
