//! Rows and columns as a file holds them, whatever its type.

use std::path::{Path, PathBuf};

pub use crate::cell::Cell;
use crate::error::{DataError, Place, Result};
use crate::file_types::FileType;
use crate::table_options::TableOptions;
use crate::{table_arrow, table_delimited, table_files, table_json, table_parquet, table_text};

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
    /// Columns of the file that are not among `columns`, as their cells are nothing that a [`Cell`] holds.
    pub unread: Vec<UnreadColumn>,
    /// For each column which of its numbers and truth values have another text than in the file; empty if none has.
    pub(crate) respelled: Vec<Respelled>,
    /// Line of each row; empty for files whose rows have no lines.
    pub(crate) lines: Vec<u64>,
    /// The files of a table made of several, in order; empty for one file.
    pub(crate) parts: Vec<TablePart>,
    /// Whether each row's text goes on where that of the row before ends; empty where rows stand alone.
    pub(crate) continues: Vec<bool>,
}

/// A column that could not be read; who uses it gets an error, and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadColumn {
    /// Its name.
    pub name: String,
    /// What stands in it.
    pub reason: String,
}

/// Cells of a column whose text is not what stands in the file, as they are numbers or truth values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Respelled {
    /// How many.
    pub(crate) n_cells: usize,
    /// The first one in the file, and its text.
    pub(crate) example: Option<(String, String)>,
}

/// One of the files of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TablePart {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its first row in the table.
    pub(crate) first_row: usize,
}

/// Reads a whole table, or its first rows, as files are read when nothing else is said: [`TableOptions::default`].
///
/// # Errors
/// As for [`read_table_with`].
pub fn read_table(path: &Path, max_rows: Option<usize>) -> Result<Table> {
    read_table_with(path, &TableOptions { max_rows, ..TableOptions::default() })
}

/// Reads a csv, tsv, json, jsonl, parquet, arrow, txt or md file; the ending decides, in upper or lower case ([`FileType`]).
/// A folder, or a pattern with `*`, reads many files as one table.
///
/// Cells have the types and, through [`Cell::text`], the texts that pandas gives them, except that no digit is lost: whole
/// numbers beyond 64 bits, and those with leading zeros if the options say so, are texts.
///
/// # Errors
/// A file that cannot be read or is not what its name says, content that breaks the rules of its format, no rows.
pub fn read_table_with(path: &Path, options: &TableOptions) -> Result<Table> {
    let files = table_files::files_of(path)?;
    let table = match files.as_slice() {
        [file] => read_file(file, options)?,
        files => table_files::join(path, files, options, read_file)?,
    };
    let empty = |reason: &str| DataError::Empty { path: path.to_owned(), reason: reason.to_owned() };
    if table.rows.is_empty() {
        return Err(empty("the table has no rows"));
    }
    if table.columns.is_empty() {
        let reasons: Vec<String> =
            table.unread.iter().map(|column| format!("{}: {}", column.name, column.reason)).collect();
        return Err(empty(&format!("no column can be read ({})", reasons.join("; "))));
    }
    Ok(table)
}

/// The rows of one file; none at all is no error yet.
fn read_file(path: &Path, options: &TableOptions) -> Result<Table> {
    let Some((file_type, _)) = FileType::from_path(path) else {
        let ending =
            path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        return Err(DataError::UnknownFileType { path: path.to_owned(), ending });
    };
    match file_type {
        FileType::Csv => table_delimited::read_csv(path, options),
        FileType::Tsv => table_delimited::read_tsv(path, options),
        FileType::Json => table_json::read_json(path, options),
        FileType::JsonLines => table_json::read_json_lines(path, options),
        FileType::Parquet => table_parquet::read_parquet(path, options.row_limit()),
        FileType::Arrow => table_arrow::read_arrow(path, options.row_limit()),
        FileType::Text => table_text::read_passages(path, options),
    }
}

impl Table {
    /// A table of one file without lines, notes and the rest.
    pub(crate) fn new(path: &Path, columns: Vec<String>, rows: Vec<Vec<Cell>>) -> Self {
        Self {
            path: path.to_owned(),
            n_missing_words: vec![0; columns.len()],
            columns,
            rows,
            notes: Vec::new(),
            unread: Vec::new(),
            respelled: Vec::new(),
            lines: Vec::new(),
            parts: Vec::new(),
            continues: Vec::new(),
        }
    }

    /// Takes a column out; who asks for it will be told the reason.
    pub(crate) fn drop_column(&mut self, name: &str, reason: &str) {
        let Some(column) = self.column_idx(name) else { return };
        self.columns.remove(column);
        self.n_missing_words.remove(column);
        if column < self.respelled.len() {
            self.respelled.remove(column);
        }
        for row in &mut self.rows {
            if column < row.len() {
                row.remove(column);
            }
        }
        self.unread.push(UnreadColumn { name: name.to_owned(), reason: reason.to_owned() });
    }

    /// Why there is no column of that name, if the file has one.
    pub(crate) fn unread_reason(&self, name: &str) -> Option<&str> {
        self.unread.iter().find(|column| column.name == name).map(|column| column.reason.as_str())
    }

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

/// Names as pandas gives them: an empty one is `Unnamed: 2` after its position, a repeated one gets `.1`, `.2`, ….
pub(crate) fn unique_names<'a>(raw: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (position, raw) in raw.enumerate() {
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
