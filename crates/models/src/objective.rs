//! What stands above the last block: the part of the graph that turns its output into a number to differentiate.
//!
//! The forward and backward pass over the blocks ([`crate::backward`]) is the same for every way of training; an
//! objective is what differs. It sees one slice: the output of the last block, and the pass with the slice's tokens.

use burn::tensor::Tensor;
use tunesmith_ops::{CrossEntropyOptions, cross_entropy_from_hidden_with};

use crate::causal_lm::CausalLm;
use crate::error::Result;
use crate::pass::Pass;

/// A loss over the output of the last block.
pub(crate) trait Objective {
    /// What it gives besides a number to differentiate.
    type Values;

    /// The number (one element) whose gradient is that of the loss, and the values, from x [N,C].
    fn evaluate(
        &self,
        model: &CausalLm,
        x: Tensor<2>,
        pass: &mut Pass<'_>,
    ) -> Result<(Tensor<1>, Self::Values)>;
}

/// Σ weight·cross-entropy of the next token; the values are the cross-entropy of each token.
#[derive(Clone, Copy)]
pub(crate) struct NextToken<'a> {
    pub(crate) labels: &'a [i64],
    pub(crate) weights: &'a [f32],
    /// Share of each label's probability that is spread evenly over the vocabulary.
    pub(crate) label_smoothing: f32,
}

impl Objective for NextToken<'_> {
    type Values = Vec<f32>;

    fn evaluate(&self, model: &CausalLm, x: Tensor<2>, pass: &mut Pass<'_>) -> Result<(Tensor<1>, Vec<f32>)> {
        let hidden = model.family().final_norm(x, pass);
        let head = model.family().head(pass);
        let options =
            CrossEntropyOptions { cap: model.family().logit_cap(), label_smoothing: self.label_smoothing };
        let losses = cross_entropy_from_hidden_with(hidden, head, self.labels, self.weights, options);
        Ok((losses.weighted_sum, losses.per_token))
    }
}
