//! Samples laid end to end, as the model reads a batch of them.

use tunesmith_data::TokenSample;
use tunesmith_models::TokenBatch;
use tunesmith_ops::Segments;

/// Tokens of some samples, each a sequence that begins at position 0.
pub(crate) struct Sequences {
    ids: Vec<u32>,
    positions: Vec<u32>,
    segments: Segments,
}

impl Sequences {
    /// Of the tokens of each sample, without the text it is compared with.
    pub(crate) fn of(samples: &[TokenSample]) -> Self {
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.ids.len()).collect();
        Self {
            ids: samples.iter().flat_map(|sample| sample.ids.iter().copied()).collect(),
            positions: lengths.iter().flat_map(|length| 0..*length as u32).collect(),
            segments: Segments::new(&lengths),
        }
    }

    /// What the model takes.
    pub(crate) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch { ids: &self.ids, positions: &self.positions, segments: &self.segments }
    }
}
