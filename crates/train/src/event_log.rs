//! The file `events.jsonl`: appended line by line, cut back when a run resumes, readable after any interruption.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{IoContext, TrainError};
use crate::events::{Event, EventBody};

/// The open end of an event file.
#[derive(Debug)]
pub(crate) struct EventLog {
    path: PathBuf,
    file: File,
    n_bytes: u64,
}

impl EventLog {
    /// Opens `path`, keeping its first `n_bytes` and dropping whatever was written after them.
    ///
    /// # Errors
    /// When the file is shorter than that, or cannot be opened or cut.
    pub(crate) fn open_at(path: &Path, n_bytes: u64) -> Result<Self, TrainError> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(path)
            .at(path, "open for appending")?;
        let actual_bytes = file.metadata().at(path, "read the size of")?.len();
        if actual_bytes < n_bytes {
            let reason = format!("it has {actual_bytes} bytes, the checkpoint counts on {n_bytes}");
            return Err(TrainError::RunFile { path: path.to_owned(), reason });
        }
        file.set_len(n_bytes).at(path, "cut")?;
        file.seek(SeekFrom::Start(n_bytes)).at(path, "seek in")?;
        Ok(Self { path: path.to_owned(), file, n_bytes })
    }

    /// Appends one line. A kill in the middle leaves a half line, which readers skip and resuming cuts off.
    pub(crate) fn append(&mut self, event: &Event) -> Result<(), TrainError> {
        let mut line = serde_json::to_string(event).map_err(|source| TrainError::RunFile {
            path: self.path.clone(),
            reason: format!("an event has no JSON form: {source}"),
        })?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).at(&self.path, "append to")?;
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    /// Bytes of all complete lines.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Returns when the lines are on the disk, so that a checkpoint may count on them.
    pub(crate) fn sync(&self) -> Result<(), TrainError> {
        self.file.sync_data().at(&self.path, "flush")
    }
}

/// The events of a run folder's `events.jsonl` at `path`, in order. A last line without its line end is still being
/// written, or was cut by a kill, and is left out.
///
/// # Errors
/// When the file cannot be read or a complete line is not an event.
pub fn read_events(path: &Path) -> Result<Vec<Event>, TrainError> {
    let text = std::fs::read_to_string(path).at(path, "read")?;
    let complete = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    complete
        .lines()
        .enumerate()
        .map(|(line_idx, line)| {
            serde_json::from_str(line).map_err(|source| TrainError::RunFile {
                path: path.to_owned(),
                reason: format!("line {} is not an event: {source}", line_idx + 1),
            })
        })
        .collect()
}

/// The optimizer steps that the first `n_bytes` of an event file speak of as planned, last.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn planned_steps(path: &Path, n_bytes: u64) -> Result<Option<u64>, TrainError> {
    let text = std::fs::read(path).at(path, "read")?;
    let kept = text.get(..usize::try_from(n_bytes).unwrap_or(usize::MAX)).unwrap_or(&text);
    let events = kept.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut planned = events.filter_map(|event: Event| match event.body {
        EventBody::RunStarted(run) => Some(run.n_steps),
        EventBody::RunExtended(run) => Some(run.n_steps),
        _ => None,
    });
    Ok(planned.next_back())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventBody, RunFailed, Timing};

    fn event(message: &str) -> Event {
        let body = EventBody::RunFailed(RunFailed {
            failure: "See logs".to_owned(),
            message: message.to_owned(),
            hint: None,
        });
        Event { body, timing: Timing::default() }
    }

    #[test]
    fn half_lines_are_skipped_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        let mut log = EventLog::open_at(&path, 0).unwrap();
        log.append(&event("one")).unwrap();
        let n_bytes = log.n_bytes();
        log.append(&event("two")).unwrap();
        drop(log);
        let whole = std::fs::read(&path).unwrap();
        for cut in n_bytes as usize..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read_events(&path).unwrap(), [event("one")], "cut at {cut}");
            let mut log = EventLog::open_at(&path, n_bytes).unwrap();
            log.append(&event("again")).unwrap();
            assert_eq!(read_events(&path).unwrap(), [event("one"), event("again")]);
        }
    }

    #[test]
    fn a_file_shorter_than_its_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let message = EventLog::open_at(&path, 4).unwrap_err().to_string();
        assert!(message.contains("has 3 bytes") && message.contains("counts on 4"), "{message}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.jsonl");
        std::fs::write(&path, "{\"event\":\"nonsense\"}\n").unwrap();
        assert!(read_events(&path).unwrap_err().to_string().contains("line 1"));
    }
}
