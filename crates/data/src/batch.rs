//! Samples into micro-batches: laid end to end, no padding, no batch dimension.
//!
//! An epoch's plan is a pure function of the samples and [`BatchOptions`], so that a resumed run continues with
//! the very batches it would have had. Symbols: N tokens of a micro-batch.

use std::ops::Range;

use tunesmith_config::{ExperimentConfig, LossFunction, Packing};

use crate::samples::SampleSet;
use crate::shuffle::permutation;
use crate::token_sample::TokenSample;

/// Label of a position that predicts nothing to be learned.
pub const IGNORED_LABEL: i64 = -100;

/// What decides an epoch's batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Samples (or, for packing into rows, rows) of a micro-batch; 0 counts as 1.
    pub batch_size: usize,
    /// Tokens of a row when packing into rows.
    pub max_length: usize,
    /// How samples fill micro-batches.
    pub packing: Packing,
    /// Whether the order of the samples is drawn anew for each epoch.
    pub shuffle: bool,
    /// Leaves a last micro-batch out when it is not full, unless there is no full one at all.
    pub drop_last: bool,
    /// Seed of the order.
    pub seed: u64,
    /// Epoch, counted from 0.
    pub epoch: usize,
}

impl BatchOptions {
    /// What an experiment says about its batches in epoch `epoch`.
    pub fn of(config: &ExperimentConfig, seed: u64, epoch: usize) -> Self {
        let training = &config.training;
        Self {
            batch_size: training.batch_size,
            max_length: config.tokenizer.max_length,
            packing: training.packing,
            shuffle: training.shuffle,
            drop_last: training.drop_last_batch,
            seed,
            epoch,
        }
    }
}

/// The micro-batches of one epoch, as references into the samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    batches: Vec<Vec<Row>>,
}

/// Tokens for one forward pass.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MicroBatch {
    /// Token ids \[N\].
    pub ids: Vec<u32>,
    /// Position of each token in its attention segment \[N\].
    pub positions: Vec<u32>,
    /// Lengths of the attention segments, in order; their sum is N. A sample each, or a row when wrapped.
    pub segment_lengths: Vec<usize>,
    /// Of each segment the index of its first sample in the set, and the place of its first token in that sample: what
    /// tells it from all other segments of the epoch.
    pub segment_origins: Vec<(usize, usize)>,
    /// What each position is to predict \[N\]: the id of the next token of its segment if that one is trained,
    /// else [`IGNORED_LABEL`].
    pub labels: Vec<i64>,
    /// Which of `sample_rows` each token belongs to \[N\].
    pub sample_of_token: Vec<u32>,
    /// Row ids of the samples in this micro-batch.
    pub sample_rows: Vec<usize>,
    /// What is to be predicted from the last token of each sample; empty for samples of answers.
    pub values: Vec<Vec<f32>>,
}

/// Attention segments that make one row (or one sample).
type Row = Vec<Segment>;

/// Pieces of samples that attend to each other.
type Segment = Vec<Piece>;

/// Tokens `start..end` of the sample at `sample_idx` of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    sample_idx: usize,
    start: usize,
    end: usize,
}

/// Plans the epoch `options.epoch` over `samples`.
pub fn plan_epoch(samples: &SampleSet, options: &BatchOptions) -> BatchPlan {
    let order = order(samples, options);
    let samples = &samples.samples;
    let mut rows: Vec<Row> = match options.packing {
        Packing::Samples => order.into_iter().map(|idx| texts(samples, idx)).collect(),
        Packing::Rows => whole_samples_in_rows(samples, order, options.max_length),
        Packing::Wrapped => wrapped_rows(samples, order, options.max_length),
    };
    if options.packing == Packing::Wrapped && options.drop_last && rows.len() > 1 {
        rows.pop_if(|row| n_tokens(row) < options.max_length);
    }
    let batch_size = options.batch_size.max(1);
    let mut batches: Vec<Vec<Row>> = rows.chunks(batch_size).map(<[Row]>::to_vec).collect();
    if options.drop_last && batches.len() > 1 {
        batches.pop_if(|batch| batch.len() < batch_size);
    }
    BatchPlan { batches }
}

impl BatchPlan {
    /// Micro-batches of the epoch.
    pub fn n_micro_batches(&self) -> usize {
        self.batches.len()
    }

    /// Tokens and rows (or samples) of the micro-batch `batch_idx`, without building it.
    pub fn size(&self, batch_idx: usize) -> (usize, usize) {
        let rows = self.batches.get(batch_idx).map_or(&[][..], Vec::as_slice);
        (rows.iter().map(n_tokens).sum(), rows.len())
    }

    /// Builds the micro-batch `batch_idx` from the samples that the plan was made for; empty beyond the last.
    pub fn micro_batch(&self, samples: &SampleSet, batch_idx: usize) -> MicroBatch {
        let mut batch = MicroBatch::default();
        // Where each sample of the set stands in `sample_rows`; a wrapped sample may come in several pieces.
        let mut place = std::collections::BTreeMap::new();
        for segment in self.batches.get(batch_idx).into_iter().flatten().flatten() {
            let start = batch.ids.len();
            let mut trained = Vec::new();
            for piece in segment {
                let Some(sample) = samples.samples.get(piece.sample_idx) else { continue };
                let place = *place.entry(piece.sample_idx).or_insert_with(|| {
                    batch.sample_rows.push(sample.row);
                    batch.values.push(sample.values.clone());
                    batch.sample_rows.len() - 1
                });
                batch.ids.extend_from_slice(sample.ids.get(piece.start..piece.end).unwrap_or_default());
                trained.extend_from_slice(sample.trained.get(piece.start..piece.end).unwrap_or_default());
                // Counts of tokens fit u32: a micro-batch is held in memory many times over.
                batch.sample_of_token.resize(batch.ids.len(), u32::try_from(place).unwrap_or(u32::MAX));
            }
            let ids = batch.ids.get(start..).unwrap_or_default();
            batch.segment_lengths.push(ids.len());
            batch.segment_origins.extend(segment.first().map(|piece| (piece.sample_idx, piece.start)));
            batch.positions.extend(0..u32::try_from(ids.len()).unwrap_or(u32::MAX));
            let next = ids.iter().zip(&trained).skip(1);
            batch
                .labels
                .extend(next.map(|(id, trained)| if *trained { i64::from(*id) } else { IGNORED_LABEL }));
            batch.labels.resize(batch.ids.len(), IGNORED_LABEL);
        }
        batch
    }
}

/// One weight for each token position of each micro-batch of an accumulation window, such that
///
/// ```text
/// loss of the window = Σ weight · cross entropy        (positions without label weigh 0)
/// ```
///
/// Token-averaged: 1 / labels of the window. Sample-averaged: 1 / (samples with labels · labels of the sample), so a
/// sample without labels is passed over. The token that is predicted decides which sample a label belongs to. Pieces
/// of a wrapped sample in different micro-batches count as samples of their own. Other loss functions average
/// over tokens.
pub fn token_weights(batches: &[MicroBatch], loss: LossFunction) -> Vec<Vec<f32>> {
    let owners: Vec<Vec<Option<usize>>> = batches.iter().map(label_owners).collect();
    let n_labels = owners.iter().flatten().flatten().count();
    if loss != LossFunction::SampleAveragedCrossEntropy {
        let weight = (1.0 / n_labels as f64) as f32;
        let weigh = |owner: &Option<usize>| owner.map_or(0.0, |_| weight);
        return owners.iter().map(|owners| owners.iter().map(weigh).collect()).collect();
    }
    let counts: Vec<Vec<usize>> = batches
        .iter()
        .zip(&owners)
        .map(|(batch, owners)| {
            let mut counts = vec![0; batch.sample_rows.len()];
            for owner in owners.iter().flatten() {
                if let Some(count) = counts.get_mut(*owner) {
                    *count += 1;
                }
            }
            counts
        })
        .collect();
    let n_samples = counts.iter().flatten().filter(|count| **count > 0).count();
    owners
        .iter()
        .zip(&counts)
        .map(|(owners, counts)| {
            let count = |owner: &Option<usize>| owner.and_then(|owner| counts.get(owner)).copied();
            owners
                .iter()
                .map(|owner| {
                    count(owner).map_or(0.0, |count| (1.0 / (n_samples as f64 * count as f64)) as f32)
                })
                .collect()
        })
        .collect()
}

/// For each position the sample that its label belongs to, none without a label.
fn label_owners(batch: &MicroBatch) -> Vec<Option<usize>> {
    let next = batch.sample_of_token.iter().skip(1).map(|sample| usize::try_from(*sample).ok());
    batch
        .labels
        .iter()
        .zip(next.chain([None]))
        .map(|(label, owner)| if *label == IGNORED_LABEL { None } else { owner })
        .collect()
}

/// Indices of the samples in the order of the epoch. Pieces of one conversation stay together when wrapped.
fn order(samples: &SampleSet, options: &BatchOptions) -> Vec<usize> {
    let n_samples = samples.samples.len();
    let epoch = options.epoch as u64;
    match (options.shuffle, options.packing) {
        (false, _) => (0..n_samples).collect(),
        (true, Packing::Samples | Packing::Rows) => permutation(n_samples, options.seed, epoch),
        (true, Packing::Wrapped) => {
            let mut start = 0;
            let conversations: Vec<std::ops::Range<usize>> = samples
                .samples
                .chunk_by(|a, b| a.row == b.row)
                .map(|pieces| {
                    let range = start..start + pieces.len();
                    start = range.end;
                    range
                })
                .collect();
            let order = permutation(conversations.len(), options.seed, epoch);
            order.into_iter().filter_map(|idx| conversations.get(idx).cloned()).flatten().collect()
        }
    }
}

fn n_tokens(row: &Row) -> usize {
    row.iter().flatten().map(|piece| piece.end - piece.start).sum()
}

fn whole(samples: &[TokenSample], sample_idx: usize) -> Piece {
    Piece { sample_idx, start: 0, end: samples.get(sample_idx).map_or(0, |sample| sample.ids.len()) }
}

/// The texts of a sample, each a segment of its own: one, or the two of a preference.
fn texts(samples: &[TokenSample], sample_idx: usize) -> Row {
    let Some(sample) = samples.get(sample_idx) else { return Row::new() };
    sample.texts().map(|Range { start, end }| vec![Piece { sample_idx, start, end }]).collect()
}

/// Puts each sample, in order, into the row with the least room that still takes it.
fn whole_samples_in_rows(samples: &[TokenSample], order: Vec<usize>, max_length: usize) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    // Room left in a row, then the row: the first entry at or after (length, 0) is the tightest fit.
    let mut open: std::collections::BTreeSet<(usize, usize)> = std::collections::BTreeSet::new();
    for sample_idx in order {
        let texts = texts(samples, sample_idx);
        let n_sample_tokens = n_tokens(&texts);
        let fit = open.range((n_sample_tokens, 0)..).next().copied();
        let (room, row_idx) = fit.unwrap_or((max_length, rows.len()));
        match rows.get_mut(row_idx) {
            Some(row) => row.extend(texts),
            None => rows.push(texts),
        }
        open.remove(&(room, row_idx));
        // A sample longer than a row has one of its own.
        open.insert((room.saturating_sub(n_sample_tokens), row_idx));
    }
    rows
}

/// Lays all samples end to end and cuts every `max_length` tokens; each row is one segment.
fn wrapped_rows(samples: &[TokenSample], order: Vec<usize>, max_length: usize) -> Vec<Row> {
    let max_length = max_length.max(1);
    let mut rows = Vec::new();
    let mut segment = Segment::new();
    let mut room = max_length;
    for sample_idx in order {
        let mut piece = whole(samples, sample_idx);
        while piece.start < piece.end {
            let end = piece.end.min(piece.start + room);
            segment.push(Piece { end, ..piece });
            room -= end - piece.start;
            piece.start = end;
            if room == 0 {
                rows.push(vec![std::mem::take(&mut segment)]);
                room = max_length;
            }
        }
    }
    if !segment.is_empty() {
        rows.push(vec![segment]);
    }
    rows
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
