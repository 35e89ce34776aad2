//! Arrow IPC, as a file (Feather, `save_to_disk`) or as a stream (what the datasets library caches).

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow_array::{Array, RecordBatchReader};
use arrow_ipc::reader::StreamReader;
use arrow_schema::ArrowError;
use serde_json::Value as Json;

use crate::arrow_cells::json_of;
use crate::arrow_messages::messages;
use crate::cell::Cell;
use crate::compressed::check_binary;
use crate::error::{DataError, Result};
use crate::row_collector::RowCollector;
use crate::table::Table;
use crate::text_file::io_error;

/// The first `max_rows` rows of all columns that can be read.
pub(crate) fn read_arrow(path: &Path, max_rows: usize) -> Result<Table> {
    check_binary(path, "Arrow")?;
    let malformed = |reason: &dyn std::fmt::Display| DataError::Malformed {
        path: path.to_owned(),
        line: None,
        reason: format!("not a readable Arrow file or stream: {reason}"),
    };
    let failed = |source: std::io::Error| io_error(path, &source, "read");
    let file = File::open(path).map_err(|source| io_error(path, &source, "open"))?;
    let mut file = BufReader::new(file);
    if file.by_ref().bytes().take(4).map_while(std::result::Result::ok).eq(*b"FEA1") {
        return Err(malformed(&"it is Feather version 1; write it again with pyarrow.feather.write_feather"));
    }
    // A file is a stream between two marks, with a table of contents that is not needed to read it from the start.
    let range = messages(&mut file).map_err(failed)?.map_err(|reason| malformed(&reason))?;
    file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    let stream = file.take(range.end - range.start);
    // The library checks what it reads, but a panic in it must not end the program.
    let outcome = catch_unwind(AssertUnwindSafe(|| collect(StreamReader::try_new(stream, None)?, max_rows)));
    match outcome {
        Ok(Ok(rows)) => {
            let mut table = rows.finish(path);
            if !range.is_whole {
                table
                    .notes
                    .push(format!("{}: the stream has no end mark; it may be cut off", path.display()));
            }
            Ok(table)
        }
        Ok(Err(error)) => Err(malformed(&error)),
        Err(_) => Err(malformed(&"its structure is damaged")),
    }
}

fn collect(
    batches: impl RecordBatchReader,
    max_rows: usize,
) -> std::result::Result<RowCollector, ArrowError> {
    let schema = batches.schema();
    let mut table = RowCollector::new(schema.fields().iter().map(|field| field.name().as_str()));
    for batch in batches {
        let batch = batch?;
        for row_idx in 0..batch.num_rows() {
            if table.rows.len() == max_rows {
                return Ok(table);
            }
            let mut cells = Vec::with_capacity(batch.num_columns());
            for (column, array) in batch.columns().iter().enumerate() {
                let is_unread = table.is_unread(column);
                let json = if is_unread { Ok(Json::Null) } else { json_of(array as &dyn Array, row_idx) };
                cells.push(json.map(Cell::from_json).unwrap_or_else(|reason| {
                    table.leave_out(column, format!("row {} holds {reason}", table.rows.len() + 1));
                    Cell::Missing
                }));
            }
            table.rows.push(cells);
        }
    }
    Ok(table)
}
