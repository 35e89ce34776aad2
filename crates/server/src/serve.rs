//! From options to a server that answers, and to its orderly end.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tunesmith_platform::gpu::Backend;
use tunesmith_store::{Store, StoreError};

use crate::access::{self, Guard};
use crate::chat::{self, Chat};
use crate::error::ApiError;
use crate::events::EventBus;
use crate::jobs::Jobs;
use crate::machine::{self, MachineWatch};
use crate::runs::{self, Runs};
use crate::secrets::Secrets;
use crate::state::{AppState, Inner, Shutdown};
use crate::workdir::Workdir;
use crate::{datasets, openai, openapi, web};

/// How the studio is started.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Address or name to listen on; anything but the machine itself needs a password.
    pub host: String,
    /// Port; 0 takes any that is free.
    pub port: u16,
    /// The work folder; made if it does not exist.
    pub workdir: PathBuf,
    /// Who may come in.
    pub access: Access,
    /// This program's own executable, for child processes.
    pub program: PathBuf,
    /// Folder of models and tokenised data.
    pub cache_dir: PathBuf,
    /// What this program can compute with.
    pub compiled_backends: Vec<Backend>,
}

/// Who may come in.
#[derive(Clone, Default)]
pub struct Access {
    /// Asked from browsers; also a bearer token for programs.
    pub password: Option<String>,
}

impl std::fmt::Debug for Access {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("has_password", &self.password.is_some()).finish()
    }
}

/// Why the studio cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address is taken, or not one of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Others could come in without a password.
    #[error("{host} can be reached by other machines, and there is no password")]
    NoPassword {
        /// The address asked for.
        host: String,
    },
    /// The work folder cannot be used.
    #[error("{}: cannot use the work folder: {source}", path.display())]
    Workdir {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server broke off.
    #[error("the server broke off: {0}")]
    Io(#[from] io::Error),
    /// A part of it could not start.
    #[error(transparent)]
    Part(#[from] ApiError),
}

impl ServerError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { .. } => Some("another program may use the port; choose one with --port".to_owned()),
            Self::NoPassword { .. } => Some(
                "set one with --password or TUNESMITH_PASSWORD, or use --host 127.0.0.1 and a tunnel such as ssh -L"
                    .to_owned(),
            ),
            Self::Workdir { .. } => Some("choose another folder with --workdir".to_owned()),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Part(error) => error.hint.clone(),
            Self::Io(_) => None,
        }
    }
}

/// Threads that answer requests: the machine's cores are for training.
const MAX_WORKERS: usize = 4;

/// Serves until the process is asked to end, on a runtime of its own. `on_ready` gets the address, port included.
///
/// # Errors
/// As [`serve`].
pub fn run(options: ServeOptions, on_ready: impl FnOnce(SocketAddr) + Send) -> Result<(), ServerError> {
    let n_cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(n_cores.min(MAX_WORKERS))
        .enable_all()
        .build()?
        .block_on(serve(options, on_ready))
}

/// Serves until the process is asked to end.
///
/// # Errors
/// An address that cannot be listened on or is open to others without a password, a work folder or database that cannot be
/// used.
pub async fn serve(
    options: ServeOptions,
    on_ready: impl FnOnce(SocketAddr) + Send,
) -> Result<(), ServerError> {
    if !is_loopback(&options.host) && options.access.password.is_none() {
        return Err(ServerError::NoPassword { host: options.host });
    }
    let state = state(&options)?;
    let address = format!("{}:{}", bracketed(&options.host), options.port);
    let listener =
        TcpListener::bind(&address).await.map_err(|source| ServerError::Listen { address, source })?;
    let local = listener.local_addr()?;
    machine::start(&state);
    runs::start(&state).await;
    chat::start(&state).await;
    on_ready(local);
    let shutdown = state.shutdown.clone();
    tokio::spawn(async move {
        end_signal().await;
        shutdown.trigger();
    });
    let service = router(state.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(state.shutdown.wait()).await;
    state.jobs.cancel_all();
    chat::stop(&state).await;
    runs::stop(&state).await;
    Ok(served?)
}

/// The shared state for these options.
///
/// # Errors
/// The work folder or the database cannot be used.
pub fn state(options: &ServeOptions) -> Result<AppState, ServerError> {
    let workdir = Workdir::open(&options.workdir)
        .map_err(|source| ServerError::Workdir { path: options.workdir.clone(), source })?;
    let events = EventBus::default();
    let state = AppState::new(Inner {
        store: open_store(&workdir.database())?,
        guard: Guard::new(options.access.password.as_deref())?,
        secrets: Secrets::new(workdir.root()),
        machine: MachineWatch::default(),
        workdir,
        jobs: Jobs::new(events.clone()),
        events,
        program: options.program.clone(),
        cache_dir: options.cache_dir.clone(),
        compiled_backends: options.compiled_backends.clone(),
        shutdown: Shutdown::default(),
        runs: Runs::default(),
        chat: Chat::default(),
    });
    // What the folders hold counts; the database may be older, or new because the old one was lost.
    datasets::reindex(&state)?;
    Ok(state)
}

/// Opens the database. One that is damaged is put aside: all but settings is found again from the files.
fn open_store(path: &Path) -> Result<Store, ServerError> {
    match Store::open(path) {
        Err(error) if error.is_damaged() => {
            for ending in ["", "-wal", "-shm"] {
                let part = PathBuf::from(format!("{}{ending}", path.display()));
                if part.exists() {
                    let aside = PathBuf::from(format!("{}.damaged{ending}", path.display()));
                    std::fs::rename(&part, &aside)?;
                }
            }
            Ok(Store::open(path)?)
        }
        opened => Ok(opened?),
    }
}

/// Everything the server answers to.
pub fn router(state: AppState) -> Router {
    let (api, description) = openapi::api().split_for_parts();
    let description = description.to_json().unwrap_or_default();
    let api = api
        .route("/openapi.json", get(|| async move { ([("content-type", "application/json")], description) }))
        .fallback(|| async { ApiError::not_found("there is no such address below /api/v1") });
    let (openai, _) = openai::router().split_for_parts();
    let api = api.layer(middleware::map_response(in_one_shape));
    Router::new()
        .nest("/api/v1", api)
        .nest("/v1", openai)
        .fallback(web::page)
        .layer(middleware::from_fn_with_state(state.clone(), access::guard))
        .layer(middleware::map_response(web::security_headers))
        .with_state(state)
}

/// Refusals that the framework words itself, such as a body that is no JSON, in the shape of all others.
async fn in_one_shape(response: Response) -> Response {
    const MAX_BYTES: usize = 10_000;
    let status = response.status();
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !(status.is_client_error() || status.is_server_error()) || is_json {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let reason = status.canonical_reason().unwrap_or("refused");
    let (code, message) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this address does not take that method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the request is too large"),
        _ => ("bad_request", if text.is_empty() { reason } else { text.as_ref() }),
    };
    ApiError::new(status, code, message).into_response()
}

/// Whether only this machine can reach the address.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An IPv6 address in brackets, as an address with a port needs it.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Waits until the process is asked to end: Ctrl-C, or a termination signal.
async fn end_signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
    }
}
