//! What the model made of each validation sample, as a table for people: `validation_predictions.csv` in the run folder,
//! and beside it which evaluation it belongs to and what it is to be sorted by.

use serde::Serialize;
use tunesmith_data::Conversation;
use tunesmith_formats::atomic::write_file;

use crate::error::TrainError;
use crate::json_file::write_json;
use crate::judge::Judge;
use crate::run_folder::RunFolder;

/// A table of predictions; every row has one cell for each column.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PredictionTable {
    /// Names of the columns after `row`, `prompt` and `answer`.
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<PredictionRow>,
    /// Of classes and labels: what was taken for what.
    pub(crate) confusion: Vec<ConfusionTable>,
}

/// What was taken for what in one column of answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ConfusionTable {
    /// Name of the column, or of the label where one column holds several.
    pub(crate) column: String,
    /// What the classes are called.
    pub(crate) labels: Vec<String>,
    /// Rows by true class and, in each, by predicted class, both from 0.
    pub(crate) counts: Vec<Vec<usize>>,
}

/// What was made of one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PredictionRow {
    /// Its row in the table of validation data, from 0.
    pub(crate) row: usize,
    /// All that was said before the last answer.
    pub(crate) prompt: String,
    /// The expected answer.
    pub(crate) answer: String,
    /// One text for each of the table's columns; empty where there is nothing to say.
    pub(crate) cells: Vec<String>,
}

/// What stands beside the table.
#[derive(Serialize)]
struct About<'a> {
    step: u64,
    metric: &'a str,
    higher_is_better: bool,
    sort_column: &'a str,
    sort_is_ascending: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    confusion: &'a [ConfusionTable],
}

impl PredictionTable {
    /// Writes the table and what is known about it.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, folder: &RunFolder, step: u64, judge: &Judge) -> Result<(), TrainError> {
        let path = folder.predictions();
        let text = self
            .csv()
            .map_err(|error| TrainError::RunFile { path: path.clone(), reason: error.to_string() })?;
        write_file(&path, &text)?;
        let about = About {
            step,
            metric: judge.name,
            higher_is_better: judge.higher_is_better,
            sort_column: judge.sort_column,
            // The worst first: a score that should be high begins with the lowest, a loss with the highest.
            confusion: &self.confusion,
            sort_is_ascending: judge.higher_is_better && judge.sort_column == judge.name,
        };
        write_json(&folder.predictions_about(), &about)
    }

    fn csv(&self) -> csv::Result<Vec<u8>> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let head = ["row", "prompt", "answer"].into_iter();
        writer.write_record(head.chain(self.columns.iter().map(String::as_str)))?;
        for row in &self.rows {
            let number = row.row.to_string();
            let cells = [number.as_str(), &row.prompt, &row.answer].into_iter();
            writer.write_record(cells.chain(row.cells.iter().map(String::as_str)))?;
        }
        writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

/// All that stands before the last answer of a conversation, as people write dialogues.
pub(crate) fn prompt_text(conversation: &Conversation) -> String {
    let mut parts = Vec::new();
    let system = conversation.system();
    if !system.is_empty() {
        parts.push(format!("system: {system}"));
    }
    let Some((last, earlier)) = conversation.rounds.split_last() else { return String::new() };
    for round in earlier {
        parts.push(format!("user: {}", round.prompt));
        parts.push(format!("assistant: {}", round.answer));
    }
    // A question that stands alone needs no name in front.
    parts.push(if parts.is_empty() { last.prompt.clone() } else { format!("user: {}", last.prompt) });
    parts.join("\n")
}

/// A number as text that is read back the same.
pub(crate) fn number_text(number: f64) -> String {
    if number.is_finite() { number.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_config::ExperimentConfig;
    use tunesmith_data::{Cell, Round, read_table};

    use crate::judge::judged_by;

    #[test]
    fn tables_are_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(dir.path());
        let cells = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let row = PredictionRow {
            row: 7,
            prompt: "a \"quoted\",\nlong one".to_owned(),
            answer: " spaces ".to_owned(),
            cells: cells(&["x,y", "0.5"]),
        };
        let table = PredictionTable {
            columns: cells(&["prediction", "loss"]),
            rows: vec![row.clone()],
            ..PredictionTable::default()
        };
        table.write(&folder, 3, &judged_by(&ExperimentConfig::default(), false)).unwrap();
        let read = read_table(&folder.predictions(), None).unwrap();
        assert_eq!(read.columns, ["row", "prompt", "answer", "prediction", "loss"]);
        let texts: Vec<String> = read.rows[0].iter().map(Cell::text).collect();
        assert_eq!(texts, ["7", &row.prompt, &row.answer, "x,y", "0.5"]);
        let about = std::fs::read_to_string(folder.predictions_about()).unwrap();
        let about: serde_json::Value = serde_json::from_str(&about).unwrap();
        assert_eq!((&about["step"], &about["sort_column"]), (&3.into(), &"perplexity".into()));
    }

    #[test]
    fn dialogues_name_who_speaks() {
        let round = |prompt: &str, answer: &str, system: &str| Round {
            prompt: prompt.to_owned(),
            answer: answer.to_owned(),
            system: system.to_owned(),
            ..Round::default()
        };
        let text = |rounds: Vec<Round>| prompt_text(&Conversation::new(rounds).unwrap());
        assert_eq!(text(vec![round("q", "a", "")]), "q");
        assert_eq!(
            text(vec![round("q", "a", "s"), round("r", "b", "")]),
            "system: s\nuser: q\nassistant: a\nuser: r"
        );
    }
}
