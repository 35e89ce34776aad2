//! Jobs: work that takes longer than a request should, with progress, an end and a way to cancel.
//!
//! A job is work on a thread of its own that looks at [`JobContext::check`] now and then. What it does is told as events;
//! the last ones are remembered until the server ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::{ApiError, ApiResult, ErrorContent};
use crate::events::{EventBus, GlobalEvent};
use crate::state::AppState;

/// Ended jobs that are remembered.
const MAX_ENDED: usize = 50;
/// Progress is told at most this often.
const PROGRESS_PERIOD: Duration = Duration::from_millis(200);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Fetch tables and look into them.
    Import,
    /// Write the sample data set and fetch the sample model.
    Sample,
    /// Fetch a model.
    DownloadModel,
    /// Write a model for use elsewhere.
    Export,
    /// Count over a data set.
    Statistics,
    /// Turn rows into tokens.
    Tokens,
    /// Estimate memory and time.
    Forecast,
    /// Delete what is not needed.
    Cleanup,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It works.
    Running,
    /// It did what it should.
    Done,
    /// It could not.
    Failed,
    /// It was told to stop.
    Cancelled,
}

/// A job as clients see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// What it does.
    pub kind: JobKind,
    /// What it does, in words.
    pub label: String,
    /// How far it is.
    pub state: JobState,
    /// Bytes done, where bytes are what is counted.
    #[schema(required)]
    pub done_bytes: Option<u64>,
    /// Bytes to do, where that is known.
    #[schema(required)]
    pub total_bytes: Option<u64>,
    /// Part of the work that is done, 0 to 1.
    #[schema(required)]
    pub share: Option<f64>,
    /// What it is doing.
    pub message: String,
    /// Why it failed.
    #[schema(required)]
    pub error: Option<ErrorContent>,
    /// What it made.
    #[schema(required, value_type = Option<BTreeMap<String, Value>>)]
    pub result: Option<Value>,
    /// When it began.
    pub started_unix_secs: f64,
    /// When it ended.
    #[schema(required)]
    pub finished_unix_secs: Option<f64>,
}

struct Entry {
    job: Job,
    cancel: Arc<AtomicBool>,
}

/// All jobs of this server.
#[derive(Clone)]
pub struct Jobs {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    counter: Arc<AtomicU64>,
    events: EventBus,
}

/// What a job's work has at hand.
#[derive(Clone)]
pub struct JobContext {
    number: u64,
    jobs: Jobs,
    cancel: Arc<AtomicBool>,
    last_told: Arc<Mutex<Option<Instant>>>,
}

impl Jobs {
    /// No jobs yet; what happens is told on `events`.
    pub fn new(events: EventBus) -> Self {
        Self { entries: Arc::default(), counter: Arc::default(), events }
    }

    /// Starts work on a thread for blocking things. Its value becomes the job's result.
    pub fn start<F>(&self, kind: JobKind, label: impl Into<String>, work: F) -> Job
    where
        F: FnOnce(&JobContext) -> ApiResult<Value> + Send + 'static,
    {
        let (job, context) = self.enter(kind, label.into());
        let jobs = self.clone();
        tokio::spawn(async move {
            let number = context.number;
            let outcome = tokio::task::spawn_blocking(move || work(&context)).await;
            jobs.end(number, outcome.unwrap_or_else(|error| Err(error.into())));
        });
        job
    }

    /// The running jobs and the last that ended; newest first.
    pub fn list(&self) -> Vec<Job> {
        self.lock().values().rev().map(|entry| entry.job.clone()).collect()
    }

    /// One job.
    pub fn get(&self, id: &str) -> Option<Job> {
        let number = id.parse().ok()?;
        self.lock().get(&number).map(|entry| entry.job.clone())
    }

    /// Asks a job to stop. One that has ended stays as it is.
    pub fn cancel(&self, id: &str) -> Option<Job> {
        let number = id.parse().ok()?;
        let entries = self.lock();
        let entry = entries.get(&number)?;
        entry.cancel.store(true, Ordering::Relaxed);
        Some(entry.job.clone())
    }

    /// Asks all jobs to stop: the server ends.
    pub fn cancel_all(&self) {
        self.lock().values().for_each(|entry| entry.cancel.store(true, Ordering::Relaxed));
    }

    fn enter(&self, kind: JobKind, label: String) -> (Job, JobContext) {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Job {
            id: number.to_string(),
            kind,
            label,
            state: JobState::Running,
            done_bytes: None,
            total_bytes: None,
            share: None,
            message: String::new(),
            error: None,
            result: None,
            started_unix_secs: unix_secs(),
            finished_unix_secs: None,
        };
        let cancel = Arc::new(AtomicBool::new(false));
        self.lock().insert(number, Entry { job: job.clone(), cancel: Arc::clone(&cancel) });
        self.events.publish(GlobalEvent::Job(Box::new(job.clone())));
        (job, JobContext { number, jobs: self.clone(), cancel, last_told: Arc::default() })
    }

    fn end(&self, number: u64, outcome: ApiResult<Value>) {
        let mut entries = self.lock();
        let Some(Entry { job, .. }) = entries.get_mut(&number) else { return };
        job.finished_unix_secs = Some(unix_secs());
        match outcome {
            Ok(result) => {
                job.state = JobState::Done;
                job.share = Some(1.0);
                job.result = Some(result);
            }
            Err(error) if error.code == ApiError::cancelled().code => job.state = JobState::Cancelled,
            Err(error) => {
                job.state = JobState::Failed;
                job.error = Some(error.content());
            }
        }
        self.events.publish(GlobalEvent::Job(Box::new(job.clone())));
        let ended: Vec<u64> = entries
            .iter()
            .filter(|(_, entry)| entry.job.state != JobState::Running)
            .map(|(number, _)| *number)
            .collect();
        for number in ended.iter().take(ended.len().saturating_sub(MAX_ENDED)) {
            entries.remove(number);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").field("n_jobs", &self.lock().len()).finish_non_exhaustive()
    }
}

impl JobContext {
    /// Whether the job was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Fails when the job was told to stop.
    ///
    /// # Errors
    /// It was.
    pub fn check(&self) -> ApiResult<()> {
        if self.is_cancelled() { Err(ApiError::cancelled()) } else { Ok(()) }
    }

    /// Says what the job is doing.
    pub fn say(&self, message: impl Into<String>) {
        let message = message.into();
        self.change(true, |job| job.message = message);
    }

    /// Says how many bytes are done.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.change(false, |job| {
            job.done_bytes = Some(done);
            job.total_bytes = total;
            job.share = total.filter(|total| *total > 0).map(|total| (done as f64 / total as f64).min(1.0));
        });
    }

    /// Says what part of the work is done, 0 to 1.
    pub fn share(&self, share: f64) {
        self.change(false, |job| job.share = Some(share.clamp(0.0, 1.0)));
    }

    /// Changes the job, and tells it if it was not told just before or `is_told` demands it.
    fn change(&self, is_told: bool, change: impl FnOnce(&mut Job)) {
        let mut entries = self.jobs.lock();
        let Some(entry) = entries.get_mut(&self.number) else { return };
        change(&mut entry.job);
        let mut last_told = self.last_told.lock().unwrap_or_else(PoisonError::into_inner);
        if is_told || last_told.is_none_or(|told| told.elapsed() >= PROGRESS_PERIOD) {
            *last_told = Some(Instant::now());
            self.jobs.events.publish(GlobalEvent::Job(Box::new(entry.job.clone())));
        }
    }
}

/// Seconds since 1970.
pub fn unix_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(cancel))
}

/// Running jobs and the last 50 that ended, newest first
#[utoipa::path(get, path = "/jobs",
    operation_id = "list_jobs", tag = "jobs", responses((status = 200, body = Vec<Job>)))]
async fn list(State(state): State<AppState>) -> Json<Vec<Job>> {
    Json(state.jobs.list())
}

/// One job
#[utoipa::path(get, path = "/jobs/{id}",
    operation_id = "show_job", tag = "jobs", params(("id" = String, Path)), responses((status = 200, body = Job)))]
async fn show(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<Job>> {
    state.jobs.get(&id).map(Json).ok_or_else(|| unknown(&id))
}

/// Ask a job to stop
#[utoipa::path(post, path = "/jobs/{id}/cancel",
    operation_id = "cancel_job", tag = "jobs", params(("id" = String, Path)), responses((status = 202, body = Job)))]
async fn cancel(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<(StatusCode, Json<Job>)> {
    let job = state.jobs.cancel(&id).ok_or_else(|| unknown(&id))?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no job {id}; jobs are forgotten when the studio ends"))
}
