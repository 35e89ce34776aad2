//! JSON and JSON Lines: one object a row.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::error::{DataError, Place, Result};
use crate::table::{Cell, Table};
use crate::text_file::{io_error, not_utf8, read_text};

/// An array of objects, `{"data": [...]}` (any single name), or, as many such files are, JSON Lines.
pub(crate) fn read_json(path: &Path, max_rows: usize) -> Result<Table> {
    let text = read_text(path)?;
    if text.trim().is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), reason: "the file is empty".to_owned() });
    }
    let json: Json = match serde_json::from_str(&text) {
        Ok(json) => json,
        // A second object after the first: one object a line.
        Err(error) if error.line() > 1 && text.trim_start().starts_with('{') && is_one_a_line(&text) => {
            let mut table = read_json_lines(path, max_rows)?;
            table.notes.push(format!("{}: read as JSON Lines, one object a line", path.display()));
            return Ok(table);
        }
        Err(error) => return Err(malformed(path, Some(error.line() as u64), &error)),
    };
    let items = match json {
        Json::Array(items) => items,
        Json::Object(object) => only_array(object).ok_or_else(|| shape(path))?,
        _ => return Err(shape(path)),
    };
    let mut builder = Builder::new(path);
    for (item_idx, item) in items.into_iter().take(max_rows).enumerate() {
        builder.push(item, Place::Row(item_idx as u64 + 1))?;
    }
    Ok(builder.finish())
}

/// One object a line; blank lines are skipped. Only the lines of the wanted rows are read.
pub(crate) fn read_json_lines(path: &Path, max_rows: usize) -> Result<Table> {
    let file = File::open(path).map_err(|source| io_error(path, &source, "open"))?;
    let mut reader = BufReader::new(file);
    let mut builder = Builder::new(path);
    let mut bytes = Vec::new();
    let mut line = 0;
    while builder.rows.len() < max_rows {
        bytes.clear();
        line += 1;
        let n_bytes =
            reader.read_until(b'\n', &mut bytes).map_err(|source| io_error(path, &source, "read"))?;
        if n_bytes == 0 {
            break;
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| not_utf8(path, line))?;
        let text = if line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
        if text.trim().is_empty() {
            continue;
        }
        let item = serde_json::from_str(text).map_err(|error| malformed(path, Some(line), &error))?;
        builder.push(item, Place::Line(line))?;
        builder.lines.push(line);
    }
    Ok(builder.finish())
}

/// Collects objects into columns in the order their names first occur.
struct Builder<'a> {
    path: &'a Path,
    columns: Vec<String>,
    positions: HashMap<String, usize>,
    rows: Vec<Vec<Cell>>,
    lines: Vec<u64>,
}

impl<'a> Builder<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, columns: Vec::new(), positions: HashMap::new(), rows: Vec::new(), lines: Vec::new() }
    }

    fn push(&mut self, item: Json, place: Place) -> Result<()> {
        let Json::Object(object) = item else {
            let reason =
                format!("each row is an object like {{\"prompt\": \"…\"}}, here stands {}", kind(&item));
            return Err(DataError::Row { path: self.path.to_owned(), place, reason });
        };
        let mut row = vec![Cell::Missing; self.columns.len()];
        for (name, value) in object {
            let position = match self.positions.get(&name) {
                Some(position) => *position,
                None => {
                    self.columns.push(name.clone());
                    self.positions.insert(name, self.columns.len() - 1);
                    row.push(Cell::Missing);
                    self.columns.len() - 1
                }
            };
            if let Some(cell) = row.get_mut(position) {
                *cell = cell_of(value);
            }
        }
        self.rows.push(row);
        Ok(())
    }

    fn finish(mut self) -> Table {
        let n_columns = self.columns.len();
        for row in &mut self.rows {
            row.resize(n_columns, Cell::Missing);
        }
        Table {
            path: self.path.to_owned(),
            n_missing_words: vec![0; n_columns],
            columns: self.columns,
            rows: self.rows,
            notes: Vec::new(),
            lines: self.lines,
            parts: Vec::new(),
            continues: Vec::new(),
        }
    }
}

fn cell_of(value: Json) -> Cell {
    match value {
        Json::Null => Cell::Missing,
        Json::Bool(value) => Cell::Bool(value),
        Json::String(text) => Cell::Text(text),
        Json::Number(ref number) => match (number.as_i64(), number.is_f64(), number.as_f64()) {
            (Some(whole), _, _) => Cell::Int(whole),
            (None, true, Some(float)) => Cell::Float(float),
            _ => Cell::Json(value),
        },
        Json::Array(_) | Json::Object(_) => Cell::Json(value),
    }
}

/// The rows of `{"data": [...]}`: the value of `data`, or of the only name there is.
fn only_array(mut object: Map<String, Json>) -> Option<Vec<Json>> {
    let value = match object.remove("data") {
        Some(data) => data,
        None if object.len() == 1 => object.into_iter().next()?.1,
        None => return None,
    };
    match value {
        Json::Array(items) => Some(items),
        _ => None,
    }
}

/// Whether the first non-blank line is an object by itself.
fn is_one_a_line(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str::<Map<String, Json>>(first).is_ok()
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn malformed(path: &Path, line: Option<u64>, error: &serde_json::Error) -> DataError {
    // The parser counts lines from the start of what it got, which for JSON Lines is one line.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    let reason = format!("not valid JSON: {what} (column {})", error.column());
    DataError::Malformed { path: path.to_owned(), line, reason }
}

fn shape(path: &Path) -> DataError {
    let reason =
        "expected a list of objects, or an object such as {\"data\": [ … ]} that holds one".to_owned();
    DataError::Malformed { path: path.to_owned(), line: None, reason }
}
