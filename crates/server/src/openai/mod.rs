//! The interface that OpenAI's clients speak, below `/v1`: models, chat completions and completions, streamed or whole.
//!
//! A model is an experiment's name or the name of a model in the cache. What is not built is refused, not passed over: more
//! than one choice, tools, images, log probabilities.

mod answers;
mod requests;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use self::answers::{Form, OpenAiError, stream_of, whole};
use self::requests::{ChatCompletion, Completion};
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
    let request = ChatCompletion::parse(&body)?;
    let plan = request.plan()?;
    answer(&state, Form::Chat, plan).await
}

async fn completions(State(state): State<AppState>, body: Bytes) -> Result<Response, OpenAiError> {
    let request = Completion::parse(&body)?;
    let plan = request.plan()?;
    answer(&state, Form::Completion, plan).await
}

async fn answer(state: &AppState, form: Form, plan: requests::Plan) -> Result<Response, OpenAiError> {
    let model = find_model(state, &plan.model).await.map_err(OpenAiError::of_model)?;
    let answers = ask(state, &model, plan.question).await?;
    if plan.is_streamed {
        Ok(stream_of(form, model.label, answers, plan.has_usage, state.shutdown.wait()).await)
    } else {
        whole(form, model.label, answers).await
    }
}
