//! Sequences laid end to end, as the model reads a batch of them.

use tunesmith_data::TokenSample;
use tunesmith_models::TokenBatch;
use tunesmith_ops::Segments;

/// Tokens of some sequences, each of which begins at position 0.
pub(crate) struct Sequences {
    pub(crate) ids: Vec<u32>,
    positions: Vec<u32>,
    pub(crate) segments: Segments,
}

impl Sequences {
    /// Of `ids` cut into sequences of these lengths.
    pub(crate) fn new(ids: Vec<u32>, lengths: &[usize]) -> Self {
        let positions = lengths.iter().flat_map(|length| 0..*length as u32).collect();
        Self { ids, positions, segments: Segments::new(lengths) }
    }

    /// A sequence for each sample.
    pub(crate) fn of(samples: &[TokenSample]) -> Self {
        let lengths: Vec<usize> = samples.iter().map(|sample| sample.ids.len()).collect();
        Self::new(ids_of(samples), &lengths)
    }

    /// A sequence for each text of each sample, source and compared answer apart.
    pub(crate) fn of_texts(samples: &[TokenSample]) -> Self {
        let lengths: Vec<usize> =
            samples.iter().flat_map(TokenSample::texts).map(|text| text.len()).collect();
        Self::new(ids_of(samples), &lengths)
    }

    /// What the model takes.
    pub(crate) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch { ids: &self.ids, positions: &self.positions, segments: &self.segments }
    }
}

fn ids_of(samples: &[TokenSample]) -> Vec<u32> {
    samples.iter().flat_map(|sample| sample.ids.iter().copied()).collect()
}
