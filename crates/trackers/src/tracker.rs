//! What every tracker can do.

use serde_json::Value;

use crate::error::TrackerError;
use crate::points::{Ending, Point};

/// A run as trackers show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunInfo {
    /// `experiment_name`.
    pub name: String,
    /// Settings, by name, in the order of their declaration.
    pub params: Vec<(String, String)>,
}

/// What came of opening a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// It is the run that was remembered; otherwise it has no events yet.
    pub(crate) is_continued: bool,
    /// Where the numbers are to be seen.
    pub(crate) place: String,
    /// What it did not take.
    pub(crate) warning: Option<String>,
}

/// A service or a file that takes numbers. All calls come from one thread.
pub(crate) trait Tracker: Send {
    /// Its name in configurations.
    fn name(&self) -> &'static str;

    /// Begins a run, or goes on with the one that `known` names (null for none).
    fn open(&mut self, run: &RunInfo, known: &Value) -> Result<Opened, TrackerError>;

    /// Takes points; they are kept when this returns.
    fn log(&mut self, points: &[Point]) -> Result<(), TrackerError>;

    /// The run is over, for now.
    fn end(&mut self, ending: Ending, unix_secs: u64) -> Result<(), TrackerError>;

    /// What is needed to go on later.
    fn memory(&self) -> Value;
}
