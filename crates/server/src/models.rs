//! Models in the cache: which there are, fetching more, deleting.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tunesmith_formats::ModelSource;
use tunesmith_formats::hub::Hub;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::datasets::run_program;
use crate::error::{ApiError, ApiResult};
use crate::jobs::{Job, JobKind};
use crate::state::AppState;
use crate::workdir::folder_size;

/// How deep models lie below the cache's folder.
const MODEL_DEPTH: usize = 3;

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
    let models = tokio::task::spawn_blocking(move || {
        cached_models(&state.cache_dir).into_iter().map(describe).collect()
    })
    .await?;
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
    tokio::task::spawn_blocking(move || {
        let found = cached_models(&state.cache_dir).into_iter().find(|(known, _)| *known == name);
        let Some((_, path)) = found else {
            return Err(ApiError::not_found(format!("there is no model {name} in the cache")));
        };
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| ApiError::io(&path, "remove", &error))
    })
    .await??;
    Ok(StatusCode::NO_CONTENT)
}

/// Bytes of a model's files.
pub(crate) fn size_of_model(path: &FilePath) -> u64 {
    if path.is_dir() { folder_size(path).0 } else { path.metadata().map_or(0, |file| file.len()) }
}

/// Names and places of the models in the cache: folders with a `config.json`, and GGUF files.
pub(crate) fn cached_models(cache_dir: &FilePath) -> Vec<(String, PathBuf)> {
    let root = &cache_dir.join("models");
    let mut found = Vec::new();
    collect(root, root, MODEL_DEPTH, &mut found);
    found.sort();
    found
}

fn collect(root: &FilePath, folder: &FilePath, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if path.join("config.json").is_file() {
                found.push((hub_name(&name), path));
            } else if 0 < depth {
                collect(root, &path, depth - 1, found);
            }
        } else if let Some(stem) = name.strip_suffix(".gguf") {
            found.push((stem.to_owned(), path));
        }
    }
}

/// The name on the hub of a folder that the hub client made: `owner--name/main` is `owner/name`. Other folders keep theirs.
fn hub_name(name: &str) -> String {
    let Some((model, revision)) = name.split_once('/').filter(|(model, _)| model.contains("--")) else {
        return name.to_owned();
    };
    let mut parts = model.splitn(3, "--");
    let id = [parts.next(), parts.next()].into_iter().flatten().collect::<Vec<_>>().join("/");
    let filter = parts.next().map(|filter| format!(":{filter}")).unwrap_or_default();
    if revision == "main" { format!("{id}{filter}") } else { format!("{id}{filter}@{revision}") }
}

fn describe((name, path): (String, PathBuf)) -> Model {
    let source = ModelSource::open(&path).ok();
    let tensors = || source.iter().flat_map(ModelSource::tensors);
    let n_parameters: u64 = tensors().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
    let mut dtypes: Vec<String> = tensors().map(|tensor| tensor.dtype.to_string()).collect();
    dtypes.sort();
    dtypes.dedup();
    Model {
        is_demo: name.contains(DEMO),
        path: path.display().to_string(),
        n_bytes: size_of_model(&path),
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
        let model = json!(describe(("x".to_owned(), path)));
        assert_eq!((&model["architecture"], &model["n_parameters"]), (&json!(""), &Value::Null));
    }

    #[test]
    fn models_are_folders_and_gguf_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "owner/a/config.json",
            "b/config.json",
            "b/model.safetensors",
            "o--n/main/config.json",
            "o--n/v2/config.json",
            "tiny.gguf",
            "notes.txt",
            "x/y/z.gguf",
        ] {
            let path = folder.path().join("models").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        let names: Vec<String> = cached_models(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "o/n", "o/n@v2", "owner/a", "tiny", "x/y/z"]);
        assert!(cached_models(&folder.path().join("nowhere")).is_empty());
    }
}
