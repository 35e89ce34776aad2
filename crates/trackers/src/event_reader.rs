//! Reads `events.jsonl` as it grows.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::error::TrackerError;
use crate::points::{Entry, Interpreter};

/// Read at once; a line is shorter.
const MAX_BYTES: u64 = 1 << 20;

/// A place in the file.
#[derive(Debug)]
pub(crate) struct EventReader {
    path: PathBuf,
    offset: u64,
    interpreter: Interpreter,
}

impl EventReader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, interpreter: Interpreter::default() }
    }

    /// The next whole lines that there are, not all if there are many; none while there is no file. A line that is no event is
    /// passed over.
    pub(crate) fn read(&mut self) -> Result<Vec<Entry>, TrackerError> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(TrackerError::file(&self.path))?,
        };
        let mut bytes = Vec::new();
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.take(MAX_BYTES).read_to_end(&mut bytes));
        read.map_err(TrackerError::file(&self.path))?;
        let n_whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.offset += n_whole as u64;
        let lines = bytes.get(..n_whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let events = lines.filter_map(|line| serde_json::from_slice(line).ok());
        Ok(events.map(|event| self.interpreter.entry(&event)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_read_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut reader = EventReader::new(path.clone());
        assert!(reader.read().unwrap().is_empty());
        let line = "{\"event\": \"run_started\"}\n";
        std::fs::write(&path, format!("{line}{{\"event\": \"st")).unwrap();
        assert_eq!(reader.read().unwrap().len(), 1);
        assert!(reader.read().unwrap().is_empty());
        std::fs::write(&path, format!("{line}{{\"event\": \"step\"}}\n{line}")).unwrap();
        let positions: Vec<u64> = reader.read().unwrap().iter().map(|entry| entry.position).collect();
        assert_eq!(positions, [2, 3]);
    }
}
