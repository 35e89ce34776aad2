//! The models that are loaded: few at a time, the one longest unused goes first, and none stays that nobody uses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tunesmith_platform::available_memory_bytes;

use super::models::ChatModel;
use super::worker::{Answers, Question, Ready, Stage, Worker};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// Models that are loaded at the same time.
const N_MODELS: usize = 2;
/// How long a model stays that nobody asks.
const IDLE: Duration = Duration::from_secs(600);
/// What a model takes besides its file: weights may be unpacked to wider numbers, and answers need room.
const MEMORY_PER_FILE: f64 = 1.3;

/// The loaded models by id.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    workers: Mutex<BTreeMap<String, Arc<Worker>>>,
}

impl Pool {
    /// What the model's worker said when it had loaded it; `None` if it is not loaded.
    pub(crate) fn ready(&self, id: &str) -> Option<Ready> {
        match self.lock().get(id)?.stage() {
            Stage::Ready(ready) => Some(ready),
            Stage::Loading | Stage::Ended(_) => None,
        }
    }

    /// Lets a model go.
    pub(crate) fn remove(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    /// Lets all go.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Lets those go that nobody has asked for long, and forgets those whose process ended.
    pub(crate) fn drop_idle(&self) {
        self.lock().retain(|_, worker| {
            let is_ended = matches!(worker.stage(), Stage::Ended(_));
            !is_ended && (worker.is_busy() || worker.used().elapsed() < IDLE)
        });
    }

    /// The worker of a model, started if need be; others make room for it.
    fn worker(&self, state: &AppState, model: &ChatModel) -> ApiResult<Arc<Worker>> {
        let mut workers = self.lock();
        if let Some(worker) = workers.get(&model.id)
            && !matches!(worker.stage(), Stage::Ended(_))
        {
            return Ok(Arc::clone(worker));
        }
        workers.remove(&model.id);
        while N_MODELS <= workers.len() {
            if !drop_oldest(&mut workers) {
                let message =
                    format!("{N_MODELS} models are answering now, and no more are loaded at a time");
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
                    .hint("wait until an answer is complete"));
            }
        }
        let needed = (MEMORY_PER_FILE * model.n_bytes as f64) as u64;
        while available_memory_bytes().is_some_and(|free| free < needed) {
            if !drop_oldest(&mut workers) {
                let free = available_memory_bytes().unwrap_or(0);
                let message = format!(
                    "{} needs about {:.1} GB of memory and {:.1} GB are free",
                    model.label,
                    needed as f64 / 1e9,
                    free as f64 / 1e9
                );
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_memory", message)
                    .hint("wait until running experiments have ended, or unload other models")
                    .details(json!({"needed_bytes": needed, "free_bytes": free})));
            }
            // Memory comes back when the process has gone.
            std::thread::sleep(Duration::from_millis(200));
        }
        let worker = Worker::start(&state.program, &model.args, &crate::runs::environment(state))?;
        workers.insert(model.id.clone(), Arc::clone(&worker));
        Ok(worker)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the model go that was unused longest, of those nobody waits for. Returns whether there was one.
fn drop_oldest(workers: &mut BTreeMap<String, Arc<Worker>>) -> bool {
    let idle = workers.iter().filter(|(_, worker)| !worker.is_busy() && worker.stage() != Stage::Loading);
    let oldest = idle.min_by_key(|(_, worker)| worker.used()).map(|(id, _)| id.clone());
    oldest.is_some_and(|id| workers.remove(&id).is_some())
}

/// Asks a model, which is loaded if need be: then the first piece takes a while. `on_loading` is called before that.
///
/// # Errors
/// No room for the model, or it cannot be loaded.
pub(crate) async fn ask(state: &AppState, model: &ChatModel, question: Question) -> ApiResult<Answers> {
    let (of_thread, of_model) = (state.clone(), model.clone());
    let handle = tokio::runtime::Handle::current();
    let worker = tokio::task::spawn_blocking(move || {
        let _runtime = handle.enter();
        of_thread.chat.pool.worker(&of_thread, &of_model)
    })
    .await??;
    if let Err(failed) = worker.ready().await {
        state.chat.pool.remove(&model.id);
        let message = format!("{} cannot be loaded: {}", model.label, failed.message);
        return Err(ApiError::invalid(message).hint_if(failed.hint));
    }
    Ok(worker.ask(question))
}

/// Whether a question to this model has to wait until it is loaded.
pub(crate) fn is_loaded(state: &AppState, id: &str) -> bool {
    state.chat.pool.ready(id).is_some()
}
