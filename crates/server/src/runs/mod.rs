//! Training runs as child processes, their queue, and what their folders tell.

mod artifacts;
mod child;
mod dataset;
mod entry;
mod event_file;
mod event_stream;
mod experiment_file;
mod forecast;
mod grid;
mod prediction_table;
mod predictions;
mod process;
mod progress;
mod routes;
mod series;
mod status;
mod summary;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tunesmith_platform::gpu::{Detection, SystemProbe};
use tunesmith_store::ExperimentRecord;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use child::{last_words, run_json, run_to_end};
pub(crate) use experiment_file::{ExperimentFolder, config_of, read_json};
pub(crate) use supervisor::Supervisor;

use self::prediction_table::PredictionCache;
use self::supervisor::{Notice, RunsOptions, RunsPolicy, name_of};
use crate::error::{ApiError, ApiResult};
use crate::events::GlobalEvent;
use crate::secrets::HUGGING_FACE_TOKEN;
use crate::state::AppState;

/// The variable that names the folder of the users' own templates for judges.
const PROMPTS: &str = "TUNESMITH_PROMPTS";
/// How often it is looked what the runs do.
const TICK: Duration = Duration::from_millis(250);

/// What this module keeps in the shared state.
#[derive(Debug, Default)]
pub struct Runs {
    /// Set when the server starts.
    supervisor: OnceLock<Supervisor>,
    /// What is known of tables of predictions.
    predictions: PredictionCache,
}

impl Runs {
    /// The supervisor.
    ///
    /// # Errors
    /// Before [`start`], and when the work folder could not be read then.
    pub(crate) fn supervisor(&self) -> ApiResult<&Supervisor> {
        self.supervisor
            .get()
            .ok_or_else(|| ApiError::internal("the experiments of the work folder could not be read"))
    }
}

/// The routes of this module, below `/api/v1`.
pub fn router() -> OpenApiRouter<AppState> {
    routes::router()
        .merge(event_stream::router())
        .merge(artifacts::router())
        .merge(forecast::router())
        .merge(predictions::router())
}

/// Finds the experiments, and looks after them from now on.
pub async fn start(state: &AppState) {
    let of_thread = state.clone();
    let opened = tokio::task::spawn_blocking(move || open(&of_thread)).await;
    // What went wrong is told by every request for experiments.
    let Ok(Ok(supervisor)) = opened else { return };
    if state.runs.supervisor.set(supervisor).is_err() {
        return;
    }
    let state = state.clone();
    tokio::spawn(async move {
        let mut ended = std::pin::pin!(state.shutdown.wait());
        loop {
            let of_thread = state.clone();
            // A look that broke off is no reason not to look again.
            let _ = tokio::task::spawn_blocking(move || tick(&of_thread)).await;
            tokio::select! {
                () = &mut ended => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    });
}

/// Called once when the server ends. Runs go on.
pub async fn stop(_: &AppState) {}

fn open(state: &AppState) -> ApiResult<Supervisor> {
    let detection = Detection::of(&SystemProbe, &state.compiled_backends);
    let options = RunsOptions {
        folder: state.workdir.experiments(),
        program: state.program.clone(),
        default_device: detection.backend.device_name().to_owned(),
    };
    let queue = state.store.queue()?.into_iter().map(|record| record.id).collect();
    Supervisor::open(options, queue)
}

fn tick(state: &AppState) {
    let Ok(supervisor) = state.runs.supervisor() else { return };
    // Only who waits needs the rules and the secrets.
    if supervisor.has_waiting() {
        supervisor.set_policy(policy(state));
    }
    supervisor.tick();
    publish(state, supervisor);
}

/// The rules as the settings have them.
fn policy(state: &AppState) -> RunsPolicy {
    let settings = state.store.settings().unwrap_or_default();
    let number = |name: &str| settings.get(name).and_then(Value::as_u64);
    RunsPolicy {
        runs_per_device: number("runs_per_device").and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        is_queue_paused: settings.get("queue_paused").and_then(Value::as_bool).unwrap_or(false),
        environment: run_environment(state),
    }
}

/// Variables for training runs besides the server's own: those of other children, and what judges and trackers need.
fn run_environment(state: &AppState) -> Vec<(String, String)> {
    let mut variables = environment(state);
    if let Ok(secrets) = state.secrets.variables() {
        variables.extend(secrets);
    }
    if std::env::var_os(PROMPTS).is_none() {
        variables.push((PROMPTS.to_owned(), state.workdir.root().join("prompts").display().to_string()));
    }
    variables
}

/// Variables for child processes besides the server's own.
pub(crate) fn environment(state: &AppState) -> Vec<(String, String)> {
    let mut variables = vec![("TUNESMITH_CACHE".to_owned(), state.cache_dir.display().to_string())];
    // A secret that cannot be read is missed where it is needed, with a message of its own.
    if let Ok(Some(token)) = state.secrets.get(HUGGING_FACE_TOKEN) {
        variables.push(("HF_TOKEN".to_owned(), token));
    }
    variables
}

/// Tells the database and the listeners what has changed.
fn publish(state: &AppState, supervisor: &Supervisor) {
    for notice in supervisor.take_notices() {
        match notice {
            Notice::Deleted(id) => {
                // The database is an index; what fails here is put right by the next start.
                let _ = state.store.delete_experiment(&id);
                state.events.publish(GlobalEvent::ExperimentDeleted(id));
            }
            Notice::Changed(summary) => {
                let mut record = ExperimentRecord {
                    id: summary.id.clone(),
                    name: summary.name.clone(),
                    dataset_id: summary.dataset_id.clone(),
                    status: name_of(summary.status),
                    queue_position: summary.queue_position.map(|position| position as i64),
                    detail: json!({}),
                    created_unix_secs: summary.created_unix_secs,
                };
                if state.store.put_experiment(&record).is_err() {
                    // Its data set may be gone.
                    record.dataset_id = None;
                    let _ = state.store.put_experiment(&record);
                }
                state.events.publish(GlobalEvent::Experiment(json!(summary)));
            }
        }
    }
}

/// What is done at the same time. Actions are short; a thread for each of many clients that come at once would keep its memory.
static ACTIONS: Semaphore = Semaphore::const_new(4);

/// Does something with the experiments on a thread for blocking things, and tells what has changed by it.
pub(crate) async fn act<T: Send + 'static>(
    state: &AppState,
    what: impl FnOnce(&AppState, &Supervisor) -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    let state = state.clone();
    let _turn = ACTIONS.acquire().await.map_err(|error| ApiError::internal(error.to_string()))?;
    tokio::task::spawn_blocking(move || {
        let supervisor = state.runs.supervisor()?;
        let outcome = what(&state, supervisor);
        publish(&state, supervisor);
        outcome
    })
    .await?
}

/// A map of grid values as requests give it.
pub(crate) type GridValues = BTreeMap<String, Vec<Value>>;
