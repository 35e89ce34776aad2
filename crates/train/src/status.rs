//! `flags.json`: the one small file that says how a run stands, for people and supervisors.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::json_file::{read_json, write_json};

/// Content of `flags.json`. H2O LLM Studio's readers use `status` and `info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// How the run stands.
    pub status: RunStatus,
    /// Run time of a run that ended well, class of the failure of one that did not, else empty.
    pub info: String,
    /// What went wrong, for a failed run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The process that wrote this.
    pub process_id: u32,
    /// When that process began with the run, in seconds since 1970-01-01 UTC; tells a reused process id apart.
    pub process_started_unix_secs: u64,
    /// Optimizer steps behind the last checkpoint, or at the end.
    pub step: u64,
    /// Optimizer steps planned; 0 while that is not known.
    pub n_steps: u64,
    /// The steps at which the run was taken up again, in order. They are not events, so that an interrupted run has
    /// the same events as an uninterrupted one.
    #[serde(default)]
    pub resumed_at_steps: Vec<u64>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// A process works on it, or was killed.
    Running,
    /// It did all it was asked to do.
    Finished,
    /// It left early because it was asked to; it can be resumed.
    Stopped,
    /// It ended with an error.
    Failed,
}

impl Status {
    /// The status file at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a status.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        read_json(path)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_json(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flags.json");
        assert_eq!(Status::read(&path).unwrap(), None);
        let status = Status {
            status: RunStatus::Failed,
            info: "Training error".to_owned(),
            message: Some("the loss is NaN".to_owned()),
            hint: None,
            process_id: 7,
            process_started_unix_secs: 11,
            step: 3,
            n_steps: 9,
            resumed_at_steps: vec![1, 2],
        };
        status.write(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"status\": \"failed\""));
        assert_eq!(Status::read(&path).unwrap(), Some(status));
        std::fs::write(&path, "{").unwrap();
        assert!(Status::read(&path).unwrap_err().to_string().contains("flags.json"));
    }
}
