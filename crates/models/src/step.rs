//! One training step over a batch, slice by slice: the loss and the gradients of the trainable parameters.

use burn::tensor::Tensor;
use tunesmith_ops::Segments;

use crate::backward::{self, Task};
use crate::causal_lm::CausalLm;
use crate::embedding_noise::EmbeddingNoise;
use crate::error::{ModelError, Result};
use crate::gradient_sums::GradientSums;
use crate::objective::{NextToken, Objective};
use crate::pass::{Pass, TokenBatch};
use crate::recompute::Recompute;
use crate::slices::{Slice, part};

/// How a training step is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepOptions<'a> {
    /// Which blocks store their activations; the numbers are the same to the bit.
    pub recompute: Recompute,
    /// Key of the adapter's dropout masks; give each step its own. The masks depend on it and on the lengths of the
    /// batch's segments alone.
    pub dropout_key: u64,
    /// Noise on the embeddings.
    pub noise: Option<EmbeddingNoise<'a>>,
    /// Share of each label's probability that is spread evenly over the vocabulary (label smoothing), in the losses of tokens
    /// and their gradients.
    pub label_smoothing: f32,
}

/// The losses of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLosses {
    /// Σ weight·cross-entropy over the labelled tokens.
    pub loss: f64,
    /// [N] cross-entropy of each token, unweighted; 0 where the label is -100.
    pub per_token: Vec<f32>,
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

/// What a pass without a graph computes: the losses of which policy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum LossPass<'a> {
    /// The model as it is used: its adapter without dropout.
    #[default]
    Evaluation,
    /// The model as a training step of these options computes it, to the bit.
    Training(StepOptions<'a>),
}

/// See [`CausalLm::add_gradients`]; the arguments have been checked.
pub(crate) fn add_gradients(
    model: &CausalLm,
    tokens: TokenBatch<'_>,
    labels: &[i64],
    weights: &[f32],
    options: &StepOptions<'_>,
    sums: &mut GradientSums,
) -> Result<StepLosses> {
    let per_token = labelled_slices(model.slices(tokens.segments), labels, |slice| {
        let objective = next_token(labels, weights, options.label_smoothing, slice);
        backward::add_gradients(Task::of(model, slice, tokens, options), &objective, sums)
    })?;
    Ok(StepLosses { loss: weighted_sum(&per_token, weights), per_token })
}

/// See [`CausalLm::losses_in`]; the arguments have been checked.
pub(crate) fn losses(
    model: &CausalLm,
    tokens: TokenBatch<'_>,
    labels: &[i64],
    weights: &[f32],
    which: LossPass<'_>,
) -> Result<StepLosses> {
    let per_token = labelled_slices(model.slices(tokens.segments), labels, |slice| {
        let mut pass = which.over(model, slice, tokens);
        let x = model.run_blocks(&mut pass);
        let objective = next_token(labels, weights, which.label_smoothing(), slice);
        let (_, per_token) = objective.evaluate(model, x, &mut pass)?;
        Ok(per_token)
    })?;
    Ok(StepLosses { loss: weighted_sum(&per_token, weights), per_token })
}

impl<'a> LossPass<'a> {
    /// The pass over a slice of `batch`.
    pub(crate) fn over(self, model: &'a CausalLm, slice: &'a Slice, batch: TokenBatch<'a>) -> Pass<'a> {
        let plain = |dropout_key| Pass::plain(model.parameters(), slice.tokens(batch), dropout_key);
        match self {
            Self::Evaluation => plain(None),
            Self::Training(options) => plain(Some(slice.dropout_key(options.dropout_key)))
                .with_noise(options.noise.map(|noise| slice.noise(noise))),
        }
    }

    /// Of a training step its own; other passes smooth nothing.
    fn label_smoothing(self) -> f32 {
        match self {
            Self::Training(options) => options.label_smoothing,
            Self::Evaluation => 0.0,
        }
    }

    /// Checks what a training step is computed with.
    pub(crate) fn check(self, segments: &Segments) -> Result<()> {
        match self {
            Self::Training(options) => options.check(segments),
            Self::Evaluation => Ok(()),
        }
    }
}

impl StepOptions<'_> {
    /// Checks the noise against the segments of the batch.
    pub(crate) fn check(&self, segments: &Segments) -> Result<()> {
        self.noise.map_or(Ok(()), |noise| noise.check(segments))
    }
}

fn next_token<'a>(
    labels: &'a [i64],
    weights: &'a [f32],
    label_smoothing: f32,
    slice: &Slice,
) -> NextToken<'a> {
    let (labels, weights) = (part(labels, &slice.range), part(weights, &slice.range));
    NextToken { labels, weights, label_smoothing }
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
fn weighted_sum(per_token: &[f32], weights: &[f32]) -> f64 {
    per_token.iter().zip(weights).map(|(&loss, &weight)| f64::from(loss) * f64::from(weight)).sum()
}

/// [N] `losses_of` the slices of a batch one after the other; 0 for those without a label, which need no work.
fn labelled_slices(
    slices: Vec<Slice>,
    labels: &[i64],
    mut losses_of: impl FnMut(&Slice) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mut per_token = Vec::with_capacity(labels.len());
    for slice in slices {
        if part(labels, &slice.range).iter().any(|label| *label != IGNORED_LABEL) {
            per_token.extend(losses_of(&slice)?);
        }
        per_token.resize(slice.range.end, 0.0);
    }
    Ok(per_token)
}

/// Label of tokens that are not trained.
const IGNORED_LABEL: i64 = -100;
