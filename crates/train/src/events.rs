//! What happens in a run, as values: written to `events.jsonl` one JSON object a line and handed to observers.
//!
//! Length: this is the one form of all lines, which a test compares with the page that describes them.
//!
//! Every event has a body, which is a pure function of model, data and configuration, and a timing, which is not.
//! Two runs of the same experiment are compared by [`Event::comparable`]. `docs/events.md` shows every line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::preference::{JudgedAnswer, KtoStep, Pair, PreferenceStep};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened; its variant is the line's `event` key.
    #[serde(flatten)]
    pub body: EventBody,
    /// When, how fast, and with how much memory; the line's `timing` key.
    pub timing: Timing,
}

impl Event {
    /// The part that repeats when the experiment is repeated, interrupted and resumed, or run with another number of
    /// threads: losses, rates and counts. `None` for events about files and about how the process ended.
    pub fn comparable(&self) -> Option<&EventBody> {
        match &self.body {
            EventBody::RunStarted(_)
            | EventBody::Step(_)
            | EventBody::StepSkipped(_)
            | EventBody::Evaluation(_) => Some(&self.body),
            EventBody::RunExtended(_)
            | EventBody::Checkpoint(_)
            | EventBody::Export(_)
            | EventBody::RunFinished(_)
            | EventBody::RunStopped(_)
            | EventBody::RunFailed(_) => None,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    /// Model and data are loaded and the first micro-batch is about to run.
    RunStarted(RunStarted),
    /// A run goes on beyond the end it was planned with.
    RunExtended(RunExtended),
    /// One or more optimizer steps were taken (`training.log_every_steps`).
    Step(Step),
    /// A step was left out because its loss or gradient was not finite.
    StepSkipped(SkippedStep),
    /// The validation set was evaluated.
    Evaluation(Evaluation),
    /// A checkpoint is complete on disk.
    Checkpoint(Checkpoint),
    /// The trained adapter or model is complete on disk and was read back and compared.
    Export(Export),
    /// The run did all it was asked to do.
    RunFinished(RunEnd),
    /// The run left early because it was asked to; it can be resumed.
    RunStopped(RunEnd),
    /// The run cannot go on.
    RunFailed(RunFailed),
}

/// Size and plan of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// `experiment_name` of the configuration.
    pub experiment_name: String,
    /// The seed in use; the one drawn when the configuration says -1.
    pub seed: u64,
    /// Parameters of the model, adapters included.
    pub n_parameters: u64,
    /// Those that are trained.
    pub n_trainable_parameters: u64,
    /// Samples of one epoch.
    pub n_train_samples: usize,
    /// Tokens of one epoch.
    pub n_train_tokens: u64,
    /// Samples of one evaluation.
    pub n_validation_samples: usize,
    /// Epochs planned; 0 when only an evaluation is asked for.
    pub n_epochs: usize,
    /// Micro-batches planned over all epochs.
    pub n_micro_batches: u64,
    /// Optimizer steps planned over all epochs.
    pub n_steps: u64,
}

/// The new plan of a run that goes on; what it says of steps takes the place of what `run_started` said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunExtended {
    /// Optimizer steps taken so far.
    pub step: u64,
    /// Epochs planned.
    pub n_epochs: usize,
    /// Micro-batches planned over all epochs.
    pub n_micro_batches: u64,
    /// Optimizer steps planned over all epochs.
    pub n_steps: u64,
}

/// A step after which the weights are what they were before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkippedStep {
    /// Epoch, from 1.
    pub epoch: usize,
    /// The step, from 1. It counts as taken.
    pub step: u64,
    /// "the training loss" or "the gradient norm".
    pub what: String,
    /// Its value: `NaN`, `inf` or `-inf`.
    pub value: String,
    /// Rows of the table whose samples gave it.
    pub rows: Vec<usize>,
    /// Steps left out so far, this one included.
    pub n_skipped_steps: u64,
}

/// Training progress since the previous `step` event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Optimizer steps taken so far.
    pub step: u64,
    /// Micro-batches run so far.
    pub micro_batch: u64,
    /// Mean training loss of the steps since the previous `step` event; absent when none had a labelled token.
    pub loss: Option<f64>,
    /// Learning rate of the latest step.
    pub learning_rate: f64,
    /// Learning rate of the latest step in the differential groups; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differential_learning_rate: Option<f64>,
    /// L2 norm of all gradients of the latest step before clipping; absent when that step had no labelled token.
    pub gradient_norm: Option<f64>,
    /// Of the latest step's preferences; absent where other things are learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewards: Option<Rewards>,
    /// Steps left out so far because their loss or gradient was not finite.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_skipped_steps: u64,
    /// Tokens run since the previous `step` event.
    pub n_tokens: u64,
    /// Those of them that are predicted.
    pub n_labelled_tokens: u64,
    /// Samples run so far.
    pub n_samples_seen: u64,
    /// Tokens run so far.
    pub n_tokens_seen: u64,
}

/// How much better than the reference a policy likes the answers of its preferences: means over the pairs, or over the good
/// and the bad ones of judged answers (0 where there are none of a kind).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// Reward of the better answers.
    pub chosen: f64,
    /// Reward of the other ones.
    pub rejected: f64,
    /// The difference.
    pub margin: f64,
    /// Share of the pairs whose better answer has the larger reward; of judged answers, share of those that are rewarded
    /// more, if good, or less, if bad, than answers to other prompts are on average.
    pub accuracy: f64,
}

impl Rewards {
    /// Those of pairs.
    pub(crate) fn of_pairs(step: &PreferenceStep) -> Self {
        let Pair { chosen, rejected } = step.mean_rewards();
        Self { chosen, rejected, margin: step.margin(), accuracy: step.accuracy() }
    }

    /// Those of judged answers.
    pub(crate) fn of_answers(beta: f64, step: &KtoStep, answers: &[JudgedAnswer]) -> Self {
        let mean = |is_good: bool| {
            let of_kind =
                answers.iter().zip(&step.rewards).filter(|(answer, _)| answer.is_desirable == is_good);
            let rewards: Vec<f64> = of_kind.map(|(_, reward)| *reward).collect();
            rewards.iter().sum::<f64>() / rewards.len().max(1) as f64
        };
        let threshold = beta * step.divergence;
        let is_right = |(answer, reward): &(&JudgedAnswer, &f64)| match answer.is_desirable {
            true => **reward > threshold,
            false => **reward < threshold,
        };
        let n_right = answers.iter().zip(&step.rewards).filter(is_right).count();
        let (chosen, rejected) = (mean(true), mean(false));
        let accuracy = n_right as f64 / answers.len().max(1) as f64;
        Self { chosen, rejected, margin: chosen - rejected, accuracy }
    }
}

/// Result of one pass over the validation set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Epoch, from 1; 0 for the evaluation before training.
    pub epoch: usize,
    /// Optimizer steps taken so far.
    pub step: u64,
    /// Loss by `training.loss_function` over the whole set.
    pub loss: f64,
    /// Mean cross-entropy over all labelled tokens; absent where classes or numbers are predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_loss: Option<f64>,
    /// Mean over the samples of exp(mean cross-entropy of the sample); absent where classes or numbers are predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// What the run is judged by: `prediction.metric`, or what takes its place.
    pub metric: String,
    /// Its value; absent where it has none, such as AUC over a single class.
    pub metric_value: Option<f64>,
    /// Whether a larger value is a better one.
    pub higher_is_better: bool,
    /// All that was measured, by name.
    pub metrics: BTreeMap<String, f64>,
    /// How another model graded the answers; absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grading: Option<Grading>,
    /// Samples that count.
    pub n_samples: usize,
    /// Samples left out because they have no labelled token.
    pub n_skipped_samples: usize,
    /// Labelled tokens of the samples that count.
    pub n_labelled_tokens: u64,
    /// True when the metric is better than at every earlier evaluation of this run.
    pub is_best: bool,
}

/// How many answers another model was asked to grade, and how many it did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grading {
    /// Answers it was to grade.
    pub n_asked: usize,
    /// Those it gave no score for.
    pub n_failed: usize,
    /// Why the first of them has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A complete checkpoint folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Optimizer steps taken so far.
    pub step: u64,
    /// Folder, relative to the run folder.
    pub path: String,
    /// Why it was written.
    pub reason: CheckpointReason,
    /// Bytes of all its files.
    pub n_bytes: u64,
}

/// Why a checkpoint was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointReason {
    /// An evaluation is about to run.
    Evaluation,
    /// The metric is the best so far.
    Best,
    /// `training.checkpoint_interval_secs` have passed.
    Interval,
    /// `training.checkpoint_every_steps` steps were taken.
    Steps,
    /// The last step was taken.
    End,
    /// The run was asked to stop.
    Stop,
}

/// A complete adapter or model folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// What was written.
    pub kind: ExportKind,
    /// Folder, relative to the run folder.
    pub path: String,
    /// Optimizer steps behind the weights.
    pub step: u64,
    /// Largest absolute difference between the logits of the trained model and of the folder read back from disk.
    pub worst_logit_difference: f64,
    /// The difference up to which the folder is accepted.
    pub logit_difference_bound: f64,
}

/// What an export folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportKind {
    /// A PEFT adapter, to be used with its base model.
    Adapter,
    /// A whole model in Hugging Face form.
    Model,
}

/// Why a run ended without a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// All steps are taken.
    #[default]
    AllSteps,
    /// Evaluations brought nothing better for `training.early_stopping_patience` times.
    EarlyStopping,
    /// It was asked to stop.
    Asked,
}

/// Where a run ended without a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Why.
    #[serde(default)]
    pub reason: EndReason,
    /// Steps left out because their loss or gradient was not finite.
    #[serde(default)]
    pub n_skipped_steps: u64,
    /// Optimizer steps taken.
    pub step: u64,
    /// Optimizer steps planned.
    pub n_steps: u64,
    /// Loss of the last `step` event.
    pub train_loss: Option<f64>,
    /// Loss of the last evaluation.
    pub validation_loss: Option<f64>,
    /// Perplexity of the last evaluation.
    pub validation_perplexity: Option<f64>,
    /// What the run is judged by.
    #[serde(default)]
    pub metric: Option<String>,
    /// Its value at the last evaluation.
    #[serde(default)]
    pub validation_metric: Option<f64>,
    /// Its best value of all evaluations.
    #[serde(default)]
    pub best_metric: Option<f64>,
    /// Step of the best evaluation.
    pub best_step: Option<u64>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFailed {
    /// Class of the failure, as in the status file.
    pub failure: String,
    /// What went wrong.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The part of an event that differs from one repetition to the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Seconds since 1970-01-01 UTC.
    pub unix_secs: u64,
    /// Seconds of work on this run so far, over all the processes that worked on it.
    pub run_secs: f64,
    /// Seconds the event took: the steps since the previous `step` event, the evaluation, the writing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secs: Option<f64>,
    /// Tokens per second over `secs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_sec: Option<f64>,
    /// Estimated seconds until the last step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_secs: Option<f64>,
    /// Pages the system had to give this process over `secs`; about none once a step has the memory of the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_page_faults: Option<u64>,
    /// Most memory this process has had resident so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

/// Somebody who watches a run from inside the process: a progress bar, a test.
///
/// Called on the trainer's thread; a slow observer slows the training down.
pub trait Observer {
    /// An event, after it was written to the run folder.
    fn event(&mut self, event: &Event);

    /// A run goes on after `step` optimizer steps. Its `run_started` event was written by an earlier process, so this
    /// says the same again to whoever watches now.
    fn resumed(&mut self, _run: &RunStarted, _step: u64) {}

    /// A longer stage without events of its own begins, such as "loading the model".
    fn stage(&mut self, _stage: &str) {}

    /// One micro-batch is done; `n_done` of `n_total` of all epochs.
    fn micro_batch(&mut self, _n_done: u64, _n_total: u64) {}

    /// Evaluation samples are done; `n_done` of `n_total`.
    fn evaluated(&mut self, _n_done: usize, _n_total: usize) {}

    /// What the watcher itself has to say, for `logs.log` and everybody who watches; asked for after every event.
    fn remarks(&mut self) -> Vec<(NoteLevel, String)> {
        Vec::new()
    }

    /// A line for the user that is no event; it also stands in `logs.log`.
    fn note(&mut self, _level: NoteLevel, _text: &str) {}
}

/// Weight of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteLevel {
    /// For the record.
    Info,
    /// The user may have meant something else.
    Warning,
    /// The run ends because of this.
    Error,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn event(&mut self, _event: &Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step_event() -> Event {
        Event {
            body: EventBody::Step(Step {
                epoch: 1,
                step: 3,
                micro_batch: 6,
                loss: Some(0.1 + 0.2),
                learning_rate: 1e-4,
                differential_learning_rate: None,
                gradient_norm: Some(1.5),
                rewards: None,
                n_skipped_steps: 0,
                n_tokens: 40,
                n_labelled_tokens: 12,
                n_samples_seen: 12,
                n_tokens_seen: 120,
            }),
            timing: Timing { unix_secs: 5, run_secs: 1.25, secs: Some(0.5), ..Timing::default() },
        }
    }

    #[test]
    fn a_line_names_its_event_and_keeps_timing_apart() {
        let line = serde_json::to_string(&step_event()).unwrap();
        assert_eq!(
            line,
            "{\"event\":\"step\",\"epoch\":1,\"step\":3,\"micro_batch\":6,\"loss\":0.30000000000000004,\
             \"learning_rate\":0.0001,\"gradient_norm\":1.5,\"n_tokens\":40,\"n_labelled_tokens\":12,\
             \"n_samples_seen\":12,\"n_tokens_seen\":120,\
             \"timing\":{\"unix_secs\":5,\"run_secs\":1.25,\"secs\":0.5}}"
        );
        let back: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), line);
    }

    #[test]
    fn the_documented_lines_are_events_with_all_their_fields() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events.md");
        let page = std::fs::read_to_string(path).unwrap();
        let mut names = Vec::new();
        for line in page.lines().filter(|line| line.starts_with("{\"event\"")) {
            let event: Event = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let documented: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_value(&event).unwrap(), documented);
            for field in
                documented.as_object().unwrap().keys().filter(|key| *key != "event" && *key != "timing")
            {
                assert!(page.contains(&format!("`{field}`")), "{field} has no row");
            }
            names.push(documented["event"].as_str().unwrap().to_owned());
        }
        assert_eq!(
            names,
            [
                "run_started",
                "run_extended",
                "step",
                "step_skipped",
                "evaluation",
                "checkpoint",
                "export",
                "run_finished",
                "run_failed"
            ]
        );
    }

    #[test]
    fn timing_is_not_compared() {
        let mut slower = step_event();
        slower.timing.run_secs = 99.0;
        assert_ne!(slower, step_event());
        assert_eq!(slower.comparable(), step_event().comparable());
        assert!(slower.comparable().is_some());
    }

    #[test]
    fn file_events_are_not_compared() {
        let body = EventBody::Checkpoint(Checkpoint {
            epoch: 1,
            step: 3,
            path: "checkpoints/last".to_owned(),
            reason: CheckpointReason::Interval,
            n_bytes: 10,
        });
        assert_eq!(Event { body, timing: Timing::default() }.comparable(), None);
    }
}
