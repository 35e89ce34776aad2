//! One shape for everything that goes wrong, inside and on the wire.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tunesmith_config::ConfigError;
use tunesmith_data::DataError;
use tunesmith_formats::FormatError;
use tunesmith_sources::SourceError;
use tunesmith_store::StoreError;
use utoipa::ToSchema;

/// Result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

/// A refusal or failure, as a client sees it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// A word for programs, such as `not_found`.
    pub code: Cow<'static, str>,
    /// What went wrong, as a sentence for people.
    pub message: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// Facts for programs; in a box, since errors are moved about more often than they are looked at.
    pub details: Option<Box<Value>>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error itself.
    pub error: ErrorContent,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ErrorContent {
    /// A word for programs, such as `not_found`.
    pub code: String,
    /// What went wrong, as a sentence for people.
    pub message: String,
    /// What can be done about it.
    #[schema(required)]
    pub hint: Option<String>,
    /// Facts for programs.
    #[schema(required, value_type = Option<BTreeMap<String, Value>>)]
    pub details: Option<Value>,
}

impl ApiError {
    /// An error of that status and code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), hint: None, details: None }
    }

    /// 400: the request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 409: what exists stands in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 422: understood, but the content cannot be used.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// 500: not the client's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    /// What a job that was told to stop ends with.
    pub fn cancelled() -> Self {
        Self::new(StatusCode::CONFLICT, "cancelled", "cancelled")
    }

    /// An operation on a file that the system refused.
    pub fn io(path: &std::path::Path, action: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let message = format!("{}: cannot {action}: {error}", path.display());
        match error.kind() {
            ErrorKind::NotFound => Self::not_found(message),
            ErrorKind::PermissionDenied => Self::new(StatusCode::FORBIDDEN, "forbidden", message)
                .hint("the studio runs as a user who may not do that"),
            ErrorKind::StorageFull => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message)
                .hint("make room on the disk: Settings, Storage lists what can go"),
            _ => Self::internal(message),
        }
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As [`Self::hint`], where there is one.
    #[must_use]
    pub fn hint_if(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// Adds facts for programs.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The part that is sent.
    pub fn content(&self) -> ErrorContent {
        let Self { code, message, hint, details, .. } = self.clone();
        ErrorContent { code: code.into_owned(), message, hint, details: details.map(|details| *details) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(ErrorBody { error: self.content() })).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error.to_string()).hint_if(error.hint())
    }
}

impl From<DataError> for ApiError {
    fn from(error: DataError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "data", error.to_string()) }
    }
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        let hint = error.hint();
        Self { hint, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "config", error.to_string()) }
    }
}

impl From<FormatError> for ApiError {
    fn from(error: FormatError) -> Self {
        let hint = error.hint();
        let (status, code) = match &error {
            FormatError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
            FormatError::NotOnHub { .. } => (StatusCode::NOT_FOUND, "not_found"),
            FormatError::AccessRefused { .. } => (StatusCode::FORBIDDEN, "access_refused"),
            FormatError::Io { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "format"),
        };
        Self { hint, ..Self::new(status, code, error.to_string()) }
    }
}

impl From<SourceError> for ApiError {
    fn from(error: SourceError) -> Self {
        let (status, code) = match &error {
            SourceError::Data(_) => (StatusCode::UNPROCESSABLE_ENTITY, "data"),
            SourceError::Io { path, action, source } => return Self::io(path, action, source),
            SourceError::Cancelled => return Self::cancelled(),
            SourceError::Address { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            SourceError::Unreachable { .. } => (StatusCode::BAD_GATEWAY, "unreachable"),
            SourceError::Refused { .. } => (StatusCode::FORBIDDEN, "access_refused"),
            SourceError::Busy { .. } => (StatusCode::CONFLICT, "conflict"),
            SourceError::TooLarge { .. } => {
                return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
                    .hint("raise the upload limit in Settings, or take a part of it");
            }
            _ => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        };
        let hint = match (&error, error.hint()) {
            (SourceError::Refused { .. }, Some(hint)) => Some(format!("{hint}; see Settings, Secrets")),
            (_, hint) => hint,
        };
        Self { hint, ..Self::new(status, code, error.to_string()) }
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(format!("a task of the server broke off: {error}"))
    }
}
