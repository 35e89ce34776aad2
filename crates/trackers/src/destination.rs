//! Where a run's numbers may go.

use std::path::PathBuf;

use crate::mlflow::{Mlflow, MlflowServer};
use crate::tensorboard::TensorBoard;
use crate::tracker::Tracker;
use crate::wandb::{Wandb, WandbRuns};

/// Where a run's numbers go besides its own folder.
#[derive(Debug, Clone)]
pub enum Destination {
    /// A tracking server of MLflow.
    Mlflow(MlflowServer),
    /// Event files of TensorBoard, in a folder.
    TensorBoard(PathBuf),
    /// An offline run of Weights & Biases, to be uploaded with its own program.
    WeightsAndBiases(WandbRuns),
}

impl Destination {
    pub(crate) fn tracker(self) -> Box<dyn Tracker> {
        match self {
            Self::Mlflow(server) => Box::new(Mlflow::new(server)),
            Self::TensorBoard(folder) => Box::new(TensorBoard::new(folder)),
            Self::WeightsAndBiases(runs) => Box::new(Wandb::new(runs)),
        }
    }
}
