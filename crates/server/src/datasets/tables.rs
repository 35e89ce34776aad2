//! Files of rows: which names are theirs, what stands in them.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tunesmith_data::{Cell, DataError, Place, Table, read_table};
use tunesmith_sources::{SourceError, is_importable, is_plain_name};
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// Rows that are shown of a new table.
const N_SHOWN_ROWS: usize = 50;
const N_EXAMPLES: usize = 3;
/// Longest text that is shown of a cell; tables may hold whole books.
const MAX_SHOWN_CHARS: usize = 2_000;

/// A table of an import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ImportTable {
    /// Name of the file.
    pub path: String,
    /// Number of rows.
    pub n_rows: u64,
    /// Size of the file.
    pub n_bytes: u64,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The first rows, as texts.
    pub rows: Vec<Vec<Option<String>>>,
}

/// A table of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableFile {
    /// Name of the file.
    pub path: String,
    /// Number of rows.
    pub n_rows: u64,
    /// Size of the file.
    pub n_bytes: u64,
}

/// What is in a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Column {
    /// Its name.
    pub name: String,
    /// What its cells are.
    pub kind: ColumnKind,
    /// Cells with nothing in them.
    pub n_missing: u64,
    /// Different values among the others.
    #[schema(required)]
    pub n_unique: Option<u64>,
    /// The first different values.
    pub examples: Vec<String>,
}

/// What the cells of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ColumnKind {
    /// Texts, or a mixture.
    Text,
    /// Numbers.
    Number,
    /// true and false.
    Bool,
    /// Lists or objects.
    List,
    /// Nothing at all.
    Empty,
}

/// Something to say about data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// How bad it is.
    pub level: ProblemLevel,
    /// What is wrong, or different than may be thought.
    pub message: String,
    /// What can be done about it.
    #[schema(required)]
    pub hint: Option<String>,
    /// The rows concerned, counted from 1 without the header; where a text file is broken, its line.
    #[schema(required)]
    pub rows: Option<Vec<u64>>,
    /// The setting concerned, by its name in `DataSettings`.
    #[schema(required)]
    pub field: Option<String>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProblemLevel {
    /// It cannot be used like that.
    Error,
    /// It can.
    Warning,
}

/// A name as it may become a file: no folders, nothing hidden, no signs that some system cannot have.
///
/// # Errors
/// Any other name.
pub(crate) fn plain_name(name: &str) -> ApiResult<&str> {
    if is_plain_name(name) {
        Ok(name)
    } else {
        Err(ApiError::bad_request(format!("{name:?} is not a plain file name")))
    }
}

/// Refuses a file whose name is neither a table's nor an archive's.
///
/// # Errors
/// That.
pub(crate) fn require_importable(name: &str) -> ApiResult<()> {
    if is_importable(name) { Ok(()) } else { Err(SourceError::NotATable { name: name.to_owned() }.into()) }
}

/// Names of the tables of a folder, sorted.
pub(crate) fn tables_of(folder: &Path) -> ApiResult<Vec<String>> {
    Ok(tunesmith_sources::tables_of(folder)?)
}

/// Reads a table of a folder; messages name it without the folder.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open_table(folder: &Path, name: &str, max_rows: Option<usize>) -> Result<Table, Problem> {
    read_table(&folder.join(name), max_rows).map_err(|error| problem_of(&error, folder))
}

/// An error about data, for a form.
pub(crate) fn problem_of(error: &DataError, folder: &Path) -> Problem {
    let prefix = format!("{}{}", folder.display(), std::path::MAIN_SEPARATOR);
    let rows = match error {
        DataError::Malformed { line: Some(line), .. } | DataError::Encoding { line: Some(line), .. } => {
            Some(vec![*line])
        }
        DataError::Row { place: Place::Line(number) | Place::Row(number), .. } => Some(vec![*number]),
        DataError::Sample { row, .. } => Some(vec![*row as u64 + 1]),
        _ => None,
    };
    let field = match error {
        DataError::MissingColumn { field, .. } | DataError::UnreadColumn { field, .. } => {
            Some(field.as_str())
        }
        DataError::Setting { field, .. } => Some(*field),
        DataError::Chains { .. } => Some("dataset.parent_id_column"),
        _ => None,
    };
    Problem {
        level: ProblemLevel::Error,
        message: error.to_string().replace(&prefix, ""),
        hint: error.hint(),
        rows,
        field: field.map(settings_name),
    }
}

/// Name in `DataSettings` of a field of the configuration.
fn settings_name(field: &str) -> String {
    match field.strip_prefix("dataset.").unwrap_or(field) {
        "prompt_column" => "prompt_columns".to_owned(),
        "train_dataframe" => "train_table".to_owned(),
        "validation_dataframe" => "validation_table".to_owned(),
        name => name.split(':').next().unwrap_or(name).to_owned(),
    }
}

/// What is in a table.
pub(crate) fn describe(name: &str, table: &Table, n_bytes: u64) -> ImportTable {
    let columns = (0..table.columns.len()).map(|column| describe_column(table, column)).collect();
    let rows = table.rows.iter().take(N_SHOWN_ROWS).map(|row| row.iter().map(shown).collect()).collect();
    ImportTable { path: name.to_owned(), n_rows: table.n_rows() as u64, n_bytes, columns, rows }
}

/// Kind, gaps and values of a column.
pub(crate) fn describe_column(table: &Table, column: usize) -> Column {
    let name = table.columns.get(column).cloned().unwrap_or_default();
    let mut kinds = HashSet::new();
    let mut values = HashSet::new();
    let mut examples = Vec::new();
    let mut n_missing = 0;
    for row in 0..table.n_rows() {
        let cell = table.cell(row, column);
        kinds.insert(match cell {
            Cell::Missing => {
                n_missing += 1;
                continue;
            }
            Cell::Text(text) if text.is_empty() => {
                n_missing += 1;
                continue;
            }
            Cell::Text(_) => ColumnKind::Text as u8,
            Cell::Int(_) | Cell::Float(_) => ColumnKind::Number as u8,
            Cell::Bool(_) => ColumnKind::Bool as u8,
            Cell::Json(Value::Number(_)) => ColumnKind::Number as u8,
            Cell::Json(_) => ColumnKind::List as u8,
        });
        if values.insert(cell.text()) && examples.len() < N_EXAMPLES {
            examples.extend(shown(cell));
        }
    }
    let only = |kind: ColumnKind| kinds.len() == 1 && kinds.contains(&(kind as u8));
    let candidates = [ColumnKind::Number, ColumnKind::Bool, ColumnKind::List];
    let kind = match candidates.into_iter().find(|kind| only(*kind)) {
        _ if kinds.is_empty() => ColumnKind::Empty,
        Some(kind) => kind,
        None => ColumnKind::Text,
    };
    Column { name, kind, n_missing, n_unique: Some(values.len() as u64), examples }
}

/// A cell for people; nothing for a missing one.
pub(crate) fn shown(cell: &Cell) -> Option<String> {
    if cell.is_missing() {
        return None;
    }
    Some(beginning(cell.text()))
}

/// The beginning of a text, which may be a whole book.
pub(crate) fn beginning(text: String) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_data_set_is_no_table_of_it() {
        assert_eq!(tunesmith_sources::DATASET_RECORD, super::super::record::FILE_NAME);
        assert!(plain_name("../rows.csv").is_err() && plain_name("rows.csv").is_ok());
    }
}
