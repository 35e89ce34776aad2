//! What an evaluation says about a run, whatever its problem type: figures, the metric that judges, and a table.

use std::collections::{BTreeMap, BTreeSet};

use tunesmith_config::{ExperimentConfig, Metric};
use tunesmith_data::{Assembler, Conversation, Target, TokenSample};
use tunesmith_models::{CausalLm, LossPass, ScoreLoss};

use crate::answers::answer_all;
use crate::collective::Collective;
use crate::comparison::{Compared, ComparedTexts, Comparison, EachReward};
use crate::error::TrainError;
use crate::evaluate::{EvaluateOptions, Evaluated, SampleLoss, batches, evaluate};
use crate::events::{Grading, Rewards};
use crate::grading::{self, Graded, Grader};
use crate::judge::Judge;
use crate::learning::Learning;
use crate::predictions::{PredictionRow, PredictionTable, number_text, prompt_text};
use crate::reference::References;
use crate::sequences::Sequences;
use crate::stop::StopFlag;
use crate::{score_metrics, text_metrics};

/// The outcome of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) loss: f64,
    pub(crate) token_loss: Option<f64>,
    pub(crate) perplexity: Option<f64>,
    /// All that was measured, by name.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// How another model graded the answers, where one does.
    pub(crate) grading: Option<Grading>,
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
    /// Of the samples, where preferences are learned against a reference.
    pub(crate) references: &'a References,
    pub(crate) judge: Judge,
    /// Grades answers, where the judge is another model.
    pub(crate) grader: Option<&'a Grader>,
    pub(crate) seed: u64,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) stop: &'a StopFlag,
}

impl Validation<'_> {
    /// Runs the model over the samples and, where the judging metric looks at texts, has it answer them and the answers graded.
    ///
    /// `progress` is told how many samples are done of how many; with answers each counts twice, graded ones three times. `None` when `stop` was
    /// raised meanwhile.
    ///
    /// # Errors
    /// When there is nothing to evaluate or the model cannot run a sample.
    pub(crate) fn run(
        &self,
        model: &CausalLm,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Verdict>, TrainError> {
        let conversations = self.by_row();
        if let Learning::Scores(loss) = Learning::of(self.config) {
            return self.scored(model, loss, &conversations, progress);
        }
        let needs_text = self.judge.needs_text;
        let n_answers = if needs_text { conversations.len() } else { 0 };
        let n_graded = self.grader.map_or(0, |grader| grader.n_asked(n_answers));
        let (n_samples, n_total) = (self.samples.len(), self.samples.len() + n_answers + n_graded);
        let evaluated =
            evaluate(model, self.samples, self.options(), self.collective, self.stop, &mut |n_done| {
                progress(n_done, n_total)
            })?;
        let Some(evaluated) = evaluated else { return Ok(None) };
        let mut answers = BTreeMap::new();
        if needs_text {
            let asked: Vec<&Conversation> = conversations.values().copied().collect();
            let given = answer_all(
                model,
                self.config,
                self.assembler,
                &asked,
                self.seed,
                batch_size(self.config),
                self.stop,
                &mut |n_done| progress(n_samples + n_done, n_total),
            )?;
            let Some(given) = given else { return Ok(None) };
            answers.extend(conversations.keys().copied().zip(given));
        }
        let mut graded = None;
        if let Some(grader) = self.grader {
            let n_before = n_samples + n_answers;
            graded = grader.grade(&conversations, &answers, self.stop, &mut |n_done| {
                progress(n_before + n_done, n_total)
            })?;
            if graded.is_none() {
                return Ok(None);
            }
        }
        self.verdict(evaluated, &conversations, answers, graded).map(Some)
    }

    /// The conversations behind the samples, by their rows.
    fn by_row(&self) -> BTreeMap<usize, &Conversation> {
        let rows: BTreeSet<usize> = self.samples.iter().map(|sample| sample.row).collect();
        let used = self.conversations.iter().filter(|conversation| rows.contains(&conversation.row));
        used.map(|conversation| (conversation.row, conversation)).collect()
    }

    fn options(&self) -> EvaluateOptions {
        EvaluateOptions {
            max_batch_tokens: max_batch_tokens(self.config),
            loss_function: self.config.training.loss_function,
            pass: LossPass::Evaluation,
        }
    }

    /// All validation samples as one batch.
    fn compared(
        &self,
        samples: &[SampleLoss],
        comparison: Comparison,
        conversations: &BTreeMap<usize, &Conversation>,
    ) -> Compared {
        let texts = samples.iter().map(|sample| ComparedTexts {
            row: sample.row,
            losses: [sample.answer, sample.contrast.unwrap_or_default()],
            is_good: conversations.get(&sample.row).is_none_or(|conversation| is_good(conversation)),
        });
        comparison.of(&texts.collect::<Vec<_>>(), self.references)
    }

    /// Scores of all samples and their metrics.
    fn scored(
        &self,
        model: &CausalLm,
        score_loss: ScoreLoss,
        conversations: &BTreeMap<usize, &Conversation>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<Verdict>, TrainError> {
        let (mut scores, mut losses): (Vec<Vec<f32>>, Vec<f64>) = (Vec::new(), Vec::new());
        for batch in batches(self.samples, max_batch_tokens(self.config)) {
            if self.stop.is_raised() {
                return Ok(None);
            }
            let sequences = Sequences::of(batch);
            let targets: Vec<f32> = batch.iter().flat_map(|sample| sample.values.iter().copied()).collect();
            let found =
                model.score_losses(&sequences.batch(), &targets, &vec![1.0; batch.len()], score_loss)?;
            let n_outputs = found.scores.len() / batch.len().max(1);
            scores.extend(found.scores.chunks(n_outputs.max(1)).map(<[f32]>::to_vec));
            losses.extend(found.per_sequence.into_iter().map(f64::from));
            progress(losses.len(), self.samples.len());
        }
        if losses.is_empty() {
            return Err(TrainError::NothingToEvaluate { n_samples: self.samples.len() });
        }
        let targets: Vec<&[f32]> = self.samples.iter().map(|sample| sample.values.as_slice()).collect();
        let measured = score_metrics::measure(self.config, &scores, &targets)?;
        let rows =
            self.samples.iter().zip(&losses).zip(measured.cells).filter_map(|((sample, loss), cells)| {
                let conversation = conversations.get(&sample.row)?;
                let cells = cells.into_iter().chain([number_text(*loss)]).collect();
                Some(prediction_row(conversation, cells))
            });
        let non_finite = self.samples.iter().zip(&losses).filter(|(_, loss)| !loss.is_finite());
        Ok(Some(Verdict {
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
            token_loss: None,
            perplexity: None,
            metrics: measured.metrics,
            grading: None,
            n_samples: losses.len(),
            n_skipped_samples: 0,
            n_labelled_tokens: 0,
            non_finite_rows: non_finite.map(|(sample, _)| sample.row).collect(),
            predictions: PredictionTable {
                columns: measured.columns.into_iter().chain(["loss".to_owned()]).collect(),
                rows: rows.collect(),
                confusion: measured.confusion,
            },
        }))
    }

    fn verdict(
        &self,
        evaluated: Evaluated,
        conversations: &BTreeMap<usize, &Conversation>,
        answers: BTreeMap<usize, String>,
        graded: Option<Graded>,
    ) -> Result<Verdict, TrainError> {
        let Evaluated { figures, non_finite_rows, samples } = evaluated;
        let mut predictions = language_table(&samples, conversations);
        for row in &mut predictions.rows {
            let call = conversations.get(&row.row).and_then(|one| self.assembler.expected_call(one));
            row.answer = call.unwrap_or_else(|| std::mem::take(&mut row.answer));
        }
        // That bad answers become improbable is no fault.
        let perplexity = perplexity_of_good(&samples, conversations).unwrap_or(figures.perplexity);
        let mut metrics = BTreeMap::from([(PERPLEXITY.to_owned(), perplexity)]);
        let mut loss = figures.loss;
        if let Learning::Preferences(comparison) = Learning::of(self.config) {
            let compared = self.compared(&samples, comparison, conversations);
            loss = compared.loss;
            let Rewards { chosen, rejected, margin, accuracy } = compared.rewards;
            let figures = [
                ("chosen_reward", chosen),
                ("rejected_reward", rejected),
                ("reward_margin", margin),
                ("reward_accuracy", accuracy),
            ];
            metrics.extend(figures.map(|(name, value)| (name.to_owned(), value)));
            add_rewards(&mut predictions, &compared.each, conversations);
        }
        if self.judge.needs_text {
            metrics.extend(text_metrics::add(&mut predictions, &answers)?);
        }
        let grading = graded.map(|graded| {
            grading::add(&mut predictions, &graded);
            metrics.extend(graded.metrics);
            graded.summary
        });
        Ok(Verdict {
            loss,
            token_loss: Some(figures.token_loss),
            perplexity: Some(perplexity),
            metrics,
            grading,
            n_samples: figures.n_samples,
            n_skipped_samples: figures.n_skipped_samples,
            n_labelled_tokens: figures.n_labelled_tokens,
            non_finite_rows,
            predictions,
        })
    }
}

/// Answers that are generated together.
pub(crate) fn batch_size(config: &ExperimentConfig) -> usize {
    match config.prediction.batch_size_inference {
        0 => config.training.batch_size,
        batch_size => batch_size,
    }
}

/// Tokens that are read together.
pub(crate) fn max_batch_tokens(config: &ExperimentConfig) -> usize {
    batch_size(config).saturating_mul(config.tokenizer.max_length)
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
        Some(prediction_row(conversation, vec![number_text(loss), number_text(loss.exp())]))
    });
    PredictionTable {
        columns: vec!["loss".to_owned(), "perplexity".to_owned()],
        rows: rows.collect(),
        ..PredictionTable::default()
    }
}

fn prediction_row(conversation: &Conversation, cells: Vec<String>) -> PredictionRow {
    PredictionRow {
        row: conversation.row,
        prompt: prompt_text(conversation),
        answer: conversation.rounds.last().map(|round| round.answer.clone()).unwrap_or_default(),
        cells,
    }
}

/// What the answers are worth to the policy, with the answer to be preferred less or the judgement.
fn add_rewards(
    table: &mut PredictionTable,
    rewards: &EachReward,
    conversations: &BTreeMap<usize, &Conversation>,
) {
    let conversation = |row: &PredictionRow| conversations.get(&row.row).copied();
    let columns: (&str, &[&str]) = match rewards {
        EachReward::OfPairs(rewards) => {
            for (row, reward) in table.rows.iter_mut().zip(rewards) {
                let rejected = conversation(row).and_then(Conversation::contrast);
                let rejected =
                    rejected.and_then(|other| other.rounds.last().map(|round| round.answer.clone()));
                row.cells.insert(0, rejected.unwrap_or_default());
                let margin = reward.chosen - reward.rejected;
                row.cells.extend([reward.chosen, reward.rejected, margin].map(number_text));
            }
            ("rejected_answer", &["chosen_reward", "rejected_reward", "reward_margin"])
        }
        EachReward::OfAnswers(rewards) => {
            for (row, reward) in table.rows.iter_mut().zip(rewards) {
                let is_good = conversation(row).is_some_and(is_good);
                row.cells.insert(0, if is_good { "good" } else { "bad" }.to_owned());
                row.cells.push(number_text(*reward));
            }
            ("judgement", &["reward"])
        }
    };
    table.columns.insert(0, columns.0.to_owned());
    table.columns.extend(columns.1.iter().map(|name| (*name).to_owned()));
}

/// Mean perplexity of the good ones among judged answers; `None` where no answer is bad, or all are.
fn perplexity_of_good(samples: &[SampleLoss], conversations: &BTreeMap<usize, &Conversation>) -> Option<f64> {
    let is_of_good = |sample: &&SampleLoss| conversations.get(&sample.row).is_some_and(|c| is_good(c));
    let has_bad = samples.iter().any(|sample| !is_of_good(&sample));
    let means: Vec<f64> =
        samples.iter().filter(is_of_good).filter_map(|sample| sample.answer.mean()).collect();
    (has_bad && !means.is_empty())
        .then(|| means.iter().map(|mean| mean.exp()).sum::<f64>() / means.len() as f64)
}

/// Whether a judged answer is a good one; all others are.
fn is_good(conversation: &Conversation) -> bool {
    !matches!(conversation.target(), Target::Judged { is_good: false, .. })
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
            |row, sum, n_labels| SampleLoss { row, answer: TextLoss { sum, n_labels }, contrast: None };
        let table = language_table(&[piece(3, 1.0, 1), piece(3, 2.0, 3), piece(5, 0.0, 2)], &by_row);
        assert_eq!(table.rows.len(), 2);
        assert_eq!((table.rows[0].row, table.rows[0].cells[0].as_str()), (3, "0.75"));
        assert_eq!((table.rows[1].answer.as_str(), table.rows[1].cells[1].as_str()), ("y", "1"));
    }
}
