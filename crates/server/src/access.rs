//! Who may do what: passwords and sessions, and protection from pages of other origins.
//!
//! Three guards, in this order. *Host*: without a password only this machine's own names are answered to, so that a foreign
//! page cannot reach the studio by a name that it points here (DNS rebinding); with one, such a page has no session. *Origin*:
//! what a page of another origin sends is refused, and changes need a header that such a page cannot set. *Session*: with a
//! password, a cookie that was given for it, or the password itself as bearer token.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::{ApiError, ApiResult};
use crate::secrets::{random_bytes, random_hex};
use crate::state::AppState;

const COOKIE_NAME: &str = "tunesmith_session";
/// Every request that changes something carries it.
const CHANGE_HEADER: &str = "x-tunesmith";
const SESSION_LIFE: Duration = Duration::from_secs(14 * 24 * 3600);
const MAX_SESSIONS: usize = 1_000;
/// Wrong passwords in [`FAILURE_WINDOW`] after which no other is looked at.
const MAX_FAILURES: usize = 5;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

type Fingerprint = [u8; 32];

/// The guards' memory.
#[derive(Default)]
pub struct Guard {
    password: Option<HashedPassword>,
    /// By the fingerprint of the cookie: what is kept here opens nothing.
    sessions: Mutex<HashMap<Fingerprint, Instant>>,
    failures: Mutex<VecDeque<Instant>>,
    /// A bearer token that was right; argon2 is too slow for every request.
    right_bearer: Mutex<Option<Fingerprint>>,
}

struct HashedPassword {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl Guard {
    /// Guards with a password, or without.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(password: Option<&str>) -> ApiResult<Self> {
        let password = match password {
            Some(password) => {
                let salt = random_bytes()?;
                Some(HashedPassword { salt, hash: hash(password, &salt)? })
            }
            None => None,
        };
        Ok(Self { password, ..Self::default() })
    }

    /// Whether there is a password.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether these headers open the door.
    pub fn is_let_in(&self, headers: &HeaderMap) -> bool {
        if self.password.is_none() {
            return true;
        }
        let has_session = session_cookie(headers).is_some_and(|cookie| {
            let sessions = lock(&self.sessions);
            sessions.get(&fingerprint(cookie)).is_some_and(|end| Instant::now() < *end)
        });
        has_session || self.has_right_bearer(headers)
    }

    fn has_right_bearer(&self, headers: &HeaderMap) -> bool {
        let Some(token) = text(headers, AUTHORIZATION.as_str()).and_then(|text| text.strip_prefix("Bearer "))
        else {
            return false;
        };
        let print = fingerprint(token.trim());
        if *lock(&self.right_bearer) == Some(print) {
            return true;
        }
        let is_right = self.try_password(token.trim()).is_ok();
        if is_right {
            *lock(&self.right_bearer) = Some(print);
        }
        is_right
    }

    /// Compares, counting failures.
    fn try_password(&self, password: &str) -> ApiResult<()> {
        let mut failures = lock(&self.failures);
        while failures.front().is_some_and(|failed| failed.elapsed() > FAILURE_WINDOW) {
            failures.pop_front();
        }
        if failures.len() >= MAX_FAILURES {
            let message = "too many wrong passwords; wait a minute";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message));
        }
        let is_right = match &self.password {
            // Fingerprints are compared, so the time tells nothing about how much of a hash was right.
            Some(known) => Sha256::digest(hash(password, &known.salt)?) == Sha256::digest(known.hash),
            None => true,
        };
        if is_right {
            return Ok(());
        }
        failures.push_back(Instant::now());
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_password", "this is not the password"))
    }

    fn begin_session(&self) -> ApiResult<String> {
        let cookie = random_hex(32)?;
        let mut sessions = lock(&self.sessions);
        let now = Instant::now();
        sessions.retain(|_, end| now < *end);
        if sessions.len() >= MAX_SESSIONS {
            sessions.clear();
        }
        sessions.insert(fingerprint(&cookie), now + SESSION_LIFE);
        Ok(cookie)
    }

    fn end_session(&self, headers: &HeaderMap) {
        if let Some(cookie) = session_cookie(headers) {
            lock(&self.sessions).remove(&fingerprint(cookie));
        }
    }
}

impl std::fmt::Debug for Guard {
    /// Shows nothing that opens anything.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("has_password", &self.has_password()).finish_non_exhaustive()
    }
}

/// Who one is to the studio.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    /// Whether a password is asked for.
    password_required: bool,
    /// Whether it was given, or none is asked for.
    authenticated: bool,
    /// Version of the program.
    version: String,
}

#[derive(Deserialize, ToSchema)]
struct Login {
    password: String,
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(show, log_in, log_out))
}

/// Whether a password is asked for, and was given
#[utoipa::path(get, path = "/session",
    operation_id = "show_session", tag = "session", responses((status = 200, body = Session)))]
async fn show(State(state): State<AppState>, headers: HeaderMap) -> Json<Session> {
    let is_let_in = tokio::task::spawn_blocking({
        let state = state.clone();
        move || state.guard.is_let_in(&headers)
    })
    .await
    .unwrap_or(false);
    Json(session(&state, is_let_in))
}

/// Give the password; sets a cookie
#[utoipa::path(post, path = "/session", operation_id = "log_in", tag = "session", request_body = Login,
    responses((status = 200, body = Session), (status = 401, body = crate::error::ErrorBody),
        (status = 429, description = "after 5 wrong ones in a minute", body = crate::error::ErrorBody)))]
async fn log_in(State(state): State<AppState>, Json(login): Json<Login>) -> ApiResult<Response> {
    let cookie = tokio::task::spawn_blocking({
        let state = state.clone();
        move || state.guard.try_password(&login.password).and_then(|()| state.guard.begin_session())
    })
    .await??;
    let cookie = format!(
        "{COOKIE_NAME}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        SESSION_LIFE.as_secs()
    );
    Ok(([(SET_COOKIE, cookie)], Json(session(&state, true))).into_response())
}

/// End the session
#[utoipa::path(delete, path = "/session",
    operation_id = "log_out", tag = "session", responses((status = 204)))]
async fn log_out(State(state): State<AppState>, headers: HeaderMap) -> Response {
    state.guard.end_session(&headers);
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

fn session(state: &AppState, authenticated: bool) -> Session {
    Session {
        password_required: state.guard.has_password(),
        authenticated,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Lets a request through, or refuses it.
pub(crate) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_openai = request.uri().path().starts_with("/v1");
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    let headers = request.headers().clone();
    match check(&state, &method, &path, authority.as_deref(), headers).await {
        Ok(()) => next.run(request).await,
        Err(error) if is_openai => {
            let body = json!({"error": {
                "message": error.message, "type": "invalid_request_error", "param": null, "code": error.code,
            }});
            (error.status, Json(body)).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn check(
    state: &AppState,
    method: &Method,
    path: &str,
    authority: Option<&str>,
    headers: HeaderMap,
) -> ApiResult<()> {
    let host = text(&headers, HOST.as_str()).or(authority);
    let forbidden = |code, message: String| ApiError::new(StatusCode::FORBIDDEN, code, message);
    if !state.guard.has_password() && !host.is_some_and(is_own_host) {
        let message = format!("the studio does not answer to the name {:?}", host.unwrap_or_default());
        return Err(forbidden("wrong_host", message)
            .hint("use http://localhost or http://127.0.0.1 with its port; other names need a password"));
    }
    if let Some(origin) = text(&headers, ORIGIN.as_str()) {
        let own = origin.split_once("://").map(|(_, authority)| authority);
        if own.is_none() || own != host {
            return Err(forbidden("wrong_origin", format!("requests from {origin} are not allowed")));
        }
    }
    let is_api = path.starts_with("/api/");
    let is_change = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_api && is_change && !headers.contains_key(CHANGE_HEADER) {
        return Err(forbidden(
            "missing_header",
            "a request that changes something needs a header".to_owned(),
        )
        .hint("send X-Tunesmith: 1"));
    }
    let is_free = path == "/api/v1/session" || !(is_api || path.starts_with("/v1"));
    if is_free || !state.guard.has_password() {
        return Ok(());
    }
    let state = state.clone();
    // A bearer token that is new takes argon2's time.
    if tokio::task::spawn_blocking(move || state.guard.is_let_in(&headers)).await? {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "not_authenticated", "the studio's password is needed")
        .hint("log in, or send it as bearer token"))
}

/// Whether a `Host` names this machine in a way that only this machine can mean.
fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    crate::serve::is_loopback(name)
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn fingerprint(text: &str) -> Fingerprint {
    Sha256::digest(text).into()
}

fn hash(password: &str, salt: &[u8]) -> ApiResult<[u8; 32]> {
    let mut hash = [0; 32];
    Argon2::default()
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .map_err(|error| ApiError::internal(format!("the password cannot be hashed: {error}")))?;
    Ok(hash)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
