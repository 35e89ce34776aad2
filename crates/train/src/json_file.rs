//! The small JSON files of a run folder: read when they are there, written whole.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tunesmith_formats::atomic::write_file;

use crate::error::{IoContext, TrainError};

/// The value in the file at `path`; `None` when there is no file. Fails when it cannot be read or holds something else.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, TrainError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).at(path, "read")?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|source| TrainError::RunFile { path: path.to_owned(), reason: source.to_string() })
}

/// Writes `value` as indented JSON with a final line end, so that a reader sees the old file or the new one.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|source| TrainError::RunFile { path: path.to_owned(), reason: source.to_string() })?;
    text.push('\n');
    Ok(write_file(path, text.as_bytes())?)
}
