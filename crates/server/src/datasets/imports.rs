//! Tables on their way to a data set: fetched, looked into, given roles, and then made one.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tunesmith_formats::write_file;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::apart::{check_apart, look_apart};
use super::check::Checked;
use super::guess::guess;
use super::record::{Dataset, find as find_dataset, free_name};
use super::settings::DataSettings;
use super::sources::Source;
use super::tables::{ImportTable, Problem, ProblemLevel, describe, open_table, tables_of};
use crate::error::{ApiError, ApiResult};
use crate::events::Change;
use crate::jobs::{Job, JobContext, JobKind, unix_secs};
use crate::secrets::random_hex;
use crate::state::AppState;
use crate::workdir::{checked_id, new_folder};

const PREFIX: &str = "import-";
/// Beside the folder of tables.
const FILE_NAME: &str = "import.json";
const FILES: &str = "files";

/// Tables that were fetched.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Import {
    /// Its id.
    pub id: String,
    /// A name for the data set.
    pub suggested_name: String,
    /// Where it came from, in words.
    pub source: String,
    /// Its tables.
    pub tables: Vec<ImportTable>,
    /// What they probably mean.
    pub guess: DataSettings,
    /// Tables that cannot be read.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ImportRequest {
    source: Source,
}

#[derive(Debug, Deserialize, ToSchema)]
struct ImportCheck {
    settings: DataSettings,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewDataset {
    import_id: String,
    name: String,
    settings: DataSettings,
}

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(begin)).routes(routes!(show, discard)).routes(routes!(check_import))
}

/// Fetch tables and look into them
#[utoipa::path(post, path = "/imports",
    operation_id = "begin_import", tag = "datasets", request_body = ImportRequest,
    responses((status = 202, description = "its result is {import_id}", body = Job)))]
async fn begin(State(state): State<AppState>, Json(request): Json<ImportRequest>) -> (StatusCode, Json<Job>) {
    let of_job = state.clone();
    let source = request.source;
    let job = state.jobs.start(JobKind::Import, source.label(), move |context| {
        let import = import(&of_job, &source, context)?;
        Ok(json!({"import_id": import.id}))
    });
    (StatusCode::ACCEPTED, Json(job))
}

/// What was fetched
#[utoipa::path(get, path = "/imports/{id}",
    operation_id = "show_import", tag = "datasets", params(("id" = String, Path)), responses((status = 200, body = Import)))]
async fn show(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<Import>> {
    Ok(Json(read(&state, &id)?.0))
}

/// Forget it
#[utoipa::path(delete, path = "/imports/{id}",
    operation_id = "discard_import", tag = "datasets", params(("id" = String, Path)), responses((status = 204)))]
async fn discard(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let folder = read(&state, &id)?.1;
    fs::remove_dir_all(&folder).map_err(|error| ApiError::io(&folder, "remove", &error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// What would become of it under these settings
#[utoipa::path(post, path = "/imports/{id}/check",
    operation_id = "check_import", tag = "datasets", request_body = ImportCheck,
    params(("id" = String, Path)), responses((status = 200, body = Checked)))]
async fn check_import(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(request): Json<ImportCheck>,
) -> ApiResult<Json<Checked>> {
    let folder = read(&state, &id)?.1.join(FILES);
    Ok(Json(tokio::task::spawn_blocking(move || check_apart(&state, &request.settings, &folder)).await??))
}

/// Make a data set of an import
#[utoipa::path(post, path = "/datasets",
    operation_id = "create_dataset", tag = "datasets", request_body = NewDataset,
    responses((status = 201, body = Dataset)))]
pub(super) async fn create(
    State(state): State<AppState>,
    Json(request): Json<NewDataset>,
) -> ApiResult<(StatusCode, Json<Dataset>)> {
    let dataset = tokio::task::spawn_blocking(move || {
        let (import, folder) = read(&state, &request.import_id)?;
        make(&state, &folder.join(FILES), &request.name, request.settings, &import.source).inspect(|_| {
            // What is left are empty folders; storage cleans up what cannot be removed now.
            fs::remove_dir_all(&folder).ok();
        })
    })
    .await??;
    Ok((StatusCode::CREATED, Json(dataset)))
}

fn import(state: &AppState, source: &Source, context: &JobContext) -> ApiResult<Import> {
    let id = format!("{PREFIX}{}", random_hex(12)?);
    let folder = state.workdir.uploads().join(&id);
    let files = folder.join(FILES);
    fs::create_dir_all(&files).map_err(|error| ApiError::io(&files, "create", &error))?;
    let outcome = source.fetch(state, &files, context).and_then(|fetched| {
        context.check()?;
        context.say("reading the tables");
        let (tables, problems) = look_apart(state, &files, &|| context.check())?;
        let Some(guess) = guess(&tables) else {
            let error = problems.first().map_or_else(
                || ApiError::invalid("there is no table in it"),
                |problem| {
                    let error = ApiError::invalid(problem.message.clone());
                    error.details(json!({"problems": problems})).hint_if(problem.hint.as_ref())
                },
            );
            return Err(error);
        };
        let import = Import {
            id: id.clone(),
            suggested_name: free_name(state, &fetched.name)?,
            source: fetched.source,
            tables,
            guess,
            problems,
        };
        let text = serde_json::to_vec(&import).map_err(|error| ApiError::internal(error.to_string()))?;
        write_file(&folder.join(FILE_NAME), &text)?;
        Ok(import)
    });
    if outcome.is_err() {
        fs::remove_dir_all(&folder).ok();
    }
    outcome
}

/// Reads every table once.
pub(super) fn look(folder: &FilePath) -> ApiResult<(Vec<ImportTable>, Vec<Problem>)> {
    let (mut tables, mut problems) = (Vec::new(), Vec::new());
    for name in tables_of(folder)? {
        let n_bytes = fs::metadata(folder.join(&name)).map_or(0, |file| file.len());
        match open_table(folder, &name, None) {
            Ok(table) => tables.push(describe(&name, &table, n_bytes)),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((tables, problems))
}

fn read(state: &AppState, id: &str) -> ApiResult<(Import, PathBuf)> {
    let gone = || ApiError::not_found(format!("there is no import {id}")).hint("import the tables again");
    let id = checked_id(id)?;
    if !id.starts_with(PREFIX) {
        return Err(gone());
    }
    let folder = state.workdir.uploads().join(id);
    let text = fs::read(folder.join(FILE_NAME)).map_err(|_| gone())?;
    let import = serde_json::from_slice(&text).map_err(|_| gone())?;
    Ok((import, folder))
}

/// Moves the tables of a folder to a data set of their own.
pub(super) fn make(
    state: &AppState,
    files: &FilePath,
    name: &str,
    settings: DataSettings,
    source: &str,
) -> ApiResult<Dataset> {
    let name = checked_name(state, name, None)?;
    let checked = check_apart(state, &settings, files)?;
    if let Some(problem) = checked.problems.iter().find(|problem| problem.level == ProblemLevel::Error) {
        return Err(ApiError::invalid(problem.message.clone()).details(json!({"problems": checked.problems})));
    }
    let (id, folder) = new_folder(&state.workdir.datasets(), &name)?;
    let mut dataset = Dataset {
        id: id.clone(),
        name,
        problem_type: settings.problem_type.clone(),
        settings,
        n_rows: 0,
        n_validation_rows: None,
        n_bytes: 0,
        tables: Vec::new(),
        n_experiments: 0,
        created_unix_secs: unix_secs(),
        source: source.to_owned(),
    };
    let outcome = tables_of(files)?
        .into_iter()
        .try_for_each(|table| {
            let (from, to) = (files.join(&table), folder.join(&table));
            fs::rename(&from, &to).map_err(|error| ApiError::io(&from, "move", &error))
        })
        .and_then(|()| dataset.count(state, &folder))
        .and_then(|()| dataset.save(state));
    if let Err(error) = outcome {
        fs::remove_dir_all(&folder).ok();
        return Err(error);
    }
    state.events.dataset(&id, Change::Created);
    find_dataset(state, &id)
}

/// A name that a data set may have.
pub(super) fn checked_name(state: &AppState, name: &str, except_id: Option<&str>) -> ApiResult<String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 120 || name.chars().any(char::is_control) {
        return Err(
            ApiError::invalid("the name has 1 to 120 visible signs").details(json!({"field": "name"}))
        );
    }
    if state.store.is_dataset_name_taken(name, except_id)? {
        return Err(ApiError::conflict(format!("another data set is called {name}"))
            .hint("choose another name")
            .details(json!({"field": "name"})));
    }
    Ok(name.to_owned())
}
