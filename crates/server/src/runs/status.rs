//! How an experiment stands: from whether its process is there, what the run's `flags.json` says, and what was asked for.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::child::last_words;

/// How an experiment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExperimentStatus {
    /// Waits for its turn.
    Queued,
    /// Its process is there and loads.
    Starting,
    /// It trains.
    Running,
    /// It was asked to stop and writes a checkpoint.
    Stopping,
    /// It did all it was asked to do.
    Finished,
    /// It left early because it was asked to, or was taken from the queue.
    Stopped,
    /// It ended with an error.
    Failed,
    /// Its process ended without a word.
    Killed,
}

impl ExperimentStatus {
    /// Whether it has a process.
    pub(crate) fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }
}

/// Why an experiment failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RunFailure {
    /// Class of the failure.
    pub(crate) kind: String,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    #[schema(required)]
    pub(crate) hint: Option<String>,
}

/// What is read of `flags.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Flags {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) info: String,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) hint: Option<String>,
    #[serde(default)]
    pub(crate) process_id: u32,
    #[serde(default)]
    pub(crate) step: u64,
    #[serde(default)]
    pub(crate) n_steps: u64,
}

/// What is known when the question is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) is_queued: bool,
    /// The newest process that was started, and whether it is there.
    pub(crate) process: Option<(u32, bool)>,
    /// Read after it was looked whether the process is there.
    pub(crate) flags: Option<&'a Flags>,
    pub(crate) is_stop_asked: bool,
    /// What the process said.
    pub(crate) stderr: &'a Path,
}

/// How the experiment stands, and why it failed if it did.
pub(crate) fn status_of(facts: Facts<'_>) -> (ExperimentStatus, Option<RunFailure>) {
    use ExperimentStatus::{Failed, Finished, Killed, Queued, Running, Starting, Stopped, Stopping};

    if facts.is_queued {
        return (Queued, None);
    }
    let flags = facts.flags.filter(|flags| facts.process.is_none_or(|(pid, _)| pid == flags.process_id));
    if let Some((_, true)) = facts.process {
        return match flags {
            _ if facts.is_stop_asked => (Stopping, None),
            Some(_) => (Running, None),
            None => (Starting, None),
        };
    }
    match flags.map(|flags| (flags.status.as_str(), flags)) {
        Some(("finished", _)) => (Finished, None),
        Some(("stopped", _)) => (Stopped, None),
        Some(("failed", flags)) => {
            let kind = if flags.info.is_empty() { "See logs".to_owned() } else { flags.info.clone() };
            let message = flags.message.clone().unwrap_or_else(|| "the log says more".to_owned());
            (Failed, Some(RunFailure { kind, message, hint: flags.hint.clone() }))
        }
        Some(_) => (Killed, None),
        // It never came to work on the run.
        None if facts.is_stop_asked || facts.process.is_none() => (Stopped, None),
        None => match last_words_in(facts.stderr) {
            Some((message, hint)) => (Failed, Some(RunFailure { kind: "Start".to_owned(), message, hint })),
            None => (Killed, None),
        },
    }
}

/// What a file of messages says last.
fn last_words_in(stderr: &Path) -> Option<(String, Option<String>)> {
    let bytes = fs::read(stderr).ok()?;
    let text = String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(64 * 1024)..)?);
    last_words(&text).filter(|(message, _)| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExperimentStatus::*;

    fn flags(status: &str, process_id: u32) -> Flags {
        Flags {
            status: status.to_owned(),
            info: String::new(),
            message: None,
            hint: None,
            process_id,
            step: 0,
            n_steps: 0,
        }
    }

    #[test]
    fn every_state_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let stderr = folder.path().join("stderr.log");
        let stand = |is_queued, process, flags: Option<&Flags>, is_stop_asked| {
            status_of(Facts { is_queued, process, flags, is_stop_asked, stderr: &stderr }).0
        };
        let (running, finished, stopped) = (flags("running", 7), flags("finished", 7), flags("stopped", 7));
        assert_eq!(stand(true, None, None, false), Queued);
        assert_eq!(stand(false, None, None, false), Stopped, "taken from the queue");
        assert_eq!(stand(false, Some((7, true)), None, false), Starting);
        assert_eq!(
            stand(false, Some((8, true)), Some(&running), false),
            Starting,
            "flags of the process before"
        );
        assert_eq!(stand(false, Some((7, true)), Some(&running), false), Running);
        assert_eq!(stand(false, Some((7, true)), Some(&running), true), Stopping);
        assert_eq!(stand(false, Some((7, false)), Some(&running), false), Killed);
        assert_eq!(stand(false, None, Some(&running), false), Killed, "found in the work folder");
        assert_eq!(stand(false, Some((7, false)), Some(&finished), true), Finished);
        assert_eq!(stand(false, Some((7, false)), Some(&stopped), true), Stopped);
        assert_eq!(stand(false, Some((7, false)), None, true), Stopped, "before it had begun");
        assert_eq!(stand(false, Some((7, false)), None, false), Killed);
        std::fs::write(&stderr, "warning: odd\nerror: no such model\nhint: look there\n").unwrap();
        let facts = Facts {
            is_queued: false,
            process: Some((7, false)),
            flags: None,
            is_stop_asked: false,
            stderr: &stderr,
        };
        let (status, failure) = status_of(facts);
        let failure = failure.unwrap();
        assert_eq!(
            (status, failure.message.as_str(), failure.hint.as_deref()),
            (Failed, "no such model", Some("look there"))
        );
    }
}
