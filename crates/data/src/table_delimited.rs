//! CSV and TSV as pandas reads them: which words are missing values, and one type for each whole column.

use std::path::Path;

use tunesmith_config::LeadingZeros;

use crate::cell::{Cell, widen_gappy_ints};
use crate::error::{DataError, Result};
use crate::line_ends::{LineEnds, with_line_feeds};
use crate::table::{Respelled, Table, unique_names};
use crate::table_options::TableOptions;
use crate::text_file::read_text;

/// Words that pandas takes for missing values. `none` and `-` are not among them.
const MISSING_WORDS: &[&str] = &[
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Comma separated, quoted with `"`.
pub(crate) fn read_csv(path: &Path, options: &TableOptions) -> Result<Table> {
    let (text, notes) = read_text(path, options)?;
    let mut table = read(path, text, b',', true, options)?;
    table.notes.splice(..0, notes);
    Ok(table)
}

/// Tab separated. Quotes delimit cells only if they do so consistently in the whole file; many TSV files contain
/// quotes that mean nothing.
pub(crate) fn read_tsv(path: &Path, options: &TableOptions) -> Result<Table> {
    let (text, notes) = read_text(path, options)?;
    let is_quoted = quotes_are_balanced(text.as_bytes(), b'\t');
    let mut table = read(path, text, b'\t', is_quoted, options)?;
    table.notes.splice(..0, notes);
    if !is_quoted {
        table.notes.push(format!("{}: quotes are read as ordinary signs", path.display()));
    }
    Ok(table)
}

fn read(path: &Path, text: String, delimiter: u8, is_quoted: bool, options: &TableOptions) -> Result<Table> {
    let LineEnds { text, note } = with_line_feeds(text, delimiter, is_quoted);
    // Only LF ends a line; a CR before it, outside quotes, is removed below. Lone CRs inside cells stay.
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(is_quoted)
        .terminator(csv::Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes());

    let mut columns: Option<Vec<String>> = None;
    let mut raw_rows: Vec<csv::StringRecord> = Vec::new();
    let mut lines: Vec<u64> = Vec::new();
    let mut record = csv::StringRecord::new();
    while raw_rows.len() < options.row_limit() {
        let has_record =
            reader.read_record(&mut record).map_err(|error| malformed(path, None, error.to_string()))?;
        if !has_record {
            break;
        }
        let position = record.position();
        let line = position.map_or(0, csv::Position::line);
        let end = reader.position().byte() as usize;
        if is_quoted && end >= text.len() {
            let start = position.map_or(0, |position| position.byte() as usize);
            if ends_in_quotes(text.as_bytes().get(start..).unwrap_or_default(), delimiter) {
                let reason = "a quoted cell starts here and is never closed".to_owned();
                return Err(malformed(path, Some(line), reason));
            }
        }
        let raw = text.as_bytes().get(..end).unwrap_or_default();
        if raw.strip_suffix(b"\n").unwrap_or(raw).ends_with(b"\r") {
            record = without_final_cr(&record);
        }
        // A line of nothing; one that holds two quotes is an empty cell.
        if record.len() == 1 && record.get(0) == Some("") && is_blank_at(&text, &record) {
            continue;
        }
        match &columns {
            None => columns = Some(unique_names(record.iter())),
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
    let mut table = Table::new(path, columns, Vec::new());
    table.lines = lines;
    table.notes.extend(note.map(|note| format!("{}: {note}", path.display())));
    fill(&mut table, &raw_rows, options.leading_zeros);
    Ok(table)
}

/// Gives every column one type, by the first that fits all its cells: whole number, number, boolean, text.
fn fill(table: &mut Table, raw_rows: &[csv::StringRecord], leading_zeros: LeadingZeros) {
    let mut rows: Vec<Vec<Cell>> = raw_rows.iter().map(|_| Vec::with_capacity(table.columns.len())).collect();
    for (column, (name, n_words)) in table.columns.iter().zip(&mut table.n_missing_words).enumerate() {
        let values = || raw_rows.iter().map(|row| row.get(column).unwrap_or_default());
        let filled = || values().filter(|value| !is_missing(value));
        let mut kind = ColumnKind::of(filled());
        let n_with_zeros = match kind {
            ColumnKind::Whole | ColumnKind::Float => filled().filter(|value| has_leading_zero(value)).count(),
            ColumnKind::Bool | ColumnKind::Text => 0,
        };
        if n_with_zeros > 0 {
            let what = match leading_zeros {
                LeadingZeros::Keep => {
                    kind = ColumnKind::Text;
                    "so that the column is read as texts"
                }
                LeadingZeros::Drop => "which are dropped, as the column is read as numbers",
            };
            table.notes.push(format!(
                "{}: {n_with_zeros} cells of the column {name} have leading zeros, {what} (dataset.leading_zeros)",
                table.path.display()
            ));
        }
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
    widen_gappy_ints(&mut rows, table.columns.len());
    table.rows = rows;
    table.respelled =
        (0..table.columns.len()).map(|column| respelled(&table.rows, raw_rows, column)).collect();
}

/// The cells of a column that are numbers or truth values and spelled otherwise than in the file: `1.50`, `true`.
fn respelled(rows: &[Vec<Cell>], raw_rows: &[csv::StringRecord], column: usize) -> Respelled {
    let mut found = Respelled::default();
    for (row, raw) in rows.iter().zip(raw_rows) {
        let (Some(cell), Some(raw)) = (row.get(column), raw.get(column)) else { continue };
        if matches!(cell, Cell::Missing | Cell::Text(_) | Cell::Json(_)) {
            continue;
        }
        let text = cell.text();
        if text != raw {
            found.n_cells += 1;
            found.example.get_or_insert_with(|| (raw.to_owned(), text));
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq)]
enum ColumnKind {
    Whole,
    Float,
    Bool,
    Text,
}

impl ColumnKind {
    fn of<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut kinds = vec![Self::Whole, Self::Float, Self::Bool];
        for value in values {
            kinds.retain(|kind| match kind {
                Self::Whole => whole_number(value).is_some(),
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
            Self::Whole => whole_number(value),
            // Digits that a float does not hold stay digits.
            Self::Float => match whole_number(value) {
                Some(Cell::Int(whole)) if whole.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS => {
                    parse_float(value).map(Cell::Float)
                }
                Some(whole) => Some(whole),
                None => parse_float(value).map(Cell::Float),
            },
            Self::Bool => parse_bool(value).map(Cell::Bool),
            Self::Text => None,
        };
        parsed.unwrap_or_else(|| Cell::Text(value.to_owned()))
    }
}

fn is_missing(value: &str) -> bool {
    MISSING_WORDS.contains(&value)
}

/// A whole number of any size; beyond 64 bits it is the text of its digits, as pandas has it. White space around numbers
/// does not count.
fn whole_number(value: &str) -> Option<Cell> {
    let value = trimmed(value);
    if let Ok(whole) = value.parse() {
        return Some(Cell::Int(whole));
    }
    let (sign, digits) = signed(value);
    let is_whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sign = if sign == "+" { "" } else { sign };
    is_whole.then(|| Cell::Text(format!("{sign}{}", digits.trim_start_matches('0'))))
}

/// Whether a number has a zero that its value does not need: `007`, `-01`, `00.5`.
fn has_leading_zero(value: &str) -> bool {
    let (_, digits) = signed(trimmed(value));
    digits.strip_prefix('0').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn signed(value: &str) -> (&str, &str) {
    value.split_at(usize::from(value.starts_with(['+', '-'])))
}

fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c.is_ascii_whitespace())
}

fn parse_float(value: &str) -> Option<f64> {
    let number: f64 = trimmed(value).parse().ok()?;
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
