//! Losses of a score head and their gradients, slice by slice as those of the next token are.
//!
//! The scores of a slice are read back, their loss and its derivative are computed on the host, and the derivative is
//! where the backward pass begins.

use burn::tensor::{Tensor, TensorData};
use tunesmith_ops::seed_gradient;

use crate::backward::{self, Task};
use crate::causal_lm::CausalLm;
use crate::error::{ModelError, Result};
use crate::gradient_sums::GradientSums;
use crate::objective::Objective;
use crate::parameters::read_back;
use crate::pass::{Pass, TokenBatch};
use crate::score_head::ScoreHead;
use crate::score_loss::ScoreLoss;
use crate::slices::{Slice, part};
use crate::step::{LossPass, StepOptions};

/// Scores and losses of a batch of B sequences.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoreLosses {
    /// Σ weight·loss over the sequences.
    pub loss: f64,
    /// [B] loss of each sequence, unweighted.
    pub per_sequence: Vec<f32>,
    /// [B·n_outputs] scores, one sequence after the other.
    pub scores: Vec<f32>,
}

/// What a training step of a score head gives.
#[derive(Debug)]
pub struct ScoreStepResult {
    /// Scores and losses.
    pub losses: ScoreLosses,
    /// Index of every trainable parameter, ascending, with the gradient of the loss in the parameter's flat form.
    pub gradients: Vec<(usize, Tensor<1>)>,
}

/// What the sequences of a batch, or of a slice of it, are scored against.
#[derive(Clone, Copy)]
struct Scoring<'a> {
    head: ScoreHead,
    loss: ScoreLoss,
    /// [B·n_targets]
    targets: &'a [f32],
    /// [B]
    weights: &'a [f32],
}

impl CausalLm {
    /// Scores of the sequences, [B,n_outputs] with a row for each segment, without a graph or dropout.
    ///
    /// # Errors
    /// [`ModelError::ScoreHeadAbsent`]; [`ModelError::Batch`] for a segment without tokens.
    pub fn scores(&self, tokens: &TokenBatch<'_>) -> Result<Tensor<2>> {
        let head = self.check_sequences(tokens)?;
        let scores = self.slices(tokens.segments).into_iter().map(|slice| {
            let mut pass = LossPass::Evaluation.over(self, &slice, *tokens);
            let x = self.run_blocks(&mut pass);
            head.scores(self, x, &mut pass)
        });
        Ok(Tensor::cat(scores.collect(), 0))
    }

    /// The loss Σ weight·loss of the sequences against `targets`, [B·T] with T as [`ScoreLoss::n_targets`] says, without
    /// a graph or dropout.
    ///
    /// # Errors
    /// As [`Self::scores`]; [`ModelError::Batch`] for targets that the loss cannot take.
    pub fn score_losses(
        &self,
        tokens: &TokenBatch<'_>,
        targets: &[f32],
        weights: &[f32],
        loss: ScoreLoss,
    ) -> Result<ScoreLosses> {
        let scoring = self.check_scoring(tokens, targets, weights, loss)?;
        let scores = read_back(self.scores(tokens)?, SCORES)?;
        Ok(scoring.losses(scores).0)
    }

    /// The same with the gradients of all trainable parameters, and with dropout as `options` say.
    pub fn score_loss_and_gradients(
        &self,
        tokens: &TokenBatch<'_>,
        targets: &[f32],
        weights: &[f32],
        loss: ScoreLoss,
        options: &StepOptions<'_>,
    ) -> Result<ScoreStepResult> {
        let mut sums = GradientSums::default();
        let losses = self.add_score_gradients(tokens, targets, weights, loss, options, &mut sums)?;
        Ok(ScoreStepResult { losses, gradients: sums.into_gradients(self.parameters()) })
    }

    /// The same with the gradients added to `sums`.
    pub fn add_score_gradients(
        &self,
        tokens: &TokenBatch<'_>,
        targets: &[f32],
        weights: &[f32],
        loss: ScoreLoss,
        options: &StepOptions<'_>,
        sums: &mut GradientSums,
    ) -> Result<ScoreLosses> {
        let scoring = self.check_scoring(tokens, targets, weights, loss)?;
        options.check(tokens.segments)?;
        let mut all = ScoreLosses::default();
        for slice in self.slices(tokens.segments) {
            let objective = scoring.of(&slice, all.per_sequence.len());
            let losses = backward::add_gradients(Task::of(self, &slice, *tokens, options), &objective, sums)?;
            all.loss += losses.loss;
            all.per_sequence.extend(losses.per_sequence);
            all.scores.extend(losses.scores);
        }
        Ok(all)
    }

    fn check_sequences(&self, tokens: &TokenBatch<'_>) -> Result<ScoreHead> {
        let head = self.require_score_head()?;
        self.check(tokens)?;
        match tokens.segments.ranges().position(|range| range.is_empty()) {
            Some(empty) => {
                Err(ModelError::Batch { reason: format!("segment {empty} has no token to score") })
            }
            None => Ok(head),
        }
    }

    fn check_scoring<'a>(
        &self,
        tokens: &TokenBatch<'_>,
        targets: &'a [f32],
        weights: &'a [f32],
        loss: ScoreLoss,
    ) -> Result<Scoring<'a>> {
        let head = self.check_sequences(tokens)?;
        let (n_sequences, n_targets) = (tokens.segments.len(), loss.n_targets(head.n_outputs));
        if (targets.len(), weights.len()) != (n_sequences * n_targets, n_sequences) {
            let (found, n_weights) = (targets.len(), weights.len());
            return Err(ModelError::Batch {
                reason: format!(
                    "{n_sequences} sequences of {n_targets} targets each, {found} targets and {n_weights} weights"
                ),
            });
        }
        match targets.iter().position(|target| !loss.takes(*target, head.n_outputs)) {
            Some(place) => Err(ModelError::Batch {
                reason: format!(
                    "target {} at place {place} is none for {loss:?} over {} outputs",
                    targets.get(place).copied().unwrap_or(f32::NAN),
                    head.n_outputs
                ),
            }),
            None => Ok(Scoring { head, loss, targets, weights }),
        }
    }
}

impl<'a> Scoring<'a> {
    /// The part of a slice whose first sequence is number `first` of the batch.
    fn of(self, slice: &Slice, first: usize) -> Self {
        let sequences = first..first + slice.n_segments();
        let n_targets = self.loss.n_targets(self.head.n_outputs);
        Self {
            targets: part(self.targets, &(sequences.start * n_targets..sequences.end * n_targets)),
            weights: part(self.weights, &sequences),
            ..self
        }
    }

    /// The losses of scores [B·n_outputs], and the derivative of the weighted one with respect to each.
    fn losses(&self, scores: Vec<f32>) -> (ScoreLosses, Vec<f32>) {
        let n_outputs = self.head.n_outputs;
        let targets = self.targets.chunks(self.loss.n_targets(n_outputs));
        let mut all = ScoreLosses::default();
        let mut derivative = Vec::with_capacity(scores.len());
        for ((scores, targets), &weight) in scores.chunks(n_outputs).zip(targets).zip(self.weights) {
            let (loss, slopes) = self.loss.with_derivative(scores, targets);
            all.loss += f64::from(weight) * loss;
            all.per_sequence.push(loss as f32);
            derivative.extend(slopes.iter().map(|slope| (f64::from(weight) * slope) as f32));
        }
        (ScoreLosses { scores, ..all }, derivative)
    }
}

impl Objective for Scoring<'_> {
    type Values = ScoreLosses;

    fn evaluate(
        &self,
        model: &CausalLm,
        x: Tensor<2>,
        pass: &mut Pass<'_>,
    ) -> Result<(Tensor<1>, ScoreLosses)> {
        let scores = self.head.scores(model, x, pass);
        let values = scores.clone().inner();
        let (shape, device) = (values.dims(), values.device());
        let (losses, derivative) = self.losses(read_back(values, SCORES)?);
        let derivative = Tensor::from_data(TensorData::new(derivative, shape), &device);
        Ok((seed_gradient(scores, derivative), losses))
    }
}

/// What is read back, in errors.
const SCORES: &str = "the scores";
