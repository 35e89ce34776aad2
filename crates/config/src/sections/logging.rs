//! `logging`: where the run's numbers go.

use crate::choices::{LogStepSize, Logger};
use crate::declare::fields;
use crate::field::{facets, is};

fields! {
    /// Where the run's numbers go. They are always written to the run folder.
    pub struct Logging in "logging" {
        /// Horizontal axis of curves sent to a service: `absolute` steps, or `relative`, the share of the run.
        log_step_size: LogStepSize = LogStepSize::Absolute;
        /// Logs of every process when several train together.
        log_all_ranks: bool = false;
        /// Service that gets the run's numbers as well.
        logger: Logger = Logger::None;
        /// Project at neptune.ai.
        neptune_project: String = String::new() => facets().when(&[is("logger", "Neptune")]);
        /// Project at Weights & Biases.
        wandb_project: String = String::new() => facets().when(&[is("logger", "W&B")]);
        /// Team or user at Weights & Biases.
        wandb_entity: String = String::new() => facets().when(&[is("logger", "W&B")]);
    }
}
