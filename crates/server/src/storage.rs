//! What takes room on the disk, and making room.

use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::{ApiError, ApiResult};
use crate::jobs::{Job, JobContext, JobKind};
use crate::state::AppState;
use crate::workdir::folder_size;

/// What is younger may be in use.
const MIN_AGE: Duration = Duration::from_secs(600);

/// Something that takes room.
#[derive(Debug, Serialize, ToSchema)]
struct StorageItem {
    /// `models`, `tokens`, `datasets`, `experiments` or `uploads`.
    what: String,
    label: String,
    path: String,
    n_bytes: u64,
    n_files: u64,
    /// Whether it can go without a loss: it is made again when it is needed.
    can_clean: bool,
}

/// The routes of this module.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(clean))
}

/// What takes room on the disk
#[utoipa::path(get, path = "/storage",
    operation_id = "list_storage", tag = "settings", responses((status = 200, body = Vec<StorageItem>)))]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<StorageItem>>> {
    let items = tokio::task::spawn_blocking(move || {
        places(&state)
            .into_iter()
            .map(|(what, label, path, can_clean)| {
                let (n_bytes, n_files) = folder_size(&path);
                StorageItem {
                    what: what.to_owned(),
                    label: label.to_owned(),
                    path: path.display().to_string(),
                    n_bytes,
                    n_files,
                    can_clean,
                }
            })
            .collect()
    })
    .await?;
    Ok(Json(items))
}

/// Delete what is made again when it is needed
#[utoipa::path(post, path = "/storage/{what}/clean", operation_id = "clean_storage", tag = "settings",
    params(("what" = String, Path)), responses((status = 202, description = "its result is {freed_bytes}", body = Job)))]
async fn clean(
    State(state): State<AppState>,
    Path(what): Path<String>,
) -> ApiResult<(StatusCode, Json<Job>)> {
    let found = places(&state).into_iter().find(|(known, ..)| *known == what);
    let Some((_, label, path, can_clean)) = found else {
        return Err(ApiError::not_found(format!("there is no storage called {what:?}")));
    };
    if !can_clean {
        return Err(ApiError::conflict(format!("{label} are not deleted all at once"))
            .hint("delete single ones on their own page"));
    }
    let job = state.jobs.start(JobKind::Cleanup, format!("Clean up {label}"), move |context| {
        let freed_bytes = remove_contents(&path, context)?;
        Ok(json!({"freed_bytes": freed_bytes}))
    });
    Ok((StatusCode::ACCEPTED, Json(job)))
}

fn places(state: &AppState) -> [(&'static str, &'static str, PathBuf, bool); 5] {
    [
        ("models", "models", state.cache_dir.join("models"), false),
        ("tokens", "tokenised data", state.cache_dir.join("tokens"), true),
        ("datasets", "data sets", state.workdir.datasets(), false),
        ("experiments", "experiments", state.workdir.experiments(), false),
        ("uploads", "uploads and unfinished imports", state.workdir.uploads(), true),
    ]
}

/// Removes what has not been touched for a while.
fn remove_contents(folder: &FilePath, context: &JobContext) -> ApiResult<u64> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let mut freed_bytes = 0;
    for entry in entries.flatten() {
        context.check()?;
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        let age = metadata.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_none_or(|age| age < MIN_AGE) {
            continue;
        }
        let n_bytes = if metadata.is_dir() { folder_size(&path).0 } else { metadata.len() };
        let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| ApiError::io(&path, "remove", &error))?;
        freed_bytes += n_bytes;
        context.bytes(freed_bytes, None);
    }
    Ok(freed_bytes)
}
