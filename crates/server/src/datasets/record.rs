//! A data set's folder, `dataset.json` in it, and its row in the database.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tunesmith_formats::write_file;
use tunesmith_store::DatasetRecord;
use utoipa::ToSchema;

use super::apart::count_apart;
use super::settings::DataSettings;
use super::tables::{TableFile, open_table, tables_of};
use super::targets::label_kind;
use crate::error::{ApiError, ApiResult};
use crate::state::AppState;

/// Beside the tables.
pub(crate) const FILE_NAME: &str = "dataset.json";

/// A data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dataset {
    /// Its id, and the name of its folder.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What is learned from it.
    pub problem_type: String,
    /// Roles of tables and columns.
    pub settings: DataSettings,
    /// Rows of the training table.
    pub n_rows: u64,
    /// Rows of the validation table, if there is one.
    #[schema(required)]
    pub n_validation_rows: Option<u64>,
    /// Size of all its tables.
    pub n_bytes: u64,
    /// Its tables.
    pub tables: Vec<TableFile>,
    /// Experiments that learn from it.
    #[serde(default)]
    #[schema(required)]
    pub n_experiments: u64,
    /// When it was made.
    pub created_unix_secs: f64,
    /// Where it came from, in words.
    pub source: String,
}

impl Dataset {
    /// Writes `dataset.json` and the row of the database.
    pub(crate) fn save(&self, state: &AppState) -> ApiResult<()> {
        let path = state.workdir.dataset(&self.id)?.join(FILE_NAME);
        let text =
            serde_json::to_string_pretty(self).map_err(|error| ApiError::internal(error.to_string()))?;
        write_file(&path, format!("{text}\n").as_bytes())?;
        Ok(state.store.put_dataset(&self.record())?)
    }

    fn record(&self) -> DatasetRecord {
        DatasetRecord {
            id: self.id.clone(),
            name: self.name.clone(),
            problem_type: self.problem_type.clone(),
            settings: json!(self.settings),
            tables: json!(self.tables),
            source: self.source.clone(),
            n_rows: self.n_rows,
            n_validation_rows: self.n_validation_rows,
            n_bytes: self.n_bytes,
            created_unix_secs: self.created_unix_secs,
        }
    }

    /// From a row of the database.
    pub(crate) fn of_record(record: DatasetRecord, n_experiments: u64) -> ApiResult<Self> {
        let unreadable = |error: serde_json::Error| {
            ApiError::internal(format!("the data set {} cannot be read: {error}", record.name))
        };
        Ok(Self {
            settings: serde_json::from_value(record.settings).map_err(unreadable)?,
            tables: serde_json::from_value(record.tables).map_err(unreadable)?,
            id: record.id,
            name: record.name,
            problem_type: record.problem_type,
            n_rows: record.n_rows,
            n_validation_rows: record.n_validation_rows,
            n_bytes: record.n_bytes,
            n_experiments,
            created_unix_secs: record.created_unix_secs,
            source: record.source,
        })
    }

    /// Looks at the tables again: their number, rows and sizes, and the classes in them.
    pub(crate) fn count(&mut self, state: &AppState, folder: &Path) -> ApiResult<()> {
        let counted = count_apart(state, &self.settings, folder)?;
        self.tables = counted.tables;
        let rows_of =
            |name: &str| self.tables.iter().find(|table| table.path == name).map(|table| table.n_rows);
        self.n_rows = rows_of(&self.settings.train_table).unwrap_or(0);
        self.n_validation_rows = self.settings.validation_table.as_deref().and_then(rows_of);
        self.n_bytes = self.tables.iter().map(|table| table.n_bytes).sum();
        self.problem_type.clone_from(&self.settings.problem_type);
        if self.settings.num_classes.is_none() {
            self.settings.num_classes = counted.num_classes;
        }
        self.settings.has_label_lists = counted.has_label_lists;
        Ok(())
    }
}

/// What is counted of tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    tables: Vec<TableFile>,
    /// Where classes are learned and can be counted.
    num_classes: Option<u64>,
    /// One column holds any number of labels in a cell.
    #[serde(default)]
    has_label_lists: bool,
}

/// Reads all tables of a folder.
///
/// # Errors
/// The folder cannot be read; a table that nobody uses may be broken.
pub(super) fn count(settings: &DataSettings, folder: &Path) -> ApiResult<Counted> {
    let tables = tables_of(folder)?.into_iter().map(|path| {
        let n_bytes = fs::metadata(folder.join(&path)).map_or(0, |file| file.len());
        let n_rows = open_table(folder, &path, None).map_or(0, |table| table.n_rows() as u64);
        TableFile { path, n_rows, n_bytes }
    });
    let kind = label_kind(settings, folder);
    Ok(Counted {
        tables: tables.collect(),
        num_classes: kind.map(|kind| kind.num_classes),
        has_label_lists: kind.is_some_and(|kind| kind.has_lists),
    })
}

/// One data set.
///
/// # Errors
/// There is none of that id.
pub(crate) fn find(state: &AppState, id: &str) -> ApiResult<Dataset> {
    let record =
        state.store.dataset(id)?.ok_or_else(|| ApiError::not_found(format!("there is no data set {id}")))?;
    let n_experiments = state.store.experiments_of_dataset(id)?.len() as u64;
    Dataset::of_record(record, n_experiments)
}

/// A name that no other data set has: `name`, `name (2)`, ….
pub(crate) fn free_name(state: &AppState, name: &str) -> ApiResult<String> {
    let name = name.trim();
    for number in 1..10_000 {
        let candidate = if number == 1 { name.to_owned() } else { format!("{name} ({number})") };
        if !state.store.is_dataset_name_taken(&candidate, None)? {
            return Ok(candidate);
        }
    }
    Err(ApiError::conflict(format!("there are too many data sets called {name}")))
}

/// Brings the database in line with the folders: adds data sets it does not know, forgets those whose folder is gone.
/// Answers with the number of data sets and of those added.
///
/// # Errors
/// The work folder or the database cannot be read.
pub fn reindex(state: &AppState) -> ApiResult<(usize, usize)> {
    let root = state.workdir.datasets();
    let entries = fs::read_dir(&root).map_err(|error| ApiError::io(&root, "list", &error))?;
    let (mut n_found, mut n_added) = (0, 0);
    let mut ids = Vec::new();
    for entry in entries.flatten() {
        let Ok(text) = fs::read(entry.path().join(FILE_NAME)) else { continue };
        let Ok(mut dataset) = serde_json::from_slice::<Dataset>(&text) else { continue };
        // The folder is what it is found by; one that was copied or renamed has its name as id.
        dataset.id = entry.file_name().to_string_lossy().into_owned();
        if crate::workdir::checked_id(&dataset.id).is_err() {
            continue;
        }
        n_found += 1;
        ids.push(dataset.id.clone());
        if state.store.dataset(&dataset.id)?.is_none() {
            dataset.name = free_name(state, &dataset.name)?;
            dataset.save(state)?;
            n_added += 1;
        }
    }
    for record in state.store.datasets()? {
        if !ids.contains(&record.id) {
            state.store.delete_dataset(&record.id)?;
        }
    }
    Ok((n_found, n_added))
}
