//! Files of characters: unpacked, decoded, checked; errors with the line.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::compressed;
use crate::encoding::{LIKELY, NotInEncoding, decoded};
use crate::error::{DataError, Result};
use crate::file_types::FileType;
use crate::table_options::TableOptions;

/// An open file of characters: bytes that are meant to be UTF-8, without a byte order mark.
pub(crate) struct TextFile {
    pub(crate) reader: Box<dyn BufRead>,
    /// What a user should know of the file.
    pub(crate) notes: Vec<String>,
}

/// Opens a file of characters.
///
/// # Errors
/// It cannot be opened, is something else, or is in no encoding that is known here.
pub(crate) fn open_text(path: &Path, options: &TableOptions) -> Result<TextFile> {
    let (file_type, compression) = FileType::from_path(path).unwrap_or((FileType::Text, None));
    let unpacked = compressed::open(path, file_type, compression)?;
    let mut notes = unpacked.notes;
    let (reader, note) =
        decoded(unpacked.reader, options.encoding).map_err(|error| read_error(path, &error))?;
    notes.extend(note.map(|note| format!("{}: {note}", path.display())));
    Ok(TextFile { reader: Box::new(BufReader::new(reader)), notes })
}

/// The whole text of a file, and its notes.
///
/// # Errors
/// As for [`open_text`]; a line that is not UTF-8.
pub(crate) fn read_text(path: &Path, options: &TableOptions) -> Result<(String, Vec<String>)> {
    let mut file = open_text(path, options)?;
    let mut bytes = Vec::new();
    file.reader.read_to_end(&mut bytes).map_err(|error| read_error(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        not_utf8(path, 1 + count_newlines(valid))
    })?;
    Ok((text, file.notes))
}

/// The line with bytes that are no UTF-8.
pub(crate) fn not_utf8(path: &Path, line: u64) -> DataError {
    let likely = LIKELY.to_owned();
    DataError::Encoding { path: path.to_owned(), line: Some(line), encoding: "UTF-8", likely }
}

/// A failure in the middle of a file, which may be one of decoding it.
pub(crate) fn read_error(path: &Path, error: &io::Error) -> DataError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<NotInEncoding>()) {
        Some(cause) => DataError::Encoding {
            path: path.to_owned(),
            line: Some(cause.line),
            encoding: cause.encoding,
            likely: cause.likely.to_owned(),
        },
        None => io_error(path, error, "read"),
    }
}

pub(crate) fn io_error(path: &Path, source: &io::Error, action: &'static str) -> DataError {
    let source = io::Error::new(source.kind(), source.to_string());
    DataError::Io { path: path.to_owned(), action, source }
}

fn count_newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
