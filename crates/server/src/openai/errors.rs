//! Errors in OpenAI's shape.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::chat::Failed;
use crate::error::ApiError;

/// An error as OpenAI's clients read it.
#[derive(Debug)]
pub(super) struct OpenAiError {
    pub(super) status: u16,
    pub(super) message: String,
    /// The field of the request that is at fault.
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

    /// 400: what is asked for is not built.
    pub(super) fn unsupported(message: impl Into<String>, param: &str) -> Self {
        Self::new(400, message, Some(param), "unsupported_parameter")
    }

    /// The model that was asked for is none.
    pub(super) fn of_model(error: ApiError) -> Self {
        match error.status {
            StatusCode::NOT_FOUND => Self::new(404, sentence(&error), Some("model"), "model_not_found"),
            _ => error.into(),
        }
    }

    pub(super) fn body(&self) -> Value {
        let kind = if self.status < 500 { "invalid_request_error" } else { "server_error" };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl From<ApiError> for OpenAiError {
    fn from(error: ApiError) -> Self {
        Self::new(error.status.as_u16(), sentence(&error), None, &error.code)
    }
}

/// The model's process refused the request.
impl From<Failed> for OpenAiError {
    fn from(failed: Failed) -> Self {
        let hint = failed.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        let code = failed.code.as_deref().unwrap_or("invalid_request");
        Self::new(400, format!("{}{hint}", failed.message), failed.param.as_deref(), code)
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
