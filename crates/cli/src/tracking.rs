//! Experiment trackers at the side of a run: which one the configuration and the environment name, and how it comes along.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tunesmith_config::{ExperimentConfig, Logger};
use tunesmith_trackers::{
    Destination, Message, MlflowServer, RunInfo, TENSORBOARD_FOLDER, TrackerError, Tracking, WANDB_FOLDER,
    WandbRuns,
};
use tunesmith_train::{Event, EventBody, NoteLevel, Observer, RunRequest, RunStarted, utc_stamp};

use crate::failure::{Exit, Failure};
use crate::terminal::Terminal;

/// How long the end of the program waits for numbers that a tracker has not got.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the numbers of a run go besides its folder.
///
/// # Errors
/// The environment does not say where the server is.
pub(crate) fn destination(config: &ExperimentConfig, run_dir: &Path) -> Result<Option<Destination>, Failure> {
    match config.logging.logger {
        // That nothing is sent to Neptune is told with the other gaps.
        Logger::None | Logger::Neptune => Ok(None),
        Logger::Mlflow => {
            let variable = |name: &str| std::env::var(name).ok();
            let server = MlflowServer::from_variables(&config.logging.mlflow_experiment, variable)?;
            Ok(Some(Destination::Mlflow(server)))
        }
        Logger::TensorBoard => Ok(Some(Destination::TensorBoard(run_dir.join(TENSORBOARD_FOLDER)))),
        Logger::WeightsAndBiases => {
            let logging = &config.logging;
            let or_variable = |value: &str, name: &str| match value.trim() {
                "" => std::env::var(name).unwrap_or_default().trim().to_owned(),
                value => value.to_owned(),
            };
            Ok(Some(Destination::WeightsAndBiases(WandbRuns {
                folder: run_dir.join(WANDB_FOLDER),
                project: or_variable(&logging.wandb_project, "WANDB_PROJECT"),
                entity: or_variable(&logging.wandb_entity, "WANDB_ENTITY"),
                stamp: stamp(),
            })))
        }
    }
}

/// The time as `YYYYmmdd_HHMMSS`.
fn stamp() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let digits = |c: char| match c {
        'T' => Some('_'),
        c => c.is_ascii_digit().then_some(c),
    };
    utc_stamp(now).chars().filter_map(digits).collect()
}

impl From<TrackerError> for Failure {
    fn from(error: TrackerError) -> Self {
        Self::from_error(Exit::Usage, &error, error.hint().map(str::to_owned))
    }
}

/// Shows a run to somebody and has a tracker follow it.
pub(crate) struct Watcher<'a> {
    shown: &'a mut dyn Observer,
    tracking: Option<Tracking>,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(
        shown: &'a mut dyn Observer,
        destination: Option<Destination>,
        request: &RunRequest,
    ) -> Self {
        let tracking = destination.map(|destination| {
            let run = RunInfo {
                name: request.config.experiment_name.clone(),
                params: request.config.visible_values(),
            };
            Tracking::new(destination, &request.run_dir, run)
        });
        Self { shown, tracking }
    }

    /// Lets the tracker take what it has not got yet, and says what became of it.
    pub(crate) fn finish(self, terminal: &Terminal) {
        let Some(mut tracking) = self.tracking else { return };
        // A run that was finished before has had no event.
        tracking.begin();
        for Message { is_warning, text } in tracking.finish(PATIENCE) {
            if is_warning { terminal.warning(&text) } else { terminal.note(&text) }
        }
    }

    fn begin(&mut self) {
        if let Some(tracking) = &mut self.tracking {
            tracking.begin();
        }
    }
}

impl Observer for Watcher<'_> {
    fn event(&mut self, event: &Event) {
        if matches!(event.body, EventBody::RunStarted(_)) {
            self.begin();
        }
        self.shown.event(event);
    }

    fn resumed(&mut self, run: &RunStarted, step: u64) {
        self.begin();
        self.shown.resumed(run, step);
    }

    fn stage(&mut self, stage: &str) {
        self.shown.stage(stage);
    }

    fn micro_batch(&mut self, n_done: u64, n_total: u64) {
        self.shown.micro_batch(n_done, n_total);
    }

    fn evaluated(&mut self, n_done: usize, n_total: usize) {
        self.shown.evaluated(n_done, n_total);
    }

    fn remarks(&mut self) -> Vec<(NoteLevel, String)> {
        let messages = self.tracking.iter().flat_map(Tracking::messages);
        let level = |is_warning| if is_warning { NoteLevel::Warning } else { NoteLevel::Info };
        messages.map(|message| (level(message.is_warning), message.text)).collect()
    }

    fn note(&mut self, level: NoteLevel, text: &str) {
        self.shown.note(level, text);
    }
}
