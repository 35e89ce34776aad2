//! Sums of gradients by parameter: over the uses of a parameter, the slices of a batch and the batches of a step.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tunesmith_ops::accumulate;

use crate::parameters::ParameterStore;

/// One running sum (flat, float32, without a graph) for each parameter that had a gradient so far. New gradients are
/// added in place, so that every parameter's gradient exists once however many are added.
#[derive(Debug, Default)]
pub struct GradientSums {
    sums: BTreeMap<usize, Tensor<1>>,
}

impl GradientSums {
    /// Adds one gradient. The first of a parameter is moved in, not copied.
    pub(crate) fn add(&mut self, parameter_idx: usize, gradient: Tensor<1>) {
        // Taken out, so that the sum is the only handle to its values.
        let sum = match self.sums.remove(&parameter_idx) {
            Some(sum) => accumulate(sum, gradient),
            None => gradient,
        };
        self.sums.insert(parameter_idx, sum);
    }

    /// One gradient for every trainable parameter with its index, ascending: zeros for those without any.
    pub fn into_gradients(mut self, parameters: &ParameterStore) -> Vec<(usize, Tensor<1>)> {
        let trainable = parameters.iter().enumerate().filter(|(_, p)| p.trainable);
        trainable
            .map(|(parameter_idx, parameter)| {
                let sum = self.sums.remove(&parameter_idx).unwrap_or_else(|| parameter.tensor().zeros_like());
                (parameter_idx, sum)
            })
            .collect()
    }
}
