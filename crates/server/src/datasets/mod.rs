//! Data sets: imports, roles of columns, rows, conversations, statistics.

mod apart;
mod check;
mod column_names;
mod guess;
mod imports;
mod record;
mod sample;
mod settings;
mod sources;
mod statistics;
mod tables;
mod targets;
mod uploads;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::Path as FilePath;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tunesmith_sources::free_path;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

pub use apart::work as work_on_tables;
pub use record::{Dataset, reindex};
pub use settings::DataSettings;
pub(crate) use tables::ProblemLevel;
pub use tables::TableFile;

use self::apart::{check_apart, conversations_apart, rows_apart, statistics_apart};
use self::check::{Conversation, conversations, readable};
use self::record::find;
use self::statistics::Statistics;
use self::tables::{open_table, plain_name, shown, tables_of};
use crate::error::{ApiError, ApiResult};
use crate::events::Change;
use crate::state::AppState;

pub(crate) use sample::run_program;

/// Rows or conversations of one answer.
const MAX_LIMIT: usize = 500;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DatasetChanges {
    name: Option<String>,
    settings: Option<DataSettings>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct MergeRequest {
    /// The data set whose tables are added.
    from: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RowsQuery {
    /// Name of the table; the training table without one.
    table: Option<String>,
    /// The first row, from 0.
    offset: Option<usize>,
    /// How many; at most 500.
    limit: Option<usize>,
}

/// Some rows of a table.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    /// Rows of the whole table.
    n_rows: u64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ConversationsQuery {
    /// The first, from 0.
    offset: Option<usize>,
    /// How many; at most 500.
    limit: Option<usize>,
}

/// Some conversations of a data set.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Conversations {
    conversations: Vec<Conversation>,
    /// Conversations of the whole data set.
    n: u64,
}

/// The routes of this module.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, imports::create))
        .routes(routes!(show, change, delete))
        .routes(routes!(rows))
        .routes(routes!(show_conversations))
        .routes(routes!(show_statistics))
        .routes(routes!(merge))
        .routes(routes!(download))
        .merge(imports::router())
        .merge(sources::router())
        .merge(uploads::router())
        .merge(sample::router())
}

/// All data sets, newest first
#[utoipa::path(get, path = "/datasets",
    operation_id = "list_datasets", tag = "datasets", responses((status = 200, body = Vec<Dataset>)))]
async fn list(State(state): State<AppState>) -> ApiResult<Json<Vec<Dataset>>> {
    let mut all = Vec::new();
    for record in state.store.datasets()? {
        let n_experiments = state.store.experiments_of_dataset(&record.id)?.len() as u64;
        all.push(Dataset::of_record(record, n_experiments)?);
    }
    Ok(Json(all))
}

/// One data set
#[utoipa::path(get, path = "/datasets/{id}",
    operation_id = "show_dataset", tag = "datasets", params(("id" = String, Path)), responses((status = 200, body = Dataset)))]
async fn show(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Json<Dataset>> {
    Ok(Json(find(&state, &id)?))
}

/// Change name or roles
#[utoipa::path(patch, path = "/datasets/{id}",
    operation_id = "change_dataset", tag = "datasets", request_body = DatasetChanges,
    params(("id" = String, Path)), responses((status = 200, body = Dataset)))]
async fn change(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(changes): Json<DatasetChanges>,
) -> ApiResult<Json<Dataset>> {
    let dataset = tokio::task::spawn_blocking(move || {
        let mut dataset = find(&state, &id)?;
        let folder = state.workdir.dataset(&id)?;
        if let Some(name) = changes.name {
            dataset.name = imports::checked_name(&state, &name, Some(&id))?;
        }
        if let Some(settings) = changes.settings {
            let checked = check_apart(&state, &settings, &folder)?;
            let is_error = |problem: &&tables::Problem| problem.level == ProblemLevel::Error;
            if let Some(problem) = checked.problems.iter().find(is_error) {
                let details = json!({"problems": checked.problems});
                return Err(ApiError::invalid(problem.message.clone()).details(details));
            }
            dataset.settings = settings;
            dataset.count(&state, &folder)?;
        }
        dataset.save(&state)?;
        state.events.dataset(&id, Change::Changed);
        Ok(dataset)
    })
    .await??;
    Ok(Json(dataset))
}

/// Delete a data set that no experiment uses
#[utoipa::path(delete, path = "/datasets/{id}", operation_id = "delete_dataset", tag = "datasets",
    params(("id" = String, Path)), responses((status = 204), (status = 409, description = "in_use", body = crate::error::ErrorBody)))]
async fn delete(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    tokio::task::spawn_blocking(move || {
        let dataset = find(&state, &id)?;
        let users: Vec<String> =
            state.store.experiments_of_dataset(&id)?.into_iter().map(|record| record.name).collect();
        if !users.is_empty() {
            let message = format!("{} is used by {}", dataset.name, users.join(", "));
            return Err(ApiError::new(StatusCode::CONFLICT, "in_use", message)
                .hint("delete these experiments first")
                .details(json!({"experiments": users})));
        }
        let folder = state.workdir.dataset(&id)?;
        // Out of the way first: a folder that is half deleted is no data set.
        let doomed = state.workdir.uploads().join(format!("deleted-{}", crate::secrets::random_hex(8)?));
        fs::rename(&folder, &doomed).map_err(|error| ApiError::io(&folder, "remove", &error))?;
        state.store.delete_dataset(&id)?;
        fs::remove_dir_all(&doomed).map_err(|error| ApiError::io(&doomed, "remove", &error))?;
        state.events.dataset(&id, Change::Deleted);
        Ok(StatusCode::NO_CONTENT)
    })
    .await?
}

/// Rows of a table as it is
#[utoipa::path(get, path = "/datasets/{id}/rows",
    operation_id = "show_dataset_rows", tag = "datasets", params(("id" = String, Path), RowsQuery),
    responses((status = 200, body = Rows)))]
async fn rows(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<RowsQuery>,
) -> ApiResult<Json<Rows>> {
    let answer = tokio::task::spawn_blocking(move || {
        let dataset = find(&state, &id)?;
        let name = query.table.unwrap_or_else(|| dataset.settings.train_table.clone());
        let folder = state.workdir.dataset(&id)?;
        let Some(file) = dataset.tables.iter().find(|table| table.path == name) else {
            return Err(ApiError::not_found(format!("{} has no table {name}", dataset.name)));
        };
        let page = Page::of(query.offset, query.limit, 100);
        Ok(Rows { n_rows: file.n_rows, ..rows_apart(&state, &folder, &name, page)? })
    })
    .await??;
    Ok(Json(answer))
}

/// Conversations as training lays them out
#[utoipa::path(get, path = "/datasets/{id}/conversations",
    operation_id = "show_dataset_conversations", tag = "datasets",
    params(("id" = String, Path), ConversationsQuery), responses((status = 200, body = Conversations)))]
async fn show_conversations(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<ConversationsQuery>,
) -> ApiResult<Json<Conversations>> {
    let answer = tokio::task::spawn_blocking(move || {
        let dataset = find(&state, &id)?;
        let folder = state.workdir.dataset(&id)?;
        let page = Page::of(query.offset, query.limit, 20);
        conversations_apart(&state, &folder, &dataset.settings, page)
    })
    .await??;
    Ok(Json(answer))
}

/// Lengths and columns
#[utoipa::path(get, path = "/datasets/{id}/statistics",
    operation_id = "show_dataset_statistics", tag = "datasets", params(("id" = String, Path)), responses((status = 200, body = Statistics)))]
async fn show_statistics(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<Json<Statistics>> {
    let answer = tokio::task::spawn_blocking(move || {
        statistics_apart(&state, &state.workdir.dataset(&id)?, &find(&state, &id)?.settings)
    })
    .await??;
    Ok(Json(answer))
}

/// Add the tables of another data set, which stays as it is
#[utoipa::path(post, path = "/datasets/{id}/merge",
    operation_id = "merge_datasets", tag = "datasets", request_body = MergeRequest,
    params(("id" = String, Path)), responses((status = 200, body = Dataset)))]
async fn merge(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Json(request): Json<MergeRequest>,
) -> ApiResult<Json<Dataset>> {
    let dataset = tokio::task::spawn_blocking(move || {
        let mut dataset = find(&state, &id)?;
        let from = find(&state, &request.from)?;
        if from.id == dataset.id {
            return Err(ApiError::bad_request("a data set cannot be merged with itself"));
        }
        let (source, target) = (state.workdir.dataset(&from.id)?, state.workdir.dataset(&id)?);
        for name in tables_of(&source)? {
            let to = free_path(&target, &name);
            fs::copy(source.join(&name), &to).map_err(|error| ApiError::io(&to, "write", &error))?;
        }
        dataset.count(&state, &target)?;
        dataset.save(&state)?;
        state.events.dataset(&id, Change::Changed);
        Ok(dataset)
    })
    .await??;
    Ok(Json(dataset))
}

/// A stretch of a list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Page {
    /// The first, from 0.
    offset: usize,
    /// How many.
    limit: usize,
}

impl Page {
    fn of(offset: Option<usize>, limit: Option<usize>, default_limit: usize) -> Self {
        Self { offset: offset.unwrap_or(0), limit: limit.unwrap_or(default_limit).min(MAX_LIMIT) }
    }
}

/// Some rows of a table; how many it has is not looked at.
fn rows_page(folder: &FilePath, name: &str, page: Page) -> ApiResult<Rows> {
    let table = open_table(folder, plain_name(name)?, Some(page.offset.saturating_add(page.limit).max(1)))
        .map_err(|problem| ApiError::invalid(problem.message))?;
    let rows = table.rows.iter().skip(page.offset).take(page.limit);
    let rows = rows.map(|row| row.iter().map(shown).collect()).collect();
    Ok(Rows { rows, columns: table.columns, n_rows: 0 })
}

/// Some conversations as training lays them out.
fn conversations_page(settings: &DataSettings, folder: &FilePath, page: Page) -> ApiResult<Conversations> {
    let found = conversations(settings, folder)?;
    let all = found.map_err(|problem| ApiError::invalid(problem.message))?.conversations;
    let shown = all.iter().skip(page.offset).take(page.limit).map(|rounds| readable(rounds, settings));
    Ok(Conversations { conversations: shown.collect(), n: all.len() as u64 })
}

/// All files as a zip archive
#[utoipa::path(get, path = "/datasets/{id}/download", operation_id = "download_dataset", tag = "datasets",
    params(("id" = String, Path)), responses((status = 200, description = "a zip archive", content_type = "application/zip")))]
async fn download(State(state): State<AppState>, Path(id): Path<String>) -> ApiResult<Response> {
    let (file, n_bytes) = tokio::task::spawn_blocking({
        let id = id.clone();
        move || archive_of(&state, &id)
    })
    .await??;
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_LENGTH, n_bytes.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{id}.zip\"")),
    ];
    Ok((headers, Body::from_stream(crate::web::file_stream(tokio::fs::File::from_std(file)))).into_response())
}

/// A zip archive without a name, which is gone when nobody reads it any more.
fn archive_of(state: &AppState, id: &str) -> ApiResult<(File, u64)> {
    let folder = state.workdir.dataset(&find(state, id)?.id)?;
    let failed = |error: std::io::Error| ApiError::io(&folder, "archive", &error);
    let mut zip = ZipWriter::new(tempfile::tempfile_in(state.workdir.uploads()).map_err(failed)?);
    let broken = |error: zip::result::ZipError| ApiError::internal(format!("the archive: {error}"));
    let options = SimpleFileOptions::default().large_file(true);
    let mut names = tables_of(&folder)?;
    names.push(record::FILE_NAME.to_owned());
    for name in names {
        zip.start_file(&*name, options).map_err(broken)?;
        let mut file = File::open(folder.join(&name)).map_err(failed)?;
        std::io::copy(&mut file, &mut zip).map_err(failed)?;
    }
    let mut file = zip.finish().map_err(broken)?;
    let n_bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok((file, n_bytes))
}
