//! Folders of the studio's machine, to choose a file from.

use std::fs;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::Query;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::error::{ApiError, ApiResult};
use crate::machine::home_dir;
use crate::state::AppState;

/// Entries of one answer.
const MAX_ENTRIES: usize = 5_000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FilesQuery {
    /// Absolute path of a folder; the user's own without one.
    path: Option<String>,
}

/// A folder.
#[derive(Debug, Serialize, ToSchema)]
struct FileList {
    path: String,
    /// The folder around it.
    #[schema(required)]
    parent: Option<String>,
    /// Folders first, each by name; hidden ones are left out.
    entries: Vec<FileEntry>,
}

/// Something in a folder.
#[derive(Debug, Serialize, ToSchema)]
struct FileEntry {
    name: String,
    path: String,
    is_dir: bool,
    /// Size of a file.
    #[schema(required)]
    n_bytes: Option<u64>,
    modified_unix_secs: f64,
}

/// The routes of this module.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What is in a folder
#[utoipa::path(get, path = "/files",
    operation_id = "list_files", tag = "files", params(FilesQuery),
    responses((status = 200, body = FileList)))]
async fn list(Query(query): Query<FilesQuery>) -> ApiResult<Json<FileList>> {
    let path = PathBuf::from(query.path.filter(|path| !path.is_empty()).unwrap_or_else(home_dir));
    if !path.is_absolute() {
        return Err(ApiError::bad_request("the path begins at the root of the disk"));
    }
    Ok(Json(tokio::task::spawn_blocking(move || look(path)).await??))
}

fn look(path: PathBuf) -> ApiResult<FileList> {
    let path = path.canonicalize().map_err(|error| ApiError::io(&path, "open", &error))?;
    let listed = fs::read_dir(&path).map_err(|error| ApiError::io(&path, "list", &error))?;
    let mut entries: Vec<FileEntry> = listed
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            // Links are followed; one that leads nowhere is left out.
            let metadata = fs::metadata(entry.path()).ok()?;
            let age = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let is_shown = !name.starts_with('.') && (metadata.is_dir() || metadata.is_file());
            is_shown.then(|| FileEntry {
                path: entry.path().display().to_string(),
                is_dir: metadata.is_dir(),
                n_bytes: metadata.is_file().then_some(metadata.len()),
                modified_unix_secs: age.map_or(0.0, |age| age.as_secs_f64()),
                name,
            })
        })
        .take(MAX_ENTRIES)
        .collect();
    entries.sort_by_cached_key(|entry| (!entry.is_dir, entry.name.to_lowercase()));
    Ok(FileList {
        parent: path.parent().map(|parent| parent.display().to_string()),
        path: path.display().to_string(),
        entries,
    })
}
