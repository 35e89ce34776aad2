//! What one can chat with: the results of experiments, and the models in the cache.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::models::{cached_models, size_of_model};
use crate::runs::{ExperimentFolder, Supervisor, act, read_json};
use crate::state::AppState;
use crate::workdir::folder_size;

/// Something to chat with.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ChatModel {
    /// `run:<experiment id>` or `model:<name>`.
    pub(crate) id: String,
    /// The experiment's or the model's name.
    pub(crate) label: String,
    #[schema(required)]
    pub(crate) experiment_id: Option<String>,
    /// The model that the experiment began with, if it is in the cache.
    #[schema(required)]
    pub(crate) base: Option<String>,
    pub(crate) is_loaded: bool,
    /// How many tokens it takes, once it is loaded.
    #[schema(required)]
    pub(crate) context: Option<u64>,
    /// Of its files.
    pub(crate) n_bytes: u64,
    /// When the run ended or was made, or the model's file was written; seconds since 1970.
    #[serde(skip)]
    pub(crate) created_unix_secs: u64,
    /// For the process that loads it.
    #[serde(skip)]
    pub(crate) args: Vec<String>,
}

/// All of them, experiments first, the newest first.
pub(crate) async fn chat_models(state: &AppState) -> ApiResult<Vec<ChatModel>> {
    act(state, list).await
}

/// The one with this id; an experiment's name or id and a model's name are taken, too.
pub(crate) async fn find_model(state: &AppState, wanted: &str) -> ApiResult<ChatModel> {
    let models = chat_models(state).await?;
    let by_id = models.iter().find(|model| model.id == wanted);
    let by_name = || models.iter().find(|model| model.label == wanted);
    let by_experiment = || models.iter().find(|model| model.experiment_id.as_deref() == Some(wanted));
    by_id.or_else(by_name).or_else(by_experiment).cloned().ok_or_else(|| {
        ApiError::not_found(format!("there is no model {wanted} to chat with"))
            .hint("an experiment can be talked to once it has a result or a checkpoint")
    })
}

fn list(state: &AppState, runs: &Supervisor) -> ApiResult<Vec<ChatModel>> {
    let cached = cached_models(&state.cache_dir);
    let mut models = Vec::new();
    for summary in runs.list().into_iter().filter(|summary| summary.can.chat) {
        let (_, _, folder) = runs.get(&summary.id)?;
        let run = folder.run();
        let mut args = vec!["--model".to_owned(), run.display().to_string()];
        if !folder.has_result() {
            let checkpoint = if run.join("checkpoints/best").is_dir() { "best" } else { "last" };
            args.extend(["--checkpoint".to_owned(), checkpoint.to_owned()]);
        }
        let base_path = base_path(&folder);
        let base =
            cached.iter().find(|(name, path)| *name == summary.model || base_path.as_ref() == Some(path));
        let own_bytes: u64 = folder.results().iter().map(|path| folder_size(path).0).sum();
        models.push(ChatModel {
            id: format!("run:{}", summary.id),
            label: summary.name,
            experiment_id: Some(summary.id),
            base: base.map(|(name, _)| format!("model:{name}")),
            is_loaded: false,
            context: None,
            n_bytes: own_bytes + base_path.map_or(0, |path| size_of_model(&path)),
            created_unix_secs: summary.finished_unix_secs.unwrap_or(summary.created_unix_secs) as u64,
            args,
        });
    }
    models.extend(cached.into_iter().map(|(name, path)| ChatModel {
        id: format!("model:{name}"),
        label: name,
        experiment_id: None,
        base: None,
        is_loaded: false,
        context: None,
        n_bytes: size_of_model(&path),
        created_unix_secs: written_unix_secs(&path),
        args: vec!["--model".to_owned(), path.display().to_string()],
    }));
    let device = state.store.settings()?.get("chat_device").and_then(Value::as_str).map(str::to_owned);
    for model in &mut models {
        let ready = state.chat.pool.ready(&model.id);
        model.context = ready.and_then(|ready| ready.context);
        model.is_loaded = ready.is_some();
        if let Some(device) = device.as_ref().filter(|device| !device.is_empty()) {
            model.args.extend(["--device".to_owned(), device.clone()]);
        }
    }
    Ok(models)
}

fn written_unix_secs(path: &Path) -> u64 {
    let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
    written.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_secs())
}

/// Where the run read its base model from.
fn base_path(folder: &ExperimentFolder) -> Option<PathBuf> {
    let record: Value = read_json(&folder.run().join("run.json"))?;
    Some(PathBuf::from(record.get("model_path")?.as_str()?))
}
