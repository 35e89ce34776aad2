//! Counts over a data set: turns, words, columns.

use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use super::check::conversations;
use super::settings::DataSettings;
use super::tables::{Column, describe_column, open_table};
use crate::error::{ApiError, ApiResult};

const MAX_BINS: u64 = 24;

/// Counts over a data set.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// Conversations.
    pub n_conversations: u64,
    /// Rounds in each.
    pub turns: Histogram,
    /// Words of each prompt.
    pub prompt_words: Histogram,
    /// Words of each answer.
    pub answer_words: Histogram,
    /// Words of each whole conversation.
    pub conversation_words: Histogram,
    /// The columns of the training table.
    pub columns: Vec<Column>,
}

/// How often which size is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct Histogram {
    /// Ranges of equal width, from the smallest size on.
    pub bins: Vec<Bin>,
    /// Smallest size.
    pub min: u64,
    /// Largest size.
    pub max: u64,
    /// Mean size.
    pub mean: f64,
    /// Half are at most this.
    pub p50: u64,
    /// 95 % are at most this.
    pub p95: u64,
}

/// Sizes `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Bin {
    /// Smallest size.
    pub from: u64,
    /// Largest size.
    pub to: u64,
    /// How many.
    pub count: u64,
}

/// Counts.
///
/// # Errors
/// The rows cannot be read any more.
pub(crate) fn statistics(settings: &DataSettings, folder: &Path) -> ApiResult<Statistics> {
    let refused = |problem: super::tables::Problem| ApiError::invalid(problem.message);
    let (all, _) = conversations(settings, folder)?.map_err(refused)?;
    let table = open_table(folder, &settings.train_table, None).map_err(refused)?;
    let words = |text: &str| text.split_whitespace().count() as u64;
    let rounds = || all.iter().flat_map(|conversation| &conversation.rounds);
    let whole = all.iter().map(|conversation| {
        let spoken = conversation.rounds.iter().map(|round| words(&round.prompt) + words(&round.answer));
        words(conversation.system()) + spoken.sum::<u64>()
    });
    Ok(Statistics {
        n_conversations: all.len() as u64,
        turns: Histogram::of(all.iter().map(|conversation| conversation.rounds.len() as u64).collect()),
        prompt_words: Histogram::of(rounds().map(|round| words(&round.prompt)).collect()),
        answer_words: Histogram::of(rounds().map(|round| words(&round.answer)).collect()),
        conversation_words: Histogram::of(whole.collect()),
        columns: (0..table.columns.len()).map(|column| describe_column(&table, column)).collect(),
    })
}

impl Histogram {
    fn of(mut sizes: Vec<u64>) -> Self {
        sizes.sort_unstable();
        let (Some(&min), Some(&max)) = (sizes.first(), sizes.last()) else { return Self::default() };
        let width = (max - min + 1).div_ceil(MAX_BINS);
        let n_bins = (max - min) / width + 1;
        let mut bins: Vec<Bin> = (0..n_bins)
            .map(|bin| Bin { from: min + bin * width, to: min + (bin + 1) * width - 1, count: 0 })
            .collect();
        for size in &sizes {
            if let Some(bin) = usize::try_from((size - min) / width).ok().and_then(|idx| bins.get_mut(idx)) {
                bin.count += 1;
            }
        }
        let quantile = |percent: usize| {
            let rank = (sizes.len() * percent).div_ceil(100).max(1);
            sizes.get(rank - 1).copied().unwrap_or(max)
        };
        let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
        Self { bins, min, max, mean, p50: quantile(50), p95: quantile(95) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_one_bin() {
        for sizes in [vec![], vec![0], vec![5, 5, 5], (0..1000).collect::<Vec<u64>>(), vec![1, 100_000]] {
            let histogram = Histogram::of(sizes.clone());
            assert_eq!(histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), sizes.len() as u64);
            assert!(histogram.bins.len() as u64 <= MAX_BINS);
        }
        let histogram = Histogram::of((1..=100).collect());
        assert_eq!((histogram.min, histogram.max, histogram.p50, histogram.p95), (1, 100, 50, 95));
    }
}
