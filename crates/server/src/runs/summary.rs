//! An experiment as lists and event streams show it.

use serde::Serialize;
use utoipa::ToSchema;

use super::status::{ExperimentStatus, RunFailure};

/// One experiment, in short.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ExperimentSummary {
    /// The name of its folder; never changes.
    pub(crate) id: String,
    /// What people call it.
    pub(crate) name: String,
    /// The data set it learns from, if it is one of the studio's.
    #[schema(required)]
    pub(crate) dataset_id: Option<String>,
    #[schema(required)]
    pub(crate) dataset_name: Option<String>,
    pub(crate) problem_type: String,
    /// The base model.
    pub(crate) model: String,
    pub(crate) status: ExperimentStatus,
    /// Share of the steps that are taken, 0 to 1.
    pub(crate) progress: f64,
    pub(crate) step: u64,
    pub(crate) n_steps: u64,
    #[schema(required)]
    pub(crate) eta_secs: Option<f64>,
    #[schema(required)]
    pub(crate) run_secs: Option<f64>,
    /// What `metric` is.
    pub(crate) metric_name: String,
    /// Whether a larger value of the metric is a better one.
    pub(crate) higher_is_better: bool,
    #[schema(required)]
    pub(crate) metric: Option<f64>,
    #[schema(required)]
    pub(crate) train_loss: Option<f64>,
    #[schema(required)]
    pub(crate) validation_loss: Option<f64>,
    /// What computes: `cpu`, `cuda:1`, …; before the run has begun as it is configured, so perhaps `auto`.
    pub(crate) device: String,
    #[schema(required)]
    pub(crate) failure: Option<RunFailure>,
    /// 0 starts next.
    #[schema(required)]
    pub(crate) queue_position: Option<usize>,
    pub(crate) created_unix_secs: f64,
    #[schema(required)]
    pub(crate) started_unix_secs: Option<f64>,
    #[schema(required)]
    pub(crate) finished_unix_secs: Option<f64>,
    #[schema(required)]
    pub(crate) peak_memory_bytes: Option<u64>,
    #[schema(required)]
    pub(crate) tokens_per_sec: Option<f64>,
    /// The search that it is one of.
    #[schema(required)]
    pub(crate) grid_id: Option<String>,
    /// What can be done with it now.
    pub(crate) can: Can,
}

/// What can be done with an experiment now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Can {
    pub(crate) stop: bool,
    pub(crate) kill: bool,
    pub(crate) resume: bool,
    pub(crate) chat: bool,
    pub(crate) export: bool,
    pub(crate) delete: bool,
}
