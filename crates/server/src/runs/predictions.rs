//! The predictions of a run on its validation rows: pages of the table that the run writes after every evaluation.

use std::fs::File;
use std::io::ErrorKind;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::prediction_table::{PredictionColumn, PredictionKind, PredictionTable, View, number_of};
use super::{act, read_json};
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// Rows of one answer.
const MAX_LIMIT: usize = 200;
/// Texts of a page are cut after so many signs.
const MAX_SHOWN_CHARS: usize = 1_000;
/// Signs of a text to look for.
const MAX_SEARCH_CHARS: usize = 200;

/// The routes of this file.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(predictions)).routes(routes!(prediction))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PredictionsQuery {
    /// The first of the rows found, from 0.
    offset: Option<usize>,
    /// How many; at most 200.
    limit: Option<usize>,
    /// Name of the column to sort by.
    sort: Option<String>,
    /// The largest first.
    descending: Option<bool>,
    /// Only rows with this in a text, in upper or lower case.
    search: Option<String>,
    /// Only rows whose prediction is not the answer.
    differing: Option<bool>,
}

/// Some predictions of a run.
#[derive(Debug, Serialize, ToSchema)]
struct Predictions {
    columns: Vec<PredictionColumn>,
    /// A cell for each column; long texts are cut.
    rows: Vec<Vec<Option<PredictionCell>>>,
    /// Where each of these rows stands in the table, to read it whole.
    positions: Vec<u32>,
    /// Rows of the whole table.
    n_rows: usize,
    /// Rows that were asked for, on all pages.
    n_found: usize,
    #[serde(flatten)]
    about: AboutPredictions,
}

/// What the run says of its predictions.
#[derive(Debug, Serialize, ToSchema)]
struct AboutPredictions {
    /// The optimizer step after which they were made.
    #[schema(required)]
    step: Option<u64>,
    /// The metric of the run.
    #[schema(required)]
    metric: Option<String>,
    /// Whether more of the metric is better.
    #[schema(required)]
    higher_is_better: Option<bool>,
    /// The column that tells good rows from bad ones.
    #[schema(required)]
    sort_column: Option<String>,
    /// Of classes and labels: what was taken for what.
    confusion: Vec<ConfusionCounts>,
}

/// What was taken for what in one column of answers.
#[derive(Debug, PartialEq, Deserialize, Serialize, ToSchema)]
struct ConfusionCounts {
    /// Name of the column, or of the label where one column holds several.
    column: String,
    /// What the classes are called; empty in files of versions that did not write it.
    #[serde(default)]
    labels: Vec<String>,
    /// Rows by true class and, in each, by predicted class, both from 0.
    counts: Vec<Vec<u64>>,
}

/// A cell of predictions; absent where there is nothing.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
enum PredictionCell {
    Number(f64),
    /// A text, or what JSON has no number for.
    Text(String),
}

/// One row of predictions, with whole texts.
#[derive(Debug, Serialize, ToSchema)]
struct Prediction {
    columns: Vec<PredictionColumn>,
    cells: Vec<Option<PredictionCell>>,
}

/// Predictions on the validation rows, as the newest evaluation left them
#[utoipa::path(get, path = "/experiments/{id}/predictions",
    operation_id = "show_predictions", tag = "experiments", params(("id" = String, Path), PredictionsQuery),
    responses((status = 200, body = Predictions),
        (status = 404, description = "no_predictions before the first evaluation", body = crate::error::ErrorBody)))]
async fn predictions(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Query(query): Query<PredictionsQuery>,
) -> ApiResult<Json<Predictions>> {
    with_table(&state, id, move |open| {
        let Open { table, file, about, .. } = &open;
        let view = query.view(table)?;
        let found = table.find(file, &view).map_err(|error| open.failed(&error))?;
        let n_found = found.as_ref().map_or(table.n_rows(), |rows| rows.len());
        let (offset, limit) = (query.offset.unwrap_or(0), query.limit.unwrap_or(50).min(MAX_LIMIT));
        let shown = offset.min(n_found)..offset.saturating_add(limit).min(n_found);
        let positions: Vec<u32> = match &found {
            Some(rows) => rows.get(shown).unwrap_or_default().to_vec(),
            None => shown.filter_map(|row| u32::try_from(row).ok()).collect(),
        };
        let mut rows = Vec::with_capacity(positions.len());
        for position in &positions {
            rows.push(open.cells(*position as usize, Some(MAX_SHOWN_CHARS))?.unwrap_or_default());
        }
        let about = AboutPredictions::of(about, table);
        Ok(Json(Predictions {
            columns: table.columns.clone(),
            rows,
            positions,
            n_rows: table.n_rows(),
            n_found,
            about,
        }))
    })
    .await
}

/// One row of the predictions, with whole texts
#[utoipa::path(get, path = "/experiments/{id}/predictions/{position}",
    operation_id = "show_prediction", tag = "experiments", params(("id" = String, Path), ("position" = usize, Path)),
    responses((status = 200, body = Prediction), (status = 404, body = crate::error::ErrorBody)))]
async fn prediction(
    State(state): State<AppState>,
    Path((id, position)): Path<(String, usize)>,
) -> ApiResult<Json<Prediction>> {
    with_table(&state, id, move |open| {
        let cells = open.cells(position, None)?;
        let cells = cells.ok_or_else(|| {
            ApiError::not_found(format!("there is no row {position} of {}", open.table.n_rows()))
        })?;
        Ok(Json(Prediction { columns: open.table.columns.clone(), cells }))
    })
    .await
}

/// A table that was found. The file stays open, so that one that takes its place meanwhile does not matter.
struct Open {
    table: std::sync::Arc<PredictionTable>,
    file: File,
    path: std::path::PathBuf,
    about: Value,
}

async fn with_table<T: Send + 'static>(
    state: &AppState,
    id: String,
    what: impl FnOnce(Open) -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    act(state, move |state, runs| {
        let folder = runs.get(&id)?.2;
        let path = folder.predictions();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let message = "there are no predictions yet";
                return Err(ApiError::new(StatusCode::NOT_FOUND, "no_predictions", message)
                    .hint("the run writes them after every evaluation on the validation rows"));
            }
            Err(error) => return Err(ApiError::io(&path, "read", &error)),
        };
        let about = read_json(&path.with_extension("json")).unwrap_or_default();
        let table = state.runs.predictions.table(&path, &file)?;
        what(Open { table, file, path, about })
    })
    .await
}

impl Open {
    fn failed(&self, error: &std::io::Error) -> ApiError {
        ApiError::io(&self.path, "read", error)
    }

    /// The cells of a row, texts cut after `max_chars`.
    fn cells(&self, row: usize, max_chars: Option<usize>) -> ApiResult<Option<Vec<Option<PredictionCell>>>> {
        let cells = self.table.row(&self.file, row).map_err(|error| self.failed(&error))?;
        let kinds = || self.table.columns.iter().map(|column| column.kind);
        Ok(cells.map(|cells| {
            cells
                .into_iter()
                .zip(kinds())
                .map(|(cell, kind)| PredictionCell::of(cell, kind, max_chars))
                .collect()
        }))
    }
}

impl PredictionsQuery {
    fn view(&self, table: &PredictionTable) -> ApiResult<View> {
        let column = |name: &str| {
            table.column_idx(name).ok_or_else(|| {
                let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
                ApiError::bad_request(format!("there is no column {name:?}"))
                    .hint(format!("the columns are {}", names.join(", ")))
            })
        };
        let search = self.search.as_deref().unwrap_or_default().trim().to_lowercase();
        if MAX_SEARCH_CHARS < search.chars().count() {
            return Err(ApiError::bad_request(format!(
                "a text to look for has at most {MAX_SEARCH_CHARS} signs"
            )));
        }
        let differing = match self.differing {
            Some(true) => Some((column("answer")?, column("prediction")?)),
            _ => None,
        };
        let sort = self.sort.as_deref().filter(|name| !name.is_empty()).map(column).transpose()?;
        // Without a column there is one order only.
        let descending = sort.is_some() && self.descending.unwrap_or(false);
        Ok(View { sort, descending, search, differing })
    }
}

impl AboutPredictions {
    /// What is there of it and fits the table.
    fn of(value: &Value, table: &PredictionTable) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            step: value.get("step").and_then(Value::as_u64),
            metric: text("metric"),
            higher_is_better: value.get("higher_is_better").and_then(Value::as_bool),
            sort_column: text("sort_column").filter(|name| table.column_idx(name).is_some()),
            confusion: value
                .get("confusion")
                .and_then(|tables| Vec::deserialize(tables).ok())
                .unwrap_or_default(),
        }
    }
}

impl PredictionCell {
    fn of(cell: String, kind: PredictionKind, max_chars: Option<usize>) -> Option<Self> {
        if cell.is_empty() {
            return None;
        }
        let number = (kind == PredictionKind::Number).then(|| number_of(cell.as_bytes())).flatten();
        if let Some(number) = number.filter(|number| number.is_finite()) {
            return Some(Self::Number(number));
        }
        let cut = max_chars.and_then(|max| cell.char_indices().nth(max));
        Some(Self::Text(match cut {
            Some((end, _)) => format!("{}…", cell.get(..end).unwrap_or_default()),
            None => cell,
        }))
    }
}
