//! CSV and TSV as pandas reads them: which words are missing values, and one type for each whole column.

use std::path::Path;

use crate::error::{DataError, Result};
use crate::table::{Cell, Table, widen_gappy_ints};
use crate::text_file::read_text;

/// Words that pandas takes for missing values. `none` and `-` are not among them.
const MISSING_WORDS: &[&str] = &[
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Comma separated, quoted with `"`.
pub(crate) fn read_csv(path: &Path, max_rows: usize) -> Result<Table> {
    let text = read_text(path)?;
    read(path, &text, b',', true, max_rows)
}

/// Tab separated. Quotes delimit cells only if they do so consistently in the whole file; many TSV files contain
/// quotes that mean nothing.
pub(crate) fn read_tsv(path: &Path, max_rows: usize) -> Result<Table> {
    let text = read_text(path)?;
    let is_quoted = quotes_are_balanced(text.as_bytes(), b'\t');
    let mut table = read(path, &text, b'\t', is_quoted, max_rows)?;
    if !is_quoted {
        table.notes.push(format!("{}: quotes are read as ordinary signs", path.display()));
    }
    Ok(table)
}

fn read(path: &Path, text: &str, delimiter: u8, is_quoted: bool, max_rows: usize) -> Result<Table> {
    let first_line = text.split_inclusive('\n').next().unwrap_or_default();
    let is_crlf = first_line.ends_with("\r\n");
    let is_cr_only = !text.contains('\n') && text.contains('\r');
    // Only LF ends a line, as in pandas with a fixed terminator; a CR before it is removed below if the file has
    // them throughout. Lone CRs inside cells stay.
    let terminator = if is_cr_only { b'\r' } else { b'\n' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(is_quoted)
        .terminator(csv::Terminator::Any(terminator))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());

    let mut columns: Option<Vec<String>> = None;
    let mut raw_rows: Vec<csv::StringRecord> = Vec::new();
    let mut lines: Vec<u64> = Vec::new();
    let mut record = csv::StringRecord::new();
    while raw_rows.len() < max_rows {
        let has_record =
            reader.read_record(&mut record).map_err(|error| malformed(path, None, error.to_string()))?;
        if !has_record {
            break;
        }
        let position = record.position();
        let line = position.map_or(0, csv::Position::line);
        if is_quoted && reader.position().byte() as usize >= text.len() {
            let start = position.map_or(0, |position| position.byte() as usize);
            if ends_in_quotes(text.as_bytes().get(start..).unwrap_or_default(), delimiter) {
                let reason = "a quoted cell starts here and is never closed".to_owned();
                return Err(malformed(path, Some(line), reason));
            }
        }
        if is_crlf {
            record = without_final_cr(&record);
        }
        // A line of nothing; one that holds two quotes is an empty cell.
        if record.len() == 1 && record.get(0) == Some("") && is_blank_at(text, &record) {
            continue;
        }
        match &columns {
            None => columns = Some(column_names(&record)),
            Some(columns) if record.len() > columns.len() => {
                let reason = format!(
                    "{} cells, but the header names {} columns; a cell that contains the separator must be quoted",
                    record.len(),
                    columns.len()
                );
                return Err(malformed(path, Some(line), reason));
            }
            Some(_) => {
                lines.push(line);
                raw_rows.push(record.clone());
            }
        }
    }
    let Some(columns) = columns else {
        return Err(DataError::Empty { path: path.to_owned(), reason: "the file is empty".to_owned() });
    };
    let (rows, n_missing_words) = typed_rows(&raw_rows, columns.len());
    let notes = if is_crlf || is_cr_only {
        vec![format!(
            "{}: line ends of {} were recognised",
            path.display(),
            if is_crlf { "Windows" } else { "old Macs" }
        )]
    } else {
        Vec::new()
    };
    Ok(Table {
        path: path.to_owned(),
        columns,
        rows,
        notes,
        n_missing_words,
        lines,
        parts: Vec::new(),
        continues: Vec::new(),
    })
}

/// Gives every column one type, by the first that fits all its cells: whole number, number, boolean, text.
fn typed_rows(raw_rows: &[csv::StringRecord], n_columns: usize) -> (Vec<Vec<Cell>>, Vec<usize>) {
    let mut n_missing_words = vec![0; n_columns];
    let mut rows: Vec<Vec<Cell>> = raw_rows.iter().map(|_| Vec::with_capacity(n_columns)).collect();
    for (column, n_words) in n_missing_words.iter_mut().enumerate() {
        let values = || raw_rows.iter().map(|row| row.get(column).unwrap_or_default());
        let kind = ColumnKind::of(values().filter(|value| !is_missing(value)));
        for (row, value) in rows.iter_mut().zip(values()) {
            let cell = if is_missing(value) {
                *n_words += usize::from(!value.is_empty());
                Cell::Missing
            } else {
                kind.cell(value)
            };
            row.push(cell);
        }
    }
    widen_gappy_ints(&mut rows, n_columns);
    (rows, n_missing_words)
}

#[derive(Clone, Copy, PartialEq)]
enum ColumnKind {
    Int,
    Float,
    Bool,
    Text,
}

impl ColumnKind {
    fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut kinds = vec![Self::Int, Self::Float, Self::Bool];
        for value in values {
            kinds.retain(|kind| match kind {
                Self::Int => parse_int(value).is_some(),
                Self::Float => parse_float(value).is_some(),
                Self::Bool => parse_bool(value).is_some(),
                Self::Text => true,
            });
            if kinds.is_empty() {
                return Self::Text;
            }
        }
        kinds.first().copied().unwrap_or(Self::Text)
    }

    fn cell(self, value: &str) -> Cell {
        let parsed = match self {
            Self::Int => parse_int(value).map(Cell::Int),
            Self::Float => parse_float(value).map(Cell::Float),
            Self::Bool => parse_bool(value).map(Cell::Bool),
            Self::Text => None,
        };
        parsed.unwrap_or_else(|| Cell::Text(value.to_owned()))
    }
}

fn is_missing(value: &str) -> bool {
    MISSING_WORDS.contains(&value)
}

/// White space around numbers does not count.
fn parse_int(value: &str) -> Option<i64> {
    value.trim_matches(|c: char| c.is_ascii_whitespace()).parse().ok()
}

fn parse_float(value: &str) -> Option<f64> {
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    let number: f64 = value.parse().ok()?;
    // Rust's `nan` is a missing word already; with a sign it is text.
    (!number.is_nan()).then_some(number)
}

fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "True" | "TRUE" | "true" => Some(true),
        "False" | "FALSE" | "false" => Some(false),
        _ => None,
    }
}

/// Names as pandas gives them: an empty one is `Unnamed: 2` after its position, a repeated one gets `.1`, `.2`, ….
fn column_names(record: &csv::StringRecord) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (position, raw) in record.iter().enumerate() {
        let base = if raw.is_empty() { format!("Unnamed: {position}") } else { raw.to_owned() };
        let mut name = base.clone();
        let mut n_repeats = 0;
        while names.contains(&name) {
            n_repeats += 1;
            name = format!("{base}.{n_repeats}");
        }
        names.push(name);
    }
    names
}

fn without_final_cr(record: &csv::StringRecord) -> csv::StringRecord {
    let last_idx = record.len().saturating_sub(1);
    let mut cleaned: csv::StringRecord = record
        .iter()
        .enumerate()
        .map(|(i, value)| if i == last_idx { value.strip_suffix('\r').unwrap_or(value) } else { value })
        .collect();
    cleaned.set_position(record.position().cloned());
    cleaned
}

/// Whether the record's line holds no quotes either.
fn is_blank_at(text: &str, record: &csv::StringRecord) -> bool {
    let start = record.position().map_or(0, |position| position.byte() as usize);
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    rest.iter().find(|byte| !matches!(byte, b'\r' | b'\n')).is_none_or(|byte| *byte != b'"')
}

/// Whether the quotes of one record are still open at its end. Only quotes at the start of a cell open one.
fn ends_in_quotes(record: &[u8], delimiter: u8) -> bool {
    let mut is_open = false;
    let mut is_cell_start = true;
    let mut bytes = record.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if is_open {
            if byte == b'"' && bytes.next_if(|next| **next == b'"').is_none() {
                is_open = false;
            }
        } else {
            is_open = byte == b'"' && is_cell_start;
            is_cell_start = byte == delimiter || byte == b'\n';
        }
    }
    is_open
}

/// Whether every quote that starts a cell is closed by one that ends a cell.
fn quotes_are_balanced(text: &[u8], delimiter: u8) -> bool {
    let is_cell_end =
        |byte: Option<&&u8>| byte.is_none_or(|byte| *byte == &delimiter || matches!(byte, b'\n' | b'\r'));
    let mut is_open = false;
    let mut is_cell_start = true;
    let mut bytes = text.iter().peekable();
    while let Some(&byte) = bytes.next() {
        if is_open {
            if byte == b'"' && bytes.next_if(|next| **next == b'"').is_none() {
                if !is_cell_end(bytes.peek()) {
                    return false;
                }
                is_open = false;
            }
        } else {
            is_open = byte == b'"' && is_cell_start;
            is_cell_start = byte == delimiter || matches!(byte, b'\n' | b'\r');
        }
    }
    !is_open
}

fn malformed(path: &Path, line: Option<u64>, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), line, reason }
}
