//! One accumulation window: the micro-batches behind one optimizer step.

use std::ops::Range;

use burn::tensor::Tensor;
use tunesmith_config::LossFunction;
use tunesmith_data::{BatchPlan, IGNORED_LABEL, MicroBatch, SampleSet, token_weights};
use tunesmith_models::{CausalLm, GradientSums, Recompute, StepOptions, TokenBatch};
use tunesmith_ops::Segments;

use crate::error::TrainError;
use crate::keys::{KeyUse, derive_key};
use crate::stop::StopFlag;

/// Which window to run, and how.
pub(crate) struct WindowRequest<'a> {
    pub(crate) samples: &'a SampleSet,
    pub(crate) plan: &'a BatchPlan,
    /// Micro-batches of the epoch that belong to the window.
    pub(crate) micro_batches: Range<usize>,
    pub(crate) epoch_idx: usize,
    /// The optimizer step that the window leads to, from 1.
    pub(crate) step: u64,
    pub(crate) loss_function: LossFunction,
    pub(crate) recompute: Recompute,
    pub(crate) seed: u64,
}

/// What a window gives.
#[derive(Debug)]
pub(crate) struct Window {
    /// Loss over the whole window; absent when no token is labelled.
    pub(crate) loss: Option<f64>,
    /// Gradient of that loss, by ascending parameter index; empty when no token is labelled.
    pub(crate) gradients: Vec<(usize, Tensor<1>)>,
    pub(crate) n_samples: u64,
    pub(crate) n_tokens: u64,
    pub(crate) n_labelled_tokens: u64,
    /// Rows of all its samples.
    pub(crate) sample_rows: Vec<usize>,
}

/// Runs the window. The weights of its tokens are known before its first micro-batch, so that accumulating is the same
/// as one large batch, whatever the lengths. `None` when `stop` was raised between two micro-batches.
///
/// # Errors
/// [`TrainError::NonFinite`] with the rows whose tokens have a loss that is not finite.
pub(crate) fn run_window(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    stop: &StopFlag,
    done: &mut dyn FnMut(),
) -> Result<Option<Window>, TrainError> {
    let batches: Vec<MicroBatch> =
        request.micro_batches.clone().map(|idx| request.plan.micro_batch(request.samples, idx)).collect();
    let weights = token_weights(&batches, request.loss_function);
    let n_labelled_tokens = batches.iter().map(n_labelled).sum();
    // The weights of the tokens are normalised over the whole window, so a plain sum is the window's gradient.
    let mut sums = GradientSums::default();
    let mut loss = 0.0;
    for (micro_batch_idx, (batch, weights)) in request.micro_batches.clone().zip(batches.iter().zip(&weights))
    {
        if stop.is_raised() {
            return Ok(None);
        }
        // A micro-batch without labels adds nothing to loss and gradient.
        if n_labelled(batch) > 0 {
            let segments = Segments::new(&batch.segment_lengths);
            let tokens = TokenBatch { ids: &batch.ids, positions: &batch.positions, segments: &segments };
            let position = [request.epoch_idx as u64, micro_batch_idx as u64];
            let options = StepOptions {
                recompute: request.recompute,
                dropout_key: derive_key(request.seed, KeyUse::Dropout, &position),
            };
            let result = model.add_gradients(&tokens, &batch.labels, weights, &options, &mut sums)?;
            check_finite(request, batch, result.loss, &result.per_token)?;
            loss += result.loss;
        }
        done();
    }
    let is_labelled = n_labelled_tokens > 0;
    Ok(Some(Window {
        loss: is_labelled.then_some(loss),
        gradients: if is_labelled { sums.into_gradients(model.parameters()) } else { Vec::new() },
        n_samples: batches.iter().map(|batch| batch.sample_rows.len() as u64).sum(),
        n_tokens: batches.iter().map(|batch| batch.ids.len() as u64).sum(),
        n_labelled_tokens,
        sample_rows: batches.iter().flat_map(|batch| batch.sample_rows.iter().copied()).collect(),
    }))
}

fn n_labelled(batch: &MicroBatch) -> u64 {
    batch.labels.iter().filter(|label| **label != IGNORED_LABEL).count() as u64
}

fn check_finite(
    request: &WindowRequest<'_>,
    batch: &MicroBatch,
    loss: f64,
    per_token: &[f32],
) -> Result<(), TrainError> {
    let is_finite = loss.is_finite() && per_token.iter().all(|loss| loss.is_finite());
    if is_finite {
        return Ok(());
    }
    let mut sample_rows: Vec<usize> = per_token
        .iter()
        .zip(&batch.sample_of_token)
        .filter(|(loss, _)| !loss.is_finite())
        .filter_map(|(_, sample_idx)| batch.sample_rows.get(*sample_idx as usize).copied())
        .collect();
    sample_rows.dedup();
    let value = per_token.iter().find(|loss| !loss.is_finite()).map_or(loss, |loss| f64::from(*loss));
    Err(TrainError::NonFinite {
        what: "the training loss",
        value,
        step: request.step,
        epoch: request.epoch_idx + 1,
        sample_rows,
    })
}
