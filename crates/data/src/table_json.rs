//! JSON and JSON Lines: one object a row.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::error::{DataError, Place, Result};
use crate::json_text::{JsonError, JsonReader, Oddities};
use crate::table::{Cell, Table};
use crate::table_options::TableOptions;
use crate::text_file::{not_utf8, open_text, read_error, read_text};

/// An array of objects, `{"data": [...]}` (any single name), or, as many such files are, JSON Lines.
pub(crate) fn read_json(path: &Path, options: &TableOptions) -> Result<Table> {
    let (text, notes) = read_text(path, options)?;
    let mut builder = Builder::new(path);
    builder.notes = notes;
    let mut reader = JsonReader::new(&text);
    match reader.peek() {
        None => {
            return Err(DataError::Empty { path: path.to_owned(), reason: "the file is empty".to_owned() });
        }
        Some(b'[') => builder.push_items(&text, &mut reader, options.row_limit())?,
        Some(b'{') => {
            let mut lines = LineCounter::new(&text);
            let first_line = lines.line_of(reader.position());
            let first = value(path, &text, &mut reader)?;
            if reader.is_at_end() {
                let items = as_object(first).and_then(only_array).ok_or_else(|| shape(path))?;
                for (item_idx, item) in items.into_iter().take(options.row_limit()).enumerate() {
                    builder.push(item, Place::Row(item_idx as u64 + 1))?;
                }
            } else {
                // A second object after the first: one object a line.
                builder.notes.push(format!("{}: read as JSON Lines, one object a line", path.display()));
                builder.push_at_line(first, first_line)?;
                while builder.rows.len() < options.row_limit() && !reader.is_at_end() {
                    let line = lines.line_of(reader.position());
                    let row = value(path, &text, &mut reader)?;
                    builder.push_at_line(row, line)?;
                }
            }
        }
        Some(_) => return Err(shape(path)),
    }
    builder.oddities.add(reader.oddities);
    Ok(builder.finish())
}

/// One object a line; blank lines are skipped. Only the lines of the wanted rows are read. A file that begins with a list is
/// read as [`read_json`] does.
pub(crate) fn read_json_lines(path: &Path, options: &TableOptions) -> Result<Table> {
    let file = open_text(path, options)?;
    let mut reader = file.reader;
    let mut builder = Builder::new(path);
    builder.notes = file.notes;
    let mut bytes = Vec::new();
    let mut line = 0;
    while builder.rows.len() < options.row_limit() {
        bytes.clear();
        line += 1;
        let n_bytes = reader.read_until(b'\n', &mut bytes).map_err(|error| read_error(path, &error))?;
        if n_bytes == 0 {
            break;
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| not_utf8(path, line))?;
        if text.trim().is_empty() {
            continue;
        }
        if builder.rows.is_empty() && text.trim_start().starts_with('[') {
            let mut table = read_json(path, options)?;
            table.notes.push(format!("{}: read as one list of objects", path.display()));
            return Ok(table);
        }
        let mut row = JsonReader::new(text);
        let item = row.value().and_then(|item| row.end().map(|()| item));
        let item = item.map_err(|error| malformed(path, line, text, &error))?;
        builder.oddities.add(row.oddities);
        builder.push_at_line(item, line)?;
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
    notes: Vec<String>,
    oddities: Oddities,
}

impl<'a> Builder<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            columns: Vec::new(),
            positions: HashMap::new(),
            rows: Vec::new(),
            lines: Vec::new(),
            notes: Vec::new(),
            oddities: Oddities::default(),
        }
    }

    /// The items of a list, each as it is read, so that the list is never there as a whole.
    fn push_items(&mut self, text: &str, reader: &mut JsonReader<'_>, max_rows: usize) -> Result<()> {
        let path = self.path;
        let outcome = reader.each_item(|reader, item_idx| {
            if item_idx == max_rows {
                return Ok(false);
            }
            let item = reader.value()?;
            self.push(item, Place::Row(item_idx as u64 + 1))?;
            Ok(true)
        });
        match outcome {
            Err(Failure::Json(error)) => Err(malformed(path, 1, text, &error)),
            Err(Failure::Data(error)) => Err(error),
            // What follows the wanted rows was not read.
            Ok(()) if self.rows.len() >= max_rows => Ok(()),
            Ok(()) => reader.end().map_err(|error| malformed(path, 1, text, &error)),
        }
    }

    fn push_at_line(&mut self, item: Json, line: u64) -> Result<()> {
        self.push(item, Place::Line(line))?;
        self.lines.push(line);
        Ok(())
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
                *cell = Cell::from_json(value);
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
        let mut table = Table::new(self.path, self.columns, self.rows);
        table.notes = self.notes;
        table.notes.extend(self.oddities.notes().map(|note| format!("{}: {note}", self.path.display())));
        table.lines = self.lines;
        table
    }
}

/// Why the items of a list could not be read: the text, or what stands in it.
enum Failure {
    Json(JsonError),
    Data(DataError),
}

impl From<JsonError> for Failure {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

fn value(path: &Path, text: &str, reader: &mut JsonReader<'_>) -> Result<Json> {
    reader.value().map_err(|error| malformed(path, 1, text, &error))
}

fn as_object(value: Json) -> Option<Map<String, Json>> {
    match value {
        Json::Object(object) => Some(object),
        _ => None,
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

/// The lines on which bytes of a text stand, which are asked for in their order.
struct LineCounter<'a> {
    text: &'a [u8],
    position: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), position: 0, line: 1 }
    }

    fn line_of(&mut self, position: usize) -> u64 {
        let passed = self.text.get(self.position..position).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.position = position;
        self.line
    }
}

/// `first_line` is that of the text's beginning.
fn malformed(path: &Path, first_line: u64, text: &str, error: &JsonError) -> DataError {
    let before = text.get(..error.position).unwrap_or(text);
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let reason = format!("not valid JSON: {} (column {column})", error.what);
    let line = first_line + LineCounter::new(text).line_of(error.position) - 1;
    DataError::Malformed { path: path.to_owned(), line: Some(line), reason }
}

fn shape(path: &Path) -> DataError {
    let reason =
        "expected a list of objects, or an object such as {\"data\": [ … ]} that holds one".to_owned();
    DataError::Malformed { path: path.to_owned(), line: None, reason }
}
