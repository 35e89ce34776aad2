//! `experiment.json`: everything the studio knows of an experiment that its run folder does not say. The list of experiments
//! can be made again from these files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tunesmith_config::{ConfigError, ExperimentConfig, find_field};

use crate::error::{ApiError, ApiResult};

/// Content of `experiment.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExperimentFile {
    /// The name of its folder; does not change when it is renamed.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) name: String,
    /// What it trains on, if that is a data set of the studio.
    #[serde(default)]
    pub(crate) dataset_id: Option<String>,
    /// The data set's name when the experiment was made.
    #[serde(default)]
    pub(crate) dataset_name: Option<String>,
    /// Fields by path, as they were asked for; all others have their defaults.
    pub(crate) values: Map<String, Value>,
    /// The search that it is one of.
    #[serde(default)]
    pub(crate) grid: Option<GridOrigin>,
    /// When it was made.
    pub(crate) created_unix_secs: f64,
    /// Whether it was asked to go on with the run it has, when it waits for its turn.
    #[serde(default)]
    pub(crate) is_resume: bool,
    /// When its newest process was started.
    #[serde(default)]
    pub(crate) started_unix_secs: Option<f64>,
    /// Whether its process was asked to stop.
    #[serde(default)]
    pub(crate) is_stop_asked: bool,
}

/// The search that an experiment is one of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GridOrigin {
    /// The same for all experiments of a search.
    pub(crate) id: String,
    /// What sets this one apart.
    pub(crate) changes: Map<String, Value>,
}

/// The paths in an experiment's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExperimentFolder(pub(crate) PathBuf);

impl ExperimentFolder {
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("experiment.json")
    }

    pub(crate) fn request(&self) -> PathBuf {
        self.0.join("request.yaml")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Where the run puts its result: adapters, or a whole model.
    pub(crate) fn results(&self) -> [PathBuf; 2] {
        ["adapter_model", "model"].map(|name| self.run().join(name))
    }

    pub(crate) fn has_result(&self) -> bool {
        self.results().iter().any(|path| path.is_dir())
    }

    pub(crate) fn exports(&self) -> PathBuf {
        self.0.join("exports")
    }

    pub(crate) fn stdout(&self) -> PathBuf {
        self.0.join("stdout.log")
    }

    pub(crate) fn stderr(&self) -> PathBuf {
        self.0.join("stderr.log")
    }

    pub(crate) fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.run().join("events.jsonl")
    }

    /// What the newest evaluation predicted; beside it, under the same name with `.json`, what the run says of it.
    pub(crate) fn predictions(&self) -> PathBuf {
        self.run().join("validation_predictions.csv")
    }

    pub(crate) fn flags(&self) -> PathBuf {
        self.run().join("flags.json")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.run().join("logs.log")
    }
}

/// Settings from fields by path. Absent (`null`) is what the word `None` is in a file.
///
/// # Errors
/// The first field that is not known or whose value is not allowed.
pub(crate) fn config_of(values: &Map<String, Value>) -> Result<ExperimentConfig, ConfigError> {
    let mut config = ExperimentConfig::default();
    // Defaults of other fields depend on it.
    if let Some(kind) = values.get("problem_type") {
        config.set("problem_type", &text_of(kind))?;
        config = ExperimentConfig::for_problem_type(config.problem_type);
    }
    for (path, value) in values {
        config.set(path, &text_of(value))?;
    }
    Ok(config)
}

/// A value as a command line would give it.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

/// The fields that differ from the defaults of their problem type.
pub(crate) fn changed_fields(values: &Map<String, Value>) -> Vec<String> {
    let Ok(config) = config_of(values) else { return Vec::new() };
    let defaults = ExperimentConfig::for_problem_type(config.problem_type);
    let is_changed = |path: &&String| config.get(path) != defaults.get(path);
    values.keys().filter(is_changed).filter_map(|path| Some(find_field(path)?.path())).collect()
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now_unix_secs() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Reads a JSON file; `None` when it is not there or is not what it should be.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a JSON file that is there whole or as it was before.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&temporary, path)
}

/// Refuses settings that a run would refuse.
///
/// # Errors
/// The first that is wrong, with all of them as details.
pub(super) fn check(values: &Map<String, Value>) -> ApiResult<()> {
    let config =
        config_of(values).map_err(|error| ApiError::invalid(error.to_string()).hint_if(error.hint()))?;
    let errors: Vec<_> = config
        .check()
        .into_iter()
        .filter(|finding| finding.level == tunesmith_config::Level::Error)
        .collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let findings: Vec<Value> = errors
        .iter()
        .map(|finding| json!({"field": finding.field, "message": finding.message, "hint": finding.hint}))
        .collect();
    let refusal = ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "config",
        format!("{}: {}", first.field, first.message),
    )
    .details(json!({"findings": findings}));
    Err(refusal.hint_if(first.hint.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_kind_of_value_becomes_a_setting() {
        let values = map(json!({
            "experiment_name": "it's: [odd] #1",
            "training.epochs": 3,
            "training.learning_rate": 5e-4,
            "training.lora": false,
            "dataset.prompt_column": ["instruction", "input, with comma"],
            "dataset.system_column": null,
            "dataset.validation_dataframe": null,
        }));
        let config = config_of(&values).unwrap();
        assert_eq!(config.experiment_name, "it's: [odd] #1");
        assert_eq!(
            (config.training.epochs, config.training.learning_rate, config.training.lora),
            (3, 5e-4, false)
        );
        assert_eq!(config.dataset.prompt_column, ["instruction", "input, with comma"]);
        assert!(config.dataset.system_column.is_none());
        let (again, _) = ExperimentConfig::from_yaml(&config.to_yaml(), "test").unwrap();
        assert_eq!(again, config, "through the file that the run is started with");
        assert!(config_of(&map(json!({"training.epoch": 3}))).is_err());
        let changed = changed_fields(&map(json!({"training.epochs": 1, "training.lora_r": 9})));
        assert_eq!(changed, ["training.lora_r"]);
    }
}
