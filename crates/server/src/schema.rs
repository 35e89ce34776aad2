//! The fields of an experiment for forms, checks of settings, YAML in both directions, and tokens under some settings.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tunesmith_config::{
    ConfigError, ExperimentConfig, FieldSpec, Finding, Kind, Level, OptionalText, not_built_note, schema,
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::datasets::DataSettings;
use crate::error::{ApiError, ApiResult};
use crate::runs::run_json;
use crate::state::AppState;

/// Tokens of a large table take a while.
const PATIENCE: Duration = Duration::from_secs(600);
const MAX_SAMPLES: usize = 100;

/// Sections in the order of a form, with what they are about; fields outside any section come first.
const SECTIONS: [(&str, &str, &str); 9] = [
    ("", "General", "Name, model and kind of the experiment"),
    ("dataset", "Data set", "Tables, columns and how their cells become text"),
    ("tokenizer", "Tokenizer", "Token counts and tokenizer options"),
    ("architecture", "Architecture", "Model weights and their number formats"),
    ("training", "Training", "Loss, optimizer, schedule, adapters, checkpoints"),
    ("augmentation", "Augmentation", "Random changes of the training data"),
    ("prediction", "Prediction", "Validation metric and text generation"),
    ("environment", "Environment", "Devices, threads, seeds"),
    ("logging", "Logging", "Where the run's numbers go"),
];

#[derive(Debug, Serialize, ToSchema)]
struct Schema {
    sections: Vec<Section>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Section {
    /// Empty for the fields outside any section.
    name: String,
    title: String,
    help: String,
    fields: Vec<Field>,
}

/// A field of an experiment.
#[derive(Debug, Serialize, ToSchema)]
struct Field {
    /// `section.name`.
    path: String,
    name: String,
    section: String,
    label: String,
    /// A paragraph a line.
    help: String,
    /// `bool`, `int`, `float`, `text`, `optional_text`, `choice`, `choice_list` or `text_list`.
    kind: String,
    #[schema(required)]
    choices: Option<Vec<String>>,
    /// With the studio's own default where that was changed.
    #[schema(value_type = Value)]
    default: Value,
    /// {min, max|null, is_min_excluded, is_max_excluded}: values beyond are refused.
    #[schema(required, value_type = Option<Object>)]
    limit: Option<Value>,
    /// {min, max|null, step}: what a slider offers; without max a number box.
    #[schema(required, value_type = Option<Object>)]
    slider: Option<Value>,
    suggestions: Vec<String>,
    /// {values, is_custom_allowed}: what a grid search offers.
    #[schema(required, value_type = Option<Object>)]
    grid: Option<Value>,
    /// Whether a grid search may try every choice.
    is_choice_grid: bool,
    /// [{field, value|null, is_set}]: all must hold for the field to matter; fields of the same section.
    #[schema(value_type = Vec<Object>)]
    depends_on: Value,
    is_hidden: bool,
    /// Problem types for which it has no meaning.
    hidden_for: Vec<String>,
    is_built: bool,
    /// What happens instead where it is not built.
    #[schema(required)]
    not_built_note: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct CheckRequest {
    /// Fields by path; what is left out has its default.
    #[schema(value_type = Object)]
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
    /// `error` or `warning`.
    level: String,
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
    #[schema(value_type = Object)]
    values: Map<String, Value>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct TokensRequest {
    #[schema(value_type = Object)]
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
#[utoipa::path(get, path = "/schema", tag = "config", responses((status = 200, body = Schema)))]
async fn show(State(state): State<AppState>) -> ApiResult<Json<Schema>> {
    let settings = state.store.settings()?;
    let sections = SECTIONS.iter().map(|(name, title, help)| Section {
        name: (*name).to_owned(),
        title: (*title).to_owned(),
        help: (*help).to_owned(),
        fields: schema()
            .iter()
            .filter(|spec| spec.section == *name)
            .map(|spec| field(spec, settings.get(&format!("default.{}", spec.path()))))
            .collect(),
    });
    Ok(Json(Schema { sections: sections.collect() }))
}

fn field(spec: &FieldSpec, own_default: Option<&Value>) -> Field {
    let path = spec.path();
    let (kind, choices) = match spec.kind {
        Kind::Bool => ("bool", None),
        Kind::Int => ("int", None),
        Kind::Float => ("float", None),
        Kind::Text => ("text", None),
        Kind::OptionalText => ("optional_text", None),
        Kind::Choice(names) => ("choice", Some(names)),
        Kind::TextList => ("text_list", None),
        Kind::ChoiceList(names) => ("choice_list", Some(names)),
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let facets = &spec.facets;
    let note = not_built_note(&path);
    Field {
        name: spec.name.to_owned(),
        section: spec.section.to_owned(),
        label: spec.label(),
        help: spec.help(),
        kind: kind.to_owned(),
        choices: choices.map(owned),
        default: own_default.cloned().unwrap_or_else(|| json!((spec.default)())),
        limit: facets.limit.map(|limit| json!(limit)),
        slider: facets.slider.map(|slider| json!(slider)),
        suggestions: owned(facets.suggestions),
        grid: facets.grid.map(|grid| json!(grid)),
        is_choice_grid: facets.is_choice_grid,
        depends_on: json!(facets.depends_on),
        is_hidden: facets.is_hidden,
        hidden_for: facets.hidden_for.iter().map(|kind| kind.as_str().to_owned()).collect(),
        is_built: note.is_none(),
        not_built_note: note.map(str::to_owned),
        path,
    }
}

/// What is wrong with settings, and their YAML
#[utoipa::path(post, path = "/config/check", tag = "config", request_body = CheckRequest,
    responses((status = 200, body = ConfigChecked)))]
async fn check(
    State(state): State<AppState>,
    Json(request): Json<CheckRequest>,
) -> ApiResult<Json<ConfigChecked>> {
    let mut refused = Vec::new();
    let config = config(&state, &request.values, request.dataset_id.as_deref(), &mut refused)?;
    let defaults = ExperimentConfig::for_problem_type(config.problem_type);
    let mut findings = refused;
    findings.extend(config.check().into_iter().map(|Finding { level, field, message, hint }| {
        let level = if level == Level::Error { "error" } else { "warning" };
        ConfigFinding { level: level.to_owned(), field, message, hint }
    }));
    findings.sort_by_key(|finding| finding.level != "error");
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
            let level = "error".to_owned();
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
#[utoipa::path(post, path = "/config/parse", tag = "config", request_body = ParseRequest,
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
#[utoipa::path(post, path = "/tokens", tag = "config", request_body = TokensRequest,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_in_a_section() {
        for spec in schema() {
            assert!(SECTIONS.iter().any(|(name, ..)| *name == spec.section), "{}", spec.path());
        }
    }
}
