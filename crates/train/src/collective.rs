//! The seam for training on several machines: what the loop has to agree on with the other processes.
//!
//! The trainer calls these three places and nothing else, so that another implementation does not touch the loop.
//! Losses and gradients are sums over labelled tokens that the weights of the window have already normalised; a group
//! of processes therefore adds, and never averages.

use burn::tensor::Tensor;

use crate::error::TrainError;

/// Agreement between the processes that train one model together.
pub trait Collective {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many processes train together.
    fn n_processes(&self) -> usize;

    /// Replaces every gradient (flat f32, by parameter index, ascending) by its sum over all processes.
    fn sum_gradients(&self, gradients: &mut [(usize, Tensor<1>)]) -> Result<(), TrainError>;

    /// Replaces each number (loss sums, counts) by its sum over all processes, added in order of rank.
    fn sum_metrics(&self, values: &mut [f64]) -> Result<(), TrainError>;

    /// Returns when every process has arrived.
    fn barrier(&self) -> Result<(), TrainError>;
}

/// One process: every sum is already complete.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn n_processes(&self) -> usize {
        1
    }

    fn sum_gradients(&self, _gradients: &mut [(usize, Tensor<1>)]) -> Result<(), TrainError> {
        Ok(())
    }

    fn sum_metrics(&self, _values: &mut [f64]) -> Result<(), TrainError> {
        Ok(())
    }

    fn barrier(&self) -> Result<(), TrainError> {
        Ok(())
    }
}
