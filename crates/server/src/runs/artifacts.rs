//! What a run leaves behind, for download: files as they are, folders as zip archives made while they are sent.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path as FilePath, PathBuf};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::child::{refusal, run_to_end};
use super::{ExperimentFolder, act};
use crate::error::{ApiError, ApiResult};
use crate::jobs::{Job, JobKind};
use crate::state::AppState;
use crate::web::file_stream;
use crate::workdir::folder_size;

/// Pieces of an archive that wait for a slow client.
const N_PIECES: usize = 4;
/// Size of a piece.
const PIECE_BYTES: usize = 256 * 1024;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(download)).routes(routes!(export))
}

/// Something that can be downloaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Artifact {
    /// `adapter`, `model`, `merged`, `exported_adapter`, `predictions`, `events`, `log`, `config`, `summary` or `everything`.
    name: String,
    label: String,
    n_bytes: u64,
    /// On the server's machine.
    path: String,
    /// What the download will be called.
    file_name: String,
}

/// What may be there: name, label, place in the experiment's folder, ending of the download.
const KINDS: [(&str, &str, &str, &str); 10] = [
    ("adapter", "Adapter (PEFT)", "run/adapter_model", "zip"),
    ("model", "Model", "run/model", "zip"),
    ("merged", "Merged model", "exports/merged", "zip"),
    ("exported_adapter", "Exported adapter", "exports/adapter", "zip"),
    ("predictions", "Validation predictions", "run/validation_predictions.csv", "csv"),
    ("events", "Events", "run/events.jsonl", "jsonl"),
    ("log", "Log", "run/logs.log", "log"),
    ("config", "Configuration", "run/cfg.yaml", "yaml"),
    ("summary", "Summary", "run/summary.json", "json"),
    ("everything", "The whole run folder", "run", "zip"),
];

/// What of it is there now.
pub(super) fn artifacts_of(folder: &ExperimentFolder, id: &str) -> Vec<Artifact> {
    KINDS
        .iter()
        .filter_map(|(name, label, place, ending)| {
            let path = folder.0.join(place);
            let n_bytes = if path.is_dir() { folder_size(&path).0 } else { path.metadata().ok()?.len() };
            Some(Artifact {
                name: (*name).to_owned(),
                label: (*label).to_owned(),
                n_bytes,
                path: path.display().to_string(),
                file_name: format!("{id}-{name}.{ending}"),
            })
        })
        .collect()
}

/// Downloads one; folders come as a zip archive
#[utoipa::path(get, path = "/experiments/{id}/artifacts/{name}",
    operation_id = "download_artifact", tag = "experiments",
    params(("id" = String, Path), ("name" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404, body = crate::error::ErrorBody)))]
async fn download(
    State(state): State<AppState>,
    Path((id, name)): Path<(String, String)>,
) -> ApiResult<Response> {
    let (path, file_name) = act(&state, move |_, runs| {
        let (summary, _, folder) = runs.get(&id)?;
        let missing = || ApiError::not_found(format!("{id} has no artifact {name} yet"));
        let (_, _, place, ending) = KINDS.iter().find(|(known, ..)| *known == name).ok_or_else(missing)?;
        let path = folder.0.join(place);
        if !path.exists() {
            return Err(missing());
        }
        Ok((path, format!("{}-{name}.{ending}", summary.id)))
    })
    .await?;
    if path.is_dir() {
        Ok(send_folder(path, &file_name))
    } else {
        send_file(path, &file_name, "application/octet-stream").await
    }
}

/// Sends a file piece by piece.
pub(super) async fn send_file(path: PathBuf, file_name: &str, content_type: &str) -> ApiResult<Response> {
    use tokio::io::AsyncReadExt;

    let file = tokio::fs::File::open(&path).await.map_err(|error| ApiError::io(&path, "read", &error))?;
    let n_bytes = file.metadata().await.map_err(|error| ApiError::io(&path, "read", &error))?.len();
    // A file that grows meanwhile is sent as long as it was said to be.
    let pieces = file_stream(file.take(n_bytes));
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::CONTENT_LENGTH, n_bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\"")),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Sends a folder as an archive that is made meanwhile, on a thread of its own; it ends when the client goes away.
fn send_folder(folder: PathBuf, file_name: &str) -> Response {
    let (sender, receiver) = mpsc::channel(N_PIECES);
    tokio::task::spawn_blocking(move || {
        let failed = write_archive(&folder, Pieces { sender: sender.clone(), piece: Vec::new() }).err();
        if let Some(error) = failed {
            // Breaks the download off, so that nobody takes it for whole.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let pieces =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file_name}\"")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

/// Weights do not get smaller by compression, so nothing is compressed.
fn write_archive(folder: &FilePath, pieces: Pieces) -> io::Result<()> {
    let mut archive = ZipWriter::new_stream(pieces);
    let options =
        SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored).large_file(true);
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let mut inside: Vec<PathBuf> =
                std::fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
            inside.sort();
            left.extend(inside.into_iter().rev());
            continue;
        }
        let name = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        // Locks and files half written are no part of a result; nor is what was removed meanwhile.
        if name.ends_with(".tmp") || name == "run.lock" {
            continue;
        }
        let Ok(mut file) = File::open(&path) else { continue };
        archive.start_file(name, options).map_err(io::Error::other)?;
        io::copy(&mut file, &mut archive)?;
    }
    archive.finish().map_err(io::Error::other)?.into_inner().flush()
}

/// A writer whose bytes go to a client.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if PIECE_BYTES <= self.piece.len() {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[derive(Debug, Deserialize, ToSchema)]
struct ExportRequest {
    /// `merged` or `adapter`.
    kind: ExportForm,
    /// Number format of a merged model: `f32`, `bf16` or `f16`.
    #[serde(default)]
    dtype: Option<ExportDtype>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportForm {
    Merged,
    Adapter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportDtype {
    F32,
    Bf16,
    F16,
}

/// Writes the result as a merged model or an adapter, and checks that it gives the same logits
#[utoipa::path(post, path = "/experiments/{id}/export",
    operation_id = "export_experiment", tag = "experiments", params(("id" = String, Path)),
    request_body = ExportRequest, responses((status = 202, body = Job), (status = 409, body = crate::error::ErrorBody)))]
async fn export(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(request): Json<ExportRequest>,
) -> ApiResult<(StatusCode, Json<Job>)> {
    let (summary, folder) = act(&state, move |_, runs| {
        let (summary, _, folder) = runs.get(&id)?;
        Ok((summary, folder))
    })
    .await?;
    if !summary.can.export {
        return Err(ApiError::conflict("there is nothing to export yet").hint("wait until the run has ended"));
    }
    let form = if request.kind == ExportForm::Merged { "merged" } else { "adapter" };
    let output = folder.exports().join(form);
    let mut args = vec!["export".to_owned(), folder.run().display().to_string()];
    args.extend(["--format", form, "--json", "--output"].map(str::to_owned));
    args.push(output.display().to_string());
    if let (ExportForm::Merged, Some(dtype)) = (request.kind, request.dtype) {
        let dtype = match dtype {
            ExportDtype::F32 => "f32",
            ExportDtype::Bf16 => "bf16",
            ExportDtype::F16 => "f16",
        };
        args.extend(["--dtype".to_owned(), dtype.to_owned()]);
    }
    if !folder.has_result() {
        args.extend(["--checkpoint".to_owned(), "last".to_owned()]);
    }
    let label = format!("Export {} ({form})", summary.name);
    let of_job = state.clone();
    let job = state.jobs.start(JobKind::Export, label, move |context| {
        // One that is there is made anew.
        if output.exists() {
            std::fs::remove_dir_all(&output).map_err(|error| ApiError::io(&output, "replace", &error))?;
        }
        let parent = folder.exports();
        std::fs::create_dir_all(&parent).map_err(|error| ApiError::io(&parent, "make", &error))?;
        context.say("writing, reading back and comparing");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = run_to_end(&of_job, &args, context)?;
        if !ended.status.success() {
            return Err(refusal(ended.status.code(), &ended.stderr));
        }
        Ok(serde_json::from_str(&ended.stdout).unwrap_or_else(|_| json!({})))
    });
    Ok((StatusCode::ACCEPTED, Json(job)))
}
