//! Models in the cache: which there are, fetching more, deleting.

use std::fs;
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tunesmith_formats::ModelSource;
use tunesmith_formats::hub::Hub;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::chat::chat_models;
use crate::datasets::run_program;
use crate::error::{ApiError, ApiResult};
use crate::jobs::{Job, JobKind};
use crate::state::AppState;
use crate::workdir::folder_size;

const DEMO: &str = "SmolLM2-135M-Instruct";

/// A model in the cache.
#[derive(Debug, Serialize, ToSchema)]
struct Model {
    /// Its name on the hub, or that of its folder or file.
    name: String,
    path: String,
    n_bytes: u64,
    /// The class it is of; empty when it cannot be read.
    architecture: String,
    #[schema(required)]
    n_parameters: Option<u64>,
    /// Number formats of its weights.
    dtype: String,
    is_demo: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DownloadRequest {
    /// `owner/name`, or `demo`.
    name: String,
    /// Branch, tag or commit.
    #[serde(default)]
    revision: Option<String>,
}

/// The routes of this module.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(download)).routes(routes!(delete))
}

/// Models in the cache
#[utoipa::path(get, path = "/models",
    operation_id = "list_models", tag = "models", responses((status = 200, body = Vec<Model>)))]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Model>>> {
    let found = cached(&state).await?;
    let models = tokio::task::spawn_blocking(move || found.into_iter().map(describe).collect()).await?;
    Ok(Json(models))
}

/// Fetch a model of the hub
#[utoipa::path(post, path = "/models/download",
    operation_id = "download_model", tag = "models", request_body = DownloadRequest,
    responses((status = 202, description = "its result is {model, path, source}", body = Job)))]
async fn download(
    State(state): State<AppState>,
    Json(request): Json<DownloadRequest>,
) -> ApiResult<(StatusCode, Json<Job>)> {
    let DownloadRequest { name, revision } = request;
    let folder = if name == "demo" {
        Ok(state.cache_dir.join("models"))
    } else {
        Hub::folder(&name, revision.as_deref(), &state.cache_dir)
    };
    let folder = folder.map_err(|_| {
        ApiError::invalid(format!("{name:?} cannot be the name of a model")).hint("write it like owner/name")
    })?;
    if revision.as_ref().is_some_and(|revision| revision.starts_with('-')) {
        return Err(ApiError::invalid("this cannot be the name of a revision"));
    }
    let of_job = state.clone();
    let job = state.jobs.start(JobKind::DownloadModel, format!("Download {name}"), move |context| {
        let mut args = vec!["model", "pull", name.as_str(), "--json"];
        if let Some(revision) = revision.as_deref().filter(|revision| !revision.is_empty()) {
            args.extend(["--revision", revision]);
        }
        // The program writes into that folder, so its growth is the progress; how much will come is not known before.
        let (before, _) = folder_size(&folder);
        let text = std::thread::scope(|scope| {
            let (over, watched) = std::sync::mpsc::channel::<()>();
            let (context, folder) = (context.clone(), &folder);
            scope.spawn({
                let context = context.clone();
                move || {
                    while watched
                        .recv_timeout(std::time::Duration::from_millis(500))
                        .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
                    {
                        context.bytes(folder_size(folder).0.saturating_sub(before), None);
                    }
                }
            });
            let outcome = run_program(&of_job, &args, &context);
            drop(over);
            outcome
        })?;
        serde_json::from_str::<Value>(&text)
            .map_err(|error| ApiError::internal(format!("the program's answer is no JSON: {error}")))
    });
    Ok((StatusCode::ACCEPTED, Json(job)))
}

/// Delete a model from the cache
#[utoipa::path(delete, path = "/models/{name}", operation_id = "delete_model", tag = "models",
    params(("name" = String, Path, description = "with its slashes escaped as %2F")), responses((status = 204)))]
async fn delete(State(state): State<AppState>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    let found = cached(&state).await?;
    let Some((_, path, _)) = found.into_iter().find(|(known, ..)| *known == name) else {
        return Err(ApiError::not_found(format!("there is no model {name} in the cache")));
    };
    tokio::task::spawn_blocking(move || {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| ApiError::io(&path, "remove", &error))
    })
    .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Name, place and size of each.
async fn cached(state: &AppState) -> ApiResult<Vec<(String, PathBuf, u64)>> {
    let models = chat_models(state).await?.into_iter().filter(|model| model.experiment_id.is_none());
    Ok(models
        .filter_map(|model| {
            let place = model.args.iter().position(|arg| arg == "--model")?;
            Some((model.label, PathBuf::from(model.args.get(place + 1)?), model.n_bytes))
        })
        .collect())
}

fn describe((name, path, n_bytes): (String, PathBuf, u64)) -> Model {
    let source = ModelSource::open(&path).ok();
    let tensors = || source.iter().flat_map(ModelSource::tensors);
    let n_parameters: u64 = tensors().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
    let mut dtypes: Vec<String> = tensors().map(|tensor| tensor.dtype.to_string()).collect();
    dtypes.sort();
    dtypes.dedup();
    Model {
        is_demo: name.contains(DEMO),
        path: path.display().to_string(),
        n_bytes,
        architecture: source
            .as_ref()
            .map_or_else(String::new, |source| source.config().architecture.class_name().to_owned()),
        n_parameters: source.as_ref().map(|_| n_parameters),
        dtype: dtypes.join(", "),
        name,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_that_cannot_be_read_is_listed_without_facts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        fs::write(&path, b"nothing").unwrap();
        let model = json!(describe(("x".to_owned(), path, 7)));
        assert_eq!((&model["architecture"], &model["n_parameters"]), (&json!(""), &Value::Null));
    }
}
