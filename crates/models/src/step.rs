//! One forward and backward pass over a batch: the loss and the gradients of the trainable parameters.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use tunesmith_ops::{CrossEntropy, cross_entropy_from_hidden};

use crate::causal_lm::CausalLm;
use crate::error::{ModelError, Result};
use crate::pass::{Pass, TokenBatch};
use crate::recompute;

/// How a training step is computed.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepOptions {
    /// Keep only the input of each block and run the block again when its gradients are due: less memory, about a
    /// third more work, the same numbers.
    pub recompute: bool,
    /// Key of the adapter's dropout masks; give each step its own. The masks depend on nothing else.
    pub dropout_key: u64,
}

/// What a training step gives.
#[derive(Debug)]
pub struct StepResult {
    /// Σ weight·cross-entropy over the labelled tokens.
    pub loss: f64,
    /// [N] cross-entropy of each token, unweighted; 0 where the label is -100.
    pub per_token: Vec<f32>,
    /// Index of every trainable parameter, ascending, with the gradient of `loss` in the parameter's flat form.
    pub gradients: Vec<(usize, Tensor<1>)>,
}

/// See [`CausalLm::loss_and_gradients`]; the arguments have been checked.
pub(crate) fn loss_and_gradients(
    model: &CausalLm,
    tokens: TokenBatch<'_>,
    labels: &[i64],
    weights: &[f32],
    options: &StepOptions,
) -> Result<StepResult> {
    let (losses, sums) = if options.recompute {
        recompute::losses_and_gradients(model, tokens, labels, weights, options.dropout_key)
    } else {
        losses_and_gradients(model, tokens, labels, weights, options.dropout_key)
    };
    let gradients = with_zeros(model, sums);
    Ok(StepResult { loss: weighted_sum(&losses.per_token, weights), per_token: losses.per_token, gradients })
}

/// Checks one label and weight per token, and labels within the vocabulary.
pub(crate) fn check_labels(
    n_tokens: usize,
    labels: &[i64],
    weights: &[f32],
    vocab_size: usize,
) -> Result<()> {
    if labels.len() != n_tokens || weights.len() != n_tokens {
        return Err(ModelError::Batch {
            reason: format!("{n_tokens} ids, {} labels and {} weights", labels.len(), weights.len()),
        });
    }
    let is_label =
        |label: i64| label == IGNORED_LABEL || usize::try_from(label).is_ok_and(|id| id < vocab_size);
    match labels.iter().enumerate().find(|&(_, &label)| !is_label(label)) {
        Some((place, label)) => Err(ModelError::Batch {
            reason: format!(
                "label {label} at place {place} is neither -100 nor below the vocabulary size {vocab_size}"
            ),
        }),
        None => Ok(()),
    }
}

/// Σ weight·cross-entropy in double precision and in token order.
pub(crate) fn weighted_sum(per_token: &[f32], weights: &[f32]) -> f64 {
    per_token.iter().zip(weights).map(|(&loss, &weight)| f64::from(loss) * f64::from(weight)).sum()
}

/// The last normalisation and the loss over it.
pub(crate) fn losses_of(
    model: &CausalLm,
    x: Tensor<2>,
    pass: &mut Pass<'_>,
    labels: &[i64],
    weights: &[f32],
) -> CrossEntropy {
    let family = model.family();
    let hidden = family.final_norm(x, pass);
    cross_entropy_from_hidden(hidden, family.head(pass), labels, weights)
}

/// Label of tokens that are not trained.
const IGNORED_LABEL: i64 = -100;

fn losses_and_gradients(
    model: &CausalLm,
    tokens: TokenBatch<'_>,
    labels: &[i64],
    weights: &[f32],
    dropout_key: u64,
) -> (CrossEntropy, BTreeMap<usize, Tensor<1>>) {
    let family = model.family();
    let mut pass = Pass::tracked(model.parameters(), tokens, Some(dropout_key));
    let mut x = family.embed(&mut pass);
    for block_idx in 0..family.n_blocks() {
        x = family.block(block_idx, x, &mut pass);
    }
    let losses = losses_of(model, x, &mut pass, labels, weights);
    let mut sums = BTreeMap::new();
    if losses.weighted_sum.is_tracked() {
        let mut gradients = losses.weighted_sum.backward();
        pass.collect_gradients(&mut gradients, &mut sums);
    }
    (losses, sums)
}

/// One gradient for every trainable parameter: zeros for those the loss does not depend on (a batch without labels).
fn with_zeros(model: &CausalLm, mut sums: BTreeMap<usize, Tensor<1>>) -> Vec<(usize, Tensor<1>)> {
    let trainable = model.parameters().iter().enumerate().filter(|(_, p)| p.trainable);
    trainable
        .map(|(parameter_idx, parameter)| {
            let gradient = sums.remove(&parameter_idx).unwrap_or_else(|| parameter.tensor().zeros_like());
            (parameter_idx, gradient)
        })
        .collect()
}
