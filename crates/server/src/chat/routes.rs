//! Chat over HTTP.

use std::convert::Infallible;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::defaults::{ChatDefaults, defaults_of};
use super::models::{ChatModel, chat_models, find_model};
use super::pool::{ask, is_loaded};
use super::worker::{Answer, Answers, Message, Question};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(chat))
        .routes(routes!(defaults))
        .routes(routes!(unload))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ChatRequest {
    /// Of `/chat/models`.
    model: String,
    messages: Vec<Message>,
    /// Fields of `prediction` by their bare names, and `seed` and `stop`.
    #[serde(default)]
    settings: Map<String, Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnloadRequest {
    model: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Unloaded {
    /// Whether it was loaded.
    was_loaded: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ModelQuery {
    model: String,
}

/// What one can chat with
#[utoipa::path(get, path = "/chat/models",
    operation_id = "list_chat_models", tag = "chat", responses((status = 200, body = Vec<ChatModel>)))]
async fn models(State(state): State<AppState>) -> ApiResult<Json<Vec<ChatModel>>> {
    chat_models(&state).await.map(Json)
}

/// Asks a model; closing the request breaks the answer off
///
/// Server-sent events: `loading` ({message, share}) while the model is loaded, `text` ({text}), and at the end `done` or `error`
/// ({message, hint}).
#[utoipa::path(post, path = "/chat", operation_id = "chat", tag = "chat", request_body = ChatRequest,
    responses((status = 200, description = "a stream of server-sent events", content_type = "text/event-stream")))]
async fn chat(
    State(state): State<AppState>,
    Json(request): Json<ChatRequest>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let model = find_model(&state, &request.model).await?;
    let messages = request.messages.iter().map(|message| json!(message)).collect();
    let question = Question::Chat { messages, settings: without_absent(request.settings), api: None };
    let mut first = Vec::new();
    if !is_loaded(&state, &model.id) {
        first
            .push(Ok(sse("loading", &json!({"message": format!("loading {}", model.label), "share": null}))));
    }
    let ended = state.shutdown.wait();
    let rest =
        stream::unfold(
            Step::Ask(Box::new((state, model, question))),
            |step| async move { step.next().await },
        );
    Ok(Sse::new(stream::iter(first).chain(rest).take_until(ended)).keep_alive(KeepAlive::new()))
}

/// Where a conversation stands: dropped at any point, it is broken off.
enum Step {
    Ask(Box<(AppState, ChatModel, Question)>),
    Hear(Answers),
    End,
}

impl Step {
    async fn next(self) -> Option<(Result<Event, Infallible>, Self)> {
        let mut answers = match self {
            Self::Ask(parts) => {
                let (state, model, question) = *parts;
                match ask(&state, &model, question).await {
                    Ok(answers) => answers,
                    Err(error) => return Some((Ok(failed(&error)), Self::End)),
                }
            }
            Self::Hear(answers) => answers,
            Self::End => return None,
        };
        Some(match answers.next().await? {
            Answer::Part(part) => {
                (Ok(sse("text", &json!({"text": part.text.unwrap_or_default()}))), Self::Hear(answers))
            }
            Answer::Done(done) => (Ok(sse("done", &json!(done))), Self::End),
            Answer::Failed(failed) => (Ok(sse("error", &json!(failed))), Self::End),
        })
    }
}

fn sse(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

fn failed(error: &ApiError) -> Event {
    sse("error", &json!({"message": error.message, "hint": error.hint}))
}

/// Settings that are `null` are not set.
fn without_absent(settings: Map<String, Value>) -> Map<String, Value> {
    settings.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

/// How a model answers unless it is told otherwise, and what to ask it
#[utoipa::path(get, path = "/chat/defaults",
    operation_id = "show_chat_defaults", tag = "chat", params(ModelQuery),
    responses((status = 200, body = ChatDefaults)))]
async fn defaults(
    State(state): State<AppState>,
    Query(query): Query<ModelQuery>,
) -> ApiResult<Json<ChatDefaults>> {
    let model = find_model(&state, &query.model).await?;
    defaults_of(&state, model.experiment_id).await.map(Json)
}

/// Lets a model go
#[utoipa::path(post, path = "/chat/unload",
    operation_id = "unload_chat_model", tag = "chat", request_body = UnloadRequest,
    responses((status = 200, body = Unloaded)))]
async fn unload(State(state): State<AppState>, Json(request): Json<UnloadRequest>) -> Json<Unloaded> {
    Json(Unloaded { was_loaded: super::unload(&state, &request.model).await })
}
