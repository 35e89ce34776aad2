//! Everything a run remembers besides weights and optimizer state: where it is and the sums it is in the middle of.
//!
//! Random numbers are not part of it. Orders of samples, dropout masks and starting values of adapters are functions
//! of the seed and the position, so the position is enough to continue bit for bit.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::early_stopping::EarlyStopping;
use crate::error::{IoContext, TrainError};
use crate::json_file::write_json;

/// Content of a checkpoint's `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainState {
    /// Version of this form; others are refused.
    pub format_version: u32,
    /// Epoch that the next micro-batch belongs to, from 0.
    pub epoch_idx: usize,
    /// The next micro-batch within that epoch, from 0. It always begins an accumulation window.
    pub micro_batch_idx: usize,
    /// Optimizer steps taken, windows without a labelled token included.
    pub step: u64,
    /// Steps at which the optimizer really moved the weights.
    pub n_updates: u64,
    /// Steps that were left out because their loss or gradient was not finite.
    #[serde(default)]
    pub n_skipped_steps: u64,
    /// Micro-batches run.
    pub n_micro_batches: u64,
    /// Samples run.
    pub n_samples_seen: u64,
    /// Tokens run.
    pub n_tokens_seen: u64,
    /// The evaluation that belongs to this step has not been made yet.
    pub is_evaluation_due: bool,
    /// Steps that no `step` event has reported yet.
    pub unreported: Unreported,
    /// Loss of the last `step` event.
    pub train_loss: Option<Exact>,
    /// Figures of the last evaluation.
    pub validation: Option<LastValidation>,
    /// Figures of the best evaluation.
    pub best: Option<Best>,
    /// Evaluations without an improvement.
    #[serde(default)]
    pub early_stopping: EarlyStopping,
    /// Length of `events.jsonl` when this was written.
    pub events_bytes: u64,
    /// Seconds of work on the run so far. Not part of what is computed.
    pub run_secs: f64,
    /// Size of the checkpoint's weight file.
    pub weights_bytes: u64,
    /// Size of the checkpoint's optimizer file.
    pub optimizer_bytes: u64,
}

/// Sums over the optimizer steps since the last `step` event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unreported {
    /// Sum of the losses of the steps that had one.
    pub loss_sum: Exact,
    /// Steps that had a loss.
    pub n_losses: u64,
    /// Tokens run.
    pub n_tokens: u64,
    /// Labelled tokens among them.
    pub n_labelled_tokens: u64,
}

/// Figures of the last evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastValidation {
    /// Loss by the loss function of the run.
    pub loss: Exact,
    /// Mean of the samples' perplexities, where the problem type has them.
    #[serde(default)]
    pub perplexity: Option<Exact>,
    /// What the run is judged by, where it has a value.
    #[serde(default)]
    pub metric: Option<Exact>,
}

/// The best evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Optimizer steps behind it.
    pub step: u64,
    /// The metric by which it was chosen.
    pub metric: Exact,
}

impl TrainState {
    /// The version this program writes and reads.
    pub const FORMAT_VERSION: u32 = 2;

    /// How far the run is; a larger value is later.
    pub fn progress(&self) -> (u64, bool) {
        (self.step, !self.is_evaluation_due)
    }

    /// The state in the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is not a state, or has another version.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let malformed = |reason: String| TrainError::RunFile { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).at(path, "read")?;
        let state: Self = serde_json::from_str(&text).map_err(|source| malformed(source.to_string()))?;
        if state.format_version != Self::FORMAT_VERSION {
            let (found, known) = (state.format_version, Self::FORMAT_VERSION);
            return Err(malformed(format!(
                "it has format version {found}; this program reads version {known}"
            )));
        }
        Ok(state)
    }

    /// Writes the state to `path`.
    pub(crate) fn write(&self, path: &Path) -> Result<(), TrainError> {
        write_json(path, self)
    }
}

/// A number that is written so that reading gives the same bits: as its decimal form for people and its bits in
/// hexadecimal for the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Exact(pub f64);

impl From<Exact> for String {
    fn from(exact: Exact) -> Self {
        format!("{} = {:016x}", exact.0, exact.0.to_bits())
    }
}

impl TryFrom<String> for Exact {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bits = text.rsplit(' ').next().and_then(|bits| u64::from_str_radix(bits, 16).ok());
        bits.map(|bits| Self(f64::from_bits(bits)))
            .ok_or_else(|| format!("{text:?} does not end in the bits of a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exact_numbers_keep_their_bits(bits: u64) {
            let text = serde_json::to_string(&Exact(f64::from_bits(bits))).unwrap();
            let back: Exact = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back.0.to_bits(), bits);
        }
    }

    #[test]
    fn round_trip_and_versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let mut state = TrainState {
            format_version: TrainState::FORMAT_VERSION,
            epoch_idx: 1,
            micro_batch_idx: 4,
            step: 9,
            train_loss: Some(Exact(0.1 + 0.2)),
            best: Some(Best { step: 3, metric: Exact(f64::INFINITY) }),
            ..TrainState::default()
        };
        state.write(&path).unwrap();
        assert_eq!(TrainState::read(&path).unwrap(), state);
        state.format_version += 1;
        state.write(&path).unwrap();
        assert!(TrainState::read(&path).unwrap_err().to_string().contains("format version 3"));
    }

    #[test]
    fn an_evaluated_state_is_later_than_one_that_waits_for_it() {
        let waiting = TrainState { step: 4, is_evaluation_due: true, ..TrainState::default() };
        let evaluated = TrainState { is_evaluation_due: false, ..waiting.clone() };
        let next = TrainState { step: 5, ..waiting.clone() };
        assert!(waiting.progress() < evaluated.progress());
        assert!(evaluated.progress() < next.progress());
    }
}
