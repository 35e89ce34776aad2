//! What a run would take, before it is made: asked of the program, which knows models.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::dataset::dataset_fields;
use super::experiment_file::config_of;
use super::{act, run_json};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// Tokens of a large table take a while the first time.
const PATIENCE: Duration = Duration::from_secs(600);

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(forecast)).routes(routes!(samples))
}

#[derive(Debug, Deserialize, ToSchema)]
struct ForecastRequest {
    #[serde(default)]
    dataset_id: Option<String>,
    /// Fields by path.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, crate::fields::FieldValue>)]
    values: Map<String, Value>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SamplesQuery {
    /// The first sample, from 0.
    first: Option<usize>,
    /// How many.
    n: Option<usize>,
}

/// Memory and time that a run would take
#[utoipa::path(post, path = "/forecast",
    operation_id = "forecast", tag = "experiments", request_body = ForecastRequest,
    responses((status = 200, description = "what `tunesmith forecast --json` prints", body = Value),
        (status = 409, description = "model_missing: the model is not on this machine", body = crate::error::ErrorBody)))]
async fn forecast(
    State(state): State<AppState>,
    Json(request): Json<ForecastRequest>,
) -> ApiResult<Json<Value>> {
    let mut values = request.values;
    if let Some(id) = &request.dataset_id {
        for (field, value) in dataset_fields(&state, id)?.fields {
            values.entry(field).or_insert(value);
        }
    }
    let config = config_of(&values)?;
    let model = config.llm_backbone.clone();
    let folder = tempfile::tempdir().map_err(|error| ApiError::internal(error.to_string()))?;
    let path = folder.path().join("request.yaml");
    tokio::fs::write(&path, config.to_yaml()).await.map_err(|error| ApiError::io(&path, "write", &error))?;
    let args = ["forecast", "-Y", &path.display().to_string(), "--json"].map(str::to_owned);
    let answer = run_json(&state, &args, PATIENCE).await.map_err(|error| with_model(error, &model))?;
    Ok(Json(answer))
}

/// The tokens of an experiment's own samples
#[utoipa::path(get, path = "/experiments/{id}/samples",
    operation_id = "preview_experiment_samples", tag = "experiments", params(("id" = String, Path), SamplesQuery),
    responses((status = 200, description = "what `tunesmith data preview --json` prints", body = Value)))]
async fn samples(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<SamplesQuery>,
) -> ApiResult<Json<Value>> {
    let (_, file, _) = act(&state, move |_, runs| runs.get(&id)).await?;
    let config = config_of(&file.values)?;
    let folder = tempfile::tempdir().map_err(|error| ApiError::internal(error.to_string()))?;
    let path = folder.path().join("request.yaml");
    tokio::fs::write(&path, config.to_yaml()).await.map_err(|error| ApiError::io(&path, "write", &error))?;
    let (first, n) = (query.first.unwrap_or(0), query.n.unwrap_or(5).min(100));
    let mut args = vec!["data".to_owned(), "preview".to_owned(), config.dataset.train_dataframe.clone()];
    args.extend(["-Y", &path.display().to_string(), "--json"].map(str::to_owned));
    if first == 0 {
        args.extend(["--samples".to_owned(), n.to_string()]);
    } else {
        args.extend((first..first + n).flat_map(|row| ["--row".to_owned(), row.to_string()]));
    }
    let answer =
        run_json(&state, &args, PATIENCE).await.map_err(|error| with_model(error, &config.llm_backbone))?;
    Ok(Json(answer))
}

/// Says which model is missing, for a button that fetches it.
fn with_model(error: ApiError, model: &str) -> ApiError {
    if error.code == "model_missing" { error.details(serde_json::json!({"model": model})) } else { error }
}
