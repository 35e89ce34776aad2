//! `logs.log`: dated lines for people. Kept over interruptions, unlike the events.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::clock::{unix_secs, utc_stamp};
use crate::error::{IoContext, TrainError};
use crate::events::NoteLevel;

/// The open end of a log file.
#[derive(Debug)]
pub(crate) struct RunLog {
    path: PathBuf,
    file: File,
}

impl RunLog {
    pub(crate) fn open(path: &Path) -> Result<Self, TrainError> {
        let file = OpenOptions::new().create(true).append(true).open(path).at(path, "open for appending")?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends `text` as one dated line; line ends within it become spaces.
    pub(crate) fn line(&mut self, level: NoteLevel, text: &str) -> Result<(), TrainError> {
        let level = match level {
            NoteLevel::Info => "INFO",
            NoteLevel::Warning => "WARNING",
            NoteLevel::Error => "ERROR",
        };
        let text = text.replace(['\n', '\r'], " ");
        let line = format!("{} {level} {text}\n", utc_stamp(unix_secs()));
        self.file.write_all(line.as_bytes()).at(&self.path, "append to")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs.log");
        RunLog::open(&path).unwrap().line(NoteLevel::Info, "one\ntwo").unwrap();
        RunLog::open(&path).unwrap().line(NoteLevel::Error, "three").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(lines, ["INFO one two", "ERROR three"]);
    }
}
