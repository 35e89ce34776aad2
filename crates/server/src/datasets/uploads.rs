//! Files that browsers send: straight to the disk, never wholly in memory.

use std::fs;
use std::path::PathBuf;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, BufWriter};
use tunesmith_sources::plain_name_of;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::tables::require_importable;
use crate::error::{ApiError, ApiResult};
use crate::secrets::random_hex;
use crate::state::AppState;
use crate::workdir::checked_id;

const PREFIX: &str = "upload-";
/// What is written at a time: each write is a visit to another thread.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that has arrived.
#[derive(Debug, Serialize, ToSchema)]
struct Upload {
    /// For the import.
    upload_id: String,
    /// Its name, without signs that a file name cannot have.
    name: String,
    /// Its size.
    n_bytes: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// Name of the file; its ending says what it is.
    name: String,
}

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(upload))
}

/// Send a table or a zip archive of some, as the body itself
#[utoipa::path(post, path = "/uploads", operation_id = "upload_file", tag = "datasets", params(UploadQuery),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 201, body = Upload), (status = 413, description = "too_large", body = crate::error::ErrorBody)))]
async fn upload(
    State(state): State<AppState>,
    Query(query): Query<UploadQuery>,
    body: Body,
) -> ApiResult<(StatusCode, Json<Upload>)> {
    let name = plain_name_of(&query.name);
    require_importable(&name)?;
    let max_bytes = crate::settings::max_upload_bytes(&state)?;
    let upload_id = format!("{PREFIX}{}", random_hex(12)?);
    let mut folder = Unfinished { path: state.workdir.uploads().join(&upload_id), is_kept: false };
    fs::create_dir(&folder.path).map_err(|error| ApiError::io(&folder.path, "create", &error))?;
    let path = folder.path.join(&name);
    let failed = |error: std::io::Error| ApiError::io(&path, "write", &error);
    let file = tokio::fs::File::create(&path).await.map_err(failed)?;
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
    let mut n_bytes = 0_u64;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| ApiError::bad_request(format!("the upload broke off: {error}")))?;
        n_bytes += chunk.len() as u64;
        if n_bytes > max_bytes {
            let message = format!("the file is larger than {max_bytes} bytes");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message).hint(
                "raise the limit in Settings, or import the file by its path on the studio's machine",
            ));
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    folder.is_kept = true;
    Ok((StatusCode::CREATED, Json(Upload { upload_id, name, n_bytes })))
}

/// Removed unless it is kept: also when the request is dropped in the middle.
struct Unfinished {
    path: PathBuf,
    is_kept: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_kept {
            fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// The file of an upload.
pub(super) fn find(state: &AppState, id: &str) -> ApiResult<PathBuf> {
    let gone = || ApiError::not_found(format!("there is no upload {id}")).hint("send the file again");
    let id = checked_id(id)?;
    if !id.starts_with(PREFIX) {
        return Err(gone());
    }
    let folder = state.workdir.uploads().join(id);
    let mut entries = fs::read_dir(&folder).map_err(|_| gone())?;
    entries.next().and_then(Result::ok).map(|entry| entry.path()).ok_or_else(gone)
}

/// Forgets an upload.
pub(super) fn remove(state: &AppState, id: &str) -> ApiResult<()> {
    let folder = state.workdir.uploads().join(checked_id(id)?);
    fs::remove_dir_all(&folder).map_err(|error| ApiError::io(&folder, "remove", &error))
}
