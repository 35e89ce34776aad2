//! Several tables as one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value, json};
use tunesmith_data::{Cell, DataError, read_table};

use crate::error::{Result, SourceError};
use crate::names::is_text;
use crate::task::Task;

/// Writes the rows of several tables one after the other as JSON lines; a text file is one row, `text` beside its name as
/// `file`.
///
/// # Errors
/// A table that cannot be read, a file that cannot be written, cancelled.
pub(crate) fn join_tables(parts: &[PathBuf], target: &Path, task: &Task<'_>) -> Result<()> {
    let out = File::create(target).map_err(SourceError::io(target, "create"))?;
    let mut out = BufWriter::new(out);
    for part in parts {
        task.check()?;
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        if is_text(&name) {
            let passages = match read_table(part, None) {
                Err(DataError::Empty { .. }) => continue,
                passages => passages?,
            };
            let text: String = passages.rows.iter().filter_map(|row| row.first()).map(Cell::text).collect();
            writeln!(out, "{}", json!({"text": text, "file": name}))
                .map_err(SourceError::io(target, "write"))?;
            continue;
        }
        let table = read_table(part, None)?;
        for row in &table.rows {
            let object: Map<String, Value> = table
                .columns
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.is_missing())
                .map(|(name, cell)| (name.clone(), json_of(cell)))
                .collect();
            writeln!(out, "{}", Value::Object(object)).map_err(SourceError::io(target, "write"))?;
        }
    }
    out.flush().map_err(SourceError::io(target, "write"))
}

fn json_of(cell: &Cell) -> Value {
    match cell {
        Cell::Missing => Value::Null,
        Cell::Text(text) => text.clone().into(),
        Cell::Int(value) => (*value).into(),
        Cell::Float(value) => Number::from_f64(*value).map_or_else(|| cell.text().into(), Value::Number),
        Cell::Bool(value) => (*value).into(),
        Cell::Json(value) => value.clone(),
    }
}
