//! What happens outside single runs, told to everybody who listens: `GET /api/v1/events`.
//!
//! Each listener has a bounded queue. One that is too slow for it is told how many events it missed, and reads the lists
//! anew; it never makes the server keep more.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::jobs::Job;
use crate::state::AppState;

/// Events that wait for a slow listener.
const QUEUE_LENGTH: usize = 512;
/// How often a quiet stream says that it lives.
const PING: Duration = Duration::from_secs(15);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum GlobalEvent {
    /// How busy the machine is: `MachineLoad` of `/machine`.
    Machine(Value),
    /// An experiment's summary.
    Experiment(Value),
    /// An experiment is gone.
    ExperimentDeleted(String),
    /// A data set came, changed or went.
    Dataset(DatasetChange),
    /// A job's state.
    Job(Box<Job>),
}

/// A data set came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DatasetChange {
    /// Which.
    pub id: String,
    /// What happened.
    pub change: Change,
}

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Created,
    /// It is another.
    Changed,
    /// It is gone.
    Deleted,
}

/// The place where events are told.
#[derive(Debug, Clone)]
pub struct EventBus {
    sender: broadcast::Sender<(u64, GlobalEvent)>,
    n_events: Arc<AtomicU64>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(QUEUE_LENGTH), n_events: Arc::default() }
    }
}

impl EventBus {
    /// Tells everybody who listens. Never waits.
    pub fn publish(&self, event: GlobalEvent) {
        let id = self.n_events.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody listening is no failure.
        self.sender.send((id, event)).ok();
    }

    /// Tells that a data set came, changed or went.
    pub fn dataset(&self, id: &str, change: Change) {
        self.publish(GlobalEvent::Dataset(DatasetChange { id: id.to_owned(), change }));
    }

    /// All events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<(u64, GlobalEvent)> {
        self.sender.subscribe()
    }

    /// Whether anybody listens.
    pub fn has_listeners(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Number of the latest event.
    pub fn latest(&self) -> u64 {
        self.n_events.load(Ordering::Relaxed)
    }
}

impl GlobalEvent {
    fn into_sse(self, id: u64) -> Event {
        let (name, data) = match self {
            Self::Machine(load) => ("machine", load),
            Self::Experiment(summary) => ("experiment", summary),
            Self::ExperimentDeleted(id) => ("experiment_deleted", json!({ "id": id })),
            Self::Dataset(change) => ("dataset", json!(change)),
            Self::Job(job) => ("job", json!(job)),
        };
        Event::default().id(id.to_string()).event(name).data(data.to_string())
    }
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(listen))
}

/// Everything that happens outside single runs, as it happens
///
/// Server-sent events: `hello` at the beginning ({latest, missed}), `machine`, `experiment`, `experiment_deleted`, `dataset`,
/// `job`, and `missed` ({n}) when the client was too slow. After `missed`, and after a `hello` whose `missed` is not 0, the
/// client reads the lists anew.
#[utoipa::path(
    get,
    path = "/events", operation_id = "follow_studio_events",
    tag = "machine",
    responses((status = 200, description = "a stream of server-sent events", content_type = "text/event-stream"))
)]
async fn listen(
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // Subscribed before the number is read: what happens in between is told twice rather than never.
    let receiver = state.events.subscribe();
    let latest = state.events.latest();
    let last_seen: Option<u64> =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.trim().parse().ok());
    // A number above the latest is that of an earlier server: all may be different.
    let missed = match last_seen {
        Some(seen) if seen <= latest => latest - seen,
        Some(_) => latest.max(1),
        None => 0,
    };
    let hello = Event::default()
        .id(latest.to_string())
        .event("hello")
        .data(json!({"latest": latest, "missed": missed}).to_string());
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = match receiver.recv().await {
            Ok((id, event)) => event.into_sse(id),
            Err(RecvError::Lagged(n)) => Event::default().event("missed").data(json!({ "n": n }).to_string()),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(event), receiver))
    });
    let stream = stream::once(async { Ok(hello) }).chain(events).take_until(state.shutdown.wait());
    Sse::new(stream).keep_alive(KeepAlive::new().interval(PING).text("ping"))
}
