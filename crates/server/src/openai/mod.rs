//! The interface that OpenAI's clients speak, below `/v1`: models, chat completions and completions, streamed or whole.
//!
//! A model is an experiment's name or the name of a model in the cache. Every field of a request is used, or refused by its name
//! where it is not built ([`fields`] has the table); none is passed over that could change the answer.

mod answers;
mod errors;
mod fields;
mod logprobs;
mod messages;
mod requests;
mod sampling;
mod tools;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use self::answers::{Form, Head, stream_of, whole};
use self::errors::OpenAiError;
use self::requests::{Plan, chat_plan, completion_plan};
use crate::chat::{ChatModel, ask, chat_models, find_model};
use crate::state::AppState;

/// The routes of this module, below `/v1`. They are described by OpenAI, not by this program.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .route("/models", get(models))
        .route("/models/{*name}", get(model))
        .route("/chat/completions", post(chat_completions))
        .route("/completions", post(completions))
        .fallback(|| async { OpenAiError::new(404, "there is no such address below /v1", None, "not_found") })
}

async fn models(State(state): State<AppState>) -> Result<Response, OpenAiError> {
    let models: Vec<_> = chat_models(&state).await?.iter().map(described).collect();
    Ok(axum::Json(json!({"object": "list", "data": models})).into_response())
}

async fn model(State(state): State<AppState>, Path(name): Path<String>) -> Result<Response, OpenAiError> {
    let model = find_model(&state, &name).await.map_err(OpenAiError::of_model)?;
    Ok(axum::Json(described(&model)).into_response())
}

fn described(model: &ChatModel) -> serde_json::Value {
    let (name, created) = (&model.label, model.created_unix_secs);
    json!({"id": name, "object": "model", "created": created, "owned_by": "tunesmith"})
}

async fn chat_completions(State(state): State<AppState>, body: Bytes) -> Result<Response, OpenAiError> {
    answer(&state, Form::Chat, chat_plan(&body)?).await
}

async fn completions(State(state): State<AppState>, body: Bytes) -> Result<Response, OpenAiError> {
    answer(&state, Form::Completion, completion_plan(&body)?).await
}

async fn answer(state: &AppState, form: Form, plan: Plan) -> Result<Response, OpenAiError> {
    let model = find_model(state, &plan.model).await.map_err(OpenAiError::of_model)?;
    let head = Head::new(form, model.label.clone(), &plan);
    let answers = ask(state, &model, plan.question).await?;
    if plan.is_streamed {
        Ok(stream_of(head, answers, state.shutdown.wait()).await)
    } else {
        whole(head, answers).await
    }
}
