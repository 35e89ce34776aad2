//! The fields of an experiment, checks of settings, YAML in both directions, and tokens under some settings.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tunesmith_config::{ConfigError, ExperimentConfig, FieldSpec, Finding, Level, OptionalText, schema};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::datasets::{DataSettings, ProblemLevel};
use crate::error::{ApiError, ApiResult};
use crate::fields::{FieldSchema, FieldValue, all_fields};
use crate::runs::run_json;
use crate::state::AppState;

/// Tokens of a large table take a while.
const PATIENCE: Duration = Duration::from_secs(600);
const MAX_SAMPLES: usize = 100;

#[derive(Debug, Deserialize, ToSchema)]
struct ConfigCheck {
    /// Fields by path; what is left out has its default.
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    values: Map<String, Value>,
    /// The data set whose tables and columns are used.
    #[serde(default)]
    dataset_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ConfigChecked {
    /// Errors first.
    findings: Vec<ConfigFinding>,
    /// The whole experiment.
    yaml: String,
    /// Paths of the fields that differ from their default.
    changed: Vec<String>,
}

/// Something to say about settings.
#[derive(Debug, Serialize, ToSchema)]
struct ConfigFinding {
    level: ProblemLevel,
    field: String,
    message: String,
    #[schema(required)]
    hint: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ParseRequest {
    yaml: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct Parsed {
    /// Every field by path.
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    values: Map<String, Value>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct TokensRequest {
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    values: Map<String, Value>,
    dataset_id: String,
    /// The samples of these rows, counted from 0.
    #[serde(default)]
    rows: Option<Vec<u64>>,
    /// The first row, from 0.
    #[serde(default)]
    first: usize,
    /// How many samples; at most 100.
    #[serde(default = "default_n")]
    n: usize,
}

fn default_n() -> usize {
    3
}

/// The routes of this module.
pub(crate) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(check))
        .routes(routes!(parse))
        .routes(routes!(tokens))
}

/// All fields of an experiment
#[utoipa::path(get, path = "/schema",
    operation_id = "show_schema", tag = "config", responses((status = 200, body = FieldSchema)))]
async fn show(State(state): State<AppState>) -> ApiResult<Json<FieldSchema>> {
    let settings = state.store.settings()?;
    Ok(Json(all_fields(&settings)))
}

/// What is wrong with settings, and their YAML
#[utoipa::path(post, path = "/config/check",
    operation_id = "check_config", tag = "config", request_body = ConfigCheck,
    responses((status = 200, body = ConfigChecked)))]
async fn check(
    State(state): State<AppState>,
    Json(request): Json<ConfigCheck>,
) -> ApiResult<Json<ConfigChecked>> {
    let mut refused = Vec::new();
    let config = config(&state, &request.values, request.dataset_id.as_deref(), &mut refused)?;
    let defaults = ExperimentConfig::for_problem_type(config.problem_type);
    let mut findings = refused;
    findings.extend(config.check().into_iter().map(|Finding { level, field, message, hint }| {
        let level = if level == Level::Error { ProblemLevel::Error } else { ProblemLevel::Warning };
        ConfigFinding { level, field, message, hint }
    }));
    findings.sort_by_key(|finding| finding.level != ProblemLevel::Error);
    let paths = schema().iter().map(FieldSpec::path);
    let changed = paths.filter(|path| config.get(path) != defaults.get(path)).collect();
    Ok(Json(ConfigChecked { findings, yaml: config.to_yaml(), changed }))
}

/// From values to settings; values that their field does not take are told and left out. Tables are those of the data set.
fn config(
    state: &AppState,
    values: &Map<String, Value>,
    dataset_id: Option<&str>,
    refused: &mut Vec<ConfigFinding>,
) -> ApiResult<ExperimentConfig> {
    let of_dataset = match dataset_id {
        Some(id) => {
            let record = state
                .store
                .dataset(id)?
                .ok_or_else(|| ApiError::not_found(format!("there is no data set {id}")))?;
            let settings: DataSettings = serde_json::from_value(record.settings)
                .map_err(|error| ApiError::internal(format!("the data set cannot be read: {error}")))?;
            Some(settings.config(&state.workdir.dataset(id)?)?)
        }
        None => None,
    };
    let mut config = of_dataset.clone().unwrap_or_default();
    if let Some(kind) = values.get("problem_type") {
        let mut probe = ExperimentConfig::default();
        if probe.set("problem_type", &text_of(kind)).is_ok() {
            let dataset = config.dataset;
            config = ExperimentConfig { dataset, ..ExperimentConfig::for_problem_type(probe.problem_type) };
        }
    }
    for (path, value) in values {
        if let Err(error) = config.set(path, &text_of(value)) {
            let (message, hint) = match &error {
                ConfigError::Fields { problems } => {
                    let expected = problems.first().map(|problem| problem.expected.clone());
                    (format!("expected {}", expected.unwrap_or_default()), None)
                }
                error => (error.to_string(), error.hint()),
            };
            let level = ProblemLevel::Error;
            refused.push(ConfigFinding { level, field: path.clone(), message, hint });
        }
    }
    if let Some(of_dataset) = of_dataset {
        let (own, dataset) = (of_dataset.dataset, &mut config.dataset);
        dataset.train_dataframe = own.train_dataframe;
        if own.validation_dataframe.is_some() {
            dataset.validation_dataframe = own.validation_dataframe;
        } else if dataset.validation_strategy == tunesmith_config::ValidationStrategy::Automatic {
            dataset.validation_dataframe = OptionalText::none();
        }
    }
    Ok(config)
}

/// Read an experiment file
#[utoipa::path(post, path = "/config/parse",
    operation_id = "parse_config", tag = "config", request_body = ParseRequest,
    responses((status = 200, body = Parsed),
        (status = 422, description = "with {line, column, problems} in details", body = crate::error::ErrorBody)))]
async fn parse(Json(request): Json<ParseRequest>) -> ApiResult<Json<Parsed>> {
    let (config, warnings) = ExperimentConfig::from_yaml(&request.yaml, "yaml").map_err(|error| {
        let details = match &error {
            ConfigError::Syntax { line, column, .. } => json!({"line": line, "column": column}),
            ConfigError::Shape { line, .. } => json!({"line": line, "column": null}),
            ConfigError::Fields { problems } => {
                let listed: Vec<Value> = problems
                    .iter()
                    .map(|problem| {
                        json!({
                            "line": problem.line, "field": problem.field,
                            "value": problem.value, "expected": problem.expected,
                        })
                    })
                    .collect();
                json!({"line": problems.first().map(|problem| problem.line), "column": null, "problems": listed})
            }
            _ => Value::Null,
        };
        let error = ApiError::from(error);
        if details.is_null() { error } else { error.details(details) }
    })?;
    let values =
        schema().iter().filter_map(|spec| Some((spec.path(), json!(config.get(&spec.path())?)))).collect();
    let warnings = warnings.into_iter().map(|warning| match warning.line {
        Some(line) => format!("line {line}: {}", warning.message),
        None => warning.message,
    });
    Ok(Json(Parsed { values, warnings: warnings.collect() }))
}

/// What a model would be trained on, token by token
#[utoipa::path(post, path = "/tokens",
    operation_id = "preview_tokens", tag = "config", request_body = TokensRequest,
    responses((status = 200, description = "what `tunesmith data preview --json` prints", body = Value),
        (status = 409, description = "model_missing: with {model} in details", body = crate::error::ErrorBody)))]
async fn tokens(State(state): State<AppState>, Json(request): Json<TokensRequest>) -> ApiResult<Json<Value>> {
    let mut refused = Vec::new();
    let config = config(&state, &request.values, Some(&request.dataset_id), &mut refused)?;
    if let Some(finding) = refused.first() {
        return Err(ApiError::invalid(format!("{}: {}", finding.field, finding.message))
            .details(json!({"field": finding.field})));
    }
    let failed = |error: std::io::Error| ApiError::internal(format!("a temporary file: {error}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let path = folder.path().join("request.yaml");
    tokio::fs::write(&path, config.to_yaml()).await.map_err(failed)?;
    let mut args = vec!["data".to_owned(), "preview".to_owned(), config.dataset.train_dataframe.clone()];
    args.extend(["-Y".to_owned(), path.display().to_string(), "--json".to_owned()]);
    let n = request.n.clamp(1, MAX_SAMPLES);
    let rows: Vec<u64> = match request.rows {
        Some(rows) => rows.into_iter().take(MAX_SAMPLES).collect(),
        None if request.first > 0 => (request.first as u64..).take(n).collect(),
        None => Vec::new(),
    };
    if rows.is_empty() {
        args.extend(["--samples".to_owned(), n.to_string()]);
    }
    args.extend(rows.into_iter().flat_map(|row| ["--row".to_owned(), row.to_string()]));
    let answer = run_json(&state, &args, PATIENCE).await.map_err(|error| {
        let is_missing = error.code == "model_missing";
        if is_missing && error.status == StatusCode::CONFLICT {
            error.details(json!({"model": config.llm_backbone}))
        } else {
            error
        }
    })?;
    Ok(Json(answer))
}

/// A value as a command line would give it.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}
