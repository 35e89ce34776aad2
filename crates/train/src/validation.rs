//! What an evaluation says about a run, whatever its problem type: figures, the metric that judges, and a table.

use std::collections::{BTreeMap, BTreeSet};

use tunesmith_config::{ExperimentConfig, Metric};
use tunesmith_data::{Assembler, Conversation, TokenSample};
use tunesmith_models::CausalLm;

use crate::answers::answer_all;
use crate::collective::Collective;
use crate::error::TrainError;
use crate::evaluate::{EvaluateOptions, Evaluated, SampleLoss, evaluate};
use crate::judge::{Judge, judged_by};
use crate::predictions::{PredictionRow, PredictionTable, number_text, prompt_text};
use crate::stop::StopFlag;
use crate::text_metrics;

/// The outcome of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) loss: f64,
    pub(crate) token_loss: Option<f64>,
    pub(crate) perplexity: Option<f64>,
    /// All that was measured, by name.
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) n_samples: usize,
    pub(crate) n_skipped_samples: usize,
    pub(crate) n_labelled_tokens: u64,
    /// Rows of the samples whose loss is infinite or not a number.
    pub(crate) non_finite_rows: Vec<usize>,
    pub(crate) predictions: PredictionTable,
}

/// Validation data and how they are run.
pub(crate) struct Validation<'a> {
    pub(crate) config: &'a ExperimentConfig,
    pub(crate) samples: &'a [TokenSample],
    /// The conversations that the samples were made from.
    pub(crate) conversations: &'a [Conversation],
    pub(crate) assembler: &'a Assembler,
    pub(crate) seed: u64,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) stop: &'a StopFlag,
}

impl Validation<'_> {
    /// Runs the model over the samples and, where the judging metric compares texts, has it answer them.
    ///
    /// `progress` is told how many samples are done of how many; with answers each counts twice. `None` when `stop` was
    /// raised meanwhile.
    ///
    /// # Errors
    /// When there is nothing to evaluate or the model cannot run a sample.
    pub(crate) fn run(
        &self,
        model: &CausalLm,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Verdict>, TrainError> {
        let judge = judged_by(self.config);
        let conversations = self.by_row();
        let n_answers = if judge.needs_text { conversations.len() } else { 0 };
        let (n_samples, n_total) = (self.samples.len(), self.samples.len() + n_answers);
        let evaluated =
            evaluate(model, self.samples, self.options(), self.collective, self.stop, &mut |n_done| {
                progress(n_done, n_total)
            })?;
        let Some(evaluated) = evaluated else { return Ok(None) };
        let mut answers = BTreeMap::new();
        if judge.needs_text {
            let asked: Vec<&Conversation> = conversations.values().copied().collect();
            let given = answer_all(
                model,
                self.config,
                self.assembler,
                &asked,
                self.seed,
                self.batch_size(),
                self.stop,
                &mut |n_done| progress(n_samples + n_done, n_total),
            )?;
            let Some(given) = given else { return Ok(None) };
            answers.extend(conversations.keys().copied().zip(given));
        }
        self.verdict(&judge, evaluated, &conversations, answers).map(Some)
    }

    /// The conversations behind the samples, by their rows.
    fn by_row(&self) -> BTreeMap<usize, &Conversation> {
        let rows: BTreeSet<usize> = self.samples.iter().map(|sample| sample.row).collect();
        let used = self.conversations.iter().filter(|conversation| rows.contains(&conversation.row));
        used.map(|conversation| (conversation.row, conversation)).collect()
    }

    fn batch_size(&self) -> usize {
        match self.config.prediction.batch_size_inference {
            0 => self.config.training.batch_size,
            batch_size => batch_size,
        }
    }

    fn options(&self) -> EvaluateOptions {
        EvaluateOptions {
            max_batch_tokens: self.batch_size().saturating_mul(self.config.tokenizer.max_length),
            loss_function: self.config.training.loss_function,
        }
    }

    fn verdict(
        &self,
        judge: &Judge,
        evaluated: Evaluated,
        conversations: &BTreeMap<usize, &Conversation>,
        answers: BTreeMap<usize, String>,
    ) -> Result<Verdict, TrainError> {
        let Evaluated { figures, non_finite_rows, samples } = evaluated;
        let mut predictions = language_table(&samples, conversations);
        let mut metrics = BTreeMap::from([(PERPLEXITY.to_owned(), figures.perplexity)]);
        if judge.needs_text {
            metrics.extend(text_metrics::add(&mut predictions, &answers)?);
        }
        Ok(Verdict {
            loss: figures.loss,
            token_loss: Some(figures.token_loss),
            perplexity: Some(figures.perplexity),
            metrics,
            n_samples: figures.n_samples,
            n_skipped_samples: figures.n_skipped_samples,
            n_labelled_tokens: figures.n_labelled_tokens,
            non_finite_rows,
            predictions,
        })
    }
}

impl Verdict {
    /// The value that the run is judged by; `None` where it has none.
    pub(crate) fn judged(&self, judge: &Judge) -> Option<f64> {
        self.metrics.get(judge.name).copied().filter(|value| value.is_finite())
    }
}

const PERPLEXITY: &str = Metric::Perplexity.as_str();

/// One row for each conversation, with loss and perplexity of its answer. Pieces of a long one are put together.
fn language_table(samples: &[SampleLoss], conversations: &BTreeMap<usize, &Conversation>) -> PredictionTable {
    let rows = samples.chunk_by(|a, b| a.row == b.row).filter_map(|pieces| {
        let row = pieces.first()?.row;
        let conversation = conversations.get(&row)?;
        let sum = |of: fn(&SampleLoss) -> f64| pieces.iter().map(of).sum::<f64>();
        let loss = sum(|piece| piece.answer.sum) / sum(|piece| piece.answer.n_labels as f64);
        Some(PredictionRow {
            row,
            prompt: prompt_text(conversation),
            answer: conversation.rounds.last().map(|round| round.answer.clone()).unwrap_or_default(),
            cells: vec![number_text(loss), number_text(loss.exp())],
        })
    });
    PredictionTable { columns: vec!["loss".to_owned(), "perplexity".to_owned()], rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tunesmith_data::Round;

    use crate::evaluate::TextLoss;

    #[test]
    fn pieces_of_a_conversation_are_one_row() {
        let round = |row: usize, answer: &str| Round {
            prompt: "p".to_owned(),
            answer: answer.to_owned(),
            row,
            ..Round::default()
        };
        let conversations: Vec<Conversation> = [(3, "x"), (5, "y")]
            .map(|(row, answer)| Conversation::new(vec![round(row, answer)]).unwrap())
            .into();
        let by_row = conversations.iter().map(|conversation| (conversation.row, conversation)).collect();
        let piece =
            |row, sum, n_labels| SampleLoss { row, answer: TextLoss { sum, n_labels }, rejected: None };
        let table = language_table(&[piece(3, 1.0, 1), piece(3, 2.0, 3), piece(5, 0.0, 2)], &by_row);
        assert_eq!(table.rows.len(), 2);
        assert_eq!((table.rows[0].row, table.rows[0].cells[0].as_str()), (3, "0.75"));
        assert_eq!((table.rows[1].answer.as_str(), table.rows[1].cells[1].as_str()), ("y", "1"));
    }
}
