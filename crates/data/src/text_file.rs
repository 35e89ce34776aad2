//! Text files: bytes in, checked UTF-8 out, errors with the line.

use std::path::Path;

use crate::error::{DataError, Result};

/// The whole file without a byte order mark.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| io_error(path, &source, "open"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        not_utf8(path, 1 + count_newlines(valid))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The line with bytes that are no UTF-8.
pub(crate) fn not_utf8(path: &Path, line: u64) -> DataError {
    DataError::Malformed {
        path: path.to_owned(),
        line: Some(line),
        reason: "the text is not UTF-8; save the file in that encoding".to_owned(),
    }
}

pub(crate) fn io_error(path: &Path, source: &std::io::Error, action: &'static str) -> DataError {
    let source = std::io::Error::new(source.kind(), source.to_string());
    DataError::Io { path: path.to_owned(), action, source }
}

fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
