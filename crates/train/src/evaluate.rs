//! Loss and perplexity over a validation set. Of a preference the better answer counts; of judged answers all do.

use tunesmith_config::LossFunction;
use tunesmith_data::{IGNORED_LABEL, TokenSample};
use tunesmith_models::{CausalLm, LossPass};

use crate::collective::Collective;
use crate::error::TrainError;
use crate::sequences::Sequences;
use crate::stop::StopFlag;

/// How validation samples are run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluateOptions {
    /// Tokens of a batch at most; a longer sample is a batch of its own. Changes speed and memory only.
    pub max_batch_tokens: usize,
    /// Chooses what [`Figures::loss`] is.
    pub loss_function: LossFunction,
    /// The model as it is, or with its adapter switched off.
    pub pass: LossPass<'static>,
}

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// [`Self::token_loss`], or for the sample-averaged loss the mean over samples of their mean cross-entropies.
    pub loss: f64,
    /// Mean cross-entropy over all labelled tokens.
    pub token_loss: f64,
    /// Mean over the samples of exp(mean cross-entropy of the sample).
    pub perplexity: f64,
    /// Samples that count.
    pub n_samples: usize,
    /// Samples left out because they have no labelled token.
    pub n_skipped_samples: usize,
    /// Labelled tokens of the samples that count.
    pub n_labelled_tokens: u64,
}

/// Evaluates `model` on `samples`, in order and without dropout. Losses are summed in double precision, sample by
/// sample, so the figures do not depend on the batches by more than the model's own rounding.
///
/// `progress` is told how many samples are done. `None` when `stop` was raised meanwhile.
///
/// # Errors
/// [`TrainError::NothingToEvaluate`] when no sample has a labelled token; [`TrainError::Model`] when the model cannot
/// run a sample. A loss that is not finite is no error here: see [`Evaluated::non_finite_rows`].
pub fn evaluate(
    model: &CausalLm,
    samples: &[TokenSample],
    options: EvaluateOptions,
    collective: &dyn Collective,
    stop: &StopFlag,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Evaluated>, TrainError> {
    let mut sums = Sums::default();
    let mut n_done = 0;
    let mut losses = Vec::with_capacity(samples.len());
    for batch in batches(samples, options.max_batch_tokens) {
        if stop.is_raised() {
            return Ok(None);
        }
        losses.extend(sums.add(batch, &per_token_losses(model, batch, options.pass)?));
        n_done += batch.len();
        progress(n_done);
    }
    let evaluated = sums.finish(samples.len(), options.loss_function, collective)?;
    Ok(Some(Evaluated { samples: losses, ..evaluated }))
}

/// Losses of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleLoss {
    /// The sample's row.
    pub row: usize,
    /// Of its answer.
    pub answer: TextLoss,
    /// Of the answer that it is compared with, where it is.
    pub contrast: Option<TextLoss>,
}

/// Cross-entropy of one text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLoss {
    /// Sum over its labelled tokens: the negative logarithm of their probability.
    pub sum: f64,
    /// Labelled tokens.
    pub n_labels: usize,
}

impl TextLoss {
    /// Mean over the labelled tokens; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.n_labels > 0).then(|| self.sum / self.n_labels as f64)
    }
}

/// Figures and the rows behind those that are not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The figures.
    pub figures: Figures,
    /// Rows of the samples whose loss or perplexity is infinite or not a number.
    pub non_finite_rows: Vec<usize>,
    /// Losses of the samples, in their order.
    pub samples: Vec<SampleLoss>,
}

/// The samples in their order, as many at a time as fit into a batch.
pub(crate) fn batches(
    samples: &[TokenSample],
    max_batch_tokens: usize,
) -> impl Iterator<Item = &[TokenSample]> {
    let mut rest = samples;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (batch, later) = rest.split_at(n_fitting(rest, max_batch_tokens));
        rest = later;
        Some(batch)
    })
}

/// How many of the first samples fit into a batch, at least one.
fn n_fitting(samples: &[TokenSample], max_batch_tokens: usize) -> usize {
    let mut n_tokens = 0;
    let n_fitting = samples
        .iter()
        .take_while(|sample| {
            n_tokens += sample.ids.len();
            n_tokens <= max_batch_tokens
        })
        .count();
    n_fitting.max(1)
}

/// Cross-entropy of each token of the samples laid end to end; 0 where there is no label. Samples without tokens are
/// passed over.
fn per_token_losses(
    model: &CausalLm,
    batch: &[TokenSample],
    pass: LossPass<'_>,
) -> Result<Vec<f32>, TrainError> {
    let sequences = Sequences::of_texts(batch);
    if sequences.ids.is_empty() {
        return Ok(Vec::new());
    }
    let labels: Vec<i64> = batch.iter().flat_map(shifted_labels).collect();
    let weights: Vec<f32> =
        labels.iter().map(|label| if *label == IGNORED_LABEL { 0.0 } else { 1.0 }).collect();
    Ok(model.losses_in(&sequences.batch(), &labels, &weights, pass)?.per_token)
}

/// At each token the id that comes after it in its text, where that one is trained.
fn shifted_labels(sample: &TokenSample) -> impl Iterator<Item = i64> + '_ {
    sample.texts().flat_map(|text| {
        let next = text.clone().skip(1).map(|place| (sample.ids.get(place), sample.trained.get(place)));
        let labels = next.map(|next| match next {
            (Some(id), Some(true)) => i64::from(*id),
            _ => IGNORED_LABEL,
        });
        labels.chain([IGNORED_LABEL])
    })
}

/// Sums over samples, in their order.
#[derive(Default)]
struct Sums {
    loss: f64,
    n_labelled_tokens: u64,
    sample_means: f64,
    perplexities: f64,
    n_samples: usize,
    n_skipped_samples: usize,
    non_finite_rows: Vec<usize>,
}

impl Sums {
    /// Adds the samples of a batch and gives the loss of each.
    fn add(&mut self, batch: &[TokenSample], per_token: &[f32]) -> Vec<SampleLoss> {
        let mut per_token = per_token.iter();
        let mut losses = Vec::with_capacity(batch.len());
        for sample in batch {
            let mut labels = shifted_labels(sample);
            let mut texts = sample.texts().map(|text| TextLoss {
                n_labels: labels.by_ref().take(text.len()).filter(|label| *label != IGNORED_LABEL).count(),
                sum: per_token.by_ref().take(text.len()).map(|loss| f64::from(*loss)).sum(),
            });
            if sample.n_source > 0 {
                // An encoder's source has no loss.
                texts.next();
            }
            let answer = texts.next().unwrap_or_default();
            losses.push(SampleLoss { row: sample.row, answer, contrast: texts.next() });
            let Some(mean) = answer.mean() else {
                self.n_skipped_samples += 1;
                continue;
            };
            if !mean.exp().is_finite() {
                self.non_finite_rows.push(sample.row);
            }
            self.loss += answer.sum;
            self.n_labelled_tokens += answer.n_labels as u64;
            self.sample_means += mean;
            self.perplexities += mean.exp();
            self.n_samples += 1;
        }
        losses
    }

    fn finish(
        self,
        n_all_samples: usize,
        loss_function: LossFunction,
        collective: &dyn Collective,
    ) -> Result<Evaluated, TrainError> {
        let mut values = [
            self.loss,
            self.n_labelled_tokens as f64,
            self.sample_means,
            self.perplexities,
            self.n_samples as f64,
            self.n_skipped_samples as f64,
        ];
        collective.sum_metrics(&mut values)?;
        let [loss, n_labelled_tokens, sample_means, perplexities, n_samples, n_skipped_samples] = values;
        if n_samples == 0.0 {
            return Err(TrainError::NothingToEvaluate { n_samples: n_all_samples });
        }
        let token_loss = loss / n_labelled_tokens;
        let loss = match loss_function {
            LossFunction::SampleAveragedCrossEntropy => sample_means / n_samples,
            _ => token_loss,
        };
        let figures = Figures {
            loss,
            token_loss,
            perplexity: perplexities / n_samples,
            n_samples: n_samples as usize,
            n_skipped_samples: n_skipped_samples as usize,
            n_labelled_tokens: n_labelled_tokens as u64,
        };
        Ok(Evaluated { figures, non_finite_rows: self.non_finite_rows, samples: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::SingleProcess;

    fn sample(row: usize, labels: &[i64]) -> TokenSample {
        let ids = labels.iter().map(|label| (*label).max(0) as u32).collect();
        let trained = labels.iter().map(|label| *label != IGNORED_LABEL).collect();
        TokenSample { row, ids, trained, ..TokenSample::default() }
    }

    #[test]
    fn gv_11_3_losses_and_perplexity() {
        let samples = [sample(0, &[-100, -100, 2, 1]), sample(1, &[-100, 0, 1, 2])];
        let per_token = [0.0, 2.40760596, 0.95802009, 0.0, 1.55144471, 1.81518880, 1.74131130, 0.0_f64]
            .map(|loss| loss as f32);
        let mut sums = Sums::default();
        sums.add(&samples, &per_token);
        let by_token =
            sums.finish(2, LossFunction::TokenAveragedCrossEntropy, &SingleProcess).unwrap().figures;
        assert!((by_token.loss - 1.6947141726).abs() < 1e-7, "{by_token:?}");
        assert!((by_token.perplexity - 5.4345668829).abs() < 1e-6, "{by_token:?}");
        assert_eq!((by_token.n_samples, by_token.n_labelled_tokens), (2, 5));

        let mut sums = Sums::default();
        sums.add(&samples, &per_token);
        let by_sample =
            sums.finish(2, LossFunction::SampleAveragedCrossEntropy, &SingleProcess).unwrap().figures;
        assert!((by_sample.loss - 1.6927306482).abs() < 1e-7, "{by_sample:?}");
        assert_eq!(by_sample.token_loss, by_token.token_loss);
    }

    #[test]
    fn samples_without_labels_do_not_count() {
        let mut sums = Sums::default();
        sums.add(&[sample(0, &[5, -100, -100]), sample(1, &[-100, 4])], &[0.0, 0.0, 0.0, 2.0, 0.0]);
        let evaluated = sums.finish(2, LossFunction::SampleAveragedCrossEntropy, &SingleProcess).unwrap();
        let figures = evaluated.figures;
        assert_eq!((figures.n_samples, figures.n_skipped_samples, figures.loss), (1, 1, 2.0));

        let mut sums = Sums::default();
        sums.add(&[sample(0, &[5, -100])], &[0.0, 0.0]);
        let error = sums.finish(1, LossFunction::TokenAveragedCrossEntropy, &SingleProcess).unwrap_err();
        assert!(matches!(error, TrainError::NothingToEvaluate { n_samples: 1 }));
    }

    #[test]
    fn a_source_counts_for_nothing() {
        let mut with_source = sample(4, &[-100, -100, -100, 1, 2]);
        with_source.n_source = 2;
        let mut sums = Sums::default();
        let losses = sums.add(&[with_source], &[0.0, 0.0, 3.0, 4.0, 0.0]);
        assert_eq!(losses[0].answer, TextLoss { sum: 7.0, n_labels: 2 });
        assert_eq!(losses[0].contrast, None);
    }

    #[test]
    fn the_better_answer_of_a_preference_counts() {
        let mut pair = sample(4, &[-100, 1, 2, -100, 3]);
        pair.n_contrast = 2;
        let mut sums = Sums::default();
        // Losses stand at the token before the one they belong to; the last of each text has none.
        let losses = sums.add(&[pair], &[1.0, 2.0, 0.0, 4.0, 0.0]);
        let expected = SampleLoss {
            row: 4,
            answer: TextLoss { sum: 3.0, n_labels: 2 },
            contrast: Some(TextLoss { sum: 4.0, n_labels: 1 }),
        };
        assert_eq!(losses, [expected]);
        let figures =
            sums.finish(1, LossFunction::TokenAveragedCrossEntropy, &SingleProcess).unwrap().figures;
        assert_eq!((figures.loss, figures.n_labelled_tokens), (1.5, 2));
    }

    #[test]
    fn rows_of_infinite_losses_are_kept() {
        let mut sums = Sums::default();
        sums.add(&[sample(3, &[-100, 1]), sample(9, &[-100, 4])], &[1.0, 0.0, f32::INFINITY, 0.0]);
        let evaluated = sums.finish(2, LossFunction::TokenAveragedCrossEntropy, &SingleProcess).unwrap();
        assert_eq!(evaluated.non_finite_rows, [9]);
    }

    #[test]
    fn batches_hold_at_least_one_sample() {
        let samples = [sample(0, &[0; 5]), sample(1, &[0; 3]), sample(2, &[0; 9])];
        assert_eq!(n_fitting(&samples, 8), 2);
        assert_eq!(n_fitting(&samples, 7), 1);
        assert_eq!(n_fitting(&samples, 1), 1);
        assert_eq!(n_fitting(&samples, 100), 3);
    }
}
