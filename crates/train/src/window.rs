//! One accumulation window: the micro-batches behind one optimizer step.

use std::ops::Range;

use burn::tensor::Tensor;
use tunesmith_config::LossFunction;
use tunesmith_data::{BatchPlan, IGNORED_LABEL, MicroBatch, SampleSet, token_weights};
use tunesmith_models::{
    CausalLm, EmbeddingNoise, GradientSums, LossPass, ModelError, Recompute, ScoreLoss, StepOptions,
    TokenBatch,
};
use tunesmith_ops::Segments;

use crate::comparison::{ComparedTexts, Comparison};
use crate::error::TrainError;
use crate::evaluate::TextLoss;
use crate::events::Rewards;
use crate::keys::{KeyUse, derive_key};
use crate::learning::Learning;
use crate::reference::References;
use crate::stop::StopFlag;

/// Which window to run, and how.
pub(crate) struct WindowRequest<'a> {
    pub(crate) samples: &'a SampleSet,
    pub(crate) plan: &'a BatchPlan,
    /// Micro-batches of the epoch that belong to the window.
    pub(crate) micro_batches: Range<usize>,
    pub(crate) epoch_idx: usize,
    pub(crate) loss_function: LossFunction,
    pub(crate) learning: Learning,
    /// Of the samples, where preferences are learned against a reference.
    pub(crate) references: &'a References,
    pub(crate) recompute: Recompute,
    /// Strength of the noise on embeddings; 0 switches it off.
    pub(crate) noise_alpha: f64,
    /// Share of each label's probability that is spread evenly over the vocabulary.
    pub(crate) label_smoothing: f64,
    pub(crate) seed: u64,
}

/// What a window gives.
#[derive(Debug)]
pub(crate) struct Window {
    /// Loss over the whole window; absent when no token is labelled.
    pub(crate) loss: Option<f64>,
    /// Gradient of that loss, by ascending parameter index; empty when no token is labelled.
    pub(crate) gradients: Vec<(usize, Tensor<1>)>,
    /// Rewards of its preferences, where those are learned.
    pub(crate) rewards: Option<Rewards>,
    pub(crate) n_samples: u64,
    pub(crate) n_tokens: u64,
    pub(crate) n_labelled_tokens: u64,
    /// Rows of all its samples.
    pub(crate) sample_rows: Vec<usize>,
    /// Why there is no gradient, where a loss is not finite.
    pub(crate) fault: Option<NonFinite>,
}

/// A loss or gradient norm that is infinite or not a number.
#[derive(Debug)]
pub(crate) struct NonFinite {
    /// "the training loss" or "the gradient norm".
    pub(crate) what: &'static str,
    pub(crate) value: f64,
    /// Rows of the table whose samples gave it.
    pub(crate) sample_rows: Vec<usize>,
}

/// How a part of a window ended before its end.
enum Broken {
    Failed(TrainError),
    NonFinite(NonFinite),
}

impl From<TrainError> for Broken {
    fn from(error: TrainError) -> Self {
        Self::Failed(error)
    }
}

impl From<ModelError> for Broken {
    fn from(error: ModelError) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs the window. The weights of its tokens are known before its first micro-batch, so that accumulating is the same
/// as one large batch, whatever the lengths. `None` when `stop` was raised between two micro-batches. A loss that is not
/// finite ends the window without a gradient.
pub(crate) fn run_window(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    stop: &StopFlag,
    done: &mut dyn FnMut(),
) -> Result<Option<Window>, TrainError> {
    let batches: Vec<MicroBatch> =
        request.micro_batches.clone().map(|idx| request.plan.micro_batch(request.samples, idx)).collect();
    let mut window = Window {
        loss: None,
        gradients: Vec::new(),
        rewards: None,
        n_samples: batches.iter().map(|batch| batch.sample_rows.len() as u64).sum(),
        n_tokens: batches.iter().map(|batch| batch.ids.len() as u64).sum(),
        n_labelled_tokens: batches.iter().map(n_labelled).sum(),
        sample_rows: batches.iter().flat_map(|batch| batch.sample_rows.iter().copied()).collect(),
        fault: None,
    };
    let mut sums = GradientSums::default();
    let loss = match add_gradients(model, request, &batches, &mut window, &mut sums, stop, done) {
        Ok(Some(loss)) => loss,
        Ok(None) => return Ok(None),
        Err(Broken::NonFinite(fault)) => return Ok(Some(Window { fault: Some(fault), ..window })),
        Err(Broken::Failed(error)) => return Err(error),
    };
    let has_labels = match request.learning {
        Learning::Scores(_) => window.n_samples > 0,
        Learning::Tokens | Learning::Preferences(_) => window.n_labelled_tokens > 0,
    };
    if has_labels {
        window.loss = Some(loss);
        window.gradients = sums.into_gradients(model.parameters());
    }
    Ok(Some(window))
}

/// The window's loss, and its gradient in `sums`. `None` when `stop` was raised.
fn add_gradients(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    batches: &[MicroBatch],
    window: &mut Window,
    sums: &mut GradientSums,
    stop: &StopFlag,
    done: &mut dyn FnMut(),
) -> Result<Option<f64>, Broken> {
    match request.learning {
        Learning::Tokens => {
            let weights = token_weights(batches, request.loss_function);
            add_token_gradients(model, request, batches, &weights, sums, stop, done)
        }
        Learning::Scores(loss) => add_score_gradients(model, request, batches, loss, sums, stop, done),
        Learning::Preferences(comparison) => {
            let Some(step) = preference_step(model, request, batches, comparison, stop)? else {
                return Ok(None);
            };
            window.rewards = Some(step.rewards);
            let added = add_token_gradients(model, request, batches, &step.weights, sums, stop, done)?;
            // What was added up is the loss whose gradient it is, not the loss itself.
            Ok(added.map(|_| step.loss))
        }
    }
}

/// Σ weight·cross-entropy over the micro-batches. The weights are normalised over the whole window, so a plain sum is the
/// window's gradient. `None` when `stop` was raised.
fn add_token_gradients(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    batches: &[MicroBatch],
    weights: &[Vec<f32>],
    sums: &mut GradientSums,
    stop: &StopFlag,
    done: &mut dyn FnMut(),
) -> Result<Option<f64>, Broken> {
    let mut loss = 0.0;
    for ((micro_batch_idx, batch), weights) in request.micro_batches.clone().zip(batches).zip(weights) {
        if stop.is_raised() {
            return Ok(None);
        }
        // A micro-batch without labels adds nothing to loss and gradient.
        if n_labelled(batch) > 0 {
            let segments = Segments::new(&batch.segment_lengths);
            let noise_keys = request.noise_keys(batch);
            let options = request.options(micro_batch_idx, &noise_keys);
            let result =
                model.add_gradients(&tokens(batch, &segments), &batch.labels, weights, &options, sums)?;
            check_finite(batch, result.loss, &result.per_token)?;
            loss += result.loss;
        }
        done();
    }
    Ok(Some(loss))
}

/// The mean loss of the samples' scores.
fn add_score_gradients(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    batches: &[MicroBatch],
    score_loss: ScoreLoss,
    sums: &mut GradientSums,
    stop: &StopFlag,
    done: &mut dyn FnMut(),
) -> Result<Option<f64>, Broken> {
    let n_samples: usize = batches.iter().map(|batch| batch.sample_rows.len()).sum();
    let weight = (1.0 / n_samples.max(1) as f64) as f32;
    let mut loss = 0.0;
    for (micro_batch_idx, batch) in request.micro_batches.clone().zip(batches) {
        if stop.is_raised() {
            return Ok(None);
        }
        let segments = Segments::new(&batch.segment_lengths);
        let noise_keys = request.noise_keys(batch);
        let options = request.options(micro_batch_idx, &noise_keys);
        let targets = batch.values.concat();
        let weights = vec![weight; batch.sample_rows.len()];
        let tokens = tokens(batch, &segments);
        let result = model.add_score_gradients(&tokens, &targets, &weights, score_loss, &options, sums)?;
        if let Some((row, value)) =
            batch.sample_rows.iter().zip(&result.per_sequence).find(|(_, loss)| !loss.is_finite())
        {
            return Err(non_finite(f64::from(*value), vec![*row]));
        }
        loss += result.loss;
        done();
    }
    Ok(Some(loss))
}

/// Loss of the window's preferences and the token weights whose weighted cross-entropy has its gradient.
struct PreferenceWeights {
    loss: f64,
    weights: Vec<Vec<f32>>,
    rewards: Rewards,
}

/// Runs the policy over the whole window, as the gradients will be computed, before it is known what each answer weighs:
/// some losses compare the answers of all pairs.
fn preference_step(
    model: &CausalLm,
    request: &WindowRequest<'_>,
    batches: &[MicroBatch],
    comparison: Comparison,
    stop: &StopFlag,
) -> Result<Option<PreferenceWeights>, Broken> {
    let mut compared = Vec::new();
    for (micro_batch_idx, batch) in request.micro_batches.clone().zip(batches) {
        if stop.is_raised() {
            return Ok(None);
        }
        let segments = Segments::new(&batch.segment_lengths);
        let ones: Vec<f32> =
            batch.labels.iter().map(|label| f32::from(u8::from(*label != IGNORED_LABEL))).collect();
        let noise_keys = request.noise_keys(batch);
        let which = LossPass::Training(request.options(micro_batch_idx, &noise_keys));
        let result = model.losses_in(&tokens(batch, &segments), &batch.labels, &ones, which)?;
        check_finite(batch, result.loss, &result.per_token)?;
        let texts: Vec<TextLoss> =
            segments.ranges().map(|range| text_loss(batch, &result.per_token, range)).collect();
        let samples = batch.sample_rows.iter().zip(&batch.values).zip(texts.as_chunks().0);
        compared.extend(samples.map(|((row, values), losses)| ComparedTexts {
            row: *row,
            losses: *losses,
            // Pairs have no judgement: their first answer is the better one.
            is_good: values.first().is_none_or(|value| *value > 0.5),
        }));
    }
    let step = comparison.of(&compared, request.references);
    if !step.loss.is_finite() {
        let rows = batches.iter().flat_map(|batch| batch.sample_rows.iter().copied()).collect();
        return Err(non_finite(step.loss, rows));
    }
    let mut of_texts = step.token_weights.iter().flatten().copied();
    let weights = batches.iter().map(|batch| {
        let mut weights = Vec::with_capacity(batch.ids.len());
        for length in &batch.segment_lengths {
            let weight = of_texts.next().unwrap_or_default();
            let labels = batch.labels.get(weights.len()..weights.len() + length).unwrap_or_default();
            weights.extend(labels.iter().map(|label| if *label == IGNORED_LABEL { 0.0 } else { weight }));
        }
        weights
    });
    Ok(Some(PreferenceWeights { loss: step.loss, weights: weights.collect(), rewards: step.rewards }))
}

/// The loss of the text that stands at `range`.
fn text_loss(batch: &MicroBatch, per_token: &[f32], range: Range<usize>) -> TextLoss {
    let losses = per_token.get(range.clone()).unwrap_or_default();
    let labels = batch.labels.get(range).unwrap_or_default();
    TextLoss {
        sum: losses.iter().copied().map(f64::from).sum(),
        n_labels: labels.iter().filter(|label| **label != IGNORED_LABEL).count(),
    }
}

impl WindowRequest<'_> {
    /// A key for each segment of the batch, which it has however the samples are packed.
    fn noise_keys(&self, batch: &MicroBatch) -> Vec<u64> {
        let key = |(sample_idx, place): &(usize, usize)| {
            let position = [self.epoch_idx as u64, *sample_idx as u64, *place as u64];
            derive_key(self.seed, KeyUse::EmbeddingNoise, &position)
        };
        if self.noise_alpha > 0.0 { batch.segment_origins.iter().map(key).collect() } else { Vec::new() }
    }

    fn options<'k>(&self, micro_batch_idx: usize, noise_keys: &'k [u64]) -> StepOptions<'k> {
        let position = [self.epoch_idx as u64, micro_batch_idx as u64];
        StepOptions {
            recompute: self.recompute,
            dropout_key: derive_key(self.seed, KeyUse::Dropout, &position),
            noise: (self.noise_alpha > 0.0)
                .then_some(EmbeddingNoise { alpha: self.noise_alpha as f32, keys: noise_keys }),
            label_smoothing: self.label_smoothing as f32,
        }
    }
}

fn non_finite(value: f64, sample_rows: Vec<usize>) -> Broken {
    Broken::NonFinite(NonFinite { what: "the training loss", value, sample_rows })
}

fn tokens<'a>(batch: &'a MicroBatch, segments: &'a Segments) -> TokenBatch<'a> {
    TokenBatch { ids: &batch.ids, positions: &batch.positions, segments }
}

fn n_labelled(batch: &MicroBatch) -> u64 {
    batch.labels.iter().filter(|label| **label != IGNORED_LABEL).count() as u64
}

fn check_finite(batch: &MicroBatch, loss: f64, per_token: &[f32]) -> Result<(), Broken> {
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
    Err(non_finite(value, sample_rows))
}
