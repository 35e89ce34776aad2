//! The experiments over HTTP: make, list, change, steer.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::artifacts::{Artifact, artifacts_of};
use super::dataset::dataset_fields;
use super::experiment_file::{GridOrigin, changed_fields, config_of, read_json};
use super::grid::combinations;
use super::summary::ExperimentSummary;
use super::supervisor::NewExperiment;
use super::{GridValues, act};
use crate::error::{ApiError, ApiResult};
use crate::fields::FieldValue;
use crate::state::AppState;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(stop))
        .routes(routes!(kill))
        .routes(routes!(resume))
        .routes(routes!(requeue))
        .routes(routes!(order))
        .routes(routes!(reindex))
}

/// What an experiment is made of.
#[derive(Debug, Deserialize, ToSchema)]
struct CreateExperiment {
    /// Taken names get a number.
    name: String,
    /// The data set to learn from; without one the values name the tables.
    #[serde(default)]
    dataset_id: Option<String>,
    /// Fields by path; those left out have their defaults.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    values: Map<String, Value>,
    /// Several values for some fields: an experiment for each combination.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, Vec<FieldValue>>>)]
    grid: Option<GridValues>,
    /// Above 0 goes before all that wait.
    #[serde(default)]
    priority: i64,
}

/// One experiment with all its settings and files.
#[derive(Debug, Serialize, ToSchema)]
struct ExperimentDetail {
    #[serde(flatten)]
    summary: ExperimentSummary,
    /// Every field by path, as it will be or was used.
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    values: Map<String, Value>,
    /// Paths of the fields that differ from their defaults.
    changed: Vec<String>,
    /// What its search changed, if it is one of a search.
    #[schema(required, value_type = Option<BTreeMap<String, FieldValue>>)]
    grid_changes: Option<Map<String, Value>>,
    /// How its data set laid out the data when it was made.
    #[schema(value_type = BTreeMap<String, FieldValue>)]
    dataset_settings: Map<String, Value>,
    /// `run.json`, once the run has begun.
    #[schema(required, value_type = Option<BTreeMap<String, Value>>)]
    record: Option<Value>,
    /// The configuration as a file.
    yaml: String,
    /// What to type to repeat it.
    command: String,
    artifacts: Vec<Artifact>,
    /// Where it is on the server's machine.
    folder: String,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ChangeExperiment {
    name: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct QueueOrder {
    /// Those that wait, the next to start first.
    ids: Vec<String>,
}

/// What was found in the work folder.
#[derive(Debug, Serialize, ToSchema)]
struct Reindexed {
    found: usize,
    added: usize,
}

/// All experiments, the newest first
#[utoipa::path(get, path = "/experiments",
    operation_id = "list_experiments", tag = "experiments",
    responses((status = 200, body = Vec<ExperimentSummary>)))]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<ExperimentSummary>>> {
    act(&state, |_, runs| Ok(Json(runs.list()))).await
}

/// Makes an experiment, or one for each combination of a grid, and puts it into the queue
#[utoipa::path(post, path = "/experiments",
    operation_id = "create_experiments", tag = "experiments", request_body = CreateExperiment,
    responses((status = 201, body = Vec<ExperimentSummary>), (status = 422, body = crate::error::ErrorBody)))]
async fn create(
    State(state): State<AppState>,
    Json(request): Json<CreateExperiment>,
) -> ApiResult<(StatusCode, Json<Vec<ExperimentSummary>>)> {
    let made = act(&state, move |state, runs| {
        let dataset = request.dataset_id.as_deref().map(|id| dataset_fields(state, id)).transpose()?;
        let mut values = by_path(request.values)?;
        let dataset_name = dataset.map(|dataset| {
            // The request's own word on a field counts.
            for (field, value) in dataset.fields {
                values.entry(field).or_insert(value);
            }
            dataset.name
        });
        let one = |name: String, values, grid| NewExperiment {
            name,
            dataset_id: request.dataset_id.clone(),
            dataset_name: dataset_name.clone(),
            values,
            grid,
        };
        let new = match request.grid.filter(|grid| !grid.is_empty()) {
            None => vec![one(request.name, values, None)],
            Some(grid) => {
                let id = format!("{}-{:.0}", request.name, 1000.0 * crate::jobs::unix_secs());
                combinations(&values, &grid)?
                    .into_iter()
                    .map(|found| {
                        let origin = GridOrigin { id: id.clone(), changes: found.changes };
                        one(format!("{}{}", request.name, found.suffix), found.values, Some(origin))
                    })
                    .collect()
            }
        };
        runs.create(new, 0 < request.priority)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The same fields, each under its path.
fn by_path(values: Map<String, Value>) -> ApiResult<Map<String, Value>> {
    values
        .into_iter()
        .map(|(name, value)| match tunesmith_config::find_field(&name) {
            Some(field) => Ok((field.path(), value)),
            None => Err(ApiError::invalid(format!("there is no field {name}"))),
        })
        .collect()
}

/// One experiment with all its settings and files
#[utoipa::path(get, path = "/experiments/{id}",
    operation_id = "show_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentDetail), (status = 404, body = crate::error::ErrorBody)))]
async fn show(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<ExperimentDetail>> {
    act(&state, move |_, runs| {
        let (summary, file, folder) = runs.get(&id)?;
        let mut config = config_of(&file.values)?;
        config.experiment_name.clone_from(&file.name);
        let run = folder.run();
        config.output_directory = run.display().to_string();
        let values = tunesmith_config::schema()
            .iter()
            .filter_map(|field| Some((field.path(), json!(config.get(&field.path())?))))
            .collect();
        let dataset_settings = file
            .values
            .iter()
            .filter(|(path, _)| path.starts_with("dataset."))
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect();
        Ok(Json(ExperimentDetail {
            values,
            changed: changed_fields(&file.values),
            grid_changes: file.grid.map(|grid| grid.changes),
            dataset_settings,
            record: read_json(&run.join("run.json")),
            yaml: config.to_yaml(),
            command: format!("tunesmith train -Y {}", quoted(&folder.request().display().to_string())),
            artifacts: artifacts_of(&folder, &summary.id),
            folder: folder.0.display().to_string(),
            summary,
        }))
    })
    .await
}

/// A path as a shell reads it.
fn quoted(path: &str) -> String {
    let is_plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte));
    if is_plain { path.to_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// Gives it another name
#[utoipa::path(patch, path = "/experiments/{id}",
    operation_id = "rename_experiment", tag = "experiments", params(("id" = String, Path)),
    request_body = ChangeExperiment, responses((status = 200, body = ExperimentSummary)))]
async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(request): Json<ChangeExperiment>,
) -> ApiResult<Json<ExperimentSummary>> {
    act(&state, move |_, runs| runs.rename(&id, &request.name).map(Json)).await
}

/// Removes it with all its files
#[utoipa::path(delete, path = "/experiments/{id}",
    operation_id = "delete_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 204), (status = 409, body = crate::error::ErrorBody)))]
async fn remove(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    // A model of it may be loaded.
    crate::chat::unload(&state, &format!("run:{id}")).await;
    act(&state, move |_, runs| runs.delete(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Writes a checkpoint and leaves; taken from the queue if it waits
#[utoipa::path(post, path = "/experiments/{id}/stop",
    operation_id = "stop_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentSummary), (status = 409, body = crate::error::ErrorBody)))]
async fn stop(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<ExperimentSummary>> {
    act(&state, move |_, runs| runs.stop(&id).map(Json)).await
}

/// Ends its process at once
#[utoipa::path(post, path = "/experiments/{id}/kill",
    operation_id = "kill_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentSummary), (status = 409, body = crate::error::ErrorBody)))]
async fn kill(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<ExperimentSummary>> {
    act(&state, move |_, runs| runs.kill(&id).map(Json)).await
}

/// Puts it into the queue, to go on from its last checkpoint
#[utoipa::path(post, path = "/experiments/{id}/resume",
    operation_id = "resume_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentSummary), (status = 409, body = crate::error::ErrorBody)))]
async fn resume(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<ExperimentSummary>> {
    act(&state, move |_, runs| runs.resume(&id).map(Json)).await
}

/// Puts one that was taken from the queue back into it; the same as resume
#[utoipa::path(post, path = "/experiments/{id}/requeue",
    operation_id = "requeue_experiment", tag = "experiments", params(("id" = String, Path)),
    responses((status = 200, body = ExperimentSummary), (status = 409, body = crate::error::ErrorBody)))]
async fn requeue(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<Json<ExperimentSummary>> {
    act(&state, move |_, runs| runs.resume(&id).map(Json)).await
}

/// Puts the waiting experiments into another order
#[utoipa::path(put, path = "/queue",
    operation_id = "order_queue", tag = "experiments", request_body = QueueOrder,
    responses((status = 200, body = QueueOrder)))]
async fn order(State(state): State<AppState>, Json(wanted): Json<QueueOrder>) -> ApiResult<Json<QueueOrder>> {
    act(&state, move |_, runs| Ok(Json(QueueOrder { ids: runs.order_queue(&wanted.ids) }))).await
}

/// Looks for experiments in the work folder that are not known
#[utoipa::path(post, path = "/reindex",
    operation_id = "reindex", tag = "experiments", responses((status = 200, body = Reindexed)))]
async fn reindex(State(state): State<AppState>) -> ApiResult<Json<Reindexed>> {
    act(&state, |_, runs| {
        let (found, added) = runs.reindex()?;
        Ok(Json(Reindexed { found, added }))
    })
    .await
}
