//! `logging`: where the run's numbers go.

use crate::choices::{LogStepSize, Logger};
use crate::declare::fields;
use crate::field::{facets, is};

fields! {
    /// Where the run's numbers go. They are always written to the run folder.
    pub struct Logging in "logging" {
        /// Horizontal axis of curves sent to a tracker: `absolute`, the samples seen, or `relative`, the share of the run, which
        /// none of the trackers here can have, as their steps are whole numbers.
        log_step_size: LogStepSize = LogStepSize::Absolute;
        /// Logs of every process when several train together.
        log_all_ranks: bool = false;
        /// Who gets the run's numbers as well. MLflow is the tracking server that MLFLOW_TRACKING_URI names; TensorBoard gets
        /// event files in the run folder; W&B gets an offline run in the run folder, which `wandb sync` uploads.
        logger: Logger = Logger::None;
        /// Experiment on the MLflow server that the run belongs to; it is made if it is missing. Empty: MLFLOW_EXPERIMENT_NAME, or
        /// the server's own default.
        mlflow_experiment: String = String::new() => facets().when(&[is("logger", "MLflow")]);
        /// Project at neptune.ai.
        neptune_project: String = String::new() => facets().when(&[is("logger", "Neptune")]);
        /// Project at Weights & Biases.
        wandb_project: String = String::new() => facets().when(&[is("logger", "W&B")]);
        /// Team or user at Weights & Biases.
        wandb_entity: String = String::new() => facets().when(&[is("logger", "W&B")]);
    }
}
