//! Rows and columns as a file holds them, whatever its type.

use std::path::{Path, PathBuf};

use crate::error::{DataError, Place, Result};
use crate::{table_delimited, table_files, table_json, table_parquet, table_text};

/// A whole table in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The file it came from.
    pub path: PathBuf,
    /// Column names, in file order.
    pub columns: Vec<String>,
    /// One entry for each column in every row.
    pub rows: Vec<Vec<Cell>>,
    /// What the reader decided or noticed, as sentences for the user.
    pub notes: Vec<String>,
    /// For each column how many cells hold a word such as `None` or `NA` that was read as missing.
    pub n_missing_words: Vec<usize>,
    /// Line of each row; empty for files whose rows have no lines.
    pub(crate) lines: Vec<u64>,
    /// The files of a table made of several, in order; empty for one file.
    pub(crate) parts: Vec<TablePart>,
    /// Whether each row's text goes on where that of the row before ends; empty where rows stand alone.
    pub(crate) continues: Vec<bool>,
}

/// One of the files of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TablePart {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its first row in the table.
    pub(crate) first_row: usize,
}

/// One value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Nothing.
    Missing,
    /// Text.
    Text(String),
    /// Whole number.
    Int(i64),
    /// Number; never NaN, which is [`Cell::Missing`].
    Float(f64),
    /// true or false.
    Bool(bool),
    /// List, object, or a number that fits none of the above.
    Json(serde_json::Value),
}

/// Reads a csv, tsv, json, jsonl, pq, parquet, txt or md file; the ending decides, in upper or lower case. A folder, or a
/// pattern with `*`, reads many files as one table.
///
/// With `max_rows` only that many rows from the start are kept. Cells have the types and, through
/// [`Cell::text`], the texts that pandas gives them.
pub fn read_table(path: &Path, max_rows: Option<usize>) -> Result<Table> {
    let max_rows = max_rows.unwrap_or(usize::MAX);
    let files = table_files::files_of(path)?;
    let table = match files.as_slice() {
        [file] => read_file(file, max_rows)?,
        files => table_files::join(path, files, max_rows, read_file)?,
    };
    if table.rows.is_empty() {
        let reason = "the table has no rows".to_owned();
        return Err(DataError::Empty { path: path.to_owned(), reason });
    }
    Ok(table)
}

/// The rows of one file; none at all is no error yet.
fn read_file(path: &Path, max_rows: usize) -> Result<Table> {
    match ending(path).as_str() {
        "csv" => table_delimited::read_csv(path, max_rows),
        "tsv" => table_delimited::read_tsv(path, max_rows),
        "json" => table_json::read_json(path, max_rows),
        "jsonl" | "ndjson" => table_json::read_json_lines(path, max_rows),
        "parquet" | "pq" => table_parquet::read_parquet(path, max_rows),
        _ if is_text_file(path) => table_text::read_passages(path, max_rows),
        ending => Err(DataError::UnknownFileType { path: path.to_owned(), ending: ending.to_owned() }),
    }
}

/// Whether [`read_table`] knows files of that ending.
pub(crate) fn is_table_file(path: &Path) -> bool {
    matches!(ending(path).as_str(), "csv" | "tsv" | "json" | "jsonl" | "ndjson" | "parquet" | "pq")
        || is_text_file(path)
}

/// Whether it is a text, which has no columns of its own.
pub(crate) fn is_text_file(path: &Path) -> bool {
    matches!(ending(path).as_str(), "txt" | "md")
}

fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

impl Table {
    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Position of a column.
    pub fn column_idx(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }

    /// A cell; missing when there is no such row or column.
    pub fn cell(&self, row_idx: usize, column_idx: usize) -> &Cell {
        self.rows.get(row_idx).and_then(|row| row.get(column_idx)).unwrap_or(&Cell::Missing)
    }

    /// Where a row stands in the file.
    pub fn place(&self, row_idx: usize) -> Place {
        let first_row = self.part_of(row_idx).map_or(0, |part| part.first_row);
        match self.lines.get(row_idx) {
            Some(line) => Place::Line(*line),
            None => Place::Row((row_idx - first_row) as u64 + 1),
        }
    }

    /// The file that a row stands in.
    pub fn file_of(&self, row_idx: usize) -> &Path {
        self.part_of(row_idx).map_or(&self.path, |part| &part.path)
    }

    fn part_of(&self, row_idx: usize) -> Option<&TablePart> {
        self.parts.iter().rfind(|part| part.first_row <= row_idx)
    }

    /// An error about one row.
    pub fn row_error(&self, row_idx: usize, reason: impl Into<String>) -> DataError {
        DataError::Row {
            path: self.file_of(row_idx).to_owned(),
            place: self.place(row_idx),
            reason: reason.into(),
        }
    }
}

impl Cell {
    /// The cell as the text pandas makes of it: `1`, `1.0`, `True`; lists and objects as JSON; missing as nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => python_float(*value),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Json(value) => value.to_string(),
        }
    }

    /// Whether there is nothing.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// Turns whole numbers into floats in columns where some are missing, as pandas has no whole numbers beside gaps.
///
/// Numbers beyond 2⁵³ stay, as floats would make neighbours equal.
pub(crate) fn widen_gappy_ints(rows: &mut [Vec<Cell>], n_columns: usize) {
    const EXACT: u64 = 1 << 53;
    for column in 0..n_columns {
        let mut has_gap = false;
        let mut has_number = false;
        let is_numeric = rows.iter().filter_map(|row| row.get(column)).all(|cell| {
            has_gap |= cell.is_missing();
            has_number |= matches!(cell, Cell::Int(_));
            matches!(cell, Cell::Int(_) | Cell::Missing)
        });
        if !(is_numeric && has_gap && has_number) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            if let Cell::Int(value) = cell
                && value.unsigned_abs() <= EXACT
            {
                *cell = Cell::Float(*value as f64);
            }
        }
    }
}

/// A float as Python's `repr` spells it: shortest digits, `.0` on whole numbers, exponents from 1e16 and below 1e-4.
fn python_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_spelled_as_python_does() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(Cell::Float(value).text(), expected);
        }
    }

    #[test]
    fn ints_beside_gaps_become_floats_while_they_stay_exact() {
        let big = (1 << 53) + 1;
        let mut rows = vec![
            vec![Cell::Int(1), Cell::Int(2), Cell::Int(big), Cell::Missing],
            vec![Cell::Missing, Cell::Int(3), Cell::Missing, Cell::Missing],
        ];
        widen_gappy_ints(&mut rows, 4);
        assert_eq!(rows[0], [Cell::Float(1.0), Cell::Int(2), Cell::Int(big), Cell::Missing]);
        assert_eq!(rows[1], [Cell::Missing, Cell::Int(3), Cell::Missing, Cell::Missing]);
    }
}
