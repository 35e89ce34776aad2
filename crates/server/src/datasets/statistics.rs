//! Counts over a data set: turns, words, columns, and what is to be predicted.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tunesmith_config::ProblemType;
use tunesmith_data::Conversation;
use utoipa::ToSchema;

use super::check::{Noticed, conversations};
use super::settings::DataSettings;
use super::tables::{Column, describe_column, open_table};
use crate::error::{ApiError, ApiResult};

const MAX_BINS: u64 = 24;

/// Counts over a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// What is to be predicted, a column each; nothing where texts are learned.
    pub targets: Vec<TargetStatistics>,
}

/// Classes or numbers of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TargetStatistics {
    /// Its name.
    pub column: String,
    /// Rows of each class, from the lowest number; nothing where numbers are predicted.
    pub labels: Vec<LabelCount>,
    /// How the numbers are spread.
    #[schema(required)]
    pub numbers: Option<NumberHistogram>,
}

/// How many rows have a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct LabelCount {
    /// The number of the class.
    pub label: u64,
    /// What it is called.
    #[serde(default)]
    pub name: String,
    /// Rows.
    pub count: u64,
}

/// How often which number is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NumberHistogram {
    /// Ranges of equal width, from the smallest number to the largest.
    pub bins: Vec<NumberBin>,
    /// Smallest number.
    pub min: f64,
    /// Largest number.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 95 % are at most this.
    pub p95: f64,
}

/// Numbers of a range; its upper end belongs to the next one, but for the last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct NumberBin {
    /// Lower end.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// How many.
    pub count: u64,
}

/// How often which size is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    let Noticed { conversations: all, class_names, .. } =
        conversations(settings, folder)?.map_err(refused)?;
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
        targets: if settings.has_labels() { targets(settings, &all, &class_names) } else { Vec::new() },
    })
}

fn targets(settings: &DataSettings, all: &[Conversation], class_names: &[String]) -> Vec<TargetStatistics> {
    let are_classes = settings.kind() == Some(ProblemType::CausalClassificationModeling);
    let names = settings.label_columns.iter().enumerate();
    let of_column = |(idx, column): (usize, &String)| {
        let values: Vec<f32> = all.iter().filter_map(|row| row.values().get(idx).copied()).collect();
        let counts = match (are_classes, settings.has_label_lists) {
            (false, _) => BTreeMap::new(),
            (true, false) => counts(values.iter().map(|value| *value as usize)),
            (true, true) => counts(all.iter().flat_map(|row| {
                row.values().iter().enumerate().filter(|(_, applies)| **applies > 0.0).map(|(label, _)| label)
            })),
        };
        let label = |(label, count): (usize, u64)| LabelCount {
            label: label as u64,
            name: class_names.get(label).cloned().unwrap_or_else(|| label.to_string()),
            count,
        };
        let numbers = if are_classes { None } else { NumberHistogram::of(values) };
        TargetStatistics { column: column.clone(), labels: counts.into_iter().map(label).collect(), numbers }
    };
    names.map(of_column).collect()
}

/// How often each class is there.
fn counts(classes: impl Iterator<Item = usize>) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    classes.for_each(|class| *counts.entry(class).or_default() += 1);
    counts
}

impl NumberHistogram {
    /// `None` without numbers.
    fn of(mut values: Vec<f32>) -> Option<Self> {
        values.sort_unstable_by(f32::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (f64::from(min), f64::from(max));
        let n_bins = if low < high { MAX_BINS } else { 1 };
        let width = (high - low) / n_bins as f64;
        let edge = |bin: u64| if bin == n_bins { high } else { low + bin as f64 * width };
        let mut bins: Vec<NumberBin> =
            (0..n_bins).map(|bin| NumberBin { from: edge(bin), to: edge(bin + 1), count: 0 }).collect();
        for value in &values {
            let place = if width > 0.0 { ((f64::from(*value) - low) / width) as usize } else { 0 };
            if let Some(bin) = bins.get_mut(place.min(n_bins as usize - 1)) {
                bin.count += 1;
            }
        }
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64;
        let quantile = |percent| f64::from(quantile(&values, percent).unwrap_or(max));
        Some(Self { bins, min: low, max: high, mean, p50: quantile(50), p95: quantile(95) })
    }
}

/// The value that so many of a hundred are at most; of sorted values.
fn quantile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
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
        let quantile = |percent| quantile(&sizes, percent).unwrap_or(max);
        let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
        Self { bins, min, max, mean, p50: quantile(50), p95: quantile(95) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gv_11_2_every_size_is_in_one_bin() {
        for sizes in [vec![], vec![0], vec![5, 5, 5], (0..1000).collect::<Vec<u64>>(), vec![1, 100_000]] {
            let histogram = Histogram::of(sizes.clone());
            assert_eq!(histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), sizes.len() as u64);
            assert!(histogram.bins.len() as u64 <= MAX_BINS);
        }
        let histogram = Histogram::of((1..=100).collect());
        assert_eq!((histogram.min, histogram.max, histogram.p50, histogram.p95), (1, 100, 50, 95));
    }

    #[test]
    fn numbers_fall_into_ranges_of_equal_width() {
        assert_eq!(NumberHistogram::of(Vec::new()), None);
        for values in
            [vec![2.5], vec![-1.0, -1.0], vec![0.1, 0.2, 0.3, 5.0], (0..100).map(|i| i as f32).collect()]
        {
            let histogram = NumberHistogram::of(values.clone()).unwrap();
            assert_eq!(histogram.bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
            assert_eq!(histogram.bins.first().unwrap().from, histogram.min);
            assert_eq!(histogram.bins.last().unwrap().to, histogram.max);
        }
        let histogram = NumberHistogram::of(vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((histogram.mean, histogram.p50, histogram.p95), (2.5, 2.0, 4.0));
    }
}
