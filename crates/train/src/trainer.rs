//! The training loop: windows of micro-batches, optimizer steps, evaluations and checkpoints, from any state on.
//!
//! The state changes only between windows, and everything random is a function of seed and position. A run that is
//! interrupted anywhere and continued from its last checkpoint therefore computes the same numbers.

use std::time::{Duration, Instant};

use tunesmith_config::ExperimentConfig;
use tunesmith_data::{Assembler, BatchOptions, BatchPlan, Conversation, SampleSet, TrainingSet, plan_epoch};
use tunesmith_models::{CausalLm, Recompute};
use tunesmith_platform::n_page_faults;

use crate::collective::Collective;
use crate::error::TrainError;
use crate::events::{EndReason, EventBody, NoteLevel, Rewards, SkippedStep, Step, Timing};
use crate::gradients::{clip_factor, global_norm};
use crate::grading::Grader;
use crate::journal::Journal;
use crate::judge::Judge;
use crate::learning::Learning;
use crate::optimizer::Optimizer;
use crate::plan::RunPlan;
use crate::profile::Profiler;
use crate::reference::{EpochReferences, References};
use crate::run_folder::RunFolder;
use crate::schedule::LearningRateSchedule;
use crate::state::{Exact, TrainState};
use crate::stop::StopFlag;
use crate::window::{NonFinite, Window, WindowRequest, run_window};

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All steps were taken, or as many as early stopping allows, and the last evaluation made.
    Finished,
    /// It was asked to stop; the state is where it can go on.
    Stopped,
}

/// A run in progress.
pub(crate) struct Trainer<'a, 'o> {
    pub(crate) config: &'a ExperimentConfig,
    pub(crate) folder: &'a RunFolder,
    pub(crate) model: CausalLm,
    pub(crate) optimizer: Optimizer,
    pub(crate) recompute: Recompute,
    pub(crate) train: &'a TrainingSet,
    pub(crate) validation: &'a SampleSet,
    pub(crate) validation_conversations: &'a [Conversation],
    pub(crate) assembler: &'a Assembler,
    pub(crate) train_references: &'a EpochReferences,
    pub(crate) validation_references: &'a References,
    pub(crate) judge: Judge,
    /// Grades answers, where the judge is another model.
    pub(crate) grader: Option<&'a Grader>,
    pub(crate) plan: RunPlan,
    pub(crate) seed: u64,
    pub(crate) state: TrainState,
    pub(crate) journal: &'a mut Journal<'o>,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) stop: &'a StopFlag,
    pub(crate) pace: Pace,
    pub(crate) profiler: Option<Profiler>,
}

/// What the process spends; nothing that is computed depends on it, except when interval checkpoints are written.
pub(crate) struct Pace {
    pub(crate) last_checkpoint: Instant,
    /// Progress of the last checkpoint this process wrote or started from.
    pub(crate) saved: Option<(u64, bool)>,
    /// Time spent in windows since the last `step` event.
    unreported: Duration,
    /// Page faults in windows since the last `step` event; `None` where the system does not tell.
    unreported_page_faults: Option<u64>,
    /// Time spent in windows, and windows, of this process.
    in_windows: Duration,
    n_windows: u64,
}

impl Pace {
    /// Starts the clocks; `saved` is the progress of the checkpoint the run continues from.
    pub(crate) fn start(saved: Option<(u64, bool)>) -> Self {
        Self {
            last_checkpoint: Instant::now(),
            saved,
            unreported: Duration::ZERO,
            unreported_page_faults: None,
            in_windows: Duration::ZERO,
            n_windows: 0,
        }
    }

    /// A window is over that took `spent` and, where the system tells, so many page faults.
    fn add(&mut self, spent: Duration, n_page_faults: Option<u64>) {
        self.unreported += spent;
        self.in_windows += spent;
        self.n_windows += 1;
        if let Some(n) = n_page_faults {
            self.unreported_page_faults = Some(self.unreported_page_faults.unwrap_or(0) + n);
        }
    }
}

/// The micro-batches of the epoch `epoch_idx`.
pub(crate) fn epoch_batches(
    config: &ExperimentConfig,
    samples: &SampleSet,
    seed: u64,
    epoch_idx: usize,
) -> BatchPlan {
    plan_epoch(samples, &BatchOptions::of(config, seed, epoch_idx))
}

impl Trainer<'_, '_> {
    /// Trains from the present state to the end of the plan, or until asked to stop.
    pub(crate) fn train(&mut self) -> Result<Outcome, TrainError> {
        let training = &self.config.training;
        let warmup_steps = self.plan.warmup_steps(training.warmup_epochs);
        let schedule = LearningRateSchedule::of(training, warmup_steps, self.plan.n_steps());
        if self.evaluate_if_due()? == Outcome::Stopped {
            return Ok(Outcome::Stopped);
        }
        while !self.is_over() {
            let samples = self.train.epoch(self.state.epoch_idx)?;
            let epoch = epoch_batches(self.config, &samples, self.seed, self.state.epoch_idx);
            if self.train_epoch(&samples, &epoch, &schedule)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
        }
        self.collective.barrier()?;
        Ok(Outcome::Finished)
    }

    /// Whether all steps are taken, or evaluations brought nothing better for too long.
    fn is_over(&self) -> bool {
        self.plan.n_steps() <= self.state.step || self.is_out_of_patience()
    }

    /// Why the run ends here.
    pub(crate) fn end_reason(&self) -> EndReason {
        if self.plan.n_steps() <= self.state.step && !self.state.is_evaluation_due {
            EndReason::AllSteps
        } else if self.is_out_of_patience() {
            EndReason::EarlyStopping
        } else {
            EndReason::Asked
        }
    }

    /// Runs the windows that are left of the present epoch.
    fn train_epoch(
        &mut self,
        samples: &SampleSet,
        epoch: &BatchPlan,
        schedule: &LearningRateSchedule,
    ) -> Result<Outcome, TrainError> {
        let epoch_idx = self.state.epoch_idx;
        if self.plan.micro_batches_of(epoch_idx) == 0 {
            self.state.epoch_idx += 1;
        }
        while self.state.epoch_idx == epoch_idx && !self.is_over() {
            let micro_batches = self.plan.window_at(epoch_idx, self.state.micro_batch_idx);
            let started = Instant::now();
            let faults_before = n_page_faults();
            let request = WindowRequest {
                samples,
                plan: epoch,
                micro_batches: micro_batches.clone(),
                epoch_idx,
                loss_function: self.config.training.loss_function,
                learning: Learning::of(self.config),
                references: self.train_references.of(epoch_idx),
                noise_alpha: self.config.augmentation.neftune_noise_alpha,
                label_smoothing: self.config.training.label_smoothing,
                recompute: self.recompute,
                seed: self.seed,
            };
            let profiled = self.profiler.as_ref().map(Profiler::step_begins);
            let (mut n_done, n_total) = (self.state.n_micro_batches, self.plan.n_micro_batches());
            let observer = self.journal.observer();
            let window = run_window(&self.model, &request, self.stop, &mut || {
                n_done += 1;
                observer.micro_batch(n_done, n_total);
            })?;
            let Some(window) = window else { return Ok(Outcome::Stopped) };
            let is_last = self.plan.is_last(epoch_idx, &micro_batches);
            let taken = self.take_step(window, schedule, micro_batches.len() as u64)?;
            if let (Some(profiler), Some(began)) = (&mut self.profiler, profiled) {
                profiler.step_ended(began);
            }
            self.advance(micro_batches.end);
            let faults = n_page_faults().zip(faults_before).map(|(now, before)| now.saturating_sub(before));
            self.pace.add(started.elapsed(), faults);
            self.report(&taken, is_last)?;
            let has_validation = !self.validation.samples.is_empty();
            self.state.is_evaluation_due =
                has_validation && self.plan.is_evaluated_after(epoch_idx, &micro_batches);
            self.checkpoint_if_due(is_last)?;
            if self.evaluate_if_due()? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Clips the window's gradients, moves the weights and counts.
    fn take_step(
        &mut self,
        window: Window,
        schedule: &LearningRateSchedule,
        n_micro_batches: u64,
    ) -> Result<StepTaken, TrainError> {
        let factor = schedule.factor(self.state.step);
        let mut gradients = window.gradients;
        let mut gradient_norm = None;
        let mut loss = window.loss;
        let mut fault = window.fault;
        if loss.is_some() {
            self.collective.sum_gradients(&mut gradients)?;
            let norm = global_norm(&gradients);
            if norm.is_finite() {
                let clip = clip_factor(norm, self.config.training.gradient_clip);
                self.optimizer.step(self.model.parameters_mut(), gradients, factor, clip)?;
                gradient_norm = Some(norm);
            } else {
                loss = None;
                let sample_rows = window.sample_rows;
                fault = Some(NonFinite { what: "the gradient norm", value: norm, sample_rows });
            }
        }
        if let Some(fault) = fault {
            self.skip_step(fault)?;
        }
        let state = &mut self.state;
        state.step += 1;
        state.n_updates = self.optimizer.n_updates();
        state.n_micro_batches += n_micro_batches;
        state.n_samples_seen += window.n_samples;
        state.n_tokens_seen += window.n_tokens;
        let unreported = &mut state.unreported;
        if let Some(loss) = loss {
            unreported.loss_sum.0 += loss;
            unreported.n_losses += 1;
        }
        unreported.n_tokens += window.n_tokens;
        unreported.n_labelled_tokens += window.n_labelled_tokens;
        Ok(StepTaken { factor, gradient_norm, rewards: window.rewards, epoch: state.epoch_idx + 1 })
    }

    /// Leaves the weights as they are for this step and says so.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`] when no more steps may be left out.
    fn skip_step(&mut self, fault: NonFinite) -> Result<(), TrainError> {
        let NonFinite { what, value, sample_rows } = fault;
        let (step, epoch) = (self.state.step + 1, self.state.epoch_idx + 1);
        let n_skipped_steps = self.state.n_skipped_steps;
        let most = self.config.training.max_skipped_steps;
        let error = TrainError::NonFinite {
            what,
            value,
            step,
            epoch,
            sample_rows: sample_rows.clone(),
            n_skipped_steps,
        };
        if most as u64 <= n_skipped_steps {
            return Err(error);
        }
        self.state.n_skipped_steps += 1;
        let text = format!("{error}; the step is left out, {} of at most {most}", self.state.n_skipped_steps);
        self.journal.note(NoteLevel::Warning, &text)?;
        let body = EventBody::StepSkipped(SkippedStep {
            epoch,
            step,
            what: what.to_owned(),
            value: value.to_string(),
            rows: sample_rows,
            n_skipped_steps: self.state.n_skipped_steps,
        });
        self.journal.event(body, Timing::default())
    }

    /// Moves the position to micro-batch `end` of the epoch, or to the next epoch.
    fn advance(&mut self, end: usize) {
        if end < self.plan.micro_batches_of(self.state.epoch_idx) {
            self.state.micro_batch_idx = end;
        } else {
            self.state.epoch_idx += 1;
            self.state.micro_batch_idx = 0;
        }
    }

    /// Writes a `step` event when one is due.
    fn report(&mut self, taken: &StepTaken, is_last: bool) -> Result<(), TrainError> {
        let every = (self.config.training.log_every_steps as u64).max(1);
        if !self.state.step.is_multiple_of(every) && !is_last {
            return Ok(());
        }
        let unreported = std::mem::take(&mut self.state.unreported);
        let loss = (unreported.n_losses > 0).then(|| unreported.loss_sum.0 / unreported.n_losses as f64);
        self.state.train_loss = loss.map(Exact).or(self.state.train_loss);
        let body = EventBody::Step(Step {
            epoch: taken.epoch,
            step: self.state.step,
            micro_batch: self.state.n_micro_batches,
            loss,
            learning_rate: self.optimizer.learning_rate(taken.factor),
            differential_learning_rate: self.optimizer.differential_learning_rate(taken.factor),
            gradient_norm: taken.gradient_norm,
            rewards: taken.rewards,
            n_skipped_steps: self.state.n_skipped_steps,
            n_tokens: unreported.n_tokens,
            n_labelled_tokens: unreported.n_labelled_tokens,
            n_samples_seen: self.state.n_samples_seen,
            n_tokens_seen: self.state.n_tokens_seen,
        });
        let secs = std::mem::take(&mut self.pace.unreported).as_secs_f64();
        let secs_per_step = self.pace.in_windows.as_secs_f64() / self.pace.n_windows.max(1) as f64;
        let n_steps_left = self.plan.n_steps().saturating_sub(self.state.step);
        let timing = Timing {
            secs: Some(secs),
            tokens_per_sec: Some(unreported.n_tokens as f64 / secs.max(f64::EPSILON)),
            eta_secs: Some(secs_per_step * n_steps_left as f64),
            n_page_faults: self.pace.unreported_page_faults.take(),
            ..Timing::default()
        };
        self.journal.event(body, timing)
    }
}

/// A step, for its report.
struct StepTaken {
    factor: f64,
    gradient_norm: Option<f64>,
    rewards: Option<Rewards>,
    epoch: usize,
}
