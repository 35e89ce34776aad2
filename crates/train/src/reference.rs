//! What the model that a run starts from thinks of both texts of each comparison.
//!
//! It is the model before its first step, with the adapter that it starts from, if there is one: what a run that goes on
//! from a stored adapter must not leave is that adapter's model and not the bare base. It needs no second copy in memory: its
//! log-probabilities are computed once, before training or before a checkpoint is put in its place.

use std::collections::BTreeMap;

use tunesmith_config::ExperimentConfig;
use tunesmith_data::TokenSample;
use tunesmith_models::{CausalLm, LossPass};

use crate::collective::SingleProcess;
use crate::error::TrainError;
use crate::evaluate::{EvaluateOptions, SampleLoss, TextLoss, evaluate};
use crate::preference::{Pair, PreferencePair, Reduction};
use crate::stop::StopFlag;

/// Losses of both texts of each comparison, by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct References {
    by_row: BTreeMap<usize, [TextLoss; 2]>,
}

/// The references of a run's training data, epoch by epoch.
#[derive(Clone, Debug)]
pub(crate) enum EpochReferences {
    /// Of the samples that every epoch has.
    Same(References),
    /// Of each epoch's own samples.
    Each(Vec<References>),
}

impl EpochReferences {
    /// Those of the epoch `epoch_idx`, which must be one of the run.
    pub(crate) fn of(&self, epoch_idx: usize) -> &References {
        const NONE: &References = &References { by_row: BTreeMap::new() };
        match self {
            Self::Same(references) => references,
            Self::Each(of_epochs) => of_epochs.get(epoch_idx).unwrap_or(NONE),
        }
    }
}

impl References {
    /// Runs `model`, which must be as the run starts, over the samples. `None` when `stop` was raised meanwhile.
    pub(crate) fn compute(
        model: &CausalLm,
        samples: &[TokenSample],
        config: &ExperimentConfig,
        stop: &StopFlag,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Option<Self>, TrainError> {
        if samples.is_empty() {
            return Ok(Some(Self::default()));
        }
        let options = EvaluateOptions {
            max_batch_tokens: Self::max_batch_tokens(config),
            loss_function: config.training.loss_function,
            pass: LossPass::Evaluation,
        };
        let evaluated = evaluate(model, samples, options, &SingleProcess, stop, progress)?;
        let of_sample =
            |sample: SampleLoss| (sample.row, [sample.answer, sample.contrast.unwrap_or_default()]);
        Ok(evaluated.map(|evaluated| Self::from_rows(evaluated.samples.into_iter().map(of_sample))))
    }

    /// Tokens that are run at once.
    pub(crate) fn max_batch_tokens(config: &ExperimentConfig) -> usize {
        config.training.batch_size.saturating_mul(2 * config.tokenizer.max_length)
    }

    /// Those of these rows.
    pub(crate) fn from_rows(rows: impl IntoIterator<Item = (usize, [TextLoss; 2])>) -> Self {
        Self { by_row: rows.into_iter().collect() }
    }

    /// All rows with their losses, by row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, [TextLoss; 2])> + '_ {
        self.by_row.iter().map(|(row, losses)| (*row, *losses))
    }

    /// Log-probabilities of both answers of a row under the policy, whose losses are given, and under the reference. Without
    /// a reference the latter are 0, which losses that need none do not look at.
    pub(crate) fn pair(&self, row: usize, policy: [TextLoss; 2], reduction: Reduction) -> PreferencePair {
        let pair = |losses: [TextLoss; 2]| {
            let [chosen, rejected] = losses.map(|loss| log_probability(loss, reduction));
            Pair { chosen, rejected }
        };
        let reference = self.by_row.get(&row).copied().map(pair).unwrap_or_default();
        PreferencePair { policy: pair(policy), reference }
    }
}

/// ln p of an answer, or its mean over the labelled tokens.
fn log_probability(loss: TextLoss, reduction: Reduction) -> f64 {
    match reduction {
        Reduction::Sum => -loss.sum,
        Reduction::Mean => -loss.mean().unwrap_or_default(),
    }
}
