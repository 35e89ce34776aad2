//! Where a run says what it does: events to file and observer, notes to the log, how it stands to the status file.

use std::time::Instant;

use crate::clock::unix_secs;
use crate::error::TrainError;
use crate::event_log::EventLog;
use crate::events::{Event, EventBody, NoteLevel, Observer, Timing};
use crate::run_folder::RunFolder;
use crate::run_log::RunLog;
use crate::status::{RunStatus, Status};

/// The open files of a run and who watches it.
pub(crate) struct Journal<'a> {
    folder: RunFolder,
    events: Option<EventLog>,
    log: RunLog,
    status: Status,
    observer: &'a mut dyn Observer,
    started: Instant,
    earlier_secs: f64,
}

impl<'a> Journal<'a> {
    /// Opens the log of `folder` and marks the run as running. Events need [`Self::open_events`] first.
    pub(crate) fn open(folder: &RunFolder, observer: &'a mut dyn Observer) -> Result<Self, TrainError> {
        // A damaged status file must not keep a run from being resumed; it only loses the list of resumptions.
        let resumed_at_steps = match Status::read(&folder.status()) {
            Ok(Some(status)) => status.resumed_at_steps,
            Ok(None) | Err(_) => Vec::new(),
        };
        let status = Status {
            status: RunStatus::Running,
            info: String::new(),
            message: None,
            hint: None,
            process_id: std::process::id(),
            process_started_unix_secs: unix_secs(),
            step: 0,
            n_steps: 0,
            resumed_at_steps,
        };
        status.write(&folder.status())?;
        let log = RunLog::open(&folder.log())?;
        let started = Instant::now();
        Ok(Self { folder: folder.clone(), events: None, log, status, observer, started, earlier_secs: 0.0 })
    }

    /// Whether events are written yet.
    pub(crate) fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Opens the event file, keeping its first `n_bytes`; `earlier_secs` is the work of earlier processes.
    pub(crate) fn open_events(&mut self, n_bytes: u64, earlier_secs: f64) -> Result<(), TrainError> {
        self.events = Some(EventLog::open_at(&self.folder.events(), n_bytes)?);
        self.earlier_secs = earlier_secs;
        Ok(())
    }

    /// Writes an event and shows it to the observer. `timing` needs only what this event knows by itself.
    pub(crate) fn event(&mut self, body: EventBody, timing: Timing) -> Result<(), TrainError> {
        let timing = Timing {
            unix_secs: unix_secs(),
            run_secs: self.run_secs(),
            peak_memory_bytes: tunesmith_platform::peak_memory_bytes(),
            ..timing
        };
        let event = Event { body, timing };
        if let Some(events) = &mut self.events {
            events.append(&event)?;
        }
        if let Some(line) = log_line(&event.body) {
            self.log.line(NoteLevel::Info, &line)?;
        }
        self.observer.event(&event);
        for (level, text) in self.observer.remarks() {
            self.note(level, &text)?;
        }
        Ok(())
    }

    /// Length of the event file, which is on the disk when this returns.
    pub(crate) fn synced_events_bytes(&self) -> Result<u64, TrainError> {
        let Some(events) = &self.events else { return Ok(0) };
        events.sync()?;
        Ok(events.n_bytes())
    }

    /// Seconds of work on the run, by this process and earlier ones.
    pub(crate) fn run_secs(&self) -> f64 {
        self.earlier_secs + self.started.elapsed().as_secs_f64()
    }

    /// A line for the log and the observer.
    pub(crate) fn note(&mut self, level: NoteLevel, text: &str) -> Result<(), TrainError> {
        self.log.line(level, text)?;
        self.observer.note(level, text);
        Ok(())
    }

    /// A longer stage begins.
    pub(crate) fn stage(&mut self, stage: &str) -> Result<(), TrainError> {
        self.log.line(NoteLevel::Info, stage)?;
        self.observer.stage(stage);
        Ok(())
    }

    pub(crate) fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// Changes the status and writes it.
    pub(crate) fn set_status(&mut self, change: impl FnOnce(&mut Status)) -> Result<(), TrainError> {
        change(&mut self.status);
        self.status.write(&self.folder.status())
    }
}

/// What the log says about an event. Steps are left to the event file, and how the run ends has lines of its own.
fn log_line(body: &EventBody) -> Option<String> {
    match body {
        EventBody::RunStarted(run) => Some(format!(
            "training {} of {} parameters on {} samples in {} steps, seed {}",
            run.n_trainable_parameters, run.n_parameters, run.n_train_samples, run.n_steps, run.seed
        )),
        EventBody::Evaluation(evaluation) => Some(format!(
            "step {}: validation loss {:.6}, {} {} over {} samples",
            evaluation.step,
            evaluation.loss,
            evaluation.metric,
            evaluation.metric_value.map_or("undefined".to_owned(), |value| format!("{value:.6}")),
            evaluation.n_samples
        )),
        EventBody::Checkpoint(checkpoint) => {
            Some(format!("step {}: wrote {}", checkpoint.step, checkpoint.path))
        }
        EventBody::Export(export) => Some(format!(
            "wrote {}; its logits differ by at most {:e} (bound {:e})",
            export.path, export.worst_logit_difference, export.logit_difference_bound
        )),
        EventBody::RunExtended(extended) => {
            Some(format!("going on after step {} with {} steps in all", extended.step, extended.n_steps))
        }
        // A warning says more of a step that was left out.
        EventBody::Step(_)
        | EventBody::StepSkipped(_)
        | EventBody::RunFinished(_)
        | EventBody::RunStopped(_)
        | EventBody::RunFailed(_) => None,
    }
}
