//! What a run comes to, for the caller and in `summary.json`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::events::EndReason;
use crate::json_file::{read_json, write_json};
use crate::status::RunStatus;

/// The figures of a run that ended without a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// [`RunStatus::Finished`], or [`RunStatus::Stopped`] when it was asked to stop.
    pub status: RunStatus,
    /// The run folder.
    pub run_dir: PathBuf,
    /// The seed in use.
    pub seed: u64,
    /// Why it ended.
    #[serde(default)]
    pub end_reason: EndReason,
    /// Optimizer steps taken.
    pub n_steps_done: u64,
    /// Optimizer steps planned.
    pub n_steps: u64,
    /// Steps left out because their loss or gradient was not finite.
    #[serde(default)]
    pub n_skipped_steps: u64,
    /// Samples trained on, repetitions included.
    pub n_samples_seen: u64,
    /// Tokens trained on, repetitions included.
    pub n_tokens_seen: u64,
    /// Parameters that were trained.
    pub n_trainable_parameters: u64,
    /// Loss of the last `step` event.
    pub train_loss: Option<f64>,
    /// Loss of the last evaluation.
    pub validation_loss: Option<f64>,
    /// Perplexity of the last evaluation.
    pub validation_perplexity: Option<f64>,
    /// What the run is judged by.
    #[serde(default)]
    pub metric: Option<String>,
    /// Its value at the last evaluation.
    #[serde(default)]
    pub validation_metric: Option<f64>,
    /// Its best value of all evaluations.
    #[serde(default)]
    pub best_metric: Option<f64>,
    /// Optimizer steps behind the best evaluation.
    pub best_step: Option<u64>,
    /// The trained adapter, when only adapters were trained.
    pub adapter_dir: Option<PathBuf>,
    /// The trained model, when base weights were trained.
    pub model_dir: Option<PathBuf>,
    /// Largest absolute difference of logits between the trained model and what was written.
    pub worst_logit_difference: Option<f64>,
    /// Seconds of work over all processes that worked on the run.
    pub run_secs: f64,
    /// Most memory the last process had resident.
    pub peak_memory_bytes: Option<u64>,
}

impl RunSummary {
    /// The summary at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read or is not a summary.
    pub fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        read_json(path)
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_json(path, self)
    }
}
