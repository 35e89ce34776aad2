//! A batch as a sequence of slices that are computed one after the other.
//!
//! Attention stays within a segment and every other operation within a token, so a batch may be cut between segments
//! without changing what is computed; the activations of one slice are then all that exists at a time. A slice still
//! has enough tokens to keep every core busy with matrix products.

use std::ops::Range;

use tunesmith_ops::Segments;

use crate::counter::mix;
use crate::embedding_noise::EmbeddingNoise;
use crate::pass::TokenBatch;

/// Tokens of a slice at most, unless a single segment is longer. Large enough that reading the weights, and adding up
/// their gradients, costs little beside the arithmetic of so many tokens.
pub const SLICE_TOKENS: usize = 512;

/// Whole segments of a batch that are computed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The tokens of the batch that belong to it; at least one.
    pub(crate) range: Range<usize>,
    segments: Segments,
    /// Number of its first segment in the batch.
    first_segment: usize,
    slice_idx: u64,
}

impl Slice {
    /// Its part of the batch that it was cut from.
    pub(crate) fn tokens<'a>(&'a self, batch: TokenBatch<'a>) -> TokenBatch<'a> {
        TokenBatch {
            ids: part(batch.ids, &self.range),
            positions: part(batch.positions, &self.range),
            segments: &self.segments,
        }
    }

    /// Number of segments in it.
    pub(crate) fn n_segments(&self) -> usize {
        self.segments.len()
    }

    /// Tokens of its longest segment.
    pub(crate) fn longest(&self) -> usize {
        self.segments.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// Its part of noise on the batch that it was cut from.
    pub(crate) fn noise<'a>(&self, of_batch: EmbeddingNoise<'a>) -> EmbeddingNoise<'a> {
        let own = self.first_segment..self.first_segment + self.n_segments();
        EmbeddingNoise { keys: part(of_batch.keys, &own), ..of_batch }
    }

    /// The key of its dropout masks, which are otherwise a function of the place within the slice. A batch of a single
    /// slice has the masks of the step's own key.
    pub(crate) fn dropout_key(&self, step_key: u64) -> u64 {
        if self.slice_idx == 0 { step_key } else { mix(step_key, self.slice_idx) }
    }
}

/// The part of a list with one entry for each token (or segment) of the batch.
pub(crate) fn part<'a, T>(list: &'a [T], range: &Range<usize>) -> &'a [T] {
    list.get(range.clone()).unwrap_or_default()
}

/// The slices of a batch, in order, as many segments in each as fit: a function of the segments' lengths alone. Groups of
/// `n_together` segments stay together.
pub(crate) fn slices(segments: &Segments, n_together: usize) -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut start = 0;
    let mut lengths = Vec::new();
    let mut first_segment = 0;
    let mut cut = |range: Range<usize>, lengths: &mut Vec<usize>| {
        if !range.is_empty() {
            let slice_idx = slices.len() as u64;
            slices.push(Slice { range, segments: Segments::new(lengths), first_segment, slice_idx });
        }
        first_segment += lengths.len();
        lengths.clear();
    };
    let ranges: Vec<Range<usize>> = segments.ranges().collect();
    for group in ranges.chunks(n_together.max(1)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        if last.end - start > SLICE_TOKENS {
            cut(start..first.start, &mut lengths);
            start = first.start;
        }
        lengths.extend(group.iter().map(|segment| segment.len()));
    }
    cut(start..segments.n_tokens(), &mut lengths);
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(lengths: &[usize]) -> Vec<(Range<usize>, usize)> {
        slices(&Segments::new(lengths), 1).into_iter().map(|s| (s.range, s.segments.len())).collect()
    }

    #[test]
    fn slices_are_filled_with_whole_segments() {
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[0]), []);
        assert_eq!(cut(&[100, 400]), [(0..500, 2)]);
        assert_eq!(cut(&[512, 512]), [(0..512, 1), (512..1024, 1)]);
        assert_eq!(cut(&[300, 300, 212, 1]), [(0..300, 1), (300..812, 2), (812..813, 1)]);
        // A long segment is a slice of its own.
        assert_eq!(cut(&[10, 2000, 10, 10]), [(0..10, 1), (10..2010, 1), (2010..2030, 2)]);
    }

    #[test]
    fn what_belongs_together_stays_together() {
        let pairs: Vec<_> = slices(&Segments::new(&[300, 200, 10, 3, 600, 1, 5, 5]), 2)
            .into_iter()
            .map(|s| (s.range.clone(), s.n_segments()))
            .collect();
        assert_eq!(pairs, [(0..500, 2), (500..513, 2), (513..1114, 2), (1114..1124, 2)]);
    }

    #[test]
    fn every_token_is_in_one_slice() {
        let lengths: Vec<usize> = (0..40).map(|i| (i * 37) % 300).collect();
        let segments = Segments::new(&lengths);
        let slices = slices(&segments, 1);
        let mut end = 0;
        for slice in &slices {
            assert_eq!((slice.range.start, slice.segments.n_tokens()), (end, slice.range.len()));
            assert!(slice.range.len() <= SLICE_TOKENS);
            end = slice.range.end;
        }
        assert_eq!(end, segments.n_tokens());
        let keys: std::collections::BTreeSet<u64> = slices.iter().map(|s| s.dropout_key(9)).collect();
        assert_eq!(keys.len(), slices.len());
    }
}
