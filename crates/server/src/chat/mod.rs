//! Chat models in child processes that answer over pipes: which there are, and asking them.

mod defaults;
mod models;
mod pool;
mod routes;
mod worker;

use std::time::Duration;

use utoipa_axum::router::OpenApiRouter;

pub(crate) use models::{ChatModel, chat_models, find_model};
pub(crate) use pool::ask;
pub(crate) use worker::{Answer, Answers, Done, Failed, Part, Question};

use self::pool::Pool;
use crate::state::AppState;

/// How often it is looked for models that nobody uses.
const TICK: Duration = Duration::from_secs(5);

/// What this module keeps in the shared state.
#[derive(Debug, Default)]
pub struct Chat {
    pool: Pool,
}

/// The routes of this module, below `/api/v1`.
pub fn router() -> OpenApiRouter<AppState> {
    routes::router()
}

/// Looks after the loaded models from now on.
pub async fn start(state: &AppState) {
    let state = state.clone();
    tokio::spawn(async move {
        let mut ended = std::pin::pin!(state.shutdown.wait());
        loop {
            tokio::select! {
                () = &mut ended => return,
                () = tokio::time::sleep(TICK) => state.chat.pool.drop_idle(),
            }
        }
    });
}

/// Lets all models go; their processes end when their input does.
pub async fn stop(state: &AppState) {
    state.chat.pool.clear();
}

/// Lets a model go, if it is loaded.
pub(crate) async fn unload(state: &AppState, model: &str) -> bool {
    state.chat.pool.remove(model)
}
