//! What one can chat with: the results of experiments, and the models in the cache.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};
use crate::runs::{ExperimentFolder, Supervisor, act, read_json};
use crate::state::AppState;
use crate::workdir::folder_size;

/// How deep models lie below the cache's folder.
const MODEL_DEPTH: usize = 3;

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
    let cached = cached_models(&state.cache_dir.join("models"));
    let mut models = Vec::new();
    for summary in runs.list().into_iter().filter(|summary| summary.can.chat) {
        let (_, _, folder) = runs.get(&summary.id)?;
        let run = folder.run();
        let has_result = run.join("adapter_model").is_dir() || run.join("model").is_dir();
        let mut args = vec!["--model".to_owned(), run.display().to_string()];
        if !has_result {
            let checkpoint = if run.join("checkpoints/best").is_dir() { "best" } else { "last" };
            args.extend(["--checkpoint".to_owned(), checkpoint.to_owned()]);
        }
        let base_path = base_path(&folder);
        let base =
            cached.iter().find(|(name, path)| *name == summary.model || base_path.as_ref() == Some(path));
        let own_bytes = folder_size(&run.join("adapter_model")).0 + folder_size(&run.join("model")).0;
        models.push(ChatModel {
            id: format!("run:{}", summary.id),
            label: summary.name,
            experiment_id: Some(summary.id),
            base: base.map(|(name, _)| format!("model:{name}")),
            is_loaded: false,
            context: None,
            n_bytes: own_bytes + base_path.map_or(0, |path| size_of_model(&path)),
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
        args: vec!["--model".to_owned(), path.display().to_string()],
    }));
    let device = state.store.settings()?.get("chat_device").and_then(Value::as_str).map(str::to_owned);
    for model in &mut models {
        model.context = state.chat.pool.context_of(&model.id);
        model.is_loaded = model.context.is_some();
        if let Some(device) = device.as_ref().filter(|device| !device.is_empty()) {
            model.args.extend(["--device".to_owned(), device.clone()]);
        }
    }
    Ok(models)
}

/// Where the run read its base model from.
fn base_path(folder: &ExperimentFolder) -> Option<PathBuf> {
    let record: Value = read_json(&folder.run().join("run.json"))?;
    Some(PathBuf::from(record.get("model_path")?.as_str()?))
}

fn size_of_model(path: &Path) -> u64 {
    if path.is_dir() { folder_size(path).0 } else { path.metadata().map_or(0, |file| file.len()) }
}

/// Names and places of the models below a folder: folders with a `config.json`, and GGUF files.
fn cached_models(root: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    collect(root, root, MODEL_DEPTH, &mut found);
    found.sort();
    found
}

fn collect(root: &Path, folder: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

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
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        }
        let names: Vec<String> = cached_models(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["b", "o/n", "o/n@v2", "owner/a", "tiny", "x/y/z"]);
        assert!(cached_models(&folder.path().join("nowhere")).is_empty());
    }
}
