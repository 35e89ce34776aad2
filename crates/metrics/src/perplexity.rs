//! Perplexity from losses.
//!
//! For each sample exp of its mean cross entropy over the tokens that are learned, then the mean over samples. That is not exp
//! of the mean loss: a single sample the model finds impossible can dominate it.

use crate::error::{MetricError, not_empty};
use crate::score::{Direction, Scores};

/// The name in experiment files and tables.
pub const PERPLEXITY: &str = "Perplexity";

/// Lower is better, down to 1.
pub const PERPLEXITY_DIRECTION: Direction = Direction::LowerIsBetter;

/// Perplexity from the mean loss of each sample, in nats; `None` for a sample without tokens to learn, which is left out. A
/// loss beyond 709 gives infinity.
pub fn perplexity(losses: &[Option<f64>]) -> Result<Scores, MetricError> {
    not_empty(PERPLEXITY, losses.len())?;
    if let Some((sample, value)) = losses
        .iter()
        .enumerate()
        .find_map(|(idx, loss)| loss.filter(|loss| loss.is_nan()).map(|loss| (idx, loss)))
    {
        return Err(MetricError::NotFinite { sample, what: "loss", value });
    }
    Scores::mean_of_some(PERPLEXITY, losses.iter().map(|loss| loss.map(f64::exp)).collect())
}
