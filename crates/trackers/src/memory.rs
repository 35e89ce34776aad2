//! What a tracker has already: a small file in the run folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tunesmith_formats::atomic::write_file;

use crate::error::TrackerError;

/// Name of the file in the run folder.
pub const MEMORY_FILE: &str = "tracker.json";

/// Content of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// Which tracker.
    pub(crate) tracker: String,
    /// What the tracker needs to go on: the name of its run, the length of its file. No address and no credentials.
    pub(crate) run: Value,
    /// Events that it has, of those that a resumed run repeats.
    pub(crate) n_events: u64,
}

/// The file.
#[derive(Debug)]
pub(crate) struct MemoryFile(PathBuf);

impl MemoryFile {
    pub(crate) fn of_run(run_dir: &Path) -> Self {
        Self(run_dir.join(MEMORY_FILE))
    }

    /// What is remembered of this tracker; nothing where the file is missing, damaged or another tracker's.
    pub(crate) fn read(&self, tracker: &str) -> Memory {
        let text = std::fs::read(&self.0).unwrap_or_default();
        let known: Option<Memory> = serde_json::from_slice(&text).ok();
        known
            .filter(|memory| memory.tracker == tracker)
            .unwrap_or_else(|| Memory { tracker: tracker.to_owned(), ..Memory::default() })
    }

    pub(crate) fn write(&self, memory: &Memory) -> Result<(), TrackerError> {
        let failed = |reason: String| TrackerError::File { path: self.0.display().to_string(), reason };
        let mut text = serde_json::to_vec_pretty(memory).map_err(|error| failed(error.to_string()))?;
        text.push(b'\n');
        write_file(&self.0, &text).map_err(|error| failed(error.to_string()))
    }
}
