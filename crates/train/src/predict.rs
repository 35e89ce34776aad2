//! What a trained model makes of new rows: classes, labels and numbers from its head, answers from everything else.

use std::collections::BTreeMap;
use std::path::Path;

use tunesmith_config::ExperimentConfig;
use tunesmith_data::{Assembler, Conversation, Table, TokenSample};
use tunesmith_formats::atomic::write_file;
use tunesmith_models::{CausalLm, read_back};

use crate::answers::answer_all;
use crate::error::TrainError;
use crate::evaluate::batches;
use crate::learning::Learning;
use crate::score_metrics::described;
use crate::sequences::Sequences;
use crate::stop::StopFlag;
use crate::validation::{batch_size, max_batch_tokens};

/// Predictions, with the columns that `validation_predictions.csv` has for them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Predicted {
    /// `prediction`, or `prediction_NAME` for each of several labels or numbers; then `probability…` where there are any.
    pub columns: Vec<String>,
    /// A cell for each column, by the conversation's row. A conversation without a token has none.
    pub rows: BTreeMap<usize, Vec<String>>,
}

impl Predicted {
    /// Writes a CSV file of all columns of `table`, and behind them those of the predictions. A name that the table has already
    /// gets a number; a row without a prediction has empty cells.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_csv(&self, table: &Table, path: &Path) -> Result<(), TrainError> {
        let text = self
            .csv(table)
            .map_err(|error| TrainError::RunFile { path: path.to_owned(), reason: error.to_string() })?;
        Ok(write_file(path, &text)?)
    }

    fn csv(&self, table: &Table) -> csv::Result<Vec<u8>> {
        let mut columns = table.columns.clone();
        for name in &self.columns {
            let numbered = (2..).map(|number| format!("{name}_{number}"));
            let mut names = std::iter::once(name.clone()).chain(numbered);
            columns.extend(names.find(|name| !columns.contains(name)));
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&columns)?;
        let nothing = vec![String::new(); self.columns.len()];
        for row in 0..table.n_rows() {
            let cells = (0..table.columns.len()).map(|column| table.cell(row, column).text());
            let predictions = self.rows.get(&row).unwrap_or(&nothing);
            writer.write_record(cells.chain(predictions.iter().cloned()))?;
        }
        writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

/// Asks the model of a run about `conversations`, whose last answers are not looked at. Answers are generated as the configuration
/// says; `seed` is that of their draws.
///
/// `progress` is told how many are done. `None` when `stop` was raised meanwhile.
///
/// # Errors
/// When the model cannot read a conversation.
pub fn predict(
    model: &CausalLm,
    config: &ExperimentConfig,
    assembler: &Assembler,
    conversations: &[Conversation],
    seed: u64,
    stop: &StopFlag,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Predicted>, TrainError> {
    if matches!(Learning::of(config), Learning::Scores(_)) {
        let samples: Vec<TokenSample> =
            conversations.iter().map(|one| assembler.sample(one)).collect::<Result<_, _>>()?;
        let samples: Vec<TokenSample> = samples.into_iter().filter(|sample| !sample.ids.is_empty()).collect();
        let scores = scores(model, config, &samples, stop, progress)?;
        return Ok(scores.map(|scores| {
            let (columns, cells) = described(config, &scores);
            Predicted { columns, rows: samples.iter().map(|sample| sample.row).zip(cells).collect() }
        }));
    }
    let asked: Vec<&Conversation> = conversations.iter().collect();
    let batch_size = batch_size(config);
    let answers = answer_all(model, config, assembler, &asked, seed, batch_size, stop, progress)?;
    Ok(answers.map(|answers| Predicted {
        columns: vec!["prediction".to_owned()],
        rows: asked.iter().map(|one| one.row).zip(answers.into_iter().map(|answer| vec![answer])).collect(),
    }))
}

/// Outputs of the head for each sample.
fn scores(
    model: &CausalLm,
    config: &ExperimentConfig,
    samples: &[TokenSample],
    stop: &StopFlag,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Vec<Vec<f32>>>, TrainError> {
    let mut scores: Vec<Vec<f32>> = Vec::with_capacity(samples.len());
    for batch in batches(samples, max_batch_tokens(config)) {
        if stop.is_raised() {
            return Ok(None);
        }
        let found = read_back(model.scores(&Sequences::of(batch).batch())?, "scores")?;
        scores.extend(found.chunks((found.len() / batch.len()).max(1)).map(<[f32]>::to_vec));
        progress(scores.len());
    }
    Ok(Some(scores))
}
