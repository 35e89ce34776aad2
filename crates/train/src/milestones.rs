//! The stops on the way: evaluations and checkpoints, and what decides when each is made.

use std::time::Instant;

use tunesmith_config::SaveCheckpoint;

use crate::checkpoint;
use crate::error::TrainError;
use crate::events::{Checkpoint, CheckpointReason, Evaluation, EventBody, NoteLevel, Timing};
use crate::grading;
use crate::state::{Best, Exact, LastValidation};
use crate::trainer::{Outcome, Trainer};
use crate::validation::Validation;

impl Trainer<'_, '_> {
    /// Makes the evaluation that the state says is due, and keeps the weights if they are the best.
    pub(crate) fn evaluate_if_due(&mut self) -> Result<Outcome, TrainError> {
        if !self.state.is_evaluation_due {
            return Ok(Outcome::Finished);
        }
        let started = Instant::now();
        let judge = self.judge;
        let validation = Validation {
            config: self.config,
            samples: &self.validation.samples,
            conversations: self.validation_conversations,
            assembler: self.assembler,
            references: self.validation_references,
            judge,
            grader: self.grader,
            seed: self.seed,
            collective: self.collective,
            stop: self.stop,
        };
        let observer = self.journal.observer();
        let verdict =
            validation.run(&self.model, &mut |n_done, n_total| observer.evaluated(n_done, n_total))?;
        let Some(verdict) = verdict else { return Ok(Outcome::Stopped) };
        let epoch = self.epoch();
        if !verdict.non_finite_rows.is_empty() {
            return Err(TrainError::NonFinite {
                what: "the validation loss",
                value: verdict.perplexity.unwrap_or(verdict.loss),
                step: self.state.step,
                epoch,
                sample_rows: verdict.non_finite_rows,
                n_skipped_steps: 0,
            });
        }
        if let Some(warning) = verdict.grading.as_ref().and_then(|it| grading::warning(it, self.config)) {
            self.journal.note(NoteLevel::Warning, &warning)?;
        }
        let value = verdict.judged(&judge);
        let best = self.state.best.map(|best| best.metric.0);
        let is_best = value.is_some_and(|value| judge.is_better(value, best));
        if let (true, Some(value)) = (is_best, value) {
            self.state.best = Some(Best { step: self.state.step, metric: Exact(value) });
        }
        if value.is_none() {
            let text = format!("{} has no value for these samples", judge.name);
            self.journal.note(NoteLevel::Warning, &text)?;
        }
        self.state.validation = Some(LastValidation {
            loss: Exact(verdict.loss),
            perplexity: verdict.perplexity.map(Exact),
            metric: value.map(Exact),
        });
        self.state.is_evaluation_due = false;
        self.state.early_stopping.evaluated(&judge, value, self.config.training.early_stopping_min_delta);
        let keeps_best = self.config.training.save_checkpoint == SaveCheckpoint::Best;
        // The table belongs to the weights that become the result.
        if is_best || !keeps_best {
            verdict.predictions.write(self.folder, self.state.step, &judge)?;
        }
        let body = EventBody::Evaluation(Evaluation {
            epoch,
            step: self.state.step,
            loss: verdict.loss,
            token_loss: verdict.token_loss,
            perplexity: verdict.perplexity,
            metric: judge.name.to_owned(),
            metric_value: value,
            higher_is_better: judge.higher_is_better,
            metrics: verdict.metrics,
            grading: verdict.grading,
            n_samples: verdict.n_samples,
            n_skipped_samples: verdict.n_skipped_samples,
            n_labelled_tokens: verdict.n_labelled_tokens,
            is_best,
        });
        self.journal
            .event(body, Timing { secs: Some(started.elapsed().as_secs_f64()), ..Timing::default() })?;
        if is_best && keeps_best && self.plan.n_epochs() > 0 {
            self.save("best", CheckpointReason::Best)?;
        }
        if is_best {
            // The best of before need not be kept any more.
            self.remove_old_checkpoints()?;
        }
        Ok(Outcome::Finished)
    }

    /// Whether the evaluations so far brought nothing better for as long as the configuration allows.
    pub(crate) fn is_out_of_patience(&self) -> bool {
        self.state.early_stopping.is_out_of_patience(self.config.training.early_stopping_patience)
    }

    /// Writes a checkpoint when the step calls for one: before an evaluation and at the end, after a number of steps, or
    /// when the last one is too long ago.
    pub(crate) fn checkpoint_if_due(&mut self, is_last: bool) -> Result<(), TrainError> {
        let training = &self.config.training;
        let every = training.checkpoint_every_steps as u64;
        let save_steps = training.save_steps as u64;
        let interval_secs = training.checkpoint_interval_secs;
        let since_last_secs = self.pace.last_checkpoint.elapsed().as_secs_f64();
        let is_kept = save_steps > 0 && self.state.step.is_multiple_of(save_steps);
        let reason = if self.state.is_evaluation_due {
            CheckpointReason::Evaluation
        } else if is_last {
            CheckpointReason::End
        } else if is_kept || (every > 0 && self.state.step.is_multiple_of(every)) {
            CheckpointReason::Steps
        } else if interval_secs > 0.0 && since_last_secs >= interval_secs {
            CheckpointReason::Interval
        } else {
            return Ok(());
        };
        let keeps_each = training.save_checkpoint == SaveCheckpoint::EachEvaluationEpoch;
        let is_milestone = matches!(reason, CheckpointReason::Evaluation | CheckpointReason::End);
        let keeps_step = is_kept || (keeps_each && is_milestone);
        if keeps_step {
            self.save(&format!("step_{}", self.state.step), reason)?;
            self.remove_old_checkpoints()?;
        }
        // What a run ends with has a fixed name unless each evaluation has its own.
        let keeps_last = !keeps_step || (is_milestone && !keeps_each);
        if keeps_last { self.save("last", reason) } else { Ok(()) }
    }

    /// Removes checkpoints of single steps beyond `training.save_total_limit`: the oldest first, but neither that of the best
    /// evaluation nor the newest.
    fn remove_old_checkpoints(&mut self) -> Result<(), TrainError> {
        let limit = self.config.training.save_total_limit;
        if limit == 0 {
            return Ok(());
        }
        let checkpoints = self.folder.checkpoints();
        let best = self.state.best.map(|best| best.step);
        for step in superfluous(&checkpoint::steps(&checkpoints)?, best, limit) {
            let name = format!("step_{step}");
            checkpoint::remove(&checkpoints, &name)?;
            let text = format!("removed checkpoints/{name}: training.save_total_limit is {limit}");
            self.journal.note(NoteLevel::Info, &text)?;
        }
        Ok(())
    }

    /// Writes the checkpoint that a stopped run continues from, unless there is one of this very state.
    pub(crate) fn save_stopped(&mut self) -> Result<(), TrainError> {
        if self.pace.saved == Some(self.state.progress()) {
            return Ok(());
        }
        self.save("last", CheckpointReason::Stop)
    }

    /// Writes the checkpoint `name`, unless the configuration keeps none.
    fn save(&mut self, name: &str, reason: CheckpointReason) -> Result<(), TrainError> {
        if self.config.training.save_checkpoint == SaveCheckpoint::Disable {
            return Ok(());
        }
        let started = Instant::now();
        self.state.events_bytes = self.journal.synced_events_bytes()?;
        self.state.run_secs = self.journal.run_secs();
        let dir = self.folder.checkpoints().join(name);
        let n_bytes = checkpoint::save(&dir, &self.model, &self.optimizer, &self.state)?;
        self.pace.last_checkpoint = Instant::now();
        self.pace.saved = Some(self.state.progress());
        let step = self.state.step;
        self.journal.set_status(|status| status.step = step)?;
        let body = EventBody::Checkpoint(Checkpoint {
            epoch: self.epoch(),
            step,
            path: self.folder.relative(&dir),
            reason,
            n_bytes,
        });
        self.journal.event(body, Timing { secs: Some(started.elapsed().as_secs_f64()), ..Timing::default() })
    }

    /// Puts the weights of the best evaluation in place, when they are kept and there are any.
    pub(crate) fn take_best_weights(&mut self) -> Result<(), TrainError> {
        let dir = self.folder.checkpoints().join("best");
        if self.config.training.save_checkpoint != SaveCheckpoint::Best || !dir.is_dir() {
            return Ok(());
        }
        let Some(best) = self.state.best else { return Ok(()) };
        self.journal.note(
            NoteLevel::Info,
            &format!("taking the weights of step {}, the best evaluation", best.step),
        )?;
        checkpoint::load_weights(&dir, &mut self.model)
    }

    /// The epoch, from 1, that the last micro-batch belongs to; 0 before the first.
    fn epoch(&self) -> usize {
        self.state.epoch_idx + usize::from(self.state.micro_batch_idx > 0)
    }
}

/// Which of the checkpoints of `steps`, in ascending order, are too many: all but the newest `limit`, of which one is that of
/// the step `best` where there is such a checkpoint. The newest is never one of them.
fn superfluous(steps: &[u64], best: Option<u64>, limit: usize) -> Vec<u64> {
    let is_best = |step: &u64| best == Some(*step);
    let n_others = limit.saturating_sub(usize::from(steps.iter().any(is_best)));
    let newest = steps.last().copied();
    let others: Vec<u64> = steps.iter().copied().filter(|step| !is_best(step)).collect();
    let n_removed = others.len().saturating_sub(n_others);
    others.into_iter().take(n_removed).filter(|step| Some(*step) != newest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_checkpoints_and_the_best_one_stay() {
        let steps = [2, 4, 6, 8, 10];
        assert_eq!(superfluous(&steps, None, 2), [2, 4, 6]);
        assert_eq!(superfluous(&steps, Some(4), 2), [2, 6, 8]);
        assert_eq!(superfluous(&steps, Some(10), 2), [2, 4, 6]);
        assert_eq!(superfluous(&steps, Some(7), 2), [2, 4, 6], "the best evaluation has no checkpoint");
        // The best and the newest are two.
        assert_eq!(superfluous(&steps, Some(4), 1), [2, 6, 8]);
        assert_eq!(superfluous(&steps, Some(10), 1), [2, 4, 6, 8]);
        assert_eq!(superfluous(&steps, None, 5), Vec::<u64>::new());
        assert_eq!(superfluous(&[], Some(1), 1), Vec::<u64>::new());
    }
}
