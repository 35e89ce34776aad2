//! One run from configuration to result: the order of everything.
//!
//! Length: the order is read from top to bottom, and its steps are short.

use std::path::PathBuf;

use tunesmith_config::{ExperimentConfig, SaveCheckpoint};
use tunesmith_data::{Assembler, SampleSet, TrainingSet};
use tunesmith_formats::atomic::write_file;
use tunesmith_models::CausalLm;

use crate::activations::ActivationPlan;
use crate::checkpoint::{self, FoundCheckpoint};
use crate::clock::run_time;
use crate::collective::SingleProcess;
use crate::disk_space::{self, checkpoint_bytes};
use crate::error::TrainError;
use crate::events::{
    EndReason, EventBody, Export, ExportKind, NoteLevel, Observer, RunEnd, RunFailed, RunStarted, Timing,
};
use crate::export::{ExportReport, ModelFolderOptions, write_adapter_folder, write_model_folder};
use crate::export_template::exported_tokenizer;
use crate::extend;
use crate::forecast::MemoryForecast;
use crate::grading::JudgeEndpoint;
use crate::journal::Journal;
use crate::learning::{Learning, score_problem};
use crate::optimizer::Optimizer;
use crate::plan::RunPlan;
use crate::profile::Profiler;
use crate::record::RunRecord;
use crate::reference::{EpochReferences, References};
use crate::reference_store::ReferenceFile;
use crate::run_folder::RunFolder;
use crate::saved_run::base_name;
use crate::setup::{Prepared, choose_seed, prepare};
use crate::state::TrainState;
use crate::status::{RunStatus, Status};
use crate::stop::StopFlag;
use crate::summary::RunSummary;
use crate::trainer::{Outcome, Pace, Trainer};

/// What to run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The experiment.
    pub config: ExperimentConfig,
    /// The run folder; made when it is missing.
    pub run_dir: PathBuf,
    /// Continue the run that is in the folder, from its newest checkpoint; before the first one, or where there is no
    /// folder yet, from the start. Without this a folder that holds a run is refused.
    pub resume: bool,
    /// Folder or GGUF file of the base model, already on this machine.
    pub model_path: PathBuf,
    /// Where token samples are kept for other runs; `None` keeps none.
    pub cache_dir: Option<PathBuf>,
    /// Who grades answers where the metric is GPT; `None` lets Perplexity take its place, with a warning. Nobody else is
    /// reached over the network by a run.
    pub judge: Option<JudgeEndpoint>,
    /// What has to be free on the disk of the run folder before anything is done.
    pub least_free_disk_bytes: u64,
    /// Account for the time of the training steps in `profile.json`. Changes nothing that is computed.
    pub profile: bool,
}

/// Trains, evaluates and exports as the configuration says.
///
/// Reads the model, the data and the run folder, and writes to the run folder and the cache only. `stop` is looked at
/// between micro-batches: when it is raised, the run saves a checkpoint and returns with the status stopped. Resuming a
/// finished run returns its summary and does nothing, unless the configuration asks for more epochs or steps than before.
///
/// # Errors
/// Any [`TrainError`]. The failure is also written to the run folder: status file, log, and events once there are any.
pub fn run(
    request: &RunRequest,
    observer: &mut dyn Observer,
    stop: &StopFlag,
) -> Result<RunSummary, TrainError> {
    let folder = RunFolder::new(&request.run_dir);
    let _lock = folder.take(request.resume)?;
    let has_finished = has_finished(request, &folder);
    let goes_on = has_finished && has_other_length(request, &folder)?;
    if has_finished
        && !goes_on
        && let Some(summary) = RunSummary::read(&folder.summary())?
    {
        return Ok(summary);
    }
    let status = Status::read(&folder.status()).ok().flatten();
    let mut journal = Journal::open(&folder, observer)?;
    let result = work(request, &folder, goes_on, &mut journal, stop);
    if let Err(error) = &result {
        // The error itself is returned; that it cannot also be written down must not hide it.
        match status {
            // It is what it was: a finished run that does not go on.
            Some(status) if goes_on && !journal.has_events() => {
                journal.note(NoteLevel::Error, &error.to_string()).ok();
                status.write(&folder.status()).ok();
            }
            _ => {
                record_failure(&mut journal, error).ok();
            }
        }
    }
    result
}

/// Whether a request is to resume a run that is finished and would do nothing.
///
/// # Errors
/// When the run's record cannot be read.
pub fn is_finished(request: &RunRequest) -> Result<bool, TrainError> {
    let folder = RunFolder::new(&request.run_dir);
    Ok(has_finished(request, &folder) && !has_other_length(request, &folder)?)
}

/// Whether the run that is to be resumed has come to its end.
fn has_finished(request: &RunRequest, folder: &RunFolder) -> bool {
    // A damaged status file must not keep a run from being resumed.
    let status = Status::read(&folder.status()).ok().flatten();
    request.resume && status.is_some_and(|status| status.status == RunStatus::Finished)
}

/// Whether a run is to have another length than before.
fn has_other_length(request: &RunRequest, folder: &RunFolder) -> Result<bool, TrainError> {
    let stored = RunRecord::read(&folder.record())?;
    Ok(stored.is_some_and(|stored| stored.has_other_length(&request.config)))
}

/// The run from its newest checkpoint, or from the start; `goes_on` says whether it has come to its end before and is to have
/// another length.
fn work(
    request: &RunRequest,
    folder: &RunFolder,
    goes_on: bool,
    journal: &mut Journal<'_>,
    stop: &StopFlag,
) -> Result<RunSummary, TrainError> {
    let config = &request.config;
    disk_space::check(folder.root(), request.least_free_disk_bytes)?;
    let stored = RunRecord::read(&folder.record())?;
    let found = checkpoint::newest(&folder.checkpoints())?;
    if found.is_none() {
        if goes_on {
            let reason = "it kept no checkpoint".to_owned();
            return Err(TrainError::NothingToGoOn { path: folder.root().to_owned(), reason });
        }
        write_config(folder, config)?;
    }
    let seed = choose_seed(config.environment.seed, stored.as_ref().map(|record| record.seed));
    let prepared = prepare(request, seed, journal)?;
    let plan = &prepared.plan;
    let mut extension = None;
    let config = &prepared.config.clone();
    match (&stored, &found) {
        (Some(stored), Some(found)) => {
            check_unchanged(folder, stored, &prepared.record, journal)?;
            extension = extend::extension(folder, found, plan, goes_on)?;
        }
        (None, Some(found)) => {
            let reason = format!("it is missing, but there is a checkpoint at {}", found.path.display());
            return Err(TrainError::RunFile { path: folder.record(), reason });
        }
        (_, None) => prepared.record.write(&folder.record())?,
    }
    write_config(folder, config)?;

    journal.set_status(|status| status.n_steps = plan.n_steps())?;
    let Prepared {
        mut model,
        tokenizer,
        source,
        trainability,
        train,
        plan,
        longest_sample,
        validation,
        validation_conversations,
        judge,
        grader,
        record,
        config: _,
        device,
    } = prepared;
    if config.training.save_checkpoint != SaveCheckpoint::Disable {
        disk_space::check(folder.root(), checkpoint_bytes(model.parameters().n_trainable()))?;
    }
    let assembler = Assembler::new(config, &tokenizer)?;
    let asked = Reference { config, folder, record: &record, model: &model, stop };
    let train_references = asked.about_epochs(&train, plan.n_epochs(), journal)?;
    let validation_references = asked.about(&validation, journal)?;
    let mut optimizer = Optimizer::new(&config.training, model.parameters());
    let saved = found.as_ref().map(|found| found.state.progress());
    let started = run_started(config, &record, &plan, [train.unchanged(), &validation]);
    let state = match found {
        Some(found) => {
            checkpoint::load_weights(&found.path, &mut model)?;
            checkpoint::load_optimizer(&found.path, &mut optimizer, &found.state)?;
            continue_events(folder, journal, &found)?;
            if let Some(stored) = stored.filter(|stored| stored.has_other_length(config)) {
                RunRecord { config: record.config.clone(), ..stored }.write(&folder.record())?;
            }
            journal.observer().resumed(&started, found.state.step);
            if let Some(extended) = extension {
                journal.event(EventBody::RunExtended(extended), Timing::default())?;
            }
            found.state
        }
        None => {
            if request.resume {
                journal.note(NoteLevel::Info, "there is no checkpoint yet; starting from the beginning")?;
            }
            journal.open_events(0, 0.0)?;
            journal.event(EventBody::RunStarted(started), Timing::default())?;
            TrainState {
                format_version: TrainState::FORMAT_VERSION,
                is_evaluation_due: config.training.evaluate_before_training
                    || config.training.only_evaluates(),
                ..TrainState::default()
            }
        }
    };

    let forecast = MemoryForecast::of(&source, config, longest_sample, model.device());
    let free_bytes = device.free_memory_bytes();
    journal.note(NoteLevel::Info, &forecast.describe(free_bytes))?;
    let activations = ActivationPlan::of(config, &model, longest_sample, free_bytes);
    if let Some(note) = &activations.note {
        journal.note(NoteLevel::Info, note)?;
    }
    let compute = model.parameters().compute();
    let mut trainer = Trainer {
        config,
        folder,
        model,
        optimizer,
        recompute: activations.recompute,
        train: &train,
        validation: &validation,
        validation_conversations: &validation_conversations,
        assembler: &assembler,
        train_references: &train_references,
        validation_references: &validation_references,
        judge,
        grader: grader.as_ref(),
        plan,
        seed,
        state,
        journal,
        collective: &SingleProcess,
        stop,
        pace: Pace::start(saved),
        profiler: request.profile.then(|| Profiler::new(compute)),
    };
    let outcome = trainer.train()?;
    if let Some(profiler) = trainer.profiler.take() {
        profiler.finish().write(&folder.profile())?;
    }
    let mut summary = summary(request, &record, &trainer);
    if outcome == Outcome::Stopped {
        trainer.save_stopped()?;
        let Trainer { journal, state, plan, .. } = trainer;
        return end(folder, journal, &state, &plan, summary, RunStatus::Stopped);
    }
    trainer.take_best_weights()?;
    let Trainer { model, journal, state, plan, .. } = trainer;
    if !config.training.only_evaluates() && config.training.save_checkpoint != SaveCheckpoint::Disable {
        let (kind, dir) = match trainability.is_adapter_only() {
            true => (ExportKind::Adapter, folder.adapter()),
            false => (ExportKind::Model, folder.model()),
        };
        journal.stage(&format!("writing {} and reading it back", dir.display()))?;
        let report = match kind {
            ExportKind::Adapter => {
                let tokenizer = exported_tokenizer(config, &tokenizer)?;
                write_adapter_folder(model, &source, &tokenizer, &base_name(config, &source), &dir)?
            }
            ExportKind::Model => {
                let tokenizer = exported_tokenizer(config, &tokenizer)?;
                let options =
                    ModelFolderOptions { problem: score_problem(config), ..ModelFolderOptions::default() };
                write_model_folder(model, &source, &tokenizer, options, &dir)?
            }
        };
        let step = match (config.training.save_checkpoint, state.best) {
            (SaveCheckpoint::Best, Some(best)) => best.step,
            _ => state.step,
        };
        export_event(folder, journal, kind, step, &report)?;
        summary.worst_logit_difference = Some(report.worst_logit_difference);
        match kind {
            ExportKind::Adapter => summary.adapter_dir = Some(dir),
            ExportKind::Model => summary.model_dir = Some(dir),
        }
    }
    end(folder, journal, &state, &plan, summary, RunStatus::Finished)
}

fn write_config(folder: &RunFolder, config: &ExperimentConfig) -> Result<(), TrainError> {
    Ok(write_file(&folder.config(), config.to_yaml().as_bytes())?)
}

/// Refuses to continue another experiment, and notes another machine.
fn check_unchanged(
    folder: &RunFolder,
    stored: &RunRecord,
    now: &RunRecord,
    journal: &mut Journal<'_>,
) -> Result<(), TrainError> {
    let differences = stored.differences(now);
    if !differences.is_empty() {
        return Err(TrainError::Changed { path: folder.root().to_owned(), differences });
    }
    for difference in stored.machine_differences(now) {
        let text =
            format!("{difference}: the last bits of the results may differ from an uninterrupted run's");
        journal.note(NoteLevel::Warning, &text)?;
    }
    Ok(())
}

/// The model as the run starts, to be asked about comparisons; it says nothing where none are needed.
struct Reference<'a> {
    config: &'a ExperimentConfig,
    folder: &'a RunFolder,
    record: &'a RunRecord,
    model: &'a CausalLm,
    stop: &'a StopFlag,
}

impl Reference<'_> {
    /// What it thinks of the samples of each epoch.
    fn about_epochs(
        &self,
        train: &TrainingSet,
        n_epochs: usize,
        journal: &mut Journal<'_>,
    ) -> Result<EpochReferences, TrainError> {
        if !train.changes_rounds() {
            return Ok(EpochReferences::Same(self.about(train.unchanged(), journal)?));
        }
        let of_epoch = |epoch_idx| self.about(&*train.epoch(epoch_idx)?, journal);
        let epochs = (0..n_epochs).map(of_epoch);
        Ok(EpochReferences::Each(epochs.collect::<Result<_, _>>()?))
    }

    /// What it thinks of a set, or thought of it in an earlier process of the run.
    fn about(&self, set: &SampleSet, journal: &mut Journal<'_>) -> Result<References, TrainError> {
        if !Learning::of(self.config).needs_reference() || set.samples.is_empty() {
            return Ok(References::default());
        }
        let file = ReferenceFile::of(self.folder, self.config, self.record, &set.samples);
        if let Some(known) = file.read() {
            return Ok(known);
        }
        let n_samples = set.samples.len();
        journal.stage(&format!("asking the reference model about {n_samples} preferences"))?;
        let observer = journal.observer();
        let found = References::compute(self.model, &set.samples, self.config, self.stop, &mut |n_done| {
            observer.evaluated(n_done, n_samples);
        })?;
        // When the run is asked to stop meanwhile, it stops before it looks at them.
        let Some(found) = found else { return Ok(References::default()) };
        file.write(&found)?;
        Ok(found)
    }
}

/// Cuts the events back to where the checkpoint was written, and notes the resumption outside of them.
fn continue_events(
    folder: &RunFolder,
    journal: &mut Journal<'_>,
    found: &FoundCheckpoint,
) -> Result<(), TrainError> {
    let step = found.state.step;
    journal.open_events(found.state.events_bytes, found.state.run_secs)?;
    journal.set_status(|status| {
        status.step = step;
        status.resumed_at_steps.push(step);
    })?;
    let name = folder.relative(&found.path);
    journal.note(NoteLevel::Info, &format!("resumed at step {step} from {name}"))
}

fn run_started(
    config: &ExperimentConfig,
    record: &RunRecord,
    plan: &RunPlan,
    [train, validation]: [&SampleSet; 2],
) -> RunStarted {
    RunStarted {
        experiment_name: config.experiment_name.clone(),
        seed: record.seed,
        n_parameters: record.n_parameters,
        n_trainable_parameters: record.n_trainable_parameters,
        n_train_samples: train.samples.len(),
        n_train_tokens: train.samples.iter().map(|sample| sample.ids.len() as u64).sum(),
        n_validation_samples: validation.samples.len(),
        n_epochs: plan.n_epochs(),
        n_micro_batches: plan.n_micro_batches(),
        n_steps: plan.n_steps(),
    }
}

fn export_event(
    folder: &RunFolder,
    journal: &mut Journal<'_>,
    kind: ExportKind,
    step: u64,
    report: &ExportReport,
) -> Result<(), TrainError> {
    let body = EventBody::Export(Export {
        kind,
        path: folder.relative(&report.path),
        step,
        worst_logit_difference: report.worst_logit_difference,
        logit_difference_bound: report.logit_difference_bound,
    });
    journal.event(body, Timing { secs: Some(report.secs), ..Timing::default() })
}

fn summary(request: &RunRequest, record: &RunRecord, trainer: &Trainer<'_, '_>) -> RunSummary {
    let state = &trainer.state;
    RunSummary {
        status: RunStatus::Running,
        end_reason: trainer.end_reason(),
        n_skipped_steps: state.n_skipped_steps,
        run_dir: request.run_dir.clone(),
        seed: record.seed,
        n_steps_done: state.step,
        n_steps: trainer.plan.n_steps(),
        n_samples_seen: state.n_samples_seen,
        n_tokens_seen: state.n_tokens_seen,
        n_trainable_parameters: record.n_trainable_parameters,
        train_loss: state.train_loss.map(|loss| loss.0),
        validation_loss: state.validation.map(|validation| validation.loss.0),
        validation_perplexity: state
            .validation
            .and_then(|validation| validation.perplexity)
            .map(|perplexity| perplexity.0),
        metric: state.validation.map(|_| trainer.judge.name.to_owned()),
        validation_metric: state.validation.and_then(|validation| validation.metric).map(|metric| metric.0),
        best_metric: state.best.map(|best| best.metric.0),
        best_step: state.best.map(|best| best.step),
        adapter_dir: None,
        model_dir: None,
        worst_logit_difference: None,
        run_secs: 0.0,
        peak_memory_bytes: None,
    }
}

/// Writes the last event, the summary and the status of a run that ends without a failure.
fn end(
    folder: &RunFolder,
    journal: &mut Journal<'_>,
    state: &TrainState,
    plan: &RunPlan,
    summary: RunSummary,
    status: RunStatus,
) -> Result<RunSummary, TrainError> {
    let end = RunEnd {
        reason: summary.end_reason,
        n_skipped_steps: summary.n_skipped_steps,
        step: state.step,
        n_steps: plan.n_steps(),
        train_loss: summary.train_loss,
        validation_loss: summary.validation_loss,
        validation_perplexity: summary.validation_perplexity,
        metric: summary.metric.clone(),
        validation_metric: summary.validation_metric,
        best_metric: summary.best_metric,
        best_step: summary.best_step,
    };
    let is_finished = status == RunStatus::Finished;
    let body = if is_finished { EventBody::RunFinished(end) } else { EventBody::RunStopped(end) };
    journal.event(body, Timing::default())?;
    let run_secs = journal.run_secs();
    let peak_memory_bytes = tunesmith_platform::peak_memory_bytes();
    let summary = RunSummary { status, run_secs, peak_memory_bytes, ..summary };
    if is_finished {
        summary.write(&folder.summary())?;
    }
    journal.set_status(|file| {
        file.status = status;
        file.info = format!("Runtime: {}", run_time(run_secs));
        file.step = state.step;
    })?;
    let what = if is_finished { "finished" } else { "stopped" };
    let why = match summary.end_reason {
        EndReason::EarlyStopping => format!(
            ": {} evaluations brought nothing better (training.early_stopping_patience)",
            state.early_stopping.n_without_improvement
        ),
        EndReason::AllSteps | EndReason::Asked => String::new(),
    };
    journal.note(NoteLevel::Info, &format!("{what} at step {} of {}{why}", state.step, plan.n_steps()))?;
    if state.n_skipped_steps > 0 {
        let text = format!(
            "{} of these steps were left out because their loss or gradient was not finite",
            state.n_skipped_steps
        );
        journal.note(NoteLevel::Warning, &text)?;
    }
    Ok(summary)
}

fn record_failure(journal: &mut Journal<'_>, error: &TrainError) -> Result<(), TrainError> {
    let (failure, message, hint) = (error.failure().as_str().to_owned(), error.to_string(), error.hint());
    journal.set_status(|status| {
        status.status = RunStatus::Failed;
        status.info.clone_from(&failure);
        status.message = Some(message.clone());
        status.hint.clone_from(&hint);
    })?;
    journal.note(NoteLevel::Error, &message)?;
    journal.event(EventBody::RunFailed(RunFailed { failure, message, hint }), Timing::default())
}
