//! Many files as one table: a folder, or a pattern such as `parts/*.parquet`.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::error::{DataError, Result};
use crate::file_types::{FileType, TABLE_TYPES, is_description_name};
use crate::table::{Respelled, Table, TablePart};
use crate::table_options::TableOptions;
use crate::text_file::io_error;

/// The files that `path` names, in the order of their names: itself, all tables of a folder and the folders in it, or all
/// that a pattern finds. Hidden files are passed over, and in a folder with tables the files that describe them.
///
/// # Errors
/// [`DataError::Empty`] when there are none, [`DataError::Io`] for a folder that cannot be listed.
pub(crate) fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    let text = path.to_string_lossy();
    let is_pattern = !path.exists() && text.contains(['*', '?', '[']);
    if !is_pattern && !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let pattern = match is_pattern {
        true => text.into_owned(),
        false => Path::new(&Pattern::escape(&text)).join("**").join("*").display().to_string(),
    };
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let found = glob::glob_with(&pattern, options).map_err(|error| DataError::Malformed {
        path: path.to_owned(),
        line: None,
        reason: format!("this is no pattern of files: {error}"),
    })?;
    let mut files = Vec::new();
    for file in found {
        let file = file.map_err(|error| io_error(error.path(), error.error(), "list"))?;
        if file.is_file() && FileType::from_path(&file).is_some() {
            files.push(file);
        }
    }
    let is_table = |file: &PathBuf| !is_description_name(&file.to_string_lossy());
    if !is_pattern && files.iter().any(is_table) {
        files.retain(is_table);
    }
    if files.is_empty() {
        let reason = format!("there is no table: no {TABLE_TYPES}");
        return Err(DataError::Empty { path: path.to_owned(), reason });
    }
    Ok(files)
}

/// The rows of several tables, one table after the other, which all have the columns of the first in any order. Files without
/// any row are passed over. A column that cannot be read in one of the files is none of the table's.
///
/// # Errors
/// [`DataError::Malformed`] for a table with other columns; what `read` says.
pub(crate) fn join(
    path: &Path,
    files: &[PathBuf],
    options: &TableOptions,
    read: impl Fn(&Path, &TableOptions) -> Result<Table>,
) -> Result<Table> {
    let mut joined: Option<Table> = None;
    let mut notes = Vec::new();
    for file in files {
        let n_rows = joined.as_ref().map_or(0, Table::n_rows);
        let left = options.max_rows.map(|max_rows| max_rows.saturating_sub(n_rows));
        if left == Some(0) {
            break;
        }
        let table = read(file, &TableOptions { max_rows: left, ..*options })?;
        if table.rows.is_empty() {
            notes.push(format!("{}: there is no row in it", file.display()));
            continue;
        }
        let part = TablePart { path: file.clone(), first_row: n_rows };
        match &mut joined {
            Some(joined) => {
                append(joined, table)?;
                joined.parts.push(part);
            }
            None => joined = Some(Table { path: path.to_owned(), parts: vec![part], ..table }),
        }
    }
    let mut joined = joined.ok_or_else(|| {
        let reason = "the table has no rows".to_owned();
        DataError::Empty { path: path.to_owned(), reason }
    })?;
    joined.notes.extend(notes);
    joined.notes.insert(0, format!("{} files are read as one table", joined.parts.len()));
    Ok(joined)
}

fn append(joined: &mut Table, mut table: Table) -> Result<()> {
    for column in &table.unread {
        joined.drop_column(&column.name, &column.reason);
    }
    for column in &joined.unread {
        table.drop_column(&column.name, &column.reason);
    }
    let places: Option<Vec<usize>> = joined.columns.iter().map(|name| table.column_idx(name)).collect();
    let places = places.filter(|places| places.len() == table.columns.len()).ok_or_else(|| DataError::Malformed {
        path: table.path.clone(),
        line: None,
        reason: format!(
            "its columns are {}, but those of {} are {}: files that are read as one table have the same; a pattern such as \
             *.csv chooses among the files of a folder",
            table.columns.join(", "),
            joined.parts.first().map(|part| part.path.display().to_string()).unwrap_or_default(),
            joined.columns.join(", ")
        ),
    })?;
    // Kinds of files that know something of their rows keep it, as long as all files are of such a kind.
    let had_lines = joined.lines.len() == joined.rows.len();
    let had_continues = joined.continues.len() == joined.rows.len();
    for (place, n) in places.iter().zip(&mut joined.n_missing_words) {
        *n += table.n_missing_words.get(*place).copied().unwrap_or(0);
    }
    joined.respelled.resize(joined.columns.len(), Respelled::default());
    for (place, sum) in places.iter().zip(&mut joined.respelled) {
        if let Some(more) = table.respelled.get(*place) {
            sum.n_cells += more.n_cells;
            sum.example = sum.example.take().or_else(|| more.example.clone());
        }
    }
    let has = |n: usize| n == table.rows.len();
    match had_lines && has(table.lines.len()) {
        true => joined.lines.extend(&table.lines),
        false => joined.lines.clear(),
    }
    match had_continues && has(table.continues.len()) {
        true => joined.continues.extend(&table.continues),
        false => joined.continues.clear(),
    }
    joined.notes.extend(table.notes);
    for row in table.rows {
        let mut cells: Vec<Option<crate::table::Cell>> = row.into_iter().map(Some).collect();
        let mut take = |place: &usize| cells.get_mut(*place).and_then(Option::take);
        joined
            .rows
            .push(places.iter().map(|place| take(place).unwrap_or(crate::table::Cell::Missing)).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {

    use crate::read_table;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_is_one_table_in_the_order_of_names() {
        let folder = folder(&[
            ("b/2.jsonl", "{\"y\": 3, \"x\": \"c\"}\n"),
            ("a.csv", "x,y\na,1\nb,2\n"),
            ("README.md", "what this is"),
            (".hidden.csv", "z\n1\n"),
        ]);
        let table = read_table(folder.path(), None).unwrap();
        let cells: Vec<String> = table.rows.iter().flatten().map(crate::Cell::text).collect();
        assert_eq!(cells, ["a", "1", "b", "2", "c", "3"]);
        assert_eq!(table.file_of(1), folder.path().join("a.csv"));
        assert!(table.row_error(2, "wrong").to_string().contains("2.jsonl:1: wrong"));
        assert_eq!(read_table(folder.path(), Some(2)).unwrap().n_rows(), 2);

        let texts = read_table(&folder.path().join("*.md"), None).unwrap();
        assert_eq!((texts.n_rows(), texts.cell(0, 0).text()), (1, "what this is".to_owned()));
    }

    #[test]
    fn texts_of_several_files_do_not_continue_each_other() {
        let long = "line\n".repeat(3000);
        let folder = folder(&[("1.txt", &long), ("2.txt", "short"), ("3.md", "also"), ("4.txt", "")]);
        let table = read_table(folder.path(), None).unwrap();
        assert_eq!(table.continues, [false, true, false, false]);
        assert_eq!(table.cell(3, 1).text(), "3.md");
    }

    #[test]
    fn files_that_do_not_fit_together_are_named() {
        let folder = folder(&[("a.csv", "x\n1\n"), ("b.csv", "z\n1\n")]);
        let error = read_table(folder.path(), None).unwrap_err().to_string();
        assert!(
            error.contains("b.csv: its columns are z, but those of") && error.contains("a.csv are x"),
            "{error}"
        );
        let none = read_table(&folder.path().join("*.parquet"), None).unwrap_err().to_string();
        assert!(none.contains("there is no table"), "{none}");
        let bad = read_table(&folder.path().join("[.csv"), None).unwrap_err().to_string();
        assert!(bad.contains("no pattern"), "{bad}");
    }
}
