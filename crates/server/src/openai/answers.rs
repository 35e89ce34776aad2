//! Answers and errors in the shapes that OpenAI's clients expect.

use std::convert::Infallible;

use axum::Json;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::chat::{Answer, Answers, Done};
use crate::error::ApiError;
use crate::jobs::unix_secs;

/// Which of the two interfaces is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Chat,
    Completion,
}

/// An error in OpenAI's shape.
#[derive(Debug)]
pub(super) struct OpenAiError {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) param: Option<String>,
    pub(super) code: String,
}

impl OpenAiError {
    pub(super) fn new(status: u16, message: impl Into<String>, param: Option<&str>, code: &str) -> Self {
        Self { status, message: message.into(), param: param.map(str::to_owned), code: code.to_owned() }
    }

    /// 400: the request cannot be done.
    pub(super) fn invalid(message: impl Into<String>, param: Option<&str>) -> Self {
        Self::new(400, message, param, "invalid_request")
    }

    /// The model that was asked for is none.
    pub(super) fn of_model(error: ApiError) -> Self {
        match error.status {
            StatusCode::NOT_FOUND => Self::new(404, sentence(&error), Some("model"), "model_not_found"),
            _ => error.into(),
        }
    }

    fn body(&self) -> Value {
        let kind = if self.status < 500 { "invalid_request_error" } else { "server_error" };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<ApiError> for OpenAiError {
    fn from(error: ApiError) -> Self {
        Self::new(error.status.as_u16(), sentence(&error), None, &error.code)
    }
}

fn sentence(error: &ApiError) -> String {
    match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body())).into_response()
    }
}

/// What all pieces of an answer have in common.
#[derive(Clone, Debug)]
struct Head {
    form: Form,
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn new(form: Form, model: String) -> Self {
        let mut bytes = [0_u8; 12];
        // Without randomness ids may repeat, which no client minds.
        let _ = getrandom::fill(&mut bytes);
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let prefix = if form == Form::Chat { "chatcmpl" } else { "cmpl" };
        Self { form, id: format!("{prefix}-{name}"), created: unix_secs() as u64, model }
    }

    fn wrap(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut body = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let (Some(body), Some(usage)) = (body.as_object_mut(), usage) {
            body.insert("usage".to_owned(), usage);
        }
        body
    }

    /// A piece of a streamed answer.
    fn chunk(&self, text: Option<&str>, is_first: bool, finish: Option<&str>) -> Value {
        let choice = match self.form {
            Form::Chat => {
                let mut delta = json!({});
                if is_first {
                    delta["role"] = json!("assistant");
                }
                if let Some(text) = text {
                    delta["content"] = json!(text);
                }
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish})
            }
            Form::Completion => {
                json!({"index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish})
            }
        };
        let object = if self.form == Form::Chat { "chat.completion.chunk" } else { "text_completion" };
        self.wrap(object, json!([choice]), None)
    }

    fn usage_chunk(&self, done: &Done) -> Value {
        let object = if self.form == Form::Chat { "chat.completion.chunk" } else { "text_completion" };
        self.wrap(object, json!([]), Some(usage(done)))
    }

    fn whole(&self, text: &str, done: &Done) -> Value {
        let finish = finish_reason(done);
        let (object, choice) = match self.form {
            Form::Chat => (
                "chat.completion",
                json!({"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": null, "finish_reason": finish}),
            ),
            Form::Completion => (
                "text_completion",
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish}),
            ),
        };
        self.wrap(object, json!([choice]), Some(usage(done)))
    }
}

fn usage(done: &Done) -> Value {
    json!({
        "prompt_tokens": done.n_prompt_tokens,
        "completion_tokens": done.n_new_tokens,
        "total_tokens": done.n_prompt_tokens + done.n_new_tokens,
    })
}

fn finish_reason(done: &Done) -> &'static str {
    match done.finish.as_str() {
        "max_new_tokens" | "time_limit" => "length",
        _ => "stop",
    }
}

/// The answer in one piece.
pub(super) async fn whole(form: Form, model: String, mut answers: Answers) -> Result<Response, OpenAiError> {
    let head = Head::new(form, model);
    let mut text = String::new();
    loop {
        match answers.next().await {
            Some(Answer::Text(piece)) => text.push_str(&piece),
            Some(Answer::Done(done)) => return Ok(Json(head.whole(&text, &done)).into_response()),
            Some(Answer::Failed(failed)) => {
                let hint = failed.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                return Err(OpenAiError::invalid(format!("{}{hint}", failed.message), None));
            }
            None => return Err(OpenAiError::new(500, "the answer broke off", None, "internal")),
        }
    }
}

/// The answer as it is made. An error before the first piece is an error of the request; a later one ends the stream.
pub(super) async fn stream_of(
    form: Form,
    model: String,
    mut answers: Answers,
    has_usage: bool,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Response {
    let head = Head::new(form, model);
    let first = answers.next().await;
    if let Some(Answer::Failed(failed)) = first {
        let hint = failed.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        return OpenAiError::invalid(format!("{}{hint}", failed.message), None).into_response();
    }
    let opening = (head.form == Form::Chat).then(|| data(&head.chunk(Some(""), true, None)));
    let of_first = first.map(|answer| pieces(&head, answer, has_usage)).unwrap_or_default();
    let rest = stream::unfold((head, answers), move |(head, mut answers)| async move {
        let answer = answers.next().await?;
        Some((pieces(&head, answer, has_usage), (head, answers)))
    });
    let all = stream::iter(opening.into_iter().chain(of_first)).chain(rest.flat_map(stream::iter));
    let events = all.take_until(ended).map(Ok::<Event, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new()).into_response()
}

fn pieces(head: &Head, answer: Answer, has_usage: bool) -> Vec<Event> {
    match answer {
        Answer::Text(text) => vec![data(&head.chunk(Some(&text), false, None))],
        Answer::Done(done) => {
            let mut last = vec![data(&head.chunk(None, false, Some(finish_reason(&done))))];
            if has_usage {
                last.push(data(&head.usage_chunk(&done)));
            }
            last.push(Event::default().data("[DONE]"));
            last
        }
        Answer::Failed(failed) => {
            vec![data(&OpenAiError::new(500, failed.message, None, "broke_off").body())]
        }
    }
}

fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
