//! The events of one run as a stream that can be taken up again, its curves, and its log.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::act;
use super::event_file::{Found, Place, lines_after};
use super::series::Curves;
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// How often it is looked for more lines.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often the run itself is looked at while its file does not grow.
const LOOK_CLOSELY_EVERY: Duration = Duration::from_secs(1);
/// Looks of all streams at the same time. Many clients that each look on a thread of their own would need as many threads, and
/// their memory, for what takes microseconds.
static LOOKS: Semaphore = Semaphore::const_new(2);
/// How often a quiet stream says that it lives.
const PING: Duration = Duration::from_secs(15);
/// The most of a log that one answer has.
const LOG_BYTES: u64 = 1024 * 1024;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(events))
        .routes(routes!(series))
        .routes(routes!(series_csv))
        .routes(routes!(log))
        .routes(routes!(log_file))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct After {
    /// The id of the last message that was seen, or `next_id` of the curves.
    after: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SeriesQuery {
    /// At most about so many points of each curve.
    max_points: Option<usize>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// The byte to begin at.
    after: Option<u64>,
    /// Only the last so many bytes, when `after` is not given.
    tail: Option<u64>,
}

/// What a stream has told.
struct Teller {
    state: AppState,
    id: String,
    path: PathBuf,
    place: Place,
    /// When it was looked for more than the length of the file.
    looked: Option<Instant>,
    /// The run had ended before the last look found nothing more.
    is_over: bool,
    /// The end was told.
    is_done: bool,
}

/// The lines of `events.jsonl`, as they are written
///
/// Server-sent events: each line under its event's name, with an id to take the stream up again after it (`Last-Event-ID`, or
/// `after`); `rewind` when the file was cut because the run was resumed, after which it is told from the beginning; `end`
/// when the run has ended.
#[utoipa::path(get, path = "/experiments/{id}/events",
    operation_id = "follow_experiment_events", tag = "experiments", params(("id" = String, Path), After),
    responses((status = 200, description = "a stream of server-sent events", content_type = "text/event-stream")))]
async fn events(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let path = events_path(&state, &id).await?;
    let last =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned).or(query.after);
    let last = last.filter(|text| !text.is_empty());
    // What is no place of this file is one from before a cut.
    let place = last.as_deref().map(Place::parse);
    let first: Vec<Result<Event, Infallible>> =
        if place == Some(None) { vec![Ok(rewind())] } else { Vec::new() };
    let ended = state.shutdown.wait();
    let teller = Teller {
        state,
        id,
        path,
        place: place.flatten().unwrap_or_default(),
        looked: None,
        is_over: false,
        is_done: false,
    };
    let messages = stream::unfold(teller, |teller| async move { teller.next().await });
    let messages = messages.flat_map(stream::iter);
    let all = stream::iter(first).chain(messages).take_until(ended);
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(PING).text("ping")))
}

impl Teller {
    /// The next messages, when there are some.
    async fn next(mut self) -> Option<(Vec<Result<Event, Infallible>>, Self)> {
        if self.is_done {
            return None;
        }
        loop {
            let status = match self.look().await {
                Some(Seen::Cut) => {
                    self.place = Place::default();
                    return Some((vec![Ok(rewind())], self));
                }
                Some(Seen::Lines(lines)) => {
                    self.is_over = false;
                    self.place = lines.last().map_or(self.place, |(place, _)| *place);
                    return Some((
                        lines.into_iter().map(|(place, line)| Ok(message(place, line))).collect(),
                        self,
                    ));
                }
                // A file that cannot be read now is looked at again.
                Some(Seen::Nothing) | None => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    continue;
                }
                Some(Seen::End(status)) => status,
            };
            // One more look after it was seen to have ended: what it wrote last is there then.
            if self.is_over {
                self.is_done = true;
                let end = Event::default().event("end").data(json!({"status": status}).to_string());
                return Some((vec![Ok(end)], self));
            }
            self.is_over = true;
        }
    }

    async fn look(&mut self) -> Option<Seen> {
        // Most looks find a file as long as it was, which is asked in a microsecond: a thread is for the others.
        let is_as_long = fs::metadata(&self.path).is_ok_and(|file| file.len() == self.place.offset);
        if is_as_long && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_CLOSELY_EVERY) {
            return Some(Seen::Nothing);
        }
        self.looked = Some(Instant::now());
        let _turn = LOOKS.acquire().await.ok()?;
        let (state, id, path, place) = (self.state.clone(), self.id.clone(), self.path.clone(), self.place);
        tokio::task::spawn_blocking(move || {
            match lines_after(&path, place) {
                Ok(Found::Cut) => return Some(Seen::Cut),
                Ok(Found::Lines(lines)) if !lines.is_empty() => return Some(Seen::Lines(lines)),
                _ => {}
            }
            Some(match state.runs.supervisor().ok()?.get(&id) {
                Ok((summary, ..)) if summary.status.is_active() || summary.queue_position.is_some() => {
                    Seen::Nothing
                }
                Ok((summary, ..)) => Seen::End(json!(summary.status)),
                Err(_) => Seen::End(json!("deleted")),
            })
        })
        .await
        .ok()
        .flatten()
    }
}

/// What a look finds.
enum Seen {
    /// New lines, at least one.
    Lines(Vec<(Place, String)>),
    /// The file was cut.
    Cut,
    /// Nothing new, of a run that goes on.
    Nothing,
    /// Nothing new, of a run with this status that has ended.
    End(Value),
}

fn message(place: Place, line: String) -> Event {
    let name = serde_json::from_str::<Value>(&line)
        .ok()
        .and_then(|event| Some(event.get("event")?.as_str()?.to_owned()))
        .unwrap_or_else(|| "line".to_owned());
    Event::default().id(place.to_text()).event(name.replace(['\r', '\n'], " ")).data(line.replace('\r', " "))
}

fn rewind() -> Event {
    // The empty id forgets the last one.
    Event::default().id("").event("rewind").data("{}")
}

async fn events_path(state: &AppState, id: &str) -> ApiResult<PathBuf> {
    let id = id.to_owned();
    act(state, move |_, runs| Ok(runs.get(&id)?.2.events())).await
}

async fn curves(state: &AppState, id: &str) -> ApiResult<Curves> {
    let path = events_path(state, id).await?;
    act(state, move |_, _| Curves::read(&path).map_err(|error| ApiError::io(&path, "read", &error))).await
}

/// The curves of the run so far, thinned for charts; follow its events from `next_id` on
#[utoipa::path(get, path = "/experiments/{id}/series",
    operation_id = "show_series", tag = "experiments", params(("id" = String, Path), SeriesQuery),
    responses((status = 200, body = Curves)))]
async fn series(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<SeriesQuery>,
) -> ApiResult<Json<Curves>> {
    let mut curves = curves(&state, &id).await?;
    curves.thin(query.max_points.unwrap_or(1000));
    Ok(Json(curves))
}

/// All points of all curves as a table
#[utoipa::path(get, path = "/experiments/{id}/series.csv",
    operation_id = "download_series", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/csv")))]
async fn series_csv(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Response> {
    let curves = curves(&state, &id).await?;
    let name = format!("attachment; filename=\"{id}-series.csv\"");
    Ok((
        [(header::CONTENT_TYPE, "text/csv".to_owned()), (header::CONTENT_DISPOSITION, name)],
        curves.to_csv(),
    )
        .into_response())
}

/// The run's log from a byte on; header `x-next` tells where to go on
#[utoipa::path(get, path = "/experiments/{id}/log",
    operation_id = "show_log", tag = "experiments", params(("id" = String, Path), LogQuery),
    responses((status = 200, content_type = "text/plain")))]
async fn log(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<LogQuery>,
) -> ApiResult<Response> {
    let (text, next) = act(&state, move |_, runs| {
        let path = log_path(&runs.get(&id)?.2);
        portion(&path, query.after, query.tail.unwrap_or(LOG_BYTES))
            .map_err(|error| ApiError::io(&path, "read", &error))
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
        ("x-next", next.to_string()),
    ];
    Ok((headers, text).into_response())
}

/// The whole log as a file
#[utoipa::path(get, path = "/experiments/{id}/log.txt",
    operation_id = "download_log", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, content_type = "text/plain")))]
async fn log_file(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Response> {
    let of_name = id.clone();
    let path = act(&state, move |_, runs| Ok(log_path(&runs.get(&id)?.2))).await?;
    super::artifacts::send_file(path, &format!("{of_name}-log.txt"), "text/plain; charset=utf-8").await
}

/// The run's log, or what the process said where it did not get so far.
fn log_path(folder: &super::ExperimentFolder) -> PathBuf {
    let log = folder.log();
    if log.is_file() { log } else { folder.stderr() }
}

/// Bytes of a file from `after` on, or its last `tail`, whole lines of it at most [`LOG_BYTES`], and the byte after them.
fn portion(path: &std::path::Path, after: Option<u64>, tail: u64) -> std::io::Result<(String, u64)> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((String::new(), 0)),
        Err(error) => return Err(error),
    };
    let n_bytes = file.metadata()?.len();
    // A file that became shorter is another one.
    let from = after.filter(|after| *after <= n_bytes).unwrap_or(if after.is_some() {
        0
    } else {
        n_bytes.saturating_sub(tail)
    });
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // The tail may begin in the middle of a line.
    let start = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) if after.is_none() && 0 < from => at + 1,
        _ => 0,
    };
    let text = String::from_utf8_lossy(bytes.get(start.min(end)..end).unwrap_or_default()).into_owned();
    Ok((text, from + end as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_comes_in_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.log");
        assert_eq!(portion(&path, None, 100).unwrap(), (String::new(), 0));
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(portion(&path, None, 100).unwrap(), ("one\ntwo\n".to_owned(), 8));
        assert_eq!(portion(&path, Some(4), 100).unwrap(), ("two\n".to_owned(), 8));
        assert_eq!(portion(&path, Some(8), 100).unwrap(), (String::new(), 8));
        assert_eq!(portion(&path, None, 8).unwrap(), ("two\n".to_owned(), 8), "the tail");
        assert_eq!(portion(&path, Some(99), 100).unwrap().0, "one\ntwo\n", "a shorter file is a new one");
    }
}
