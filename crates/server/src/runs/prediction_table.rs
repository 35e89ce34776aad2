//! Validation predictions out of a file that may be far larger than memory should be.
//!
//! Of a file is kept where its rows begin (8 bytes a row) and, for the newest few ways to look at it, the order of the rows
//! (4 bytes a row); cells are read from the file when they are shown. Sorting and searching read the file once from front to
//! back, one row at a time. With [`MAX_ROWS`], [`MAX_TABLES`] and [`MAX_VIEWS`] that is at most 75 MB, and 30 MB more while
//! rows are sorted; for 100 000 rows it is a tenth of that. What was kept is for a file of a certain size and time of change:
//! the run puts a new file in its place after every evaluation.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use csv::{ByteRecord, Reader, ReaderBuilder};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{ApiError, ApiResult};

/// Longer tables can be downloaded, but not looked through.
const MAX_ROWS: usize = 1_000_000;
/// Tables that are kept.
const MAX_TABLES: usize = 3;
/// Orders that are kept of each table.
const MAX_VIEWS: usize = 4;
/// Bytes by which texts are sorted; what is alike so far stays in the order of the file.
const KEY_BYTES: usize = 24;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A column of predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct PredictionColumn {
    pub(super) name: String,
    pub(super) kind: PredictionKind,
}

/// What the cells of a column of predictions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PredictionKind {
    Text,
    Number,
}

/// Which rows, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Position of the column to sort by; as in the file without one.
    pub(super) sort: Option<usize>,
    /// The largest first. Rows without a value come last either way.
    pub(super) descending: bool,
    /// Only rows with this somewhere in a text, in lower case.
    pub(super) search: String,
    /// Only rows whose two cells in these columns differ.
    pub(super) differing: Option<(usize, usize)>,
}

/// The rows of a view, by their positions in the file; `None` is all of them.
pub(super) type Found = Option<Arc<[u32]>>;

/// Where the rows of one file are.
#[derive(Debug)]
pub(super) struct PredictionTable {
    stamp: Stamp,
    pub(super) columns: Vec<PredictionColumn>,
    /// The byte at which each row begins, and the one after the last.
    starts: Vec<u64>,
    /// The newest last.
    views: Mutex<Vec<(View, Found)>>,
}

/// What tells one content of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    n_bytes: u64,
    modified: SystemTime,
}

/// The tables that were looked at last, the newest last.
#[derive(Debug, Default)]
pub(super) struct PredictionCache(Mutex<Vec<(PathBuf, Arc<PredictionTable>)>>);

impl PredictionCache {
    /// The table at `path`, of which a part may be known already. Requests wait for each other here, so that one file is gone
    /// through at a time.
    ///
    /// # Errors
    /// A file that cannot be read, or has too many rows.
    pub(super) fn table(&self, path: &Path, file: &File) -> ApiResult<Arc<PredictionTable>> {
        let failed = |error: io::Error| ApiError::io(path, "read", &error);
        let stamp = Stamp::of(file).map_err(failed)?;
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.iter().position(|(of, _)| of == path).map(|at| tables.remove(at));
        let table = match known {
            Some((_, table)) if table.stamp == stamp => table,
            _ => Arc::new(PredictionTable::index(file, stamp).map_err(failed)?.ok_or_else(|| {
                ApiError::invalid(format!("{} has more than {MAX_ROWS} rows", path.display()))
                    .hint("download the table and look through it with another program")
            })?),
        };
        if MAX_TABLES <= tables.len() {
            tables.remove(0);
        }
        tables.push((path.to_owned(), table.clone()));
        Ok(table)
    }
}

impl Stamp {
    fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self { n_bytes: facts.len(), modified: facts.modified()? })
    }
}

impl PredictionTable {
    /// Goes through the file once; `None` when it has too many rows.
    fn index(file: &File, stamp: Stamp) -> io::Result<Option<Self>> {
        let mut reader = reader_at(file, 0)?;
        let mut record = ByteRecord::new();
        let names: Vec<String> = if reader.read_byte_record(&mut record)? {
            record.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect()
        } else {
            Vec::new()
        };
        // A prompt that happens to be a number in every row is still what somebody says.
        let mut are_numbers: Vec<bool> = names.iter().map(|name| name != "prompt").collect();
        let mut are_filled = vec![false; names.len()];
        let mut starts = vec![reader.position().byte()];
        while reader.read_byte_record(&mut record)? {
            if MAX_ROWS < starts.len() {
                return Ok(None);
            }
            for ((cell, is_number), is_filled) in record.iter().zip(&mut are_numbers).zip(&mut are_filled) {
                if !cell.is_empty() {
                    *is_filled = true;
                    *is_number = *is_number && number_of(cell).is_some();
                }
            }
            starts.push(reader.position().byte());
        }
        let kinds = are_numbers.into_iter().zip(are_filled).map(|(is_number, is_filled)| {
            if is_number && is_filled { PredictionKind::Number } else { PredictionKind::Text }
        });
        let columns =
            names.into_iter().zip(kinds).map(|(name, kind)| PredictionColumn { name, kind }).collect();
        starts.shrink_to_fit();
        Ok(Some(Self { stamp, columns, starts, views: Mutex::default() }))
    }

    /// Rows of the file.
    pub(super) fn n_rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Position of a column.
    pub(super) fn column_idx(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The rows of a view, in its order.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn find(&self, file: &File, view: &View) -> io::Result<Found> {
        if view.sort.is_none() && view.search.is_empty() && view.differing.is_none() {
            return Ok(None);
        }
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let known = views.iter().position(|(of, _)| of == view).map(|at| views.remove(at));
        let found = match known {
            Some((_, found)) => found,
            None => Some(self.look_through(file, view)?.into()),
        };
        if MAX_VIEWS <= views.len() {
            views.remove(0);
        }
        views.push((view.clone(), found.clone()));
        Ok(found)
    }

    fn look_through(&self, file: &File, view: &View) -> io::Result<Vec<u32>> {
        let mut reader = reader_at(file, self.starts.first().copied().unwrap_or(0))?;
        let mut record = ByteRecord::new();
        let mut found: Vec<(SortKey, u32)> = Vec::new();
        let mut row = 0;
        while reader.read_byte_record(&mut record)? {
            if self.is_wanted(&record, view) {
                let key = view.sort.map(|column| self.key(&record, column, view.descending));
                found.push((key.unwrap_or_default(), row));
            }
            row += 1;
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, row)| row).collect())
    }

    fn is_wanted(&self, record: &ByteRecord, view: &View) -> bool {
        let cell = |column: usize| record.get(column).unwrap_or_default();
        if let Some((one, other)) = view.differing
            && is_same(cell(one), cell(other))
        {
            return false;
        }
        let is_searched = |column: &PredictionColumn| {
            column.kind == PredictionKind::Text || matches!(&*column.name, "answer" | "prediction")
        };
        view.search.is_empty()
            || record.iter().zip(&self.columns).any(|(cell, column)| {
                is_searched(column) && String::from_utf8_lossy(cell).to_lowercase().contains(&view.search)
            })
    }

    fn key(&self, record: &ByteRecord, column: usize, descending: bool) -> SortKey {
        let cell = record.get(column).unwrap_or_default();
        if cell.is_empty() {
            return SortKey { is_missing: true, bytes: [0; KEY_BYTES] };
        }
        let is_number = self.columns.get(column).is_some_and(|column| column.kind == PredictionKind::Number);
        let mut bytes = [0; KEY_BYTES];
        if let Some(value) = number_of(cell).filter(|_| is_number) {
            bytes.iter_mut().zip(ordered(value).to_be_bytes()).for_each(|(to, from)| *to = from);
        } else {
            let begin = cell.get(..4 * KEY_BYTES).unwrap_or(cell);
            let text = String::from_utf8_lossy(begin).trim_start().to_lowercase();
            bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        }
        if descending {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        SortKey { is_missing: false, bytes }
    }

    /// The cells of one row, one for each column; `None` when there is no such row.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) fn row(&self, file: &File, row: usize) -> io::Result<Option<Vec<String>>> {
        let (Some(start), Some(end)) = (self.starts.get(row), self.starts.get(row + 1)) else {
            return Ok(None);
        };
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader({
            let mut file = file;
            file.seek(SeekFrom::Start(*start))?;
            file.take(end - start)
        });
        let mut record = ByteRecord::new();
        reader.read_byte_record(&mut record)?;
        let cell = |column| String::from_utf8_lossy(record.get(column).unwrap_or_default()).into_owned();
        Ok(Some((0..self.columns.len()).map(cell).collect()))
    }
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey {
    is_missing: bool,
    bytes: [u8; KEY_BYTES],
}

fn reader_at(file: &File, byte: u64) -> io::Result<Reader<BufReader<&File>>> {
    let mut at = file;
    at.seek(SeekFrom::Start(byte))?;
    let buffered = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(ReaderBuilder::new().has_headers(false).flexible(true).from_reader(buffered))
}

/// A cell as a number.
pub(super) fn number_of(cell: &[u8]) -> Option<f64> {
    std::str::from_utf8(cell).ok()?.trim().parse().ok()
}

/// Bits that are in the order of the numbers, what is no number above all others.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if value.is_nan() {
        u64::MAX
    } else if value.is_sign_negative() {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// Whether a prediction is the answer: `1` is `1.0`, and white space around a text does not count.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.trim_ascii() == other.trim_ascii()
        || matches!((number_of(one), number_of(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn table_of(csv: &str) -> (File, PredictionTable) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(csv.as_bytes()).unwrap();
        let stamp = Stamp::of(&file).unwrap();
        let table = PredictionTable::index(&file, stamp).unwrap().unwrap();
        (file, table)
    }

    #[test]
    fn rows_are_found_again_whatever_stands_in_their_cells() {
        let csv =
            "row,prompt,answer,loss\r\n0,\"two\nlines, \"\"quoted\"\"\",ä,1\r\n\r\n1,,,\n2,\"x\r\ny\",short";
        let (file, table) = table_of(csv);
        let kinds: Vec<PredictionKind> = table.columns.iter().map(|column| column.kind).collect();
        use PredictionKind::{Number, Text};
        assert_eq!(kinds, [Number, Text, Text, Number]);
        let rows: Vec<Vec<String>> =
            (0..table.n_rows()).map(|row| table.row(&file, row).unwrap().unwrap()).collect();
        assert_eq!(
            rows,
            [["0", "two\nlines, \"quoted\"", "ä", "1"], ["1", "", "", ""], ["2", "x\r\ny", "short", ""]]
        );
        assert_eq!(table.row(&file, 3).unwrap(), None);
    }

    #[test]
    fn files_of_nothing_are_tables_of_nothing() {
        for (csv, n_columns) in [("", 0), ("row,prompt\n", 2), ("row,prompt", 2)] {
            let (file, table) = table_of(csv);
            assert_eq!((table.columns.len(), table.n_rows()), (n_columns, 0), "{csv:?}");
            assert_eq!(
                table.find(&file, &View { search: "a".into(), ..View::default() }).unwrap().unwrap().len(),
                0
            );
        }
    }

    #[test]
    fn numbers_are_sorted_by_size_and_gaps_come_last() {
        let (file, table) = table_of("loss\n10\n-2\n\"\"\nnan\n9e-1\n-inf\n0\n10\n");
        let order = |descending| {
            let view = View { sort: Some(0), descending, ..View::default() };
            table.find(&file, &view).unwrap().unwrap().to_vec()
        };
        assert_eq!(order(false), [5, 1, 6, 4, 0, 7, 3, 2]);
        assert_eq!(order(true), [3, 0, 7, 4, 6, 1, 5, 2]);
    }

    #[test]
    fn texts_are_sorted_and_searched_whatever_their_case() {
        let (file, table) = table_of("prompt,answer,prediction\nÄpfel,1,1.0\nbirne,2,3\nApfel,x, x \n");
        let found = |view: View| table.find(&file, &view).unwrap().unwrap().to_vec();
        assert_eq!(found(View { sort: Some(0), ..View::default() }), [2, 1, 0]);
        assert_eq!(found(View { search: "äpf".into(), ..View::default() }), [0]);
        assert_eq!(found(View { search: "pfel".into(), sort: Some(0), ..View::default() }), [2, 0]);
        assert_eq!(found(View { differing: Some((1, 2)), ..View::default() }), [1]);
    }

    #[test]
    fn a_new_file_is_read_anew_and_old_ones_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PredictionCache::default();
        let read = |name: &str| {
            let path = folder.path().join(name);
            cache.table(&path, &File::open(&path).unwrap()).unwrap()
        };
        for name in ["a", "b", "c", "d"] {
            std::fs::write(folder.path().join(name), "row\n1\n").unwrap();
        }
        let first = read("a");
        assert!(Arc::ptr_eq(&first, &read("a")));
        std::fs::write(folder.path().join("a"), "row\n1\n2\n").unwrap();
        assert_eq!(read("a").n_rows(), 2);
        let kept = read("a");
        for name in ["b", "c", "d"] {
            read(name);
        }
        assert!(!Arc::ptr_eq(&kept, &read("a")), "of four tables the oldest goes");
        assert_eq!(cache.0.lock().unwrap().len(), MAX_TABLES);
    }
}
